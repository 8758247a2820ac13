"""Data sets of the Hugging Face Hub, and local folders of parquet or WebDataset files: whatever `load_dataset` reads.

Unless the options say otherwise, photos are in a column `image`, labels, if any, in a column `semantic_map` (index
images). In a WebDataset these are the files `<key>.jpg` (or png, webp) and `<key>.semantic_map.png`.
"""

import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Image, IterableDataset, Value, load_dataset
from datasets.data_files import EmptyDatasetError, get_data_patterns, resolve_pattern
from datasets.exceptions import DatasetsError

from fbinpaint.data.rows import FEATURES, whole_stream
from fbinpaint.errors import InputError, one_line
from fbinpaint.system.urls import is_url, one_line_errors

IMAGE_COLUMNS = ("image", "jpg", "jpeg", "png", "webp")
LABEL_COLUMNS = ("semantic_map", "semantic_map.png")

STORED_AS = ("string", "large_string", "binary", "large_binary")  # columns of paths, or of encoded pictures

# What `datasets` raises, RuntimeErrors for data sets that bring code; Arrow's are ValueErrors and RuntimeErrors.
UNREADABLE = (OSError, ValueError, RuntimeError, DatasetsError, tarfile.TarError)


@dataclass(frozen=True)
class HubOptions:
    """Which part of a data set is read, and what its columns are called.

    image_column, label_column: None = the first of IMAGE_COLUMNS, LABEL_COLUMNS that is there
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
    stored, image, label = _open(str(source), options, streaming=False)
    # By columns, not by `map`, which would write a copy of all photos.
    table, count = stored.data, len(stored)
    paths = pc.struct_field(table.column(image), "path").to_pylist()
    if "__url__" in stored.column_names:
        keys = zip(stored["__url__"], stored["__key__"], strict=True)
        names = [_tar_name(url, key, image) for url, key in keys]
    else:
        names = [_row_name(source, index, path) for index, path in enumerate(paths)]
    labels = table.column(label) if label else pa.nulls(count, FEATURES["semantic_map"].pa_type)
    formats = pc.if_else(labels.is_null(), pa.scalar(None, pa.string()), pa.scalar("ids"))
    columns = {"name": names, "image": table.column(image), "semantic_map": labels, "label_format": formats}
    return Dataset(pa.table(columns, schema=FEATURES.arrow_schema))


@dataclass(frozen=True)
class HubStream:
    """The same rows as a stream (`streams.Stream`), read without a copy on disk; its shards are the stored files.

    image, label: what the columns are called; label None = there is none
    """

    stored: IterableDataset
    source: str
    image: str
    label: str | None

    @property
    def num_shards(self) -> int:
        return self.stored.num_shards

    def rows(self, shard: int, start: int = 0) -> Iterator[dict]:
        """Those of a shard from number `start` on. Raises InputError where it turns out to be broken."""
        rows = self.stored.shard(self.num_shards, shard)
        if start:
            rows = rows.skip(start)
        name = f"row {start} of its shard {shard}" if start else "its start"
        place = f" of shard {shard}" if self.num_shards > 1 else ""
        try:
            for index, example in enumerate(whole_stream(rows), start):
                if "__url__" in example:
                    name = _tar_name(example["__url__"], example["__key__"], self.image)
                else:
                    name = _row_name(self.source, f"{index}{place}", (example[self.image] or {}).get("path"))
                truth = example[self.label] if self.label else None
                label_format = None if truth is None else "ids"
                yield {
                    "name": name, "image": example[self.image], "semantic_map": truth, "label_format": label_format
                }
        except UNREADABLE as error:
            raise InputError(
                f"{self.source}: broken, nothing can be read after {name} ({one_line(error)})"
            ) from error


def stream_hub(source: str | Path, options: HubOptions = USUAL) -> HubStream:
    """Raises InputError as `load_hub`."""
    stored, image, label = _open(str(source), options, streaming=True)
    return HubStream(stored, str(source), image, label)


def _open(source: str, options: HubOptions, streaming: bool) -> tuple[Dataset | IterableDataset, str, str | None]:
    """The stored data set, and what its columns of photos and labels are called."""
    try:
        if is_url(source):
            # Unlike a folder's or a Hub id's, the files of a URL are listed here; `datasets` takes the rest as it is.
            kind, files = split_files(source, options.split)
            stored = load_dataset(kind, data_files={options.split: files}, split=options.split, streaming=streaming)
        else:
            stored = load_dataset(
                source,
                name=options.config_name,
                split=options.split,
                revision=None if os.path.isdir(source) else options.revision,
                streaming=streaming,
            )
    except InputError:
        raise
    except UNREADABLE as error:
        raise InputError(
            f"{source}: cannot be loaded as a data set with a split {options.split} ({one_line(error)}); --split, "
            "--dataset_config_name and --revision choose others"
        ) from error
    kinds = stored.features or {}
    columns = list(kinds)
    image = _column(source, columns, "--image_column", options.image_column, IMAGE_COLUMNS)
    label = _column(source, columns, "--label_column", options.label_column, LABEL_COLUMNS)
    if options.label_column is None and label and kinds[label] == Value("null"):
        label = None  # one that is empty throughout has no type, and no labels
    if image is None:
        raise InputError(
            f"{source}: no column of photos; looked for {', '.join(IMAGE_COLUMNS)}, found {columns}; name it with "
            "--image_column"
        )
    for option, name in (("--image_column", image), ("--label_column", label)):
        if name is None:
            continue
        if not _holds_pictures(kinds[name]):
            what = getattr(kinds[name], "dtype", type(kinds[name]).__name__)
            raise InputError(f"{source}: the column {name} holds {what}, no pictures; name another {option}")
        stored = stored.cast_column(name, Image(decode=False))
    return stored, image, label


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


def _column(source: str, columns: list[str], option: str, asked: str | None, usual: tuple[str, ...]) -> str | None:
    if asked is not None and asked not in columns:
        raise InputError(f"{source}: has no column {asked!r} ({option}); found {columns}")
    return asked or next((name for name in usual if name in columns), None)


def _tar_name(url: str, key: str, image: str) -> str:
    return f"{url}: {key}.{image}"


def _row_name(source: str | Path, index: int | str, path: str | None) -> str:
    return f"{source}: row {index}" + (f" ({path})" if path else "")
