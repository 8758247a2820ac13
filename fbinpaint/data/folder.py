"""A plain folder of photos: `images/`, and optionally `labels/` (same stem, index PNG)."""

import os
from pathlib import Path, PurePosixPath

from datasets import Dataset

from fbinpaint.errors import InputError
from fbinpaint.images.folders import visible_files
from fbinpaint.images.io import PHOTO_SUFFIXES
from fbinpaint.system.urls import one_line_errors, open_url

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


def load_photo_url(url: str) -> Dataset:
    """The same of a folder that is named by URL: only names are read here, each picture where it is used."""
    files, root = open_url(url)

    def names(folder: str) -> dict[str, str]:
        """The visible files below it: their names there -> their URLs."""
        found = files.find(f"{root}/{folder}") if files.isdir(f"{root}/{folder}") else []
        below = {path.split(f"{root}/{folder}/", 1)[-1]: path for path in found}
        return {
            name: files.unstrip_protocol(path)
            for name, path in sorted(below.items())
            if name and not name.endswith("/") and not any(part.startswith(".") for part in name.split("/"))
        }

    with one_line_errors(url):
        photos = {name: place for name, place in names("images").items() if _suffix(name) in PHOTO_SUFFIXES}
        truth = names("labels")
    if not photos:
        raise InputError(f"{url}/images: no photo in it ({', '.join(PHOTO_SUFFIXES)})")
    labels = [truth.get(str(PurePosixPath(name).with_suffix(".png"))) for name in photos]
    if truth and not any(labels):
        raise InputError(f"{url}/labels: holds no PNG with the name of a photo in images/; rename its files")
    return rows_from_files(list(photos.values()), labels, "ids")


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()
