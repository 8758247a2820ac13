"""Validation during training: held-out photos, one fixed mask each, scored and drawn after every round.

Round 0 is the control as well: with its map frozen every further pass paints the same.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from PIL import Image
from torch import Tensor

from ..data.photos import read_photo
from ..data.rows import read_first, rows_from
from ..images import save_image
from ..labels import IGNORE, LabelSpace
from ..loop import Networks, feedback_rounds
from ..masks import protocol_mask
from ..metrics import LPIPS, confusion_matrix, miou_from_confusion, psnr
from ..segmentation import segment_photos
from ..tensors import to_uint8

# Not the protocol's seed: nothing that is tuned during training has seen the evaluation masks.
MASK_SEED = 1
BATCH_SIZE = 8


class Validator:
    """Central square crops of `photos` with seeded free-form masks.

    Args:
        photos: rows as in `rows.FEATURES`.
        resolution: side of the crop and shorter side of the resized photo, pixels.
        skip: as in `read_first`; the next photo stands in for a bad one.
        label_map: as of `read_photo`.
    """

    def __init__(
        self,
        photos: Dataset,
        label_space: LabelSpace,
        resolution: int,
        num_rounds: int = 2,
        skip: Callable[[str, str], None] | None = None,
        label_map: np.ndarray | None = None,
    ):
        self.label_space, self.num_rounds = label_space, num_rounds
        self.lpips = LPIPS("alex")
        images, labels, masks = [], [], []
        for index in range(len(photos)):
            photo, semantic_map = read_first(
                rows_from(photos, index), lambda row: read_photo(row, resolution, label_space, label_map), skip
            )
            height, width = semantic_map.shape
            left, top = (width - resolution) // 2, (height - resolution) // 2
            window = slice(top, top + resolution), slice(left, left + resolution)
            images.append(photo[window])
            labels.append(semantic_map[window])
            masks.append(protocol_mask(resolution, resolution, index, seed=MASK_SEED))
        self.images, self.labels, self.masks = np.stack(images), np.stack(labels), np.stack(masks)

    @torch.no_grad()
    def __call__(self, networks: Networks, grid: Path | None = None) -> dict[str, float]:
        """Scores of each round ("lpips_alex/0", "psnr/0", "miou_hole/0", ...) and of the photos without holes
        ("miou_intact"); `grid` is where to save the picture."""
        fills, maps = self._restore(networks)
        scores = {}
        for k in range(self.num_rounds + 1):
            scores |= {f"{name}/{k}": score for name, score in self._score(fills[k], maps[k]).items()}
        if (self.labels != IGNORE).any():
            scores["miou_intact"] = self._miou(self._segment(networks), np.ones_like(self.masks))
        if grid is not None:
            self._save_grid(fills, maps, grid)
        return scores

    def _restore(self, networks: Networks) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The fills (N,H,W,3) and the maps (N,H,W), uint8, after each round."""
        fills, maps = [[] for _ in range(self.num_rounds + 1)], [[] for _ in range(self.num_rounds + 1)]
        for image, mask in self._batches(networks):
            for round_ in feedback_rounds(networks, image, mask, self.num_rounds):
                fills[round_.index].append(to_uint8(round_.image))
                maps[round_.index].append(round_.labels().cpu().numpy().astype(np.uint8))
        return [np.concatenate(of_round) for of_round in fills], [np.concatenate(of_round) for of_round in maps]

    def _segment(self, networks: Networks) -> np.ndarray:
        """The maps of the photos without holes, (N,H,W) uint8."""
        device, resolution = networks.segmenter.device, self.images.shape[1]
        starts = range(0, len(self.images), BATCH_SIZE)
        maps = [
            segment_photos(
                networks.segmenter, self.images[i : i + BATCH_SIZE], self.label_space, resolution, device
            )
            for i in starts
        ]
        return np.concatenate(maps)

    def _batches(self, networks: Networks) -> Iterator[tuple[Tensor, Tensor]]:
        device = networks.segmenter.device
        image = torch.from_numpy(self.images).permute(0, 3, 1, 2).float() / 127.5 - 1
        mask = torch.from_numpy(self.masks)[:, None].float()
        for x, m in zip(image.split(BATCH_SIZE), mask.split(BATCH_SIZE), strict=True):
            yield x.to(device), m.to(device)

    def _score(self, fills: np.ndarray, maps: np.ndarray) -> dict[str, float]:
        result, truth = (torch.from_numpy(x).permute(0, 3, 1, 2).float() for x in (fills, self.images))
        scores = {
            "lpips_alex": self.lpips(result / 127.5 - 1, truth / 127.5 - 1).mean().item(),
            "psnr": psnr(result, truth).mean().item(),
        }
        if ((self.labels != IGNORE) & self.masks).any():
            scores["miou_hole"] = self._miou(maps, self.masks)
        return scores

    def _miou(self, maps: np.ndarray, where: np.ndarray) -> float:
        return float(miou_from_confusion(confusion_matrix(self.labels, maps, where, self.label_space.num_classes)))

    def _save_grid(self, fills: list[np.ndarray], maps: list[np.ndarray], path: Path) -> None:
        """A row per photo: masked input, map before, map after, first result, last result, truth."""
        rows = []
        for i, (photo, mask) in enumerate(zip(self.images[:12], self.masks, strict=False)):
            masked = np.where(mask[..., None], 255, photo).astype(np.uint8)
            before, after = (self.label_space.colorize(m[i]) for m in (maps[0], maps[-1]))
            rows.append(np.concatenate([masked, before, after, fills[0][i], fills[-1][i], photo], axis=1))
        half = (len(rows) + 1) // 2
        if len(rows) % 2:
            rows.append(np.zeros_like(rows[0]))
        columns = [np.concatenate(rows[:half]), np.concatenate(rows[half:])]
        save_image(Image.fromarray(np.concatenate(columns, axis=1)), path)
