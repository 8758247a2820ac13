"""The discriminator: judges patches of restored photos, during training only."""

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn import functional as F

from .safe_loading import SafeLoading


class Discriminator(SafeLoading, ModelMixin, ConfigMixin):
    """A PatchGAN (Isola et al., CVPR 2017) that is shown the mask, with strides 2, 4, 8.

    Args:
        channels: widths at strides 2, 4 and 8.
    """

    @register_to_config
    def __init__(self, channels: tuple[int, int, int] = (32, 64, 128)):
        super().__init__()
        widths = (4, *channels)
        self.layers = nn.ModuleList(
            nn.Conv2d(widths[i], widths[i + 1], 4, stride=2, padding=1) for i in range(len(channels))
        )
        self.judge = nn.Conv2d(channels[-1], 1, 3, padding=1)

    def forward(self, image: Tensor, mask: Tensor) -> tuple[Tensor, list[Tensor]]:
        """image (B,3,H,W) in [-1,1], mask (B,1,H,W) -> scores (B,1,H/8,W/8), high = real, and features per scale."""
        h = torch.cat([image, mask], dim=1)
        features = []
        for layer in self.layers:
            h = F.leaky_relu(layer(h), 0.2)
            features.append(h)
        return self.judge(h), features
