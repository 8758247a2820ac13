"""Data sets of the Hugging Face Hub, and local folders of parquet or WebDataset files: whatever `load_dataset` reads.

Unless the options say otherwise, photos are in a column `image`, labels, if any, in a column `semantic_map` (index
images). In a WebDataset these are the files `<key>.jpg` (or png, webp) and `<key>.semantic_map.png`, each sample by
itself: photos may differ in suffix, and some may have no label.
"""

import itertools
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Features, Image, IterableDataset, Value, load_dataset, load_dataset_builder
from datasets.data_files import EmptyDatasetError, get_data_patterns, resolve_pattern
from datasets.exceptions import DatasetsError
from datasets.packaged_modules.webdataset.webdataset import WebDataset

from fbinpaint.data.rows import FEATURES, evenly_spaced, whole_stream
from fbinpaint.errors import InputError, one_line
from fbinpaint.system.urls import is_url, one_line_errors

IMAGE_COLUMNS = ("image", "jpg", "jpeg", "png", "webp")
LABEL_COLUMNS = ("semantic_map", "semantic_map.png")

STORED_AS = ("string", "large_string", "binary", "large_binary")  # columns of paths, or of encoded pictures

# Of a stream of tars: rows that are looked at to learn whether it is labelled, unless one says so before, and files
# that these are taken from.
LOOKED_AT, FILES_LOOKED_AT = 256, 8

# What `datasets` raises, RuntimeErrors for data sets that bring code; Arrow's are ValueErrors and RuntimeErrors.
UNREADABLE = (OSError, ValueError, RuntimeError, DatasetsError, tarfile.TarError)


@dataclass(frozen=True)
class HubOptions:
    """Which part of a data set is read, and what its columns are called.

    image_column, label_column: None = the first of IMAGE_COLUMNS, LABEL_COLUMNS that is there; in tars, that a
        sample has
    config_name, split: as in `load_dataset`
    revision: branch, tag or commit on the Hub; folders have none
    """

    image_column: str | None = None
    label_column: str | None = None
    config_name: str | None = None
    split: str = "train"
    revision: str | None = None


USUAL = HubOptions()


def load_hub(source: str | Path, options: HubOptions = USUAL) -> Dataset:
    """Rows as in `rows.FEATURES` of one split of a Hub data set or a folder, memory-mapped from the cache.

    Raises InputError where it cannot be loaded, or has no column of photos, or not those that are asked for.
    """
    stored, images, labels = _open(str(source), options, streaming=False)
    table, count = stored.data, len(stored)
    photos, numbers = _first_there(table, images)
    truth = _first_there(table, labels)[0] if labels else pa.nulls(count, FEATURES["semantic_map"].pa_type)
    if "__url__" in stored.column_names:
        if photos.null_count == count:
            raise _not_in_tars(source, "photo", images, "--image_column")
        if options.label_column and truth.null_count == count:
            raise _not_in_tars(source, "label", labels, "--label_column")
        samples = zip(stored["__url__"], stored["__key__"], numbers, strict=True)
        names = [_tar_name(url, key, images[number]) for url, key, number in samples]
    else:
        paths = pc.struct_field(photos, "path").to_pylist()
        names = [_row_name(source, index, path) for index, path in enumerate(paths)]
    formats = pc.if_else(truth.is_null(), pa.scalar(None, pa.string()), pa.scalar("ids"))
    rows = {"name": names, "image": photos, "semantic_map": truth, "label_format": formats}
    return Dataset(pa.table(rows, schema=FEATURES.arrow_schema))


def _first_there(table: pa.Table, columns: Sequence[str]) -> tuple[pa.ChunkedArray, np.ndarray]:
    """Of each row what is in the first of these columns that is not empty there, and the number of that column, (N,).

    Slices of the columns: `map` would write a copy of all photos, `pc.coalesce` would hold one in memory.
    """
    first = np.stack([table.column(name).is_valid().to_numpy() for name in columns]).argmax(0)
    starts = np.flatnonzero(np.diff(first, prepend=-1))
    slices = [
        table.column(columns[first[start]]).slice(start, end - start)
        for start, end in itertools.pairwise([*starts.tolist(), len(first)])
    ]
    return pa.chunked_array([chunk for rows in slices for chunk in rows.chunks], FEATURES["image"].pa_type), first


