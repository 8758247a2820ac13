"""AOT-GAN: Zeng et al., "Aggregated Contextual Transformations for High-Resolution Image Inpainting", TVCG 2022.

15 million parameters (LaMa's table 1 counts them).
"""

import torch
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn import functional as F

from .generator import Generator


class AotBlock(nn.Module):
    """Split into dilated convolutions, merged by another one, gated: x * g + merged * (1 - g)."""

    def __init__(self, channels: int, rates: tuple[int, ...]):
        super().__init__()
        part = channels // len(rates)
        self.branches = nn.ModuleList(
            nn.Conv2d(channels, part, 3, padding=rate, dilation=rate, padding_mode="reflect") for rate in rates
        )
        self.merge = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect")
        self.gate = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect")

    def forward(self, x: Tensor) -> Tensor:
        merged = self.merge(torch.cat([F.relu(branch(x)) for branch in self.branches], dim=1))
        gate = self.gate(x).sigmoid()
        return x * gate + merged * (1 - gate)


class AotGan(Generator):
    """Three convolutions down to a quarter, `num_blocks` AOT blocks there, and as many up again."""

    @register_to_config
    def __init__(self, channels: int = 64, num_blocks: int = 8, rates: tuple[int, ...] = (1, 2, 4, 8)):
        super().__init__()
        c = channels
        self.encode = nn.Sequential(
            nn.Conv2d(4, c, 7, padding=3, padding_mode="reflect"), nn.ReLU(),
            nn.Conv2d(c, 2 * c, 4, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(2 * c, 4 * c, 4, stride=2, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.blocks = nn.Sequential(*(AotBlock(4 * c, tuple(rates)) for _ in range(num_blocks)))
        self.up2 = nn.Conv2d(4 * c, 2 * c, 3, padding=1)
        self.up1 = nn.Conv2d(2 * c, c, 3, padding=1)
        self.to_rgb = nn.Conv2d(c, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.blocks(self.encode(x))  # (B, 4c, H/4, W/4)
        for conv in (self.up2, self.up1):
            h = F.relu(conv(F.interpolate(h, scale_factor=2, mode="bilinear", align_corners=True)))
        return self.to_rgb(h).tanh()
