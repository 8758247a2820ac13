"""What an unlabelled photo teaches: strategies that turn a teacher's map of the INTACT photo into supervision.

Only the hole is synthetic, so the teacher (the weight average of the student) sees what the student must guess.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ..data.photos import Batch
from ..loop import Networks
from ..losses import cisc_weight
from ..models.exemplar_bank import Exemplars, consistency_maps

# A teacher's pixel below this confidence teaches nothing; with a fresh teacher that is nearly every pixel.
CONFIDENCE = 0.7

# (teacher, batch, exemplars) -> labels (B,h,w) int64 and their weight (B,h,w) for the photos without labels
Strategy = Callable[[Networks, Batch, Exemplars], tuple[Tensor, Tensor]]


def supervised(teacher: Networks, batch: Batch, exemplars: Exemplars) -> tuple[Tensor, Tensor]:
    """Unlabelled photos teach the inpainters only."""
    labels = batch.labels[:, 2::4, 2::4]
    return torch.full_like(labels, 255), torch.zeros_like(labels, dtype=batch.image.dtype)


@torch.no_grad()
def cisc(teacher: Networks, batch: Batch, exemplars: Exemplars) -> tuple[Tensor, Tensor]:
    """Cross-image semantic consistency (CISC-R, Wu et al., TPAMI 2023): trust a pseudo-label as far as the labelled
    photos nearest to this one agree with it."""
    intact = torch.zeros_like(batch.mask)
    segmented = teacher.segmenter(batch.image, intact)
    probabilities = segmented.logits.softmax(1)
    confidence, labels = probabilities.max(1)
    prototypes, shared = teacher.recorrector.consult(segmented.features, probabilities, intact, exemplars)
    consistency = consistency_maps(teacher.recorrector.exemplar_features(segmented.features), prototypes, shared)
    return labels, cisc_weight(consistency, labels, shared) * (confidence >= CONFIDENCE)


STRATEGIES: dict[str, Strategy] = {"supervised": supervised, "cisc": cisc}
