"""The recorrector: weighs what segmenter and exemplars say of the newest fill, returns a corrected semantic map."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import reduce

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import BaseOutput
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn
from torch.nn import functional as F

from fbinpaint.labels import IGNORE

from .exemplar_bank import (
    MAP_SIDE,
    MIN_SHARE,
    Exemplars,
    Layout,
    adapted_map,
    at_least_float32,
    discriminate,
    retrieve_layout,
)
from .gradient_checkpointing import GradientCheckpointing
from .layers import ResBlock, cat_channels, downsample_mask, zero_init
from .safe_loading import SafeLoading

# Who has a say, in the order of the gates.
OPINIONS = ("first map", "newest map", "consistency", "layout")
FIRST_SHARE = 0.7  # of the first map, before anything is learned
# Likewise, by how much each is to be believed: a discriminant takes neighbouring cells for independent witnesses.
SHARPNESS = (1.0, 1.0, 0.125, 1.0)
NO_WEIGHTS = (0.0, 0.0)  # of exemplars in the segmenter's maps, where they only correct


@dataclass
class RecorrectorOutput(BaseOutput):
    """probabilities (B,C,H/4,W/4); gates (B,4,H/4,W/4), the weight of each of OPINIONS: they sum to 1."""

    probabilities: Tensor
    gates: Tensor


class Recorrector(SafeLoading, GradientCheckpointing, ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers' `config_name`
    """log P_k(c|x) = sum over opinions i of q_i(x) s_i log V_i(c|x), normalised: a logarithmic opinion pool (Genest &
    Zidek, Statistical Science 1986).

    V_i are the segmenter's map of the first fill, its map of the newest one, what the exemplars' discriminant makes of
    that one's features (the cross-image consistency), and the layout of the exemplars whose maps agree best with the
    first. Every round corrects the first map anew: corrections of corrections would add up and drift. The gates q_i are
    learned, of each cell, and sum to one, so that who agrees does not become surer; the sharpness s_i is learned once
    for all. Outside the hole the first map stays as it is: known labels never drift.

    What the gates are read from knows no classes, only how sure each opinion is and how far they agree: whoever sees
    classes learns the training photos' maps by heart, on which the segmenter is better than it will be.

    Args:
        num_classes: size of the label space.
        channels: width of the evidence, a multiple of 8.
        feature_channels: of the segmenter's features at all strides together.
        num_exemplars: size of the stored bank, 1 or more; a fresh one holds an exemplar that shows no class.
        top_k: how many exemplars make a layout.
        exemplar_weights: of the exemplars' discriminant in every map that the segmenter makes, in [0,1), where a photo
            is as it was and where it is filled. Above 0 for somebody's own exemplars, whose labels the segmenter has
            not learnt; a little of a model's own can help classes that are rare, such as glasses (docs/results.md).
        exemplar_classes: ids, of which alone it speaks there: those that labels of one's own show, as of partial labels
            nobody can tell where the other classes are. None = of all that the bank shows.

    Raises:
        ValueError: exemplar_weights are not two numbers in [0,1), or exemplar_classes no ids of classes.
    """

    DOUBT_CHANNELS = 3

    @register_to_config
    def __init__(
        self,
        num_classes: int = 19,
        channels: int = 32,
        feature_channels: int = 560,
        num_exemplars: int = 1,
        top_k: int = 20,
        exemplar_weights: Sequence[float] = NO_WEIGHTS,
        exemplar_classes: Sequence[int] | None = None,
    ):
        super().__init__()
        if len(exemplar_weights) != 2 or not all(0 <= weight < 1 for weight in exemplar_weights):
            raise ValueError(f"exemplar_weights {exemplar_weights}: must be two numbers from 0 to below 1")
        if not all(type(number) is int and 0 <= number < num_classes for number in exemplar_classes or ()):
            raise ValueError(f"exemplar_classes {exemplar_classes}: must be ids from 0 to {num_classes - 1}")
        number = len(OPINIONS)
        evidence = number + number * (number - 1) // 2 + self.DOUBT_CHANNELS
        self.gather = nn.Conv2d(evidence, channels, 1)
        self.reason = nn.Sequential(ResBlock(channels), ResBlock(channels, dilation=2))
        self.log_sharpness = nn.Parameter(torch.tensor(SHARPNESS).log())
        self.gates = zero_init(nn.Conv2d(channels, number, 1))
        with torch.no_grad():
            self.gates.get_parameter("bias")[0] = math.log(FIRST_SHARE / (1 - FIRST_SHARE) * (number - 1))
        self.register_buffer("bank_maps", torch.full((num_exemplars, MAP_SIDE, MAP_SIDE), IGNORE, dtype=torch.uint8))
        self.register_buffer("bank_mirror", torch.arange(num_classes, dtype=torch.uint8))
        self.register_buffer("bank_counts", torch.zeros(num_classes, dtype=torch.int64))
        self.register_buffer("bank_means", torch.zeros(num_classes, feature_channels))
        self.register_buffer("bank_correlation", torch.eye(feature_channels))
        self.register_buffer("bank_centre", torch.zeros(feature_channels))
        self.register_buffer("bank_deviation", torch.ones(feature_channels))
        self.register_buffer("bank_weight", torch.zeros(num_classes, feature_channels))
        self.register_buffer("bank_bias", torch.zeros(num_classes))

    @property
    def bank(self) -> Exemplars:
        """The exemplars saved with the model."""
        return Exemplars(**{field.name: getattr(self, f"bank_{field.name}") for field in fields(Exemplars)})

    def set_bank(
        self, exemplars: Exemplars, weights: Sequence[float] = NO_WEIGHTS, classes: Sequence[int] | None = None
    ) -> None:
        """Replace the stored bank, its weights in the segmenter's maps, and the classes that it speaks of there; the
        configuration follows, so that the saved model loads with it."""
        for field in fields(Exemplars):
            old, new = getattr(self, f"bank_{field.name}"), getattr(exemplars, field.name)
            # DDP knows its buffers by their identity. Those of `inference_mode` cannot be written to outside of it.
            if old.shape == new.shape and not old.is_inference():
                old.copy_(new)
            else:
                setattr(self, f"bank_{field.name}", new.to(old.device, old.dtype))
        self.register_to_config(
            num_exemplars=len(exemplars),
            exemplar_weights=list(weights),
            exemplar_classes=None if classes is None else list(classes),
        )

    def adapt(self, pyramid: list[Tensor], probabilities: Tensor, mask: Tensor) -> Tensor:
        """The segmenter's map as exemplars with a weight in it have it: see `adapted_map`. mask (B,1,H,W), 1 = filled.
        """
        # Without one they say nothing here, and need not be fetched to a GPU for that.
        return self._adapt(pyramid, probabilities, mask) if any(self.config.exemplar_weights) else probabilities

    @apply_forward_hook
    def _adapt(self, pyramid: list[Tensor], probabilities: Tensor, mask: Tensor) -> Tensor:
        hole = downsample_mask(mask, 4)
        bank = self.bank.only(self.config.exemplar_classes)
        return adapted_map(pyramid, probabilities, hole, bank, self.config.exemplar_weights)

    @apply_forward_hook
    def lay_out(self, probabilities: Tensor, mask: Tensor, allowed: Tensor | None = None) -> Layout:
        """What lies where in the exemplars nearest to a photo: see `retrieve_layout`."""
        return retrieve_layout(probabilities.detach(), mask, self.bank, self.config.top_k, allowed)

    @apply_forward_hook
    def recognise(self, pyramid: list[Tensor], probabilities: Tensor) -> Tensor:
        """What each cell shows by the exemplars, S_c: see `discriminate`."""
        return discriminate(pyramid, probabilities, self.bank)

    def forward(
        self,
        first: Tensor,
        newest: Tensor,
        consistency: Tensor,
        layout: Tensor,
        doubt: Tensor,
        hole: Tensor,
    ) -> RecorrectorOutput:
        """One correction.

        Maps (B,C,h,w), h = H/4: first, P_0; newest, the segmenter's of the newest fill; consistency, of `recognise`;
        layout, of `lay_out`. doubt (B,3,h,w); hole (B,1,h,w) in {0,1}.
        """
        opinions = [torch.log(at_least_float32(p) + MIN_SHARE) for p in (first, newest, consistency, layout)]
        opinions = [
            (opinion * sharpness).log_softmax(1)
            for opinion, sharpness in zip(opinions, self.log_sharpness.float().exp(), strict=True)
        ]
        evidence = cat_channels(*confidence_and_agreement(opinions), doubt.float()).to(first.dtype)
        h = F.silu(self.reason(self.gather(F.avg_pool2d(evidence, 2))))  # (B, channels, h/2, w/2)
        gates = F.interpolate(self.gates(h).softmax(1), size=first.shape[-2:], mode="bilinear") * hole
        weighted = (gates[:, i : i + 1].float() * opinion for i, opinion in enumerate(opinions))
        pooled = reduce(torch.add, weighted).softmax(1)
        gates = torch.cat([gates[:, :1] + 1 - hole, gates[:, 1:]], 1)
        return RecorrectorOutput(probabilities=torch.where(hole > 0, pooled.to(first.dtype), first), gates=gates)


def confidence_and_agreement(opinions: list[Tensor]) -> list[Tensor]:
    """How sure each opinion is, and the overlap of every two: log-probabilities (B,C,h,w) -> (B,1,h,w) each, in [0,1].

    Detached: gates are read from them, opinions do not become surer of themselves to be heard.
    """
    shares = [opinion.detach().exp() for opinion in opinions]
    sure = [share.amax(1, keepdim=True) for share in shares]
    return sure + [(a * b).sum(1, keepdim=True).sqrt() for a, b in itertools.combinations(shares, 2)]
