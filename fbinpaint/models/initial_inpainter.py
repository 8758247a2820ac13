"""The initial inpainter: the first fill, without semantics, and the context features every later round reuses."""

from dataclasses import dataclass

from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import BaseOutput
from torch import Tensor, nn
from torch.nn import functional as F

from .gradient_checkpointing import GradientCheckpointing
from .harmonic_fill import harmonic_fill
from .layers import Details, ResBlock, Window, conv3x3, crop, decode_residual, resize_like, unshuffle
from .safe_loading import SafeLoading


@dataclass
class InitialInpainterOutput(BaseOutput):
    """image (B,3,H,W), not composited; smooth (B,3,H,W), the harmonic fill that it adds its details to; context4
    (B,D4,H/4,W/4) and context8 (B,D8,H/8,W/8)."""

    image: Tensor
    smooth: Tensor
    context4: Tensor
    context8: Tensor


class InitialInpainter(SafeLoading, GradientCheckpointing, ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers' `config_name`
    """A U-Net from half resolution (pixel-unshuffled) down to 1/16, where dilated blocks see the whole picture.

    It paints what a smooth continuation of the known pixels lacks: untrained it returns the harmonic fill itself, which
    networks of this size otherwise spend thousands of steps to learn.

    Args:
        channels: widths at strides 2, 4, 8 and 16, multiples of 8.
        bottleneck_dilations: one residual block each at stride 16. Large receptive fields matter for wide holes
            (LaMa, Suvorov et al., WACV 2022).
        depth8: residual blocks at stride 8, on the way down and on the way up.
    """

    @register_to_config
    def __init__(
        self,
        channels: tuple[int, int, int, int] = (64, 96, 192, 256),
        bottleneck_dilations: tuple[int, ...] = (1, 2, 4, 2, 1),
        depth8: int = 2,
    ):
        super().__init__()
        c2, c4, c8, c16 = channels
        self.stem = conv3x3(16, c2)
        self.down4 = conv3x3(c2, c4, stride=2)
        self.encode4 = ResBlock(c4)
        self.down8 = conv3x3(c4, c8, stride=2)
        self.encode8 = nn.Sequential(*(ResBlock(c8) for _ in range(depth8)))
        self.down16 = conv3x3(c8, c16, stride=2)
        self.bottleneck = nn.Sequential(*(ResBlock(c16, d) for d in bottleneck_dilations))
        self.up8 = nn.Conv2d(c16, c8, 1)
        self.decode8 = nn.Sequential(*(ResBlock(c8) for _ in range(depth8)))
        self.up4 = nn.Conv2d(c8, c4, 1)
        self.decode4 = ResBlock(c4)
        self.details = Details(c4, c2)

    def forward(self, image: Tensor, mask: Tensor, window: Window | None = None) -> InitialInpainterOutput:
        """image (B,3,H,W) in [-1,1], mask (B,1,H,W) in {0,1}, 1 = hole; H and W multiples of 16.

        window: outside it (`hole_window`) the image is only the smooth continuation; None = the whole picture.
        """
        smooth = harmonic_fill(image, 1 - mask, window)  # (B, 3, H, W)
        e2 = self.stem(unshuffle(smooth, mask))  # (B, c2, H/2, W/2)
        e4 = self.encode4(self.down4(F.silu(e2)))  # (B, c4, H/4, W/4)
        e8 = self.encode8(self.down8(F.silu(e4)))  # (B, c8, H/8, W/8)
        h = self.bottleneck(self.down16(F.silu(e8)))  # (B, c16, H/16, W/16)
        d8 = self.decode8(e8 + resize_like(self.up8(h), e8))
        d4 = self.decode4(e4 + resize_like(self.up4(d8), e4))
        half = e2 if window is None else crop(e2, window, 2)
        painted = decode_residual(smooth, self.details, half, d4, window)  # (B, 3, H, W)
        return InitialInpainterOutput(image=painted, smooth=smooth, context4=d4, context8=d8)
