"""Keeps small classes that every photo should show in the maps of unlabelled photos."""

import torch
from torch import Tensor, distributed, nn

from fbinpaint.data.photos import Batch
from fbinpaint.models.layers import downsample_labels, one_hot

# A class is common when so many of the labelled photos show it, small when it has no more than this share of their
# pixels. Larger ones are not forgotten, and how much of a photo they take is a matter of framing.
COMMON, SMALL = 0.8, 0.01
# How fast the shares are averaged over batches, and followed.
SHARE_MOMENTUM, OFFSET_RATE = 0.95, 0.02
MAX_OFFSET = 4.0


def small_and_common(share: Tensor, presence: Tensor) -> Tensor:
    """(C,) bool. share (C,), of labelled photos' pixels; presence (C,), of these photos, the share that shows it."""
    return (presence >= COMMON) & (share <= SMALL)


class DistributionAlignment(nn.Module):
    """Raises the teacher's opinion of classes that it names less often than labels do.

    A teacher who has seen eyes in rendered faces alone knows those of a real face from its cheeks, but thinks them
    skin; learning that from itself, it unlearns eyes. So each of the classes has an offset of its log-probability that
    rises while it is named too rarely. That is class-balanced self-training (Zou et al., ECCV 2018), its shares
    averaged over batches as in ReMixMatch (Berthelot et al., ICLR 2020), but nothing is lowered, and whoever demands
    equal shares of all classes, of hats as well as of eyes, gets hats in the hair.

    Shares are of whole photos: of those with a label, what their labels say, and of those without any, what the teacher
    says. A partial label shows no more of a class than there is, so nothing is raised too far because of it.

    Where several processes train, each counts the batches of all and moves as far as these would one after the other.

    Args:
        classes: (C,) bool, those that may be raised (`small_and_common`).
    """

    classes: Tensor  # as all of these, (C,)
    offset: Tensor
    labelled_share: Tensor
    named_share: Tensor

    def __init__(self, classes: Tensor):
        super().__init__()
        self.register_buffer("classes", classes, persistent=False)
        self.register_buffer("offset", torch.zeros(len(classes)))
        self.register_buffer("labelled_share", torch.zeros(len(classes)))
        self.register_buffer("named_share", torch.zeros(len(classes)))
        # (2,C + 1), of a batch's labelled photos and of the others: cells of each class, and all cells.
        self.counts: Tensor | None = None

    @torch.no_grad()
    def count(self, probabilities: Tensor, batch: Batch) -> None:
        """Takes in the teacher's own opinion of a batch, (B,C,h,w), for the next `move`."""
        labelled, others = (
            which.nonzero()[:, 0].to(probabilities.device) for which in (batch.has_label, ~batch.has_label)
        )
        maps = downsample_labels(batch.labels[labelled]), self(probabilities[others]).argmax(1)  # (·, h, w) each
        counts = torch.stack([one_hot(labels, len(self.offset)).sum((0, 2, 3)) for labels in maps])  # (2, C)
        cells = counts.new_tensor([labels.numel() for labels in maps])
        self.counts = torch.cat([counts, cells[:, None]], dim=1)

    @torch.no_grad()
    def move(self) -> None:
        """Once a step, by every process, whether its own batch was counted or not: one may lack unlabelled photos where
        another has them. Without photos of both kinds, no change."""
        counts, self.counts = self.counts, None
        batches = 1
        if distributed.is_available() and distributed.is_initialized():
            counts = self.offset.new_zeros(2, len(self.offset) + 1) if counts is None else counts
            distributed.all_reduce(counts)
            batches = distributed.get_world_size()
        if counts is None or not counts[:, -1].all():
            return
        shares = counts[:, :-1] / counts[:, -1:].clamp_min(1)
        for average, share in zip((self.labelled_share, self.named_share), shares, strict=True):
            average.lerp_(share, 1 - SHARE_MOMENTUM**batches)
        lack = (self.labelled_share + 1e-4).log() - (self.named_share + 1e-4).log()
        self.offset.add_(batches * OFFSET_RATE * lack * self.classes).clamp_(0, MAX_OFFSET)

    def forward(self, probabilities: Tensor) -> Tensor:
        """(B,C,h,w) -> the same, with such classes raised."""
        return ((probabilities + 1e-6).log() + self.offset[:, None, None]).softmax(1)
