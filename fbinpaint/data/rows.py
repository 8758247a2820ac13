"""The row that every source of photos yields: pictures as they are stored, decoded only where they are used.

Undecoded, a row is cheap to pass over, and whoever decodes it knows the file's name when it turns out to be broken.
"""

import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from datasets import Dataset, Features, Image, IterableDataset, Value
from PIL import Image as PILImage

from fbinpaint.errors import InputError
from fbinpaint.images.io import open_image
from fbinpaint.system.urls import is_url, read_url

Result = TypeVar("Result")

# name:         what errors call the photo: its path, or source and row
# image:        {"path", "bytes"} of the photo; without bytes it is read from the path
# semantic_map: the same of its label; None = unlabelled
# label_format: "ids" = an index image of the label space in use; else the label space whose owners' format it has
FEATURES = Features(
    {
        "name": Value("string"),
        "image": Image(decode=False),
        "semantic_map": Image(decode=False),
        "label_format": Value("string"),
    }
)

_bytes_read = 0  # a statistic of the process, as the operating system keeps others

MAX_BAD_IN_A_ROW = 100  # so many are no accident: a wrong label space, or a folder that is gone


def rows_from_files(photos: Sequence[Path | str], labels: Sequence[Path | str | None], label_format: str) -> Dataset:
    """Rows as in `FEATURES` of files named by paths or URLs; `labels` in the order of `photos`, None = unlabelled."""
    return Dataset.from_dict(
        {
            "name": [str(path) for path in photos],
            "image": [str(path) for path in photos],
            "semantic_map": [None if path is None else str(path) for path in labels],
            "label_format": [None if path is None else label_format for path in labels],
        },
        features=FEATURES,
    )


def rows_at_hand(rows: Iterable[dict]) -> Dataset:
    """Rows of a stream, kept in memory."""
    rows = list(rows)
    return Dataset.from_dict({name: [row[name] for row in rows] for name in FEATURES}, features=FEATURES)


def whole_stream(stream: IterableDataset) -> Iterator[dict]:
    """All rows, also in a worker process of a DataLoader, where a plain loop over the stream would yield a share."""
    for columns in stream.iter(batch_size=1):
        yield {name: values[0] for name, values in columns.items()}


def open_picture(picture: dict | None, name: str) -> PILImage.Image:
    """The picture with its header read, not yet its pixels. Raises InputError, opening with `name`."""
    if picture is None or (picture["path"] is None and picture["bytes"] is None):
        raise InputError(f"{name}: no picture in this row")
    path, content = picture["path"], picture["bytes"]
    if content is None and is_url(path):
        content = read_url(path)
    if content is not None:
        count_bytes(len(content))
        return open_image(io.BytesIO(content), name)
    image = open_image(path, name)
    count_bytes(os.path.getsize(path))
    return image


def bytes_held(row: dict) -> int:
    """Of the row's pictures, as far as they are in memory and not in files that it names."""
    return sum(len(row[key]["bytes"] or b"") for key in ("image", "semantic_map") if row[key] is not None)


def count_bytes(number: int) -> None:
    """Add to what this process has read of photos and labels."""
    global _bytes_read
    _bytes_read += number


def bytes_read() -> int:
    """By this process so far: encoded photos and labels, those of a stream that it only passed over included."""
    return _bytes_read


def has_label(photos: Dataset) -> np.ndarray:
    """(N,) bool: which rows carry a label."""
    return np.array([label_format is not None for label_format in photos["label_format"]], bool)


def labelled_rows(photos: Dataset) -> Dataset:
    """Those that carry a label."""
    return photos.select(np.flatnonzero(has_label(photos)))


def evenly_spaced(total: int, count: int) -> list[int]:
    """At most `count` indices from 0 to total - 1, first and last included."""
    return np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist()


def rows_from(photos: Dataset, index: int, kind: np.ndarray | None = None) -> Iterator[dict]:
    """Row `index`, then the following ones, around the end; with `kind` (N,) only those whose value is the same."""
    for step in range(len(photos)):
        other = (index + step) % len(photos)
        if kind is None or kind[other] == kind[index]:
            yield photos[other]


def read_first(
    rows: Iterable[dict], read: Callable[[dict], Result], skip: Callable[[str, str], None] | None = None
) -> Result:
    """`read(row)` of the first of `rows` that is not bad.

    skip: is told the name and the problem of each bad row before it; None = a bad row raises

    Raises InputError for a bad row, or for MAX_BAD_IN_A_ROW of them.
    """
    for count, row in enumerate(rows, 1):
        try:
            return read(row)
        except InputError as error:
            if skip is None:
                raise
            skip(row["name"], str(error))
            problem = error
            if count == MAX_BAD_IN_A_ROW:
                break
    raise InputError(f"none of {count} photos in a row can be read; the last: {problem}")
