"""Scores of fills, photo by photo."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from fbinpaint.evaluation import metrics
from fbinpaint.evaluation.fid import Inception
from fbinpaint.evaluation.photos import Sample
from fbinpaint.labels import IGNORE
from fbinpaint.system.processes import print_note

IMAGE_METRICS = ("lpips_alex", "lpips_vgg", "psnr", "ssim", "psnr_hole")


@dataclass(frozen=True)
class Fill:
    """What one variant made of a sample: image (H,W,3) uint8, composited; semantic_map (H,W) ids or None."""

    image: np.ndarray
    semantic_map: np.ndarray = None  # type: ignore[assignment]  # of a baseline, whose map nobody looks at


@dataclass(frozen=True)
class PhotoScore:
    """The scores of one variant on one photo; the names of the first fields are those of the report.

    before, after: (C,C) confusion in the hole of the map of round 0, and of the variant's own round; None = no map
                   (a baseline) or no label
    fixed, broken: pixels of the hole whose class is wrong before and right after, and the other way round
    inception: features (2048,) of the fill and of the photo; None = without FID
    """

    photo: str
    variant: str
    mask_ratio: float
    lpips_alex: float
    lpips_vgg: float | None
    psnr: float
    ssim: float
    psnr_hole: float
    before: np.ndarray | None
    after: np.ndarray | None
    fixed: int | None
    broken: int | None
    inception: tuple[np.ndarray, np.ndarray] | None = None


class Scorer:
    """Scores any number of fills of the same samples, all of one size; what depends on the truth alone is done once."""

    def __init__(
        self,
        samples: Sequence[Sample],
        lpips: dict[str, metrics.LPIPS],
        num_classes: int,
        inception: Inception | None = None,
    ):
        self.samples, self.lpips, self.num_classes, self.inception = samples, lpips, num_classes, inception
        self.truth = _levels([sample.photo for sample in samples])  # (B,3,H,W)
        self.truth_features = {net: scorer.features(self.truth / 127.5 - 1) for net, scorer in lpips.items()}
        self.truth_inception = None if inception is None else inception(self.truth)
        self.holes = torch.from_numpy(np.stack([sample.hole for sample in samples]))[:, None]  # (B,1,H,W)

    def __call__(
        self,
        variant: str,
        fills: Sequence[Fill],
        before: Sequence[Fill] | None = None,
        only: Sequence[int] | None = None,
    ) -> list[PhotoScore]:
        """One score for each fill.

        before: the fills of round 0; None = a baseline, which has no maps
        only:   the places of the samples that the fills are of; None = all
        """
        # A slice, where all are meant: a list of places would copy every feature of the truth.
        places = slice(None) if only is None else list(only)
        samples = self.samples if only is None else [self.samples[i] for i in only]
        result, truth = _levels([fill.image for fill in fills]), self.truth[places]  # (B,3,H,W)
        columns: dict[str, Any] = {
            "psnr": metrics.psnr(result, truth),
            "ssim": metrics.ssim(result, truth),
            "psnr_hole": metrics.psnr_hole(result, truth, self.holes[places]),
        }
        for net, lpips in self.lpips.items():
            of_truth = [level[places] for level in self.truth_features[net]]
            columns[f"lpips_{net}"] = lpips.distance(lpips.features(result / 127.5 - 1), of_truth)
        inception: list[tuple[np.ndarray, np.ndarray] | None] = [None] * len(fills)
        if self.inception is not None and self.truth_inception is not None:
            inception = list(zip(self.inception(result), self.truth_inception[places], strict=True))
        nothing: list[np.ndarray | None] = [None] * len(fills)
        after = nothing if before is None else self._confusions(samples, fills)
        harm: list[tuple[int | None, int | None]] = [(None, None)] * len(fills)
        harm = harm if before is None else self._harm(samples, before, fills)
        before = nothing if before is None else self._confusions(samples, before)
        pictures: list[dict[str, Any]] = [
            {name: float(columns[name][i]) if name in columns else None for name in IMAGE_METRICS}
            for i in range(len(samples))
        ]
        return [
            PhotoScore(
                photo=sample.stem,
                variant=variant,
                mask_ratio=float(sample.hole.mean()),
                before=before[i],
                after=after[i],
                fixed=harm[i][0],
                broken=harm[i][1],
                inception=inception[i],
                **pictures[i],
            )
            for i, sample in enumerate(samples)
        ]

    def _confusions(self, samples: Sequence[Sample], fills: Sequence[Fill]) -> list[np.ndarray | None]:
        return [
            None
            if sample.truth is None
            else metrics.confusion_matrix(sample.truth, fill.semantic_map, sample.hole, self.num_classes)
            for sample, fill in zip(samples, fills, strict=True)
        ]

    @staticmethod
    def _harm(
        samples: Sequence[Sample], before: Sequence[Fill], after: Sequence[Fill]
    ) -> list[tuple[int | None, int | None]]:
        counts: list[tuple[int | None, int | None]] = []
        for sample, old, new in zip(samples, before, after, strict=True):
            if sample.truth is None:
                counts.append((None, None))
                continue
            was, is_ = (fill.semantic_map[sample.hole] == sample.truth[sample.hole] for fill in (old, new))
            known = sample.truth[sample.hole] != IGNORE
            counts.append((int((known & ~was & is_).sum()), int((known & was & ~is_).sum())))
        return counts


def _levels(images: Sequence[np.ndarray]) -> torch.Tensor:
    """B images (H,W,3) uint8 -> (B,3,H,W) float in [0,255]."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()


def load_lpips(device: torch.device) -> dict[str, metrics.LPIPS]:
    """The scorers for whose backbones there are weights; what is left out is said."""
    lpips = {"alex": metrics.LPIPS("alex", device=device)}
    if metrics.find_backbone("vgg"):
        lpips["vgg"] = metrics.LPIPS("vgg", device=device)
    else:
        print_note([f"lpips_vgg is left out: no {metrics.BACKBONE_FILES['vgg'][0]} in ${metrics.BACKBONES_VARIABLE}"])
    return lpips
