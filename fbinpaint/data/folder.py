"""A plain folder of photos: `images/`, and optionally `labels/` (same stem, index PNG)."""

import os
from pathlib import Path

from datasets import Dataset

from ..errors import InputError
from ..folders import visible_files
from ..images import PHOTO_SUFFIXES
from .rows import rows_from_files


def load_photo_folder(folder: str | Path) -> Dataset:
    """Rows as in `rows.FEATURES`; a photo without a label of its stem is unlabelled.

    Raises:
        InputError: the folder has no `images/`, there is no photo in it, or no label is of one of them.
    """
    folder = Path(folder)
    if not (folder / "images").is_dir():
        raise InputError(f"{folder}: no images/ folder in it; a data folder holds images/ and, if labelled, labels/")
    photos = [path for path in visible_files(folder / "images") if path.suffix.lower() in PHOTO_SUFFIXES]
    if not photos:
        raise InputError(f"{folder / 'images'}: no photo in it ({', '.join(PHOTO_SUFFIXES)})")
    labels = [folder / "labels" / path.relative_to(folder / "images").with_suffix(".png") for path in photos]
    labels = [path if os.path.lexists(path) else None for path in labels]
    if not any(labels) and os.path.isdir(folder / "labels") and visible_files(folder / "labels"):
        raise InputError(f"{folder / 'labels'}: holds no PNG with the name of a photo in images/; rename its files")
    return rows_from_files(photos, labels, "ids")
