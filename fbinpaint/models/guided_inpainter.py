"""The guided inpainter: one pass that repaints the hole as the semantic map says."""

from dataclasses import dataclass

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import (
    GuidedBlock,
    SameClassAttention,
    cat_channels,
    conv3x3,
    downsample_mask,
    resize_like,
    shuffle,
    unshuffle,
    zero_init,
)
from .safe_loading import SafeLoading


@dataclass
class GuidedInpainterOutput(BaseOutput):
    """image (B,3,H,W), not composited; features (B,D4,H/4,W/4), the evidence fed back to the recorrector."""

    image: Tensor
    features: Tensor


class GuidedInpainter(SafeLoading, ModelMixin, ConfigMixin):
    """A shallow U-Net on the current fill, modulated by map and styles, with same-class attention at stride 8.

    It stays small because it runs once a round: what does not change between rounds (the context features of the
    initial inpainter, the class styles) is computed once and handed in.

    Args:
        num_classes: size of the label space.
        channels: widths at strides 2, 4 and 8, multiples of 8.
        context_channels: widths of the initial inpainter's context at strides 4 and 8.
        style_channels: length of a class's style vector.
        guide_channels: width of the embedded guidance.
    """

    @register_to_config
    def __init__(
        self,
        num_classes: int = 19,
        channels: tuple[int, int, int] = (24, 40, 72),
        context_channels: tuple[int, int] = (48, 96),
        style_channels: int = 32,
        guide_channels: int = 48,
    ):
        super().__init__()
        c2, c4, c8 = channels
        self.style = nn.Sequential(nn.SiLU(), nn.Conv2d(context_channels[0], style_channels, 1))
        self.style_prior = nn.Parameter(torch.zeros(num_classes, style_channels))
        self.embed_guide = nn.Conv2d(num_classes + style_channels + 1, guide_channels, 1)

        self.stem2 = conv3x3(16, c2)
        self.down4 = conv3x3(c2, c4, stride=2)
        self.context4 = nn.Conv2d(context_channels[0], c4, 1)
        self.encode4 = GuidedBlock(c4, guide_channels)
        self.down8 = conv3x3(c4, c8, stride=2)
        self.context8 = nn.Conv2d(context_channels[1], c8, 1)
        self.encode8 = GuidedBlock(c8, guide_channels)
        self.attention = SameClassAttention(c8)
        self.decode8 = GuidedBlock(c8, guide_channels)
        self.up4 = nn.Conv2d(c8, c4, 1)
        self.decode4 = GuidedBlock(c4, guide_channels)
        self.up2 = nn.Conv2d(c4, c2, 1)
        self.decode2 = conv3x3(c2, c2)
        self.to_rgb = zero_init(conv3x3(c2, 12))

    @apply_forward_hook
    def pool_styles(self, context4: Tensor, probabilities: Tensor, mask: Tensor) -> Tensor:
        """Class styles: the mean appearance of each class's KNOWN pixels (after SEAN, Zhu et al., CVPR 2020).

        context4 (B,D4,H/4,W/4), probabilities (B,C,H/4,W/4), mask (B,1,H,W) -> (B,C,S). A class with few known pixels
        leans on its learned prior, one with none takes it whole.
        """
        known = probabilities * (1 - downsample_mask(mask, 4))  # (B, C, h, w)
        weight = known.flatten(2)
        total = torch.einsum("bcn,bsn->bcs", weight, self.style(context4).flatten(2))
        prior_count = 4.0
        return (total + prior_count * self.style_prior) / (weight.sum(-1, keepdim=True) + prior_count)

    def forward(
        self, fill: Tensor, mask: Tensor, probabilities: Tensor, styles: Tensor, context4: Tensor, context8: Tensor
    ) -> GuidedInpainterOutput:
        """One pass.

        fill (B,3,H,W) in [-1,1], composited; mask (B,1,H,W), 1 = hole; probabilities (B,C,H/4,W/4), soft; styles
        (B,C,S) of `pool_styles`; context4 and context8 of the initial inpainter. H and W multiples of 16.
        """
        spread = torch.einsum("bchw,bcs->bhws", probabilities, styles).movedim(-1, 1)
        hole4 = F.avg_pool2d(mask, 4)
        guide4 = F.silu(self.embed_guide(cat_channels(probabilities, spread, hole4)))  # (B, G, H/4, W/4)
        guide8 = F.avg_pool2d(guide4, 2)

        s2 = self.stem2(unshuffle(fill, mask))  # (B, c2, H/2, W/2)
        s4 = self.down4(F.silu(s2)) + self.context4(context4)  # (B, c4, H/4, W/4)
        s4 = self.encode4(s4, guide4)
        h = self.down8(F.silu(s4)) + self.context8(context8)  # (B, c8, H/8, W/8)
        h = self.encode8(h, guide8)
        h = self.attention(h, F.avg_pool2d(probabilities, 2), downsample_mask(mask, 8))
        h = self.decode8(h, guide8)
        h = self.decode4(s4 + resize_like(self.up4(h), s4), guide4)  # (B, c4, H/4, W/4)
        d2 = F.silu(s2 + resize_like(self.up2(F.silu(h)), s2))
        residual = shuffle(self.to_rgb(F.silu(self.decode2(d2))))  # (B, 3, H, W)
        return GuidedInpainterOutput(image=fill + residual, features=h)
