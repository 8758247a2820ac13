"""What an unlabelled photo teaches: strategies that turn a teacher's map of the INTACT photo into supervision.

Only the hole is synthetic, so the teacher (the weight average of the student) sees what the student must guess.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..data.photos import Batch
from ..loop import Networks
from ..losses import cisc_weight
from ..models.exemplar_bank import Exemplars, consistency_maps
from ..models.layers import one_hot

# A teacher's pixel below this confidence teaches nothing; with a fresh teacher that is nearly every pixel.
CISC_CONFIDENCE = 0.7
FIXMATCH_CONFIDENCE = 0.95

# How fast the shares of the classes are averaged, and followed.
SHARE_MOMENTUM, OFFSET_RATE = 0.95, 0.02
MAX_OFFSET = 4.0  # a class that no unlabelled photo shows is not to be seen everywhere


class ClassBalance(nn.Module):
    """Corrects the teacher's opinion of unlabelled photos until it names each class as often as labels do.

    A teacher who has seen eyes in 80 rendered faces alone knows those of a real face from its cheeks, but thinks them
    skin; learning that from itself, it unlearns eyes. So each class has an offset of its log-probability that rises
    while the class is named too rarely (class-balanced self-training, Zou et al., ECCV 2018; the shares are averaged
    over batches as in ReMixMatch, Berthelot et al., ICLR 2020).
    """

    def __init__(self, num_classes: int):
        super().__init__()
        self.register_buffer("offset", torch.zeros(num_classes))
        self.register_buffer("labelled_share", torch.full((num_classes,), 1 / num_classes))
        self.register_buffer("named_share", torch.full((num_classes,), 1 / num_classes))

    @torch.no_grad()
    def update(self, probabilities: Tensor, batch: Batch) -> None:
        """With the teacher's opinion of a batch, probabilities (B,C,h,w); without photos of both kinds, no change."""
        if batch.labelled.all() or not batch.labelled.any():
            return
        classes = len(self.offset)
        labels = one_hot(batch.labels[batch.labelled][:, 2::4, 2::4], classes)
        named = one_hot(self(probabilities[~batch.labelled]).argmax(1), classes)
        for average, seen in ((self.labelled_share, labels), (self.named_share, named)):
            average.lerp_(seen.sum((0, 2, 3)) / seen.sum().clamp_min(1), 1 - SHARE_MOMENTUM)
        rarity = (self.labelled_share + 1e-4).log() - (self.named_share + 1e-4).log()
        self.offset.add_(OFFSET_RATE * rarity).clamp_(-MAX_OFFSET, MAX_OFFSET)

    def forward(self, probabilities: Tensor) -> Tensor:
        """(B,C,h,w) -> the same, corrected."""
        return ((probabilities + 1e-6).log() + self.offset[:, None, None]).softmax(1)


# (teacher, batch, exemplars, balance) -> class distributions (B,C,h,w) to learn from, and the trust in them, (B,h,w) in
# [0,1]. Whatever it says of labelled photos is not used.
PseudoLabels = Callable[[Networks, Batch, Exemplars, ClassBalance], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Strategy:
    """pseudo_labels supervise every map of the loop; with strong_view the student also segments a mixture of intact
    photos (CutMix, Yun et al., ICCV 2019: each hole shows the next photo of the batch), labelled accordingly."""

    pseudo_labels: PseudoLabels
    strong_view: bool = False


def intact_view(teacher: Networks, batch: Batch, balance: ClassBalance):
    """The teacher's segmentation of the photos without holes, and its class probabilities (B,C,h,w), balanced."""
    segmented = teacher.segmenter(batch.image, torch.zeros_like(batch.mask))
    probabilities = segmented.logits.softmax(1)
    balance.update(probabilities, batch)
    return segmented, balance(probabilities)


@torch.no_grad()
def supervised(teacher: Networks, batch: Batch, exemplars: Exemplars, balance: ClassBalance) -> tuple[Tensor, Tensor]:
    """Unlabelled photos teach the inpainters only."""
    labels = batch.labels[:, 2::4, 2::4]
    classes = teacher.segmenter.config.num_classes
    return one_hot(torch.full_like(labels, 255), classes), torch.zeros(labels.shape, device=labels.device)


@torch.no_grad()
def cisc(teacher: Networks, batch: Batch, exemplars: Exemplars, balance: ClassBalance) -> tuple[Tensor, Tensor]:
    """Cross-image semantic consistency (CISC-R, Wu et al., TPAMI 2023): trust a pseudo-label as far as the labelled
    photos nearest to this one agree with it."""
    segmented, probabilities = intact_view(teacher, batch, balance)
    confidence, labels = probabilities.max(1)
    advice = teacher.recorrector.consult(segmented.features, probabilities, torch.zeros_like(batch.mask), exemplars)
    features = teacher.recorrector.exemplar_features(segmented.features)
    consistency = consistency_maps(features, advice.prototypes, advice.shared)
    trust = cisc_weight(consistency, labels, advice.shared) * (confidence >= CISC_CONFIDENCE)
    return one_hot(labels, probabilities.shape[1]), trust


@torch.no_grad()
def fixmatch(teacher: Networks, batch: Batch, exemplars: Exemplars, balance: ClassBalance) -> tuple[Tensor, Tensor]:
    """FixMatch (Sohn et al., NeurIPS 2020): what the teacher is nearly sure of, at full trust."""
    _, probabilities = intact_view(teacher, batch, balance)
    confidence, labels = probabilities.max(1)
    return one_hot(labels, probabilities.shape[1]), (confidence >= FIXMATCH_CONFIDENCE).float()


@torch.no_grad()
def mean_teacher(teacher: Networks, batch: Batch, exemplars: Exemplars, balance: ClassBalance) -> tuple[Tensor, Tensor]:
    """Mean Teacher (Tarvainen & Valpola, NeurIPS 2017): the teacher's whole distribution, of every pixel."""
    _, probabilities = intact_view(teacher, batch, balance)
    return probabilities, torch.ones_like(probabilities[:, 0])


STRATEGIES: dict[str, Strategy] = {
    "supervised": Strategy(supervised),
    "cisc": Strategy(cisc),
    "fixmatch": Strategy(fixmatch, strong_view=True),
    "mean_teacher": Strategy(mean_teacher),
}