@dataclass(frozen=True)
class HubStream:
    """The same rows as a stream (`streams.Stream`), read without a copy on disk; its shards are the stored files.

    images, labels: what the columns are called; a row has its photo, and its label, in the first that is not empty
    labelled: whether rows may have labels
    """

    stored: IterableDataset
    source: str
    images: tuple[str, ...]
    labels: tuple[str, ...]
    labelled: bool

    @property
    def num_shards(self) -> int:
        return self.stored.num_shards

    def rows(self, shard: int, start: int = 0) -> Iterator[dict]:
        """Those of a shard from number `start` on.

        Raises InputError where it turns out to be broken, and for a label where there should be none.
        """
        rows = self.stored.shard(self.num_shards, shard)
        if start:
            rows = rows.skip(start)
        name = f"row {start} of its shard {shard}" if start else "its start"
        place = f" of shard {shard}" if self.num_shards > 1 else ""
        try:
            for index, example in enumerate(whole_stream(rows), start):
                image = next((column for column in self.images if example[column] is not None), self.images[0])
                label = next((column for column in self.labels if example[column] is not None), None)
                if "__url__" in example:
                    name = _tar_name(example["__url__"], example["__key__"], image)
                else:
                    name = _row_name(self.source, f"{index}{place}", (example[image] or {}).get("path"))
                if label and not self.labelled:
                    raise InputError(
                        f"{name}: has a label, but the first ones of {self.source} have none, so it was taken for "
                        f"unlabelled; say --label_column {label}"
                    )
                yield {
                    "name": name,
                    "image": example[image],
                    "semantic_map": example[label] if label else None,
                    "label_format": "ids" if label else None,
                }
        except InputError:
            raise
        except UNREADABLE as error:
            raise InputError(
                f"{self.source}: broken, nothing can be read after {name} ({one_line(error)})"
            ) from error


