"""Validation during training: held-out photos, one fixed mask each, scored and drawn after every round."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from PIL import Image

from ..data.photos import read_photo
from ..data.rows import read_first, rows_from
from ..images import save_image, to_uint8
from ..labels import LabelSpace
from ..loop import Networks, feedback_rounds
from ..masks import protocol_mask
from ..metrics import LPIPS, hole_confusion, miou_from_confusion, psnr

# Not the protocol's seed: nothing that is tuned during training has seen the evaluation masks.
MASK_SEED = 1


class Validator:
    """Central square crops of `photos` with seeded free-form masks.

    Args:
        photos: rows as in `rows.FEATURES`.
        resolution: side of the crop and shorter side of the resized photo, pixels.
        skip: as in `read_first`; the next photo stands in for a bad one.
    """

    def __init__(
        self,
        photos: Dataset,
        label_space: LabelSpace,
        resolution: int,
        num_rounds: int = 2,
        skip: Callable[[str, str], None] | None = None,
    ):
        self.label_space, self.num_rounds = label_space, num_rounds
        self.lpips = LPIPS("alex")
        images, labels, masks = [], [], []
        for index in range(len(photos)):
            photo, semantic_map = read_first(
                rows_from(photos, index), lambda row: read_photo(row, resolution, label_space), skip
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
        """Scores of each round ("lpips_alex/0", "psnr/0", "miou_hole/0", ...); `grid` is where to save the picture."""
        device = networks.segmenter.device
        image = torch.from_numpy(self.images).permute(0, 3, 1, 2).float() / 127.5 - 1
        mask = torch.from_numpy(self.masks)[:, None].float()
        num_classes = self.label_space.num_classes
        fills, maps = [[] for _ in range(self.num_rounds + 1)], [[] for _ in range(self.num_rounds + 1)]
        for x, m in zip(image.split(8), mask.split(8), strict=True):
            x = x.to(device)
            for round_ in feedback_rounds(networks, x, m.to(device), self.num_rounds):
                fills[round_.index].append(to_uint8(round_.image))
                maps[round_.index].append(round_.labels().cpu().numpy().astype(np.uint8))
        scores = {}
        for k in range(self.num_rounds + 1):
            fill, labels = np.concatenate(fills[k]), np.concatenate(maps[k])
            fills[k], maps[k] = fill, labels
            result = torch.from_numpy(fill).permute(0, 3, 1, 2).float()
            scores[f"lpips_alex/{k}"] = self.lpips(result / 127.5 - 1, image).mean().item()
            scores[f"psnr/{k}"] = psnr(result, (image + 1) * 127.5).mean().item()
            confusion = sum(
                hole_confusion(t, p, h, num_classes) for t, p, h in zip(self.labels, labels, self.masks, strict=True)
            )
            if confusion.any():
                scores[f"miou_hole/{k}"] = float(miou_from_confusion(confusion))
        if grid is not None:
            self._save_grid(fills, maps, grid)
        return scores

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
