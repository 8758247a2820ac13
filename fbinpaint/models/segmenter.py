"""The segmenter: a semantic map of a (filled) photo, from an ImageNet encoder and a light top-down decoder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import BaseOutput
from huggingface_hub.errors import HTTPError  # of the client that huggingface_hub uses
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.layers.conv2d_same import Conv2dSame
from timm.models._efficientnet_blocks import InvertedResidual
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import fuse_conv_bn_eval

from fbinpaint.errors import InputError, one_line
from fbinpaint.hub.saved import check_label_space
from fbinpaint.labels import LabelSpace, label_space_of
from fbinpaint.system.files import read_json

from .gradient_checkpointing import GradientCheckpointing
from .layers import ResBlock, cat_channels, conv3x3, resize_like
from .safe_loading import SafeLoading

LARGE = 2**17  # cells of a block's input: those of photos from about a megapixel on


@dataclass
class SegmenterOutput(BaseOutput):
    """logits (B,C,H/4,W/4); pyramid, features (B,D_s,H/s,W/s): the encoder's at strides 4, 8, 16 and 32, and the
    decoder's at 4."""

    logits: Tensor
    pyramid: list[Tensor]


def fold_batchnorms(encoder: nn.Module) -> None:
    """Merge each BatchNorm into the convolution before it, in place; its activation stays.

    Running statistics of ImageNet are the right ones for batches this small, averages of weights (EMA) copy no buffers,
    and inference loses a layer per convolution.
    """
    for parent in list(encoder.modules()):
        last_conv = ""
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d):
                last_conv = name
            elif isinstance(child, nn.BatchNorm2d):
                conv = getattr(parent, last_conv)
                # While a saved model is being loaded, parameters are still on "meta" but buffers are not.
                child = child.to(conv.weight.device)
                setattr(parent, last_conv, fuse_conv_bn_eval(conv.eval(), child.eval()))
                setattr(parent, name, getattr(child, "act", nn.Identity()))


class LeanInvertedResidual(InvertedResidual):
    """A strided block of timm's that lays the border of its depthwise convolution around the few channels that come in.

    Around the many that these are expanded to, it takes another copy of them: 130 MB where a large photo is segmented
    at 1024x1376 pixels. Small pictures are left to timm, whose results differ in the last bit at some sizes.
    """

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        if height * width < LARGE:
            return super().forward(x)
        depthwise = self.conv_dw
        (kernel, _), (step, _) = depthwise.kernel_size, depthwise.stride
        rows, columns = (max((-(-side // step) - 1) * step + kernel - side, 0) for side in (height, width))
        top, left = rows // 2, columns // 2
        h = self.conv_pw(F.pad(x, (left, columns - left, top, rows - top)))
        for border in (h[..., :top, :], h[..., top + height :, :], h[..., :left], h[..., left + width :]):
            border.zero_()
        h = F.conv2d(self.bn1(h), depthwise.weight, depthwise.bias, step, groups=depthwise.groups)
        return self.bn3(self.conv_pwl(self.se(self.aa(self.bn2(h)))))  # type: ignore[misc]  # timm calls `aa` optional


def make_lean(encoder: nn.Module) -> None:
    """Those blocks whose depthwise convolution pads for itself (TensorFlow's "same"), in place."""
    for block in encoder.modules():
        if type(block) is InvertedResidual and type(block.conv_dw) is Conv2dSame and not block.has_skip:
            block.__class__ = LeanInvertedResidual


def build_encoder(name: str, weights: str | Path | None = None, pretrained: bool = False) -> Any:
    """A timm feature pyramid (strides 2 to 32) with its BatchNorms folded.

    Args:
        weights: a safetensors file in timm's own layout, without classifier; None = random, or timm's if `pretrained`.

    Raises:
        InputError: the file is missing or does not fit the encoder, or timm's cannot be fetched.
    """
    try:
        encoder = timm.create_model(name, features_only=True, pretrained=pretrained)
    except (HTTPError, OSError) as error:
        reason = one_line(error)
        raise InputError(f"{name}: cannot be fetched from the Hub ({reason}); give it as --encoder_weights") from error
    if weights is not None:
        if not Path(weights).is_file():
            raise InputError(f"encoder weights {weights}: no such file; give a safetensors file of timm's {name}")
        try:
            encoder.load_state_dict(load_file(weights))
        except (SafetensorError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"encoder weights {weights}: not the features of timm's {name} ({reason})") from error
    fold_batchnorms(encoder)
    make_lean(encoder)
    return encoder.requires_grad_(True)  # folding leaves the new biases frozen


class Segmenter(SafeLoading, GradientCheckpointing, ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers' `config_name`
    """timm encoder, feature pyramid decoder at stride 4 that is told where the photo was filled.

    Args:
        num_classes: size of the label space.
        encoder_name: any timm model with `features_only` at strides 2, 4, 8, 16, 32 that takes inputs in [-1,1].
        channels: width of the decoder and of its level of the pyramid, a multiple of 8.
        label_space: what the classes are, as `LabelSpace.to_config` has it; None = the pipeline knows.
    """

    @register_to_config
    def __init__(
        self,
        num_classes: int = 19,
        encoder_name: str = "tf_efficientnet_lite0",
        channels: int = 64,
        label_space: str | dict[str, Any] | None = None,
    ):
        super().__init__()
        self.encoder = build_encoder(encoder_name)
        widths = self.encoder.feature_info.channels()[1:]  # strides 4, 8, 16, 32
        laterals = [nn.Conv2d(width + 1, channels, 1) for width in widths]
        for lateral in laterals:  # intact photos teach nothing of holes: a random word on these would stay
            nn.init.zeros_(lateral.weight[:, -1])
        self.lateral = nn.ModuleList(laterals)
        self.refine = nn.ModuleList(
            [nn.Sequential(nn.SiLU(), conv3x3(channels, channels))] + [ResBlock(channels) for _ in widths[1:]]
        )
        self.classify = nn.Conv2d(channels, num_classes, 1)

    @property
    def label_space(self) -> LabelSpace | None:
        """What the classes are. None: of a segmenter that was saved before it knew."""
        config = self.config.label_space
        return None if config is None else label_space_of(config, "label_space of the segmenter")

    @classmethod
    def check_settings(cls, path: Path) -> None:
        super().check_settings(path)
        check_label_space(read_json(path), path)

    def load_encoder(self, weights: str | Path | None) -> None:
        """Start from ImageNet weights: those of a local safetensors file, or timm's own from the Hub when None."""
        encoder = build_encoder(self.config.encoder_name, weights, pretrained=weights is None)
        self.encoder.load_state_dict(encoder.state_dict())

    def forward(self, image: Tensor, mask: Tensor) -> SegmenterOutput:
        """image (B,3,H,W) in [-1,1], filled; mask (B,1,H,W) in {0,1}, 1 = filled, all zero for an intact photo."""
        h: Tensor | None = None
        encoded = self.encoder(image)[1:]
        for feature, lateral, refine in reversed(list(zip(encoded, self.lateral, self.refine, strict=True))):
            hole = F.interpolate(mask, size=feature.shape[-2:], mode="area")
            level = lateral(cat_channels(feature, hole))  # (B, D, H/s, W/s)
            h = refine(level if h is None else level + resize_like(h, level))
        assert h is not None, "an encoder has levels"
        features = F.relu(h)  # (B, D, H/4, W/4)
        return SegmenterOutput(logits=self.classify(features), pyramid=[*encoded, features])
