"""Labelled exemplars: what other photos say each class looks like, and what lies where in photos laid out alike.

Two kinds of votes, as both inform where a mean prototype of each class does not:

- a linear discriminant of the segmenter's features at all strides, solved in closed form from the statistics of the
  exemplars' labelled cells: class means and one covariance within classes;
- the label maps of those exemplars that agree best with the known part of the map, at the same place.

The bank of a released model holds statistics and small maps, no pixels of any photo.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce, wraps
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fbinpaint.labels import IGNORE

from .layers import one_hot

MAP_SIDE = 64  # cells of an exemplar's map, which is stretched to a square
MATCHING_SIDE = 32  # cells that maps are compared by
NEIGHBOURHOOD = 13  # of those, around the hole: there the agreement of maps counts most
FAR_WEIGHT = 0.05  # of a cell with no hole in its neighbourhood
SHRINKAGE = 0.1  # of the covariance towards its diagonal
FLOOR = 0.05  # share of a layout that is the photo's own map, as exemplars do not show everything
MIN_SHARE = 1e-4  # no opinion rules a class out
BLOCK = 80  # of features, whose squares are summed together
PRIOR_CELLS = 1000.0  # so many cells of a model's own exemplars count beside those of somebody else's


@dataclass
class Exemplars:
    """N labelled photos: their maps, and the statistics of their features at all strides, D channels.

    In units in which half precision loses nothing: features are those less `centre`, over `deviation`.
    """

    maps: Tensor  # (N,MAP_SIDE,MAP_SIDE) uint8, classes, 255 = unknown
    mirror: Tensor  # (C,) uint8, what each class becomes in a mirrored photo: a left eye a right one
    counts: Tensor  # (C,) int64, labelled cells of each class
    means: Tensor  # (C,D), of each class, in those units
    correlation: Tensor  # (D,D), within classes
    centre: Tensor  # (D,), the mean of all cells
    deviation: Tensor  # (D,), within classes
    weight: Tensor  # (C,D) and
    bias: Tensor  # (C,) of the discriminant, see `solve`; zero for a class that nobody shows

    def __len__(self) -> int:
        return len(self.maps)

    def to(self, device: torch.device | str) -> "Exemplars":
        return Exemplars(**{name: x.to(device) for name, x in vars(self).items()})

    def only(self, classes: Sequence[int] | None) -> "Exemplars":
        """These, speaking of some classes alone, by their ids; None = of all that they show."""
        if classes is None:
            return self
        counts = torch.zeros_like(self.counts)
        counts[list(classes)] = self.counts[list(classes)]
        return replace(self, counts=counts)

    def moments(self) -> tuple[Tensor, Tensor, Tensor]:
        """Counts (C,), class means (C,D) and covariance (D,D) of the features as they are, in double precision."""
        deviation = self.deviation.double()
        covariance = self.correlation.double() * deviation * deviation[:, None]
        return self.counts.double(), self.means.double() * deviation + self.centre.double(), covariance

    def adapted(self, own: "Exemplars") -> "Exemplars":
        """The exemplars `own`, whose statistics lean on these where they are few: a maximum a posteriori estimate
        (Gauvain & Lee, IEEE Transactions on Speech and Audio Processing 1994)."""
        (counts, means, covariance), (own_counts, own_means, own_covariance) = self.moments(), own.moments()
        prior = PRIOR_CELLS * counts / counts.sum().clamp_min(1)
        weight = prior / (own_counts + prior).clamp_min(1e-6)
        share = (PRIOR_CELLS / (own_counts.sum() + PRIOR_CELLS)).item()
        return from_moments(
            own.maps,
            own.mirror,
            own_counts + prior,
            torch.lerp(own_means, means, weight[:, None]),
            torch.lerp(own_covariance, covariance, share),
        )


def no_exemplars(like: Exemplars) -> Exemplars:
    """One exemplar that shows nothing: every vote is the photo's own."""
    nothing = {name: torch.zeros_like(getattr(like, name)) for name in ("counts", "means", "weight", "bias")}
    return replace(like, maps=torch.full_like(like.maps[:1], IGNORE), **nothing)


