"""A plain folder of photos: `images/`, and optionally `labels/` (same stem, index PNG)."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TypeVar

from datasets import Dataset

from fbinpaint.errors import InputError
from fbinpaint.images.folders import tell_no_photos, visible_files
from fbinpaint.images.io import PHOTO_SUFFIXES
from fbinpaint.system.processes import print_note
from fbinpaint.system.urls import one_line_errors, open_url

from .rows import rows_from_files

Label = TypeVar("Label", Path, str)


def load_photo_folder(folder: str | Path) -> Dataset:
    """Rows as in `rows.FEATURES`; a photo without a label of its stem is unlabelled.

    Raises:
        InputError: the folder has no `images/`, there is no photo in it, no label is of one of them, or one could be of
            two, or is no PNG.
    """
    folder = Path(folder)
    if not (folder / "images").is_dir():
        raise InputError(f"{folder}: no images/ folder in it; a data folder holds images/ and, if labelled, labels/")
    files = visible_files(folder / "images")
    photos = [path for path in files if path.suffix.lower() in PHOTO_SUFFIXES]
    if not photos:
        raise InputError(f"{folder / 'images'}: no photo in it ({', '.join(PHOTO_SUFFIXES)})")
    tell_no_photos(files)
    truth = visible_files(folder / "labels") if os.path.isdir(folder / "labels") else []
    names = [path.relative_to(folder / "images").as_posix() for path in photos]
    labels = labels_of(names, {path.relative_to(folder / "labels").as_posix(): path for path in truth}, str(folder))
    return rows_from_files(photos, labels, "ids")


def labels_of(photos: Sequence[str], truth: Mapping[str, Label], folder: str) -> list[Label | None]:
    """Of photos, by their names below images/, the labels, by their names below labels/; None = unlabelled.

    PNGs of no photo are told in a note. Raises InputError where it cannot be told whose a label is, for a photo whose
    only label is of another format, and where there are some, but of none of the photos.
    """
    stems = Counter(_stem(name) for name in photos)
    found: dict[str, Label] = {}
    for name, label in truth.items():
        if _suffix(name) == ".png":
            if stems[_stem(name)] > 1 or _stem(name) in found:
                raise InputError(f"{label}: {folder} has two photos or labels of its name; rename all but one")
            found[_stem(name)] = label
    for name, label in truth.items():
        if _suffix(name) in PHOTO_SUFFIXES and _stem(name) in stems.keys() - found.keys():
            raise InputError(f"{label}: labels are PNG files of class ids; save it as one, or move it away")
    if truth and found.keys().isdisjoint(stems):
        raise InputError(f"{folder}/labels: holds no PNG with the name of a photo in images/; rename its files")
    unused = [found[stem] for stem in sorted(found.keys() - stems.keys())]
    print_note([f"{label}: has the name of no photo in images/, not used" for label in unused])
    return [found.get(_stem(name)) for name in photos]


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
        found, truth = names("images"), names("labels")
    photos = {name: place for name, place in found.items() if _suffix(name) in PHOTO_SUFFIXES}
    if not photos:
        raise InputError(f"{url}/images: no photo in it ({', '.join(PHOTO_SUFFIXES)})")
    tell_no_photos(found.values())
    return rows_from_files(list(photos.values()), labels_of(list(photos), truth, url), "ids")


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()
