"""Validation during training: held-out photos, one fixed mask each, scored and drawn after every round.

Round 0 is the control as well: with its map frozen every further pass paints the same. The processes of a run share
the photos by whole batches, so that together they find what one of them would find alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from accelerate.utils import gather_object
from datasets import Dataset
from PIL import Image
from torch import Tensor

from fbinpaint.data.photos import read_photo
from fbinpaint.data.rows import read_first, rows_from
from fbinpaint.evaluation.metrics import LPIPS, confusion_matrix, miou_from_confusion, psnr
from fbinpaint.images.io import save_image
from fbinpaint.images.tensors import to_uint8
from fbinpaint.labels import LabelSpace
from fbinpaint.loop import Networks, feedback_rounds
from fbinpaint.masks import protocol_mask
from fbinpaint.pipeline.segmentation import segment_photos

# Not the protocol's seed: nothing that is tuned during training has seen the evaluation masks.
MASK_SEED = 1
BATCH_SIZE = 8
GRID_PHOTOS = 12  # that the picture shows


class Validator:
    """Central square crops of `photos` with seeded free-form masks.

    Args:
        photos: rows as in `rows.FEATURES`.
        resolution: side of the crop and shorter side of the resized photo, pixels.
        skip: as in `read_first`; the next photo stands in for a bad one.
        label_map: as of `read_photo`.
        process, processes: of several processes, each takes its share of the batches; all must call together.
    """

    def __init__(
        self,
        photos: Dataset,
        label_space: LabelSpace,
        resolution: int,
        num_rounds: int = 2,
        skip: Callable[[str, str], None] | None = None,
        label_map: np.ndarray | None = None,
        process: int = 0,
        processes: int = 1,
    ):
        self.label_space, self.num_rounds, self.processes = label_space, num_rounds, processes
        self.lpips = LPIPS("alex")
        images, labels, masks = [], [], []
        indices = np.arange(len(photos))
        self.indices = indices[indices // BATCH_SIZE % processes == process]
        for index in self.indices.tolist():
            photo, semantic_map = read_first(
                rows_from(photos, index), lambda row: read_photo(row, resolution, label_space, label_map), skip
            )
            height, width = semantic_map.shape
            left, top = (width - resolution) // 2, (height - resolution) // 2
            window = slice(top, top + resolution), slice(left, left + resolution)
            images.append(photo[window])
            labels.append(semantic_map[window])
            masks.append(protocol_mask(resolution, resolution, index, seed=MASK_SEED))
        if len(self.indices):  # of many processes some have none
            self.images, self.labels, self.masks = np.stack(images), np.stack(labels), np.stack(masks)

    @torch.no_grad()
    def __call__(self, networks: Networks, grid: Path | None = None) -> dict[str, float]:
        """Scores of each round ("lpips_alex/0", "psnr/0", "miou_hole/0", ...) and of the photos without holes
        ("miou_intact"), the same in all processes; `grid` is where to save the picture, None = not in this one."""
        starts = range(0, len(self.indices), BATCH_SIZE)
        found = [self._validate(networks, slice(start, start + BATCH_SIZE)) for start in starts]
        if self.processes > 1:
            found = sorted(gather_object(found), key=lambda batch: batch.first)
        scores = {}
        for k in range(self.num_rounds + 1):
            scores[f"lpips_alex/{k}"] = torch.cat([batch.lpips[k] for batch in found]).mean().item()
            scores[f"psnr/{k}"] = torch.cat([batch.psnr[k] for batch in found]).mean().item()
            if (hole := np.sum([batch.holes[k] for batch in found], axis=0)).any():
                scores[f"miou_hole/{k}"] = float(miou_from_confusion(hole))
        if (intact := np.sum([batch.intact for batch in found], axis=0)).any():
            scores["miou_intact"] = float(miou_from_confusion(intact))
        if grid is not None:
            save_grid([row for batch in found for row in batch.pictures], grid)
        return scores

    def _validate(self, networks: Networks, where: slice) -> "BatchScores":
        photos, labels, masks = self.images[where], self.labels[where], self.masks[where]
        device, resolution, num_classes = networks.segmenter.device, photos.shape[1], self.label_space.num_classes
        truth = torch.from_numpy(photos).permute(0, 3, 1, 2).float()
        hole = torch.from_numpy(masks)[:, None].float()
        intact = np.stack(segment_photos(networks.segmenter, list(photos), self.label_space, resolution, device))
        scores = BatchScores(
            int(self.indices[where][0]), confusion_matrix(labels, intact, np.ones_like(masks), num_classes)
        )
        fills, maps = [], []
        for round_ in feedback_rounds(networks, (truth / 127.5 - 1).to(device), hole.to(device), self.num_rounds):
            fills.append(to_uint8(round_.image))
            maps.append(round_.labels().cpu().numpy().astype(np.uint8))
            result = torch.from_numpy(fills[-1]).permute(0, 3, 1, 2).float()
            scores.lpips.append(self.lpips(result / 127.5 - 1, truth / 127.5 - 1))
            scores.psnr.append(psnr(result, truth))
            scores.holes.append(confusion_matrix(labels, maps[-1], masks, num_classes))
        for i in np.flatnonzero(self.indices[where] < GRID_PHOTOS):
            masked = np.where(masks[i, ..., None], 255, photos[i]).astype(np.uint8)
            before, after = (self.label_space.colorize(of_round[i]) for of_round in (maps[0], maps[-1]))
            row = [masked, before, after, fills[0][i], fills[-1][i], photos[i]]
            scores.pictures.append(np.concatenate(row, axis=1))
        return scores


def ignores_maps(scores: Mapping[str, float]) -> bool:
    """Whether maps change from round to round, and no fill of any photo does: the painter is deaf, or paints nothing.
    Of labelled photos alone: scores of maps are what tells that they change."""
    last = max(int(name.removeprefix("psnr/")) for name in scores if name.startswith("psnr/"))

    def changes(kind: str) -> bool:
        return scores.get(f"{kind}/0") != scores.get(f"{kind}/{last}")

    return changes("miou_hole") and not changes("psnr") and not changes("lpips_alex")


@dataclass
class BatchScores:
    """Of one batch of B photos, of which `first` is the first one's number.

    intact, holes: counts (C,C), see `confusion_matrix`, of the photos without holes, and in the hole after each round
    lpips, psnr: (B,) after each round
    pictures: of the photos that are shown: masked input, map before, map after, first result, last result, truth
    """

    first: int
    intact: np.ndarray
    holes: list[np.ndarray] = field(default_factory=list)
    lpips: list[Tensor] = field(default_factory=list)
    psnr: list[Tensor] = field(default_factory=list)
    pictures: list[np.ndarray] = field(default_factory=list)


def save_grid(rows: list[np.ndarray], path: Path) -> None:
    """Pictures of one height and width below each other, in two columns."""
    half = (len(rows) + 1) // 2
    if len(rows) % 2:
        rows = [*rows, np.zeros_like(rows[0])]
    columns = [np.concatenate(rows[:half]), np.concatenate(rows[half:])]
    save_image(Image.fromarray(np.concatenate(columns, axis=1)), path)
