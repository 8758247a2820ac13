"""What all peers are: a photo with its hole and the mask in, a photo out; saved and loaded as our networks."""

import torch
from diffusers.configuration_utils import ConfigMixin
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

from fbinpaint.models.layers import cat_channels
from fbinpaint.models.safe_loading import SafeLoading

MULTIPLE = 16  # of which height and width are
MIN_SIDE = 48  # pixels; AOT-GAN mirrors a border of 32 of them


class Generator(SafeLoading, ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers' `config_name`
    """forward: (B,4,H,W), as `masked_input` makes it -> (B,3,H,W) in [-1,1], not composited.

    H and W are multiples of 16, from 48 up.
    """

    def stages(self, x: Tensor) -> list[Tensor]:
        """Every picture that is to look like the photo, (B,3,H,W) each; the last one is the result."""
        return [self(x)]


def masked_input(image: Tensor, mask: Tensor) -> Tensor:
    """image (B,3,H,W) in [-1,1], mask (B,1,H,W) in {0,1}, 1 = hole -> (B,4,H,W), nothing of the photo in its hole."""
    return cat_channels(torch.where(mask > 0.5, 0, image), mask)