def from_moments(maps: Tensor, mirror: Tensor, counts: Tensor, means: Tensor, covariance: Tensor) -> Exemplars:
    """maps (N,MAP_SIDE,MAP_SIDE) and mirror (C,) uint8; counts (C,), means (C,D) and covariance (D,D) in double
    precision."""
    centre = (counts @ means) / counts.sum().clamp_min(1)
    # A feature that never changes tells nothing, and must not be divided by zero.
    deviation = covariance.diagonal().clamp_min(0).sqrt()
    deviation = deviation.clamp_min(1e-3 * deviation.mean() + 1e-6)
    means = torch.where(counts[:, None] > 0, (means - centre) / deviation, 0.0)
    correlation = covariance / deviation / deviation[:, None]
    weight, bias = solve(counts, means, correlation)
    statistics = (x.float() for x in (means, correlation, centre, deviation, weight, bias))
    # Rounded up: a class that is known from the least share of a cell is known.
    return Exemplars(maps, mirror, counts.ceil().long(), *statistics)


def solve(counts: Tensor, means: Tensor, correlation: Tensor) -> tuple[Tensor, Tensor]:
    """Linear discriminant analysis: weights (C,D) and biases (C,) of the classes' log-probabilities, up to a constant
    of the cell, log pi_c + mu_c' R^-1 x - mu_c' R^-1 mu_c / 2.

    counts (C,), means (C,D), correlation (D,D), which is shrunk towards the identity (Friedman 1989).
    """
    identity = torch.eye(len(correlation), dtype=correlation.dtype, device=correlation.device)
    weight = torch.linalg.solve(torch.lerp(correlation, identity, SHRINKAGE), means.T).T
    prior = (counts / counts.sum().clamp_min(1)).clamp_min(1e-8).log()
    bias = prior - (weight * means).sum(1) / 2
    shown = counts > 0
    return weight * shown[:, None], bias * shown


@dataclass
class Layout:
    """What the exemplars whose maps agree best with a photo's have at the same place."""

    probabilities: Tensor  # (B,C,h,w)
    nearest: Tensor  # (B,K) int64, numbers of the exemplars, the best first; one twice if mirrored it agrees as well
    maps: Tensor  # (B,K,MAP_SIDE,MAP_SIDE) uint8, theirs, mirrored where that agrees better


