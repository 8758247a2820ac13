"""A one-way semantic pipeline: a coarse fill, its map by a frozen segmenter, and a generator that obeys the map.

The usual form of semantic-guided inpainting (SPG-Net, Song et al., BMVC 2018; SGE-Net, Liao et al., ECCV 2020), with
what draws photos from maps best known: SPADE, Park et al., CVPR 2019. As large as the project's own networks. A wrong
map stays wrong: no loss reaches the segmenter.
"""

import torch
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn import functional as F

from fbinpaint.loop import composite
from fbinpaint.models import InitialInpainter, Segmenter
from fbinpaint.models.layers import conv3x3

from .generator import Generator


class Spade(nn.Module):
    """A norm without weights, scaled and shifted by the map at each place; their equation 1 and figure 3."""

    def __init__(self, channels: int, num_classes: int, hidden: int = 128):
        super().__init__()
        self.norm = nn.InstanceNorm2d(channels)
        self.shared = conv3x3(num_classes, hidden)
        self.gamma, self.beta = conv3x3(hidden, channels), conv3x3(hidden, channels)

    def forward(self, x: Tensor, semantic_map: Tensor) -> Tensor:
        h = F.relu(self.shared(semantic_map))
        return self.norm(x) * (1 + self.gamma(h)) + self.beta(h)


class SpadeBlock(nn.Module):
    """Their figure 4: the shortcut is learned where the width changes."""

    def __init__(self, in_channels: int, out_channels: int, num_classes: int):
        super().__init__()
        self.spade1, self.conv1 = Spade(in_channels, num_classes), conv3x3(in_channels, out_channels)
        self.spade2, self.conv2 = Spade(out_channels, num_classes), conv3x3(out_channels, out_channels)
        self.shortcut = None
        if in_channels != out_channels:
            self.shortcut = nn.ModuleList(
                [Spade(in_channels, num_classes), nn.Conv2d(in_channels, out_channels, 1, bias=False)]
            )

    def forward(self, x: Tensor, semantic_map: Tensor) -> Tensor:
        semantic_map = F.interpolate(semantic_map, size=x.shape[-2:], mode="bilinear")
        h = self.conv1(F.leaky_relu(self.spade1(x, semantic_map), 0.2))
        h = self.conv2(F.leaky_relu(self.spade2(h, semantic_map), 0.2))
        if self.shortcut is not None:
            spade, conv = self.shortcut
            x = conv(spade(x, semantic_map))
        return x + h


class OneWaySpade(Generator):
    """Args:
        num_classes, encoder_name, segmenter_channels: those of the segmenter, see `fbinpaint.models.Segmenter`.
        coarse_channels: widths of the network of the coarse fill, see `fbinpaint.models.InitialInpainter`.
        channels: width of the generator at full size; it doubles with each of two halvings.
        num_blocks: SPADE blocks at a quarter of the size.
    """

    @register_to_config
    def __init__(
        self,
        num_classes: int = 19,
        encoder_name: str = "tf_efficientnet_lite0",
        segmenter_channels: int = 64,
        coarse_channels: tuple[int, int, int, int] = (32, 48, 96, 128),
        channels: int = 64,
        num_blocks: int = 3,
    ):
        super().__init__()
        c = channels
        self.coarse = InitialInpainter(channels=tuple(coarse_channels))
        self.segmenter = Segmenter(num_classes, encoder_name, segmenter_channels).requires_grad_(False)
        self.encode = nn.Sequential(
            conv3x3(4, c), nn.LeakyReLU(0.2), conv3x3(c, 2 * c, stride=2), nn.LeakyReLU(0.2),
            conv3x3(2 * c, 4 * c, stride=2),
        )  # fmt: skip
        self.middle = nn.ModuleList(SpadeBlock(4 * c, 4 * c, num_classes) for _ in range(num_blocks))
        self.up = nn.ModuleList([SpadeBlock(4 * c, 2 * c, num_classes), SpadeBlock(2 * c, c, num_classes)])
        self.to_rgb = conv3x3(c, 3)

    def stages(self, x: Tensor) -> list[Tensor]:
        """The coarse fill and the result."""
        image, mask = x[:, :3], x[:, 3:]
        coarse = self.coarse(image, mask).image
        fill = composite(coarse, image, mask).detach()  # the generator learns to improve it, not to shape it
        with torch.no_grad():
            semantic_map = self.segmenter(fill, mask).logits.softmax(1)  # (B, C, H/4, W/4)
        h = self.encode(torch.cat([fill, mask], dim=1))  # (B, 4c, H/4, W/4)
        for block in self.middle:
            h = block(h, semantic_map)
        for block in self.up:
            h = block(F.interpolate(h, scale_factor=2, mode="nearest"), semantic_map)
        return [coarse, self.to_rgb(F.leaky_relu(h, 0.2)).tanh()]

    def forward(self, x: Tensor) -> Tensor:
        return self.stages(x)[-1]