def stream_hub(source: str | Path, options: HubOptions = USUAL) -> HubStream:
    """Raises InputError as `load_hub`."""
    stored, images, labels = _open(str(source), options, streaming=True)
    stream = HubStream(stored, str(source), images, labels, labelled=bool(labels))
    if "__url__" not in (stored.column_names or ()):
        return stream
    photos, labelled = False, options.label_column is not None
    shards = evenly_spaced(stream.num_shards, FILES_LOOKED_AT)
    for shard in shards:
        for row in itertools.islice(stream.rows(shard), LOOKED_AT // len(shards)):
            photos, labelled = photos or row["image"] is not None, labelled or row["semantic_map"] is not None
            if photos and labelled:
                return stream
    if not photos:
        raise _not_in_tars(source, "photo", images, "--image_column")
    return replace(stream, labelled=labelled)


def _open(
    source: str, options: HubOptions, streaming: bool
) -> tuple[Dataset | IterableDataset, tuple[str, ...], tuple[str, ...]]:
    """The stored data set, and what its columns of photos and labels are called: in tars all that there may be, else
    one at most."""
    place: dict[str, Any] = {"path": source, "name": options.config_name}
    if not os.path.isdir(source):
        place["revision"] = options.revision
    try:
        if is_url(source):
            # Unlike a folder's or a Hub id's, the files of a URL are listed here; `datasets` takes the rest as it is.
            kind, files = split_files(source, options.split)
            place = {"path": kind, "data_files": {options.split: files}}
        # Left to itself `datasets` takes what the first samples of the first tar have for what all have.
        tars = isinstance(load_dataset_builder(**place), WebDataset)
        features = _features_of_tars(options) if tars else None
        stored = load_dataset(**place, split=options.split, streaming=streaming, features=features)
    except InputError:
        raise
    except UNREADABLE as error:
        raise InputError(
            f"{source}: cannot be loaded as a data set with a split {options.split} ({one_line(error)}); --split, "
            "--dataset_config_name and --revision choose others"
        ) from error
    kinds = stored.features or {}
    images = _columns(source, kinds, "--image_column", options.image_column, IMAGE_COLUMNS)
    labels = _columns(source, kinds, "--label_column", options.label_column, LABEL_COLUMNS)
    if not images:
        raise InputError(
            f"{source}: no column of photos; looked for {', '.join(IMAGE_COLUMNS)}, found {list(kinds)}; name it with "
            "--image_column"
        )
    if options.label_column is None:  # one that is empty throughout has no type, and no labels
        labels = tuple(name for name in labels if kinds[name] != Value("null"))
    if tars:
        images = tuple(name for name in images if name != options.label_column)
    else:
        images, labels = images[:1], labels[:1]
    for option, names in (("--image_column", images), ("--label_column", labels)):
        for name in names:
            if not _holds_pictures(kinds[name]):
                what = getattr(kinds[name], "dtype", type(kinds[name]).__name__)
                raise InputError(f"{source}: the column {name} holds {what}, no pictures; name another {option}")
            stored = stored.cast_column(name, Image(decode=False))
    return stored, images, labels


def _features_of_tars(options: HubOptions) -> Features:
    """Of a WebDataset's samples, what may be a photo or a label; `datasets` leaves the rest of their files out."""
    images = (options.image_column,) if options.image_column else IMAGE_COLUMNS
    labels = (options.label_column,) if options.label_column else LABEL_COLUMNS
    files = {name: Value("binary") for name in (*images, *labels)}
    return Features(files | {"__key__": Value("string"), "__url__": Value("string")})


def _holds_pictures(kind: Any) -> bool:
    """Whether a feature is of pictures, or of what is cast to them: paths, encoded pictures, structs of these."""
    if isinstance(kind, dict):
        parts = [kind[name] for name in ("bytes", "path") if name in kind]
        return bool(parts) and all(part == Value("null") or _holds_pictures(part) for part in parts)
    return isinstance(kind, Image) or (isinstance(kind, Value) and kind.dtype in STORED_AS)


def split_files(url: str, split: str) -> tuple[str, list[str]]:
    """The files below a URL that are of a split, by the names that `load_dataset` goes by in a folder, in order; and
    who reads them, "parquet" or "webdataset". Raises InputError, also where there is none."""
    with one_line_errors(url):
        try:
            patterns = get_data_patterns(url)
        except (FileNotFoundError, EmptyDatasetError):
            patterns = {}
        for kind, suffix in (("parquet", ".parquet"), ("webdataset", ".tar")):
            files = {
                file
                for pattern in patterns.get(split, [])
                for file in _matching(pattern, url, suffix)
            }
            if files:
                return kind, sorted(files)
    found = ", ".join(map(str, patterns)) or "none"
    raise InputError(f"{url}: no parquet or tar file of a split {split}; found {found}; choose with --split")


def _matching(pattern: str, url: str, suffix: str) -> list[str]:
    try:
        return resolve_pattern(pattern, url, allowed_extensions=[suffix])
    except FileNotFoundError:
        return []


def _columns(source: str, kinds: Features, option: str, asked: str | None, usual: tuple[str, ...]) -> tuple[str, ...]:
    if asked is not None and asked not in kinds:
        raise InputError(f"{source}: has no column {asked!r} ({option}); found {list(kinds)}")
    return (asked,) if asked else tuple(name for name in usual if name in kinds)


def _not_in_tars(source: str | Path, what: str, columns: tuple[str, ...], option: str) -> InputError:
    files = ", ".join(f"<key>.{name}" for name in columns)
    return InputError(
        f"{source}: no {what} in its tars; looked for {files}, where a key ends before the first dot of a name; say "
        f"what follows it with {option}"
    )


def _tar_name(url: str, key: str, image: str) -> str:
    return f"{url}: {key}.{image}"


def _row_name(source: str | Path, index: int | str, path: str | None) -> str:
    return f"{source}: row {index}" + (f" ({path})" if path else "")
