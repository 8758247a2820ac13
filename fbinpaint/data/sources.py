"""Where training photos come from: folders whose layout is recognised, data sets by name; at hand or as a stream."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from datasets import Dataset, IterableDataset, concatenate_datasets, interleave_datasets

from ..errors import InputError
from .celebamask_hq import load_celebamask_hq
from .cityscapes import load_cityscapes
from .folder import load_photo_folder
from .hub import USUAL, HubOptions, load_hub, stream_hub
from .rows import has_label

# What a folder of each layout holds, and who reads it.
LAYOUTS: dict[str, Callable[[Path], Dataset]] = {
    "CelebA-HQ-img": load_celebamask_hq,
    "leftImg8bit": load_cityscapes,
    "images": load_photo_folder,
    "**/*.parquet": load_hub,
    "**/*.tar": load_hub,
}


def find_layout(folder: Path) -> Callable[[Path], Dataset]:
    """Who reads this folder. Raises InputError where there is none, or no layout fits it."""
    if not os.path.isdir(folder):
        raise InputError(f"{folder}: no such folder, or none that can be read; name one that holds photos")
    for pattern, load in LAYOUTS.items():
        if next(folder.glob(pattern), None):
            return load
    raise InputError(f"{folder}: no data in a known layout; looked for {', '.join(LAYOUTS)} in it")


def find_readers(
    folders: Sequence[str], hub_names: Sequence[str], options: HubOptions
) -> list[tuple[str, Callable[[Path], Dataset]]]:
    """The sources, each with who reads it. Raises InputError as `find_layout`, and for options that none of them has
    use for."""
    readers = [(folder, find_layout(Path(folder))) for folder in folders] + [(name, load_hub) for name in hub_names]
    if options != USUAL and all(load is not load_hub for _, load in readers):
        raise InputError(
            f"{' '.join(map(str, folders))}: holds photos as files; --image_column, --label_column, --split, "
            "--dataset_config_name and --revision are for parquet, WebDataset and the Hub: leave them out"
        )
    return readers


def load_photos(
    folders: Sequence[str], hub_names: Sequence[str] = (), options: HubOptions = USUAL
) -> Dataset:
    """All rows (`rows.FEATURES`) of the folders and the Hub data sets, one after the other. Raises as these do."""
    readers = find_readers(folders, hub_names, options)
    return concatenate_datasets(
        [load_hub(source, options) if load is load_hub else load(Path(source)) for source, load in readers]
    )


def stream_photos(
    folders: Sequence[str], hub_names: Sequence[str], seed: int, options: HubOptions = USUAL
) -> tuple[IterableDataset | None, IterableDataset | None]:
    """The labelled and the unlabelled rows as streams, None where there are none; several sources take turns.

    Parquet, WebDataset and the Hub are streamed in the order in which they were written, as labelled where they have a
    column of labels; a row of theirs that lacks its label remains an unlabelled one. Folders of photos are shuffled.
    """
    labelled, unlabelled = [], []
    for source, load in find_readers(folders, hub_names, options):
        if load is load_hub:
            rows, with_labels = stream_hub(source, options)
            (labelled if with_labels else unlabelled).append(rows)
            continue
        photos = load(Path(source))
        with_label = has_label(photos)
        for streams, wanted in ((labelled, with_label), (unlabelled, ~with_label)):
            if wanted.any():
                streams.append(photos.select(np.flatnonzero(wanted)).shuffle(seed).to_iterable_dataset())
    return _take_turns(labelled), _take_turns(unlabelled)


def _take_turns(streams: list[IterableDataset]) -> IterableDataset | None:
    return interleave_datasets(streams, stopping_strategy="all_exhausted") if streams else None
