"""Keeps small classes that every photo should show in the maps of unlabelled photos."""

import torch
from torch import Tensor, distributed, nn

from ..data.photos import Batch
from ..models.layers import in_cells, one_hot

# A class is common when so many of the labelled photos show it, small when it has no more than this share of their
# pixels. Larger ones are not forgotten, and how much of a photo they take is a matter of framing.
COMMON, SMALL = 0.8, 0.01
# How fast the shares are averaged over batches, and followed.
SHARE_MOMENTUM, OFFSET_RATE = 0.95, 0.02
MAX_OFFSET = 4.0


def small_and_common(counts: Tensor, presence: Tensor) -> Tensor:
    """(C,) bool. counts (C,), the labelled pixels of each class; presence (C,), the share of photos that show it."""
    return (presence >= COMMON) & (counts <= SMALL * counts.sum())


class ClassFloor(nn.Module):
    """Raises the teacher's opinion of classes that it names less often than labels do.

    A teacher who has seen eyes in rendered faces alone knows those of a real face from its cheeks, but thinks them
    skin; learning that from itself, it unlearns eyes. So each of the classes has an offset of its log-probability that
    rises while it is named too rarely. That is class-balanced self-training (Zou et al., ECCV 2018), its shares
    averaged over batches as in ReMixMatch (Berthelot et al., ICLR 2020), but nothing is lowered, and whoever demands
    equal shares of all classes, of hats as well as of eyes, gets hats in the hair.

    Where several processes train, each counts the batches of all and moves as far as these would one after the other.

    Args:
        classes: (C,) bool, those that may be raised (`small_and_common`).
    """

    def __init__(self, classes: Tensor):
        super().__init__()
        self.register_buffer("classes", classes, persistent=False)
        self.register_buffer("offset", torch.zeros(len(classes)))
        self.register_buffer("labelled_share", torch.zeros(len(classes)))
        self.register_buffer("named_share", torch.zeros(len(classes)))

    @torch.no_grad()
    def update(self, probabilities: Tensor, batch: Batch) -> None:
        """With the teacher's own opinion of a batch, (B,C,h,w); without photos of both kinds, no change."""
        if batch.labelled.all() or not batch.labelled.any():
            return
        labels = one_hot(in_cells(batch.labels[batch.labelled]), len(self.offset))
        named = one_hot(self(probabilities[~batch.labelled]).argmax(1), len(self.offset))
        counts = torch.stack([labels.sum((0, 2, 3)), named.sum((0, 2, 3))])  # (2, C)
        batches = 1
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(counts)
            batches = distributed.get_world_size()
        for average, count in zip((self.labelled_share, self.named_share), counts, strict=True):
            average.lerp_(count / count.sum().clamp_min(1), 1 - SHARE_MOMENTUM**batches)
        lack = (self.labelled_share + 1e-4).log() - (self.named_share + 1e-4).log()
        self.offset.add_(batches * OFFSET_RATE * lack * self.classes).clamp_(0, MAX_OFFSET)

    def forward(self, probabilities: Tensor) -> Tensor:
        """(B,C,h,w) -> the same, with such classes raised."""
        return ((probabilities + 1e-6).log() + self.offset[:, None, None]).softmax(1)
