"""Exemplars made of labelled photos, as a segmenter sees them: of training photos for a new model's bank, or of
somebody's own for an existing one's."""

import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fbinpaint.images.crops import resize_image
from fbinpaint.images.tensors import pad_to_multiple, to_tensor
from fbinpaint.labels import IGNORE, LabelSpace
from fbinpaint.masks import free_form_mask
from fbinpaint.models import Segmenter
from fbinpaint.models.exemplar_bank import (
    MAP_SIDE,
    MIN_SHARE,
    Exemplars,
    Statistics,
    discriminate,
    labelled_cells,
    pool,
)
from fbinpaint.models.harmonic_fill import harmonic_fill
from fbinpaint.models.layers import downsample_labels

LabelledPhotos = Iterable[tuple[np.ndarray, np.ndarray]]

# Sizes that own exemplars are looked at in: what their statistics say of photos half as large would be wrong otherwise
# (docs/experiments.md).
SCALES = (1.0, 0.5)
SEED = 0  # of the holes that they are looked at with
FOLDS = 5
WEIGHTS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
SCORED = 4  # of so many labelled cells one is scored


@dataclass
class SeenPhoto:
    """A labelled photo as a segmenter sees it: n labelled cells."""

    features: Tensor  # (n,D), at all strides
    probabilities: Tensor  # (n,C), the segmenter's own map
    classes: Tensor  # (n,), the true ones
    filled: Tensor  # (n,) bool, whether the cell was in a hole
    semantic_map: Tensor  # (MAP_SIDE,MAP_SIDE) uint8


@torch.no_grad()
def look_at(
    segmenter: Segmenter, labelled: LabelledPhotos, scales: Sequence[float] = (1.0,), with_hole: bool = False
) -> Iterator[SeenPhoto]:
    """Each labelled photo, in so many times its size; its tensors on the CPU. Raises ValueError where there is none.

    with_hole: not only as it is, but also with a hole, of which what fills it counts.
    """
    like = torch.empty(0, device=segmenter.device, dtype=segmenter.dtype)  # asked once: that takes a millisecond
    number = -1
    for number, (photo, semantic_map) in enumerate(labelled):
        hole = free_form_mask(MAP_SIDE, MAP_SIDE, np.random.default_rng((SEED, number))) if with_hole else None
        seen = (look_once(segmenter, *resized(photo, semantic_map, scale), hole, like) for scale in scales)
        features, probabilities, classes, filled = (torch.cat(of_all) for of_all in zip(*seen, strict=True))
        small = cv2.resize(semantic_map, (MAP_SIDE, MAP_SIDE), interpolation=cv2.INTER_NEAREST_EXACT)
        yield SeenPhoto(features, probabilities, classes, filled, torch.from_numpy(small))
    if number < 0:
        raise ValueError("no photo, so there is nothing to make exemplars of")


