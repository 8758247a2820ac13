"""The splits that official data sets are scored on, val and test: photos and labels as their owners distribute them."""

from collections.abc import Callable
from pathlib import Path

from datasets import Dataset

from fbinpaint.errors import InputError

from .celebamask_hq import load_celebamask_hq
from .cityscapes import load_cityscapes

# The folder of photos in each layout, and who reads a split of it.
LAYOUTS: dict[str, Callable[[Path, str], Dataset]] = {
    "CelebA-HQ-img": load_celebamask_hq,
    "leftImg8bit": load_cityscapes,
}


def load_split(folder: Path, split: str) -> dict[str, dict]:
    """Stem -> row (`rows.FEATURES`) of each photo of "val" or "test"; the stem is its path below the folder of photos,
    below the split's where that has one of its own, without suffix.

    Raises InputError for a folder in none of LAYOUTS, and as their readers.
    """
    for name, load in LAYOUTS.items():
        if (folder / name).is_dir():
            root = folder / name / split if load is load_cityscapes else folder / name
            rows = load(folder, split)
            return {Path(row["name"]).relative_to(root).with_suffix("").as_posix(): row for row in rows}
    names = " or ".join(LAYOUTS)
    raise InputError(f"{folder}: holds no {names}, the official layouts that --split is for; leave it out")
