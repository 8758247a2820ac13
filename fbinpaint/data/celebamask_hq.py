"""CelebAMask-HQ as its owners distribute it (github.com/switchablenorms/CelebAMask-HQ).

    CelebA-HQ-img/N.jpg                                       30,000 faces, 1024x1024
    CelebAMask-HQ-mask-anno/<N // 2000>/NNNNN_<part>.png      masks of its parts, 512x512, non-zero = part

A part that is not seen has no file.
"""

from pathlib import Path

import numpy as np
from datasets import Dataset

from ..errors import InputError
from ..images import load_image
from ..labels import CELEBAMASK_HQ
from .rows import count_bytes, rows_from_files

PHOTOS_PER_FOLDER = 2000


def load_celebamask_hq(folder: str | Path) -> Dataset:
    """Rows as in `rows.FEATURES`, in the order of N. All are labelled, or none where there are no annotations.

    Raises InputError where there is no photo, or one whose name is no number.
    """
    images, annotations = Path(folder) / "CelebA-HQ-img", Path(folder) / "CelebAMask-HQ-mask-anno"
    photos = list(images.glob("*.jpg"))
    if not photos:
        raise InputError(f"{images}: no photo in it (0.jpg, 1.jpg, ...)")
    if odd := [path for path in photos if not path.stem.isdecimal()]:
        raise InputError(f"{odd[0]}: the name is no number; photos of CelebA-HQ are called 0.jpg, 1.jpg, ...")
    photos.sort(key=lambda path: int(path.stem))
    labels = [None] * len(photos)
    if annotations.is_dir():
        numbers = (int(path.stem) for path in photos)
        labels = [annotations / f"{number // PHOTOS_PER_FOLDER}" / f"{number:05d}_*.png" for number in numbers]
    return rows_from_files(photos, labels, CELEBAMASK_HQ.name)


def merge_parts(pattern: str) -> np.ndarray:
    """(H,W) uint8 ids from the part masks `<folder>/NNNNN_*.png`; where parts overlap the later class wins.

    That is the order of the owners' g_mask.py, and of the ids. Raises InputError where no part is there, or one is
    broken or of another size.
    """
    ids = None
    for label, part in enumerate(CELEBAMASK_HQ.classes[1:], 1):
        path = Path(pattern.replace("*", part))
        if not path.is_file():
            continue
        mask = np.asarray(load_image(path).convert("L")) != 0
        count_bytes(path.stat().st_size)
        if ids is None:
            ids = np.zeros(mask.shape, np.uint8)
        if mask.shape != ids.shape:
            raise InputError(f"{path}: {mask.shape[::-1]} pixels, but the face's other parts have {ids.shape[::-1]}")
        ids[mask] = label
    if ids is None:
        raise InputError(f"{pattern}: no such file, not one part of the face; extract the annotations again")
    return ids
