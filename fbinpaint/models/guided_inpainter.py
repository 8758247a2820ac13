"""The guided inpainter: one pass that repaints the hole as the semantic map says."""

from dataclasses import dataclass

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import BaseOutput
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn
from torch.nn import functional as F

from .gradient_checkpointing import GradientCheckpointing
from .layers import (
    Details,
    GuidedBlock,
    SameClassAttention,
    Window,
    conv3x3,
    crop,
    decode_residual,
    downsample_mask,
    resize_like,
    unshuffle,
)
from .safe_loading import SafeLoading


@dataclass
class GuidedInpainterOutput(BaseOutput):
    """image (B,3,H,W), not composited."""

    image: Tensor


@dataclass
class Conditioning:
    """What no round changes, computed once: see `GuidedInpainter.prepare`."""

    fill: Tensor  # (B,3,H,W)
    stem2: Tensor  # (B,c2,H/2,W/2), features of the fill, with a window only that part of them
    stem4: Tensor  # (B,c4,H/4,W/4), likewise of the whole, the context's added
    context8: Tensor  # (B,c8,H/8,W/8), ready to be added
    styles: Tensor  # (B,C,S)
    class_embeddings: Tensor  # (B,C,G), what a pixel of each class adds to the guidance, its style included
    hole4: Tensor  # (B,G,H/4,W/4), what the share of hole in a cell adds to it
    hole8: Tensor  # (B,1,H/8,W/8) in {0,1}
    window: Window | None


class GuidedInpainter(SafeLoading, GradientCheckpointing, ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers' `config_name`
    """A shallow U-Net on the first fill, modulated by map and styles, with same-class attention at stride 8.

    Every round adds its details to the first fill, so that what a later round changes is the map's doing: details added
    to an already sharpened fill add up instead. What does not change between rounds is computed once (`prepare`) and
    handed in.

    Args:
        num_classes: size of the label space.
        channels: widths at strides 2, 4 and 8, multiples of 8 (of 16, they fill the vectors of AVX-512).
        context_channels: widths of the initial inpainter's context at strides 4 and 8.
        style_channels: length of a class's style vector.
        guide_channels: width of the embedded guidance.
        depth8: guided blocks at stride 8, before and after the attention.
        attention_heads, attention_channels: of the same-class attention; the channels are those of its queries.
    """

    @register_to_config
    def __init__(
        self,
        num_classes: int = 19,
        channels: tuple[int, int, int] = (48, 96, 160),
        context_channels: tuple[int, int] = (96, 192),
        style_channels: int = 48,
        guide_channels: int = 64,
        depth8: int = 2,
        attention_heads: int = 4,
        attention_channels: int = 64,
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
        self.encode8 = nn.ModuleList(GuidedBlock(c8, guide_channels) for _ in range(depth8))
        self.attention = SameClassAttention(c8, attention_heads, attention_channels)
        self.decode8 = nn.ModuleList(GuidedBlock(c8, guide_channels) for _ in range(depth8))
        self.up4 = nn.Conv2d(c8, c4, 1)
        self.decode4 = GuidedBlock(c4, guide_channels)
        self.details = Details(c4, c2)

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

    @apply_forward_hook
    def prepare(
        self,
        fill: Tensor,
        mask: Tensor,
        context4: Tensor,
        context8: Tensor,
        probabilities: Tensor,
        window: Window | None = None,
        styles: Tensor | None = None,
    ) -> Conditioning:
        """For all passes over a batch.

        fill (B,3,H,W) in [-1,1], composited, H and W multiples of 16; mask (B,1,H,W), 1 = hole; context4
        (B,D4,H/4,W/4) and context8 (B,D8,H/8,W/8) of the initial inpainter; probabilities (B,C,H/4,W/4), the map that
        the styles are pooled by, unless they are given: (B,C,S); window (`hole_window`): only there the picture is
        painted, None = everywhere.
        """
        styles = self.pool_styles(context4, probabilities, mask) if styles is None else styles
        of_class, of_style = self.embed_guide.weight[:, :-1, 0, 0].T.split(styles.shape[1:])
        # Written out: of a convolution of one channel torch.compile does not foresee the memory layout (torch 2.14).
        of_hole, bias = self.embed_guide.weight[:, -1], self.embed_guide.get_parameter("bias")[:, None, None]
        hole4 = torch.addcmul(bias, F.avg_pool2d(mask, 4), of_hole)
        stem2 = self.stem2(unshuffle(fill, mask))  # (B, c2, H/2, W/2)
        stem4 = self.down4(F.silu(stem2)) + self.context4(context4)  # (B, c4, H/4, W/4)
        return Conditioning(
            fill=fill,
            stem2=stem2 if window is None else crop(stem2, window, 2),
            stem4=stem4,
            context8=self.context8(context8),
            styles=styles,
            class_embeddings=of_class + styles @ of_style,
            hole4=hole4.contiguous(memory_format=torch.channels_last),
            hole8=downsample_mask(mask, 8),
            window=window,
        )

    def forward(self, probabilities: Tensor, conditioning: Conditioning) -> GuidedInpainterOutput:
        """One pass. probabilities (B,C,H/4,W/4), soft; conditioning: of `prepare`."""
        # `embed_guide` of the map, of the styles that it spreads, and of the hole. All are linear, so that the spread
        # styles, (B,S,H/4,W/4), need never be laid out.
        embedded = torch.einsum("bchw,bcg->bhwg", probabilities, conditioning.class_embeddings).movedim(-1, 1)
        guide4 = F.silu(embedded + conditioning.hole4)  # (B, G, H/4, W/4)
        guide8 = F.avg_pool2d(guide4, 2)

        h4 = self.encode4(conditioning.stem4, guide4)  # (B, c4, H/4, W/4)
        h = self.down8(F.silu(h4)) + conditioning.context8  # (B, c8, H/8, W/8)
        for block in self.encode8:
            h = block(h, guide8)
        h = self.attention(h, F.avg_pool2d(probabilities, 2), conditioning.hole8, conditioning.window)
        for block in self.decode8:
            h = block(h, guide8)
        h = self.decode4(h4 + resize_like(self.up4(h), h4), guide4)  # (B, c4, H/4, W/4)
        window = conditioning.window
        painted = decode_residual(conditioning.fill, self.details, conditioning.stem2, h, window)  # (B, 3, H, W)
        return GuidedInpainterOutput(image=painted)
