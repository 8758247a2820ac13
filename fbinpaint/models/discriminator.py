"""The discriminator: judges restored photos, during training only."""

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import conv3x3
from .safe_loading import SafeLoading


class Discriminator(SafeLoading, ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers' `config_name`
    """Four judges: one of pixels, a PatchGAN (Isola et al., CVPR 2017) that is shown the mask, with strides 2, 4, 8;
    and one for each of three levels of a frozen, pretrained encoder (after Projected GAN, Sauer et al., NeurIPS 2021),
    which know at once what things look like. All are told the classes and judge each cell as one of its own (projection
    discriminator, Miyato & Koyama, ICLR 2018): otherwise a convincing tree is as good where a road should be, and the
    map need not be followed.

    Args:
        num_classes: size of the label space.
        channels: widths of the PatchGAN at strides 2, 4 and 8.
        feature_channels: widths of the encoder's levels, at strides 4, 8 and 16.
        judge_channels: width of their judges.
    """

    @register_to_config
    def __init__(
        self,
        num_classes: int = 19,
        channels: tuple[int, int, int] = (64, 128, 256),
        feature_channels: tuple[int, int, int] = (24, 40, 112),
        judge_channels: int = 64,
    ):
        super().__init__()
        widths = (4, *channels)
        self.layers = nn.ModuleList(
            nn.Conv2d(widths[i], widths[i + 1], 4, stride=2, padding=1) for i in range(len(channels))
        )
        self.judge = conv3x3(channels[-1], 1 + num_classes)
        self.feature_judges = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, judge_channels, 1),
                nn.LeakyReLU(0.2),
                conv3x3(judge_channels, judge_channels),
                nn.LeakyReLU(0.2),
                conv3x3(judge_channels, 1 + num_classes),
            )
            for width in feature_channels
        )

    def look(self, image: Tensor, mask: Tensor) -> list[Tensor]:
        """image (B,3,H,W) in [-1,1], mask (B,1,H,W) -> the PatchGAN's features per scale."""
        h = torch.cat([image, mask], dim=1)
        features = []
        for layer in self.layers:
            h = F.leaky_relu(layer(h), 0.2)
            features.append(h)
        return features

    def forward(
        self, image: Tensor, mask: Tensor, levels: list[Tensor], classes: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]:
        """image and mask as in `look`, levels: the encoder's features of the image, (B,·,H/s,W/s), classes:
        (B,C,H/4,W/4), those that the image should show, all zero where nobody knows them.

        Returns scores, high = real, (B,1,H/8,W/8) of the pixels and (B,1,H/s,W/s) of each level, and the PatchGAN's
        features per scale.
        """
        features = self.look(image, mask)
        judged = [self.judge(features[-1])]
        judged += [judge(level) for judge, level in zip(self.feature_judges, levels, strict=True)]
        scores = []
        for h in judged:  # (B, 1 + C, H/s, W/s)
            share = F.adaptive_avg_pool2d(classes, h.shape[-2:])
            scores.append(h[:, :1] + (h[:, 1:] * share).sum(1, keepdim=True))
        return scores, features
