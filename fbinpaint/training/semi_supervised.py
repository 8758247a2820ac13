"""What an unlabelled pixel teaches: strategies that turn a teacher's map of the INTACT photo into supervision.

Only the hole is synthetic, so the teacher (the weight average of the student) sees what the student must guess.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fbinpaint.data.photos import Batch
from fbinpaint.loop import Networks
from fbinpaint.models.layers import downsample_labels, one_hot
from fbinpaint.training.losses import cisc_weight

from .distribution_alignment import DistributionAlignment

# A teacher's pixel below this confidence teaches nothing; with a fresh teacher that is nearly every pixel.
CISC_CONFIDENCE = 0.7
FIXMATCH_CONFIDENCE = 0.95

# (teacher, batch, floor) -> class distributions (B,C,h,w) to learn from, and the trust in them, (B,h,w) in [0,1].
# Whatever it says of labelled cells is not used.
PseudoLabels = Callable[[Networks, Batch, DistributionAlignment], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Strategy:
    """pseudo_labels supervise every map of the loop; with strong_view the student also segments a mixture of intact
    photos (CutMix, Yun et al., ICCV 2019: each hole shows the next photo of the batch), labelled accordingly."""

    pseudo_labels: PseudoLabels
    strong_view: bool = False


def intact_view(teacher: Networks, batch: Batch, floor: DistributionAlignment):
    """The teacher's segmentation of the photos without holes, and its class probabilities (B,C,h,w), raised by the
    floor."""
    segmented = teacher.segmenter(batch.image, torch.zeros_like(batch.mask))
    probabilities = segmented.logits.softmax(1)
    floor.count(probabilities, batch)
    return segmented, floor(probabilities)


@torch.no_grad()
def supervised(teacher: Networks, batch: Batch, floor: DistributionAlignment) -> tuple[Tensor, Tensor]:
    """Unlabelled pixels teach the inpainters only."""
    labels = downsample_labels(batch.labels)
    classes = teacher.segmenter.config.num_classes
    return one_hot(torch.full_like(labels, 255), classes), torch.zeros(labels.shape, device=labels.device)


@torch.no_grad()
def cisc(teacher: Networks, batch: Batch, floor: DistributionAlignment) -> tuple[Tensor, Tensor]:
    """Cross-image semantic consistency (CISC-R, Wu et al., TPAMI 2023): trust a pseudo-label as far as the labelled
    exemplars agree with it."""
    segmented, probabilities = intact_view(teacher, batch, floor)
    confidence, labels = probabilities.max(1)
    consistency = teacher.recorrector.recognise(segmented.pyramid, probabilities)
    shared = teacher.recorrector.bank.counts > 0
    trust = cisc_weight(consistency, labels, shared) * (confidence >= CISC_CONFIDENCE)
    return one_hot(labels, probabilities.shape[1]), trust


@torch.no_grad()
def fixmatch(teacher: Networks, batch: Batch, floor: DistributionAlignment) -> tuple[Tensor, Tensor]:
    """FixMatch (Sohn et al., NeurIPS 2020): what the teacher is nearly sure of, at full trust."""
    _, probabilities = intact_view(teacher, batch, floor)
    confidence, labels = probabilities.max(1)
    return one_hot(labels, probabilities.shape[1]), (confidence >= FIXMATCH_CONFIDENCE).float()


@torch.no_grad()
def mean_teacher(teacher: Networks, batch: Batch, floor: DistributionAlignment) -> tuple[Tensor, Tensor]:
    """Mean Teacher (Tarvainen & Valpola, NeurIPS 2017): the teacher's whole distribution, of every pixel."""
    _, probabilities = intact_view(teacher, batch, floor)
    return probabilities, torch.ones_like(probabilities[:, 0])


STRATEGIES: dict[str, Strategy] = {
    "supervised": Strategy(supervised),
    "cisc": Strategy(cisc),
    "fixmatch": Strategy(fixmatch, strong_view=True),
    "mean_teacher": Strategy(mean_teacher),
}
