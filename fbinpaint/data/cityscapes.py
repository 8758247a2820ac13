"""Cityscapes as its owners distribute it (github.com/mcordts/cityscapesScripts).

    leftImg8bit/train/<city>/<frame>_leftImg8bit.png          with gtFine/train/<city>/<frame>_gtFine_labelIds.png
    leftImg8bit/train_extra/<city>/<frame>_leftImg8bit.png    unlabelled
    leftImg8bit/val/<city>/<frame>_leftImg8bit.png            with gtFine/val, never read for training
    leftImg8bit/test/<city>/<frame>_leftImg8bit.png           never read for training; gtFine/test is blank
"""

from pathlib import Path

import numpy as np
from datasets import Dataset

from fbinpaint.errors import InputError
from fbinpaint.labels import CITYSCAPES, IGNORE

from .rows import rows_from_files

# The id in a labelIds image of each of the 19 train ids (cityscapesscripts/helpers/labels.py).
LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)

TRAIN_IDS = np.full(256, IGNORE, np.uint8)
TRAIN_IDS[list(LABEL_IDS)] = np.arange(len(LABEL_IDS))


def load_cityscapes(folder: str | Path, split: str = "train") -> Dataset:
    """Rows as in `rows.FEATURES`. All of split train, or val, are labelled, or none where there is no gtFine/<split>.

    split: train, which brings train_extra, val or test

    Raises InputError where the split has no photo.
    """
    folder = Path(folder)
    visible = "[!.]*/[!.]*_leftImg8bit.png"  # without hidden files, which a Mac leaves beside others
    fine = sorted((folder / "leftImg8bit" / split).glob(visible))
    extra = sorted((folder / "leftImg8bit" / "train_extra").glob(visible)) if split == "train" else []
    if not fine and not extra:
        looked = "train(_extra)" if split == "train" else split
        raise InputError(f"{folder}: no photo in it; looked for leftImg8bit/{looked}/<city>/*_leftImg8bit.png")
    labels: list[Path | None] = [None] * len(fine)
    if split != "test" and (truth := folder / "gtFine" / split).is_dir():
        frames = (path.name.removesuffix("_leftImg8bit.png") for path in fine)
        cities = (path.parent.name for path in fine)
        labels = [truth / city / f"{frame}_gtFine_labelIds.png" for city, frame in zip(cities, frames, strict=True)]
    return rows_from_files(fine + extra, labels + [None] * len(extra), CITYSCAPES.name)


def to_train_ids(label_ids: np.ndarray) -> np.ndarray:
    """The ids of a labelIds image, -1..33 or 255, of any shape -> uint8 train ids 0..18, all others 255."""
    return TRAIN_IDS[label_ids.astype(np.uint8)]  # -1 wraps to 255