def resized(photo: np.ndarray, semantic_map: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """A photo (H,W,3) and its map (H,W), both uint8, in so many times their size."""
    if scale == 1:
        return photo, semantic_map
    width, height = (max(1, round(scale * side)) for side in photo.shape[1::-1])
    labels = cv2.resize(semantic_map, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return resize_image(photo, (width, height)), labels


def look_once(
    segmenter: Segmenter, photo: np.ndarray, semantic_map: np.ndarray, hole: np.ndarray | None, like: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features, probabilities and classes of the labelled cells, and whether they were filled, as in `SeenPhoto`.

    hole: a bool map of any size, which is stretched to the photo's: beside the photo it is seen filled, and then only
    cells in it count. Smooth fills teach as much of a network's first fills as these themselves, in a fraction of the
    time (docs/experiments.md). like: a tensor of the segmenter's device and type.
    """
    image = pad_to_multiple(to_tensor(photo), 16).to(like)
    labels = pad_to_multiple(torch.from_numpy(semantic_map)[None, None].float(), 16)[:, 0].long()
    images, masks, cells = [image], [torch.zeros_like(image[:, :1])], [downsample_labels(labels)]
    if hole is not None:
        mask = F.interpolate(torch.from_numpy(hole)[None, None].to(image), size=image.shape[-2:], mode="nearest-exact")
        images.append(harmonic_fill(image, 1 - mask))
        masks.append(mask)
        cells.append(downsample_labels(labels.masked_fill(mask[:, 0].cpu() == 0, IGNORE)))
    segmented = segmenter(torch.cat(images), torch.cat(masks))
    levels = [*segmented.pyramid, segmented.logits.softmax(1)]
    features, classes, numbers = labelled_cells(levels, torch.cat(cells))
    features, probabilities = features.tensor_split([features.shape[1] - levels[-1].shape[1]], 1)
    return features, probabilities, classes, numbers > 0


def mirror_of(label_space: LabelSpace) -> Tensor:
    """(C,) uint8, what each class becomes in a mirrored photo."""
    return torch.from_numpy(label_space.flip(np.arange(label_space.num_classes, dtype=np.uint8)))


def make_exemplars(segmenter: Segmenter, label_space: LabelSpace, labelled: LabelledPhotos) -> Exemplars:
    """labelled: photos (H,W,3) uint8 at the size that the networks work at, and their maps (H,W) uint8, 255 = unknown.
    """
    statistics: Statistics | None = None
    maps = []
    for seen in look_at(segmenter, labelled):
        if statistics is None:
            statistics = Statistics(label_space.num_classes, seen.features.shape[1])
        statistics.add(seen.features, seen.classes)
        maps.append(seen.semantic_map)
    assert statistics is not None, "there is a photo at least"
    return statistics.exemplars(torch.stack(maps), mirror_of(label_space))


class Fold:
    """Exemplars that are left out together: the statistics of their cells, and some of these to be scored.

    num_classes, and D channels of features at all strides.
    """

    def __init__(self, num_classes: int, channels: int):
        self.statistics = Statistics(num_classes, channels)
        self.scored: list[tuple[Tensor, ...]] = []  # of each photo features, probabilities, classes and states

    def add(self, seen: SeenPhoto) -> None:
        self.statistics.add(seen.features, seen.classes)
        scored = seen.features, seen.probabilities, seen.classes, seen.filled
        self.scored.append(tuple(x[::SCORED].clone() for x in scored))  # copies: views would hold on to all cells

    def log_likelihoods(self, exemplars: Exemplars) -> Tensor:
        """(2,len(WEIGHTS)), sums over the cells that were photographed, and over the filled ones: of their classes, if
        these exemplars have each of WEIGHTS in maps."""
        features, probabilities, classes, filled = (torch.cat(of_all) for of_all in zip(*self.scored, strict=True))
        features, probabilities = (x[:, :, None, None] for x in (features, probabilities))  # cells as photos of one
        votes = discriminate([features], probabilities, exemplars)
        maps = pool(probabilities, votes, torch.tensor(WEIGHTS, device="cpu"))  # (n,C,1,len(WEIGHTS))
        of_cells = (maps.gather(1, classes[:, None, None, None].expand_as(maps[:, :1])) + MIN_SHARE).log()[:, 0, 0]
        return torch.stack([of_cells[state].sum(0) for state in (~filled, filled)])


def shown_by(exemplars: Exemplars) -> list[int]:
    """The ids of the classes that their labels show."""
    return exemplars.counts.nonzero()[:, 0].tolist()


def own_exemplars(
    bank: Exemplars, segmenter: Segmenter, label_space: LabelSpace, labelled: LabelledPhotos
) -> tuple[Exemplars, list[float]]:
    """Exemplars of labelled photos that the segmenter has not learnt, and the weights in its maps of what they make of
    `bank` (on the CPU), where a photo is as it was and where it is filled: of WEIGHTS the likeliest by photos that are
    left out, a fifth of them at a time."""
    num_classes, channels = bank.means.shape
    folds = [Fold(num_classes, channels) for _ in range(FOLDS)]
    maps = []
    for number, seen in enumerate(look_at(segmenter, labelled, SCALES, with_hole=True)):
        folds[number % FOLDS].add(seen)
        maps.append(seen.semantic_map)

    def of(some: Iterable[Fold]) -> Exemplars:
        statistics = reduce(operator.add, (fold.statistics for fold in some))
        return statistics.exemplars(torch.stack(maps), mirror_of(label_space))

    own, likelihoods = of(folds), torch.zeros(2, len(WEIGHTS), device="cpu")
    shown = shown_by(own)
    for fold in folds:
        if fold.statistics.counts.any():
            others = of(other for other in folds if other is not fold)
            likelihoods += fold.log_likelihoods(bank.adapted(others).only(shown))
    return own, [WEIGHTS[int(best)] for best in likelihoods.argmax(1)]