def labelled_cells(levels: list[Tensor], labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What (N,D_s,H/s,W/s) for each stride s show in the labelled cells, (n,D), their classes and the numbers of their
    photos, (n,) int64 each; on the CPU.

    labels (N,H/4,W/4) int64, 255 = unknown. Every fourth cell counts: its neighbours say the same.
    """
    labels = labels[:, ::2, ::2]
    known = (labels.flatten() != IGNORE).nonzero()[:, 0]

    def of_cells(level: Tensor) -> Tensor:  # (n, D_s)
        shown = F.interpolate(level.float(), size=labels.shape[-2:], mode="bilinear")
        return shown.movedim(1, -1).flatten(0, 2).index_select(0, known.to(level.device))

    features = torch.cat([of_cells(level) for level in levels], 1)
    return features.cpu(), labels.flatten()[known].cpu(), known.cpu() // labels[0].numel()


class Statistics:
    """Sums over labelled cells, on the CPU: not every device has double precision. num_classes, and D channels of
    features at all strides."""

    def __init__(self, num_classes: int, channels: int):
        zeros = partial(torch.zeros, dtype=torch.float64, device="cpu")
        self.counts = zeros(num_classes)
        self.sums = zeros(num_classes, channels)
        self.upper = zeros(channels, channels)  # of the squares, in blocks

    def add(self, cells: Tensor, classes: Tensor) -> None:
        """cells (n,D) and their classes (n,), of `labelled_cells`."""
        self.counts += classes.bincount(minlength=len(self.counts))
        self.sums += cells.new_zeros(self.sums.shape).index_add_(0, classes, cells)
        # They are symmetric: without what lies left of the diagonal this takes a quarter less of the time.
        for rows, columns in zip(cells.split(BLOCK, 1), range(0, cells.shape[1], BLOCK), strict=True):
            self.upper[columns : columns + BLOCK, columns:] += rows.T @ cells[:, columns:]

    def __add__(self, other: "Statistics") -> "Statistics":
        total = Statistics(*self.sums.shape)
        for name, value in vars(self).items():
            setattr(total, name, value + getattr(other, name))
        return total

    def exemplars(self, maps: Tensor, mirror: Tensor) -> Exemplars:
        """With their maps (N,MAP_SIDE,MAP_SIDE) and mirror (C,), both uint8."""
        means = self.sums / self.counts.clamp_min(1)[:, None]
        squares = self.upper.triu() + self.upper.triu(1).T
        scatter = squares - means.T @ (means * self.counts[:, None])
        return from_moments(maps, mirror, self.counts, means, scatter / self.counts.sum().clamp_min(1))


def at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def without_autocast(function: Callable[..., Any]) -> Callable[..., Any]:
    """Votes are sums of hundreds of terms, some of them large: bfloat16, which autocast would take, is too coarse."""

    @wraps(function)
    def exact(first: Tensor | list[Tensor], *args: Any) -> Any:
        device = (first[0] if isinstance(first, list) else first).device.type
        with torch.autocast(device, enabled=False):
            return function(first, *args)

    return exact


@without_autocast
def discriminate(pyramid: list[Tensor], probabilities: Tensor, exemplars: Exemplars) -> Tensor:
    """What each cell shows by the exemplars' discriminant, (B,C,h,w), float32 at least.

    pyramid: features at all strides; probabilities (B,C,h,w), the segmenter's map, h = H/4. A class that nobody shows
    can be neither supported nor refuted: it keeps the share that the map gives it.
    """
    centre, deviation, weight, bias = (
        at_least_float32(x) for x in (exemplars.centre, exemplars.deviation, exemplars.weight, exemplars.bias)
    )
    weight = weight / deviation
    scores = (bias - weight @ centre)[None, :, None, None]
    for level, weights in zip(pyramid, weight.split([level.shape[1] for level in pyramid], 1), strict=True):
        votes = F.conv2d(at_least_float32(level.detach()), weights[:, :, None, None])
        scores = scores + F.interpolate(votes, size=probabilities.shape[-2:], mode="bilinear")
    shown = (exemplars.counts > 0)[None, :, None, None]
    own = at_least_float32(probabilities.detach())
    # A finite number: of a bank that shows nothing all are masked.
    voted = scores.masked_fill(~shown, -1e4).softmax(1) * (own * shown).sum(1, keepdim=True)
    return torch.where(shown, voted, own)


def adapted_map(
    pyramid: list[Tensor], probabilities: Tensor, hole: Tensor, exemplars: Exemplars, weights: Sequence[float]
) -> Tensor:
    """The map of a segmenter with what exemplars make of its features, (B,C,h,w): the logarithmic opinion pool of its
    own and of what their discriminant says.

    pyramid, probabilities: as of `discriminate`; hole (B,1,h,w), above 0 where cells are filled; weights: of the
    discriminant, in [0,1), of cells that were photographed and of those that are filled.
    """
    filled = (hole > 0).float()
    weight = filled * weights[1] + (1 - filled) * weights[0]
    return pool(probabilities, discriminate(pyramid, probabilities, exemplars), weight)


def pool(probabilities: Tensor, votes: Tensor, weight: Tensor) -> Tensor:
    """The logarithmic opinion pool of a map and of votes on it, (B,C,h,w) each.

    weight: of the votes, (B,1,h,w), or what is broadcast to or with that, in [0,1); 0 leaves the map as it is.
    """
    own, said = (torch.log(at_least_float32(x) + MIN_SHARE) for x in (probabilities, votes))
    pooled = (own + weight * (said - own)).softmax(1)
    return torch.where(weight > 0, pooled.to(probabilities.dtype), probabilities)


def mirrored(maps: Tensor, mirror: Tensor) -> Tensor:
    """The label maps (...,h,w) uint8 of the mirrored photos; mirror as in `Exemplars`."""
    ids = torch.full((256,), IGNORE, dtype=torch.uint8, device=maps.device)
    ids[: len(mirror)] = mirror
    return ids[maps.flip(-1).long()]


def retrieve_layout(
    probabilities: Tensor,
    mask: Tensor,
    exemplars: Exemplars,
    top_k: int,
    allowed: Tensor | None = None,
) -> Layout:
    """The label maps of the exemplars nearest to a photo, averaged.

    Nearest are those in whose maps, or mirrored ones, the known cells have the classes that the photo's own map gives
    them; cells near the hole count more.

    probabilities (B,C,h,w), the photo's map; mask (B,1,H,W), 1 = hole; allowed (B,N) bool, None = all. Where an
    exemplar's label is unknown, and by a share of FLOOR everywhere, the photo's own map stands in.
    """
    probabilities = at_least_float32(probabilities)
    scores = agreement(probabilities, mask, exemplars)  # (B, 2N)
    if allowed is not None:
        scores = scores.masked_fill(~torch.cat([allowed, allowed], 1), -1.0)
    best = scores.topk(min(top_k, scores.shape[1]), dim=1)
    nearest = best.indices % len(exemplars)  # (B, K)
    turned = (best.indices >= len(exemplars))[:, :, None, None]
    maps = exemplars.maps[nearest]  # (B, K, S, S)
    maps = torch.where(turned, mirrored(maps, exemplars.mirror), maps)
    # Where fewer are allowed than asked for, the others say nothing.
    asked = best.values >= 0
    chosen = maps.masked_fill(~asked[:, :, None, None], IGNORE)
    number, num_classes = nearest.shape[1], probabilities.shape[1]
    layout = reduce(torch.add, (one_hot(chosen[:, k].long(), num_classes) for k in range(number)))
    layout = layout.to(probabilities.dtype)
    layout = layout / asked.sum(1)[:, None, None, None].clamp_min(1)
    layout = (1 - FLOOR) * F.interpolate(layout, size=probabilities.shape[-2:], mode="bilinear")
    unknown = 1 - layout.sum(1, keepdim=True)
    return Layout(layout + unknown * probabilities, nearest, chosen)


@without_autocast
def agreement(probabilities: Tensor, mask: Tensor, exemplars: Exemplars) -> Tensor:
    """How well the map of each of N exemplars fits the known part of a photo's, then each mirrored one: (B,2N) in
    [0,1]."""
    size = (MATCHING_SIDE, MATCHING_SIDE)
    hole = F.interpolate(at_least_float32(mask), size=size, mode="area")
    near = F.avg_pool2d(hole, NEIGHBOURHOOD, 1, NEIGHBOURHOOD // 2) + FAR_WEIGHT
    weight = ((1 - hole) * near).flatten(1)  # (B, n)
    # One more class, of no probability, for labels that are unknown.
    own = F.pad(F.interpolate(probabilities, size=size, mode="area").flatten(2), (0, 0, 0, 1))  # (B, C + 1, n)
    step = MAP_SIDE // MATCHING_SIDE
    middle = step // 2
    rows = exemplars.maps[:, middle::step]
    # Mirrored are only the cells that are compared: all of them, in every call, would take as long as the rest.
    turned = mirrored(rows[..., step - 1 - middle :: step], exemplars.mirror)
    classes = torch.cat([rows[..., middle::step], turned]).flatten(1)  # (M, n), M = 2N
    known = (classes != IGNORE).to(weight.dtype)
    classes = classes.clamp_max(probabilities.shape[1]).long()
    agreed = own.gather(1, classes.expand(own.shape[0], -1, -1))  # (B, M, n)
    return (agreed @ weight[:, :, None])[..., 0] / (weight @ known.T).clamp_min(1e-6)
