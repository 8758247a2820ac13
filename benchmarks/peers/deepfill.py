"""DeepFill v2: Yu et al., "Free-Form Image Inpainting with Gated Convolution", ICCV 2019. 4.1 million parameters
(their section 4)."""

import torch
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn import functional as F

from fbinpaint.loop import composite

from .generator import Generator

DILATIONS = (2, 4, 8, 16)
SHARPNESS = 10.0  # of the attention's softmax


class GatedConv(nn.Module):
    """elu(features) * sigmoid(gate), each of half the convolution's channels: `width` in their counting."""

    def __init__(self, in_channels: int, width: int, kernel: int = 3, stride: int = 1, dilation: int = 1):
        super().__init__()
        padding = dilation * (kernel - 1) // 2
        self.conv = nn.Conv2d(in_channels, width, kernel, stride, padding, dilation)

    def forward(self, x: Tensor) -> Tensor:
        features, gate = self.conv(x).chunk(2, dim=1)
        return F.elu(features) * gate.sigmoid()


class Enlarge(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2, mode="nearest")


def encoder(c: int, half: int, quarter: int) -> list[nn.Module]:
    """(B,5,H,W) -> (B,2c,H/4,W/4). half, quarter: widths of the strided convolutions, which differ by network."""
    return [
        GatedConv(5, c, 5), GatedConv(c // 2, half, stride=2), GatedConv(half // 2, 2 * c),
        GatedConv(c, quarter, stride=2), GatedConv(quarter // 2, 4 * c), GatedConv(2 * c, 4 * c),
    ]  # fmt: skip


def decoder(c: int, in_channels: int) -> list[nn.Module]:
    """(B,in_channels,H/4,W/4) -> (B,3,H,W)."""
    return [
        GatedConv(in_channels, 4 * c), GatedConv(2 * c, 4 * c),
        Enlarge(), GatedConv(2 * c, 2 * c), GatedConv(c, 2 * c),
        Enlarge(), GatedConv(c, c), GatedConv(c // 2, c // 2),
        nn.Conv2d(c // 4, 3, 3, padding=1), nn.Tanh(),
    ]  # fmt: skip


def dilated(c: int) -> list[nn.Module]:
    return [GatedConv(2 * c, 4 * c, dilation=dilation) for dilation in DILATIONS]


def contextual_attention(x: Tensor, mask: Tensor) -> Tensor:
    """Every place becomes a mean of known patches, by the cosine of their features (Yu et al., CVPR 2018, section 4.1).

    x (B,D,h,w), h and w even; mask (B,1,H,W), 1 = hole. Matched by patches of 3x3 at half the size, put together of
    patches of 4x4 in steps of 2. Where no patch is known, all count.
    """
    small = F.avg_pool2d(x, 2)
    patches = F.unfold(small, 3, padding=1)  # (B, D*9, n), n = h/2 * w/2
    hole = F.max_pool2d(F.adaptive_max_pool2d(mask, small.shape[-2:]), 3, 1, 1).flatten(1)  # (B, n), any of the patch
    scores = SHARPNESS * F.normalize(patches, dim=1).transpose(1, 2) @ F.normalize(patches, dim=1)  # (B, n, n)
    weights = (scores - 1e4 * hole[:, None]).softmax(2)
    found = F.unfold(x, 4, stride=2, padding=1) @ weights.transpose(1, 2)  # (B, D*16, n)
    total, overlap = (
        F.fold(patches, x.shape[-2:], 4, stride=2, padding=1) for patches in (found, torch.ones_like(found[:1, :16]))
    )
    return total / overlap  # of the patches that a place lies in: four, fewer at the border


class DeepFill(Generator):
    """A coarse network and a refining one of two branches, dilated and attending, whose features meet."""

    @register_to_config
    def __init__(self, channels: int = 48):
        super().__init__()
        c = channels
        self.coarse = nn.Sequential(*encoder(c, 2 * c, 4 * c), *dilated(c), *decoder(c, 2 * c))
        self.branch = nn.Sequential(*encoder(c, c, 2 * c), *dilated(c))
        self.asking = nn.Sequential(*encoder(c, c, 4 * c))
        self.attended = nn.Sequential(GatedConv(2 * c, 4 * c), GatedConv(2 * c, 4 * c))
        self.decode = nn.Sequential(*decoder(c, 4 * c))

    def stages(self, x: Tensor) -> list[Tensor]:
        """The coarse fill and the result."""
        image, mask = x[:, :3], x[:, 3:]
        ones = torch.ones_like(mask)  # by which convolutions tell the border of the picture
        coarse = self.coarse(torch.cat([image, ones, mask], dim=1))
        filled = torch.cat([composite(coarse, image, mask), ones, mask], dim=1)
        attended = self.attended(contextual_attention(self.asking(filled), mask))
        return [coarse, self.decode(torch.cat([self.branch(filled), attended], dim=1))]

    def forward(self, x: Tensor) -> Tensor:
        return self.stages(x)[-1]
