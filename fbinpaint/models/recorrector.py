"""The recorrector: takes the inpainter's feedback and the labelled exemplars, returns a corrected semantic map."""

from dataclasses import dataclass

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn
from torch.nn import functional as F

from .exemplar_bank import Advice, Exemplars, class_prototypes, consistency_maps, retrieval_keys, retrieve
from .layers import ResBlock, cat_channels, downsample_mask, one_hot, zero_init
from .safe_loading import SafeLoading


@dataclass
class RecorrectorOutput(BaseOutput):
    """probabilities (B,C,H/4,W/4); consistency (B,C,H/8,W/8) in [0,1], S_c; trust (B,1,H/4,W/4) in [0,1], how far the
    correction was let through."""

    probabilities: Tensor
    consistency: Tensor
    trust: Tensor


class Recorrector(SafeLoading, ModelMixin, ConfigMixin):
    """P_k(c|x) proportional to P_0(c|x) * exp(q(x) * (lambda * S_c(x) + R_c(x))).

    P_0 is the segmenter's own map: every round corrects it anew with the latest evidence, the map of the round before
    included. Corrections of corrections would add up and drift.

    S_c is the cross-image consistency with retrieved labelled exemplars, R_c a residual read from the feedback, q the
    trust: learned, and zero outside the hole, so that known labels never drift.

    Args:
        num_classes: size of the label space.
        channels: width of the feedback features, a multiple of 8.
        segmenter_channels, inpainter_channels: widths of the features handed in.
        prototype_channels: length of a class prototype.
        num_exemplars: size of the stored bank, 1 or more; a fresh one holds an exemplar that shows no class.
        top_k: how many exemplars are consulted.
    """

    DOUBT_CHANNELS = 3

    @register_to_config
    def __init__(
        self,
        num_classes: int = 19,
        channels: int = 64,
        segmenter_channels: int = 64,
        inpainter_channels: int = 96,
        prototype_channels: int = 48,
        num_exemplars: int = 1,
        top_k: int = 4,
    ):
        super().__init__()
        evidence = segmenter_channels + inpainter_channels + num_classes + self.DOUBT_CHANNELS
        self.gather = nn.Conv2d(evidence, channels, 1)
        self.reason = nn.Sequential(ResBlock(channels), ResBlock(channels, dilation=2))
        self.query = nn.Conv2d(channels, prototype_channels, 1)
        self.exemplar = nn.Conv2d(segmenter_channels, prototype_channels, 1)
        self.residual8 = zero_init(nn.Conv2d(channels, num_classes, 1))
        self.residual4 = zero_init(nn.Conv2d(evidence, num_classes, 1))
        self.trust = zero_init(nn.Conv2d(channels, 1, 1))
        self.consistency_weight = nn.Parameter(torch.tensor(1.0))  # lambda
        self.register_buffer("bank_prototypes", torch.zeros(num_exemplars, num_classes, prototype_channels))
        self.register_buffer("bank_present", torch.zeros(num_exemplars, num_classes))
        self.register_buffer("bank_keys", torch.zeros(num_exemplars, segmenter_channels + num_classes))

    @property
    def bank(self) -> Exemplars:
        """The exemplars saved with the model."""
        return Exemplars(self.bank_prototypes, self.bank_present, self.bank_keys)

    def set_bank(self, exemplars: Exemplars) -> None:
        """Replace the stored bank; the configuration follows, so that the saved model loads with it."""
        self.bank_prototypes, self.bank_present = exemplars.prototypes, exemplars.present
        self.bank_keys = exemplars.keys
        self.register_to_config(num_exemplars=len(exemplars))

    def exemplar_features(self, segmenter_features: Tensor) -> Tensor:
        """Non-negative features (B,P,h,w) in which photos are comparable with each other."""
        return F.relu(self.exemplar(segmenter_features))

    def make_exemplars(self, segmenter_features: Tensor, labels: Tensor) -> Exemplars:
        """Exemplars of intact labelled photos: features (N,D,h,w), labels (N,h,w) int64 with 255 = ignore."""
        num_classes = self.config.num_classes
        prototypes, present = class_prototypes(self.exemplar_features(segmenter_features), labels, num_classes)
        truth = one_hot(labels, num_classes).to(segmenter_features.dtype)
        keys = retrieval_keys(segmenter_features.detach(), truth, truth.sum(1, keepdim=True))
        return Exemplars(prototypes, present, keys)

    @apply_forward_hook
    def consult(
        self,
        segmenter_features: Tensor,
        probabilities: Tensor,
        mask: Tensor,
        exemplars: Exemplars | None,
        allowed: Tensor | None = None,
    ) -> Advice:
        """What the exemplars nearest to the photo's known part say; None = those of the bank."""
        exemplars = self.bank if exemplars is None else exemplars
        known = 1 - downsample_mask(mask, 4)
        keys = retrieval_keys(segmenter_features.detach(), probabilities.detach(), known)
        return retrieve(keys, exemplars, self.config.top_k, allowed)

    def forward(
        self,
        first: Tensor,
        probabilities: Tensor,
        segmenter_features: Tensor,
        inpainter_features: Tensor,
        doubt: Tensor,
        hole: Tensor,
        prototypes: Tensor,
        shared: Tensor,
    ) -> RecorrectorOutput:
        """One correction.

        first (B,C,h,w), P_0, h = H/4; probabilities (B,C,h,w) of the last round; segmenter_features (B,D,h,w);
        inpainter_features (B,E,h,w) of the last guided pass; doubt (B,3,h,w); hole (B,1,h,w) in {0,1}; prototypes and
        shared of `consult`.
        """
        log_p = torch.log(probabilities + 1e-4)
        evidence = cat_channels(segmenter_features, inpainter_features, 0.2 * log_p, doubt)  # (B, E, h, w)
        h = self.reason(self.gather(F.avg_pool2d(evidence, 2)))  # (B, channels, h/2, w/2)
        h = F.silu(h)
        consistency = consistency_maps(F.relu(self.query(h)), prototypes, shared)  # (B, C, h/2, w/2)
        push = self.consistency_weight * consistency + self.residual8(h)
        push = F.interpolate(push, size=log_p.shape[-2:], mode="bilinear") + self.residual4(evidence)
        trust = F.interpolate(torch.sigmoid(self.trust(h)), size=log_p.shape[-2:], mode="bilinear")
        trust = trust * hole
        return RecorrectorOutput(
            probabilities=torch.softmax(torch.log(first + 1e-4) + trust * push, dim=1),
            consistency=consistency,
            trust=trust,
        )
