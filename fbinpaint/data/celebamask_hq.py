"""CelebAMask-HQ as its owners distribute it (github.com/switchablenorms/CelebAMask-HQ).

    CelebA-HQ-img/N.jpg                                       30,000 faces, 1024x1024
    CelebAMask-HQ-mask-anno/<N // 2000>/NNNNN_<part>.png      masks of its parts, 512x512, non-zero = part

A part that is not seen has no file. The split of a photo is that of the CelebA photo which it was made from:

    CelebA-HQ-to-CelebA-mapping.txt     its owners' list; after a line of titles: N, number and file name in CelebA
    list_eval_partition.txt             of CelebA (Eval/), put beside it; file name, 0 = train, 1 = val, 2 = test
"""

from pathlib import Path

import numpy as np
from datasets import Dataset

from fbinpaint.errors import InputError
from fbinpaint.images.io import load_image
from fbinpaint.labels import CELEBAMASK_HQ

from .rows import count_bytes, rows_from_files

PHOTOS_PER_FOLDER = 2000


MAPPING, PARTITION = "CelebA-HQ-to-CelebA-mapping.txt", "list_eval_partition.txt"
SPLITS = {"train": "0", "val": "1", "test": "2"}  # by their numbers in PARTITION


def load_celebamask_hq(folder: str | Path, split: str = "train") -> Dataset:
    """Rows as in `rows.FEATURES`, in the order of N. All are labelled, or none where there are no annotations.

    split: one of SPLITS; without the list of partitions, which the data set comes without, train is all photos

    Raises InputError where there is no photo, or one whose name is no number, and for lists that lack a photo.
    """
    images, annotations = Path(folder) / "CelebA-HQ-img", Path(folder) / "CelebAMask-HQ-mask-anno"
    photos = list(images.glob("[!.]*.jpg"))  # without hidden files, which a Mac leaves beside others
    if not photos:
        raise InputError(f"{images}: no photo in it (0.jpg, 1.jpg, ...)")
    if odd := [path for path in photos if not path.stem.isdecimal()]:
        raise InputError(f"{odd[0]}: the name is no number; photos of CelebA-HQ are called 0.jpg, 1.jpg, ...")
    photos.sort(key=lambda path: int(path.stem))
    if split != "train" or (Path(folder) / PARTITION).exists():
        photos = photos_of_split(Path(folder), photos, split)
    labels: list[Path | None] = [None] * len(photos)
    if annotations.is_dir():
        numbers = (int(path.stem) for path in photos)
        labels = [annotations / f"{number // PHOTOS_PER_FOLDER}" / f"{number:05d}_*.png" for number in numbers]
    return rows_from_files(photos, labels, CELEBAMASK_HQ.name)


def photos_of_split(folder: Path, photos: list[Path], split: str) -> list[Path]:
    """Those of one of SPLITS. Raises InputError where the lists are not there, are broken, or lack a photo."""
    originals = {row[0]: row[-1] for row in _rows(folder / MAPPING, 3, "it comes with CelebAMask-HQ")}
    parts = dict(_rows(folder / PARTITION, 2, "it comes with CelebA, in Eval/; copy it there"))
    of_split = []
    for path in photos:
        original = originals.get(str(int(path.stem)), "")
        if parts.get(original) not in SPLITS.values():
            where = PARTITION if original else MAPPING
            raise InputError(f"{folder / where}: does not say where {path.name} belongs; copy the owners' file again")
        if parts[original] == SPLITS[split]:
            of_split.append(path)
    if not of_split:
        raise InputError(f"{folder / 'CelebA-HQ-img'}: holds no photo of the split {split}; copy all photos there")
    return of_split


def _rows(path: Path, columns: int, advice: str) -> list[list[str]]:
    """The lines of a list in so many columns, a line of titles included."""
    try:
        rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeError) as error:
        raise InputError(f"{path}: cannot be read, but says which photos are of which split; {advice}") from error
    if odd := [row for row in rows if len(row) != columns]:
        raise InputError(f"{path}: {' '.join(odd[0])!r:.80} is no line of {columns} columns; {advice}")
    return rows


def merge_parts(pattern: str) -> np.ndarray:
    """(H,W) uint8 ids from the part masks `<folder>/NNNNN_*.png`; where parts overlap the later class wins.

    That is the order of the owners' g_mask.py, and of the ids. Raises InputError where no part is there, or one is
    broken or of another size.
    """
    ids = None
    for label, part in enumerate(CELEBAMASK_HQ.classes[1:], 1):
        path = Path(part.join(pattern.rsplit("*", 1)))  # the last one: there may be others in a folder's name
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
