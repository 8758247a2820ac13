"""Where training photos come from: folders whose layout is recognised, data sets by name; at hand or as a stream."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, concatenate_datasets

from fbinpaint.data.hf_datasets import USUAL, HubOptions, load_hub, stream_hub
from fbinpaint.errors import InputError
from fbinpaint.system.urls import is_url, one_line_errors, open_url

from .celebamask_hq import load_celebamask_hq
from .cityscapes import load_cityscapes
from .folder import load_photo_folder, load_photo_url
from .rows import has_label
from .streams import PhotosAtHand, Streams

# What a folder of each layout holds, and who reads it.
LAYOUTS: dict[str, Callable[[str | Path], Dataset]] = {
    "CelebA-HQ-img": load_celebamask_hq,
    "leftImg8bit": load_cityscapes,
    "images": load_photo_folder,
    "**/*.parquet": load_hub,
    "**/*.tar": load_hub,
}


def find_layout(source: str | Path) -> Callable[[str | Path], Dataset]:
    """Who reads this folder or URL. Raises InputError where there is none, or no layout fits it."""
    if is_url(source):
        return find_layout_of_url(str(source))
    if not os.path.isdir(source):
        raise InputError(f"{source}: no such folder, or none that can be read; name one that holds photos")
    for pattern, load in LAYOUTS.items():
        if next(Path(source).glob(pattern), None):
            return load
    raise InputError(f"{source}: no data in a known layout; looked for {', '.join(LAYOUTS)} in it")


def find_layout_of_url(url: str) -> Callable[[Any], Dataset]:
    """As `find_layout`. The owners' layouts, thousands of small files each, are read from local folders only."""
    files, root = open_url(url)
    with one_line_errors(url):
        if not files.isdir(root):
            raise InputError(f"{url}: no such folder, or none that you may read; name one that holds photos")
        inside = {path.rstrip("/").rsplit("/", 1)[-1] for path in files.ls(root, detail=False)}
    if local := inside & {"CelebA-HQ-img", "leftImg8bit"}:
        raise InputError(f"{url}: holds {local.pop()}, a layout read from local folders only; copy it, or use parquet")
    return load_photo_url if "images" in inside else load_hub


def find_readers(
    folders: Sequence[str], hub_names: Sequence[str], options: HubOptions
) -> list[tuple[str, Callable[[str | Path], Dataset]]]:
    """The sources, each with who reads it. Raises InputError as `find_layout`, and for options that none of them has
    use for."""
    readers = [(folder, find_layout(folder)) for folder in folders] + [(name, load_hub) for name in hub_names]
    if options != USUAL and all(load is not load_hub for _, load in readers):
        raise InputError(
            f"{' '.join(map(str, folders))}: holds photos as files; --image_column, --label_column, --split, "
            "--dataset_config_name and --revision are for parquet, WebDataset and the Hub: leave them out"
        )
    return readers


def check_label_map(folders: Sequence[str], hub_names: Sequence[str]) -> None:
    """Raises InputError where no source has ids that a label map could renumber, and as `find_layout`."""
    if not hub_names and all(find_layout(folder) in (load_celebamask_hq, load_cityscapes) for folder in folders):
        raise InputError(
            f"{' '.join(map(str, folders))}: holds its owners' labels, whose ids are known; --label_map is for other "
            "data: leave it out"
        )


def load_photos(
    folders: Sequence[str], hub_names: Sequence[str] = (), options: HubOptions = USUAL
) -> Dataset:
    """All rows (`rows.FEATURES`) of the folders and the Hub data sets, one after the other. Raises as these do."""
    readers = find_readers(folders, hub_names, options)
    return concatenate_datasets(
        [load_hub(source, options) if load is load_hub else load(source) for source, load in readers]
    )


def stream_photos(
    folders: Sequence[str], hub_names: Sequence[str], seed: int, options: HubOptions = USUAL
) -> Streams:
    """The labelled and the unlabelled rows as streams.

    Parquet, WebDataset and the Hub are streamed in the order in which they were written, as labelled where they have a
    column of labels, or one of the first samples of tars has one; a row of theirs that lacks its label remains an
    unlabelled one. Folders of photos are shuffled.
    """
    labelled: list[Any] = []
    unlabelled: list[Any] = []
    for source, load in find_readers(folders, hub_names, options):
        if load is load_hub:
            stream = stream_hub(source, options)
            (labelled if stream.labelled else unlabelled).append(stream)
            continue
        photos = load(source)
        with_label = has_label(photos)
        for streams, wanted in ((labelled, with_label), (unlabelled, ~with_label)):
            if wanted.any():
                streams.append(PhotosAtHand(source, photos.select(np.flatnonzero(wanted)).shuffle(seed)))
    return labelled, unlabelled
