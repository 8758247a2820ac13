"""Training examples from photos that are read from front to back: sources too big to be copied or shuffled at hand."""

import itertools
from collections import deque
from collections.abc import Iterator

import numpy as np
from datasets import Dataset, IterableDataset

from ..errors import InputError
from .photos import MixedBatches, PhotoCrops
from .rows import rows_at_hand, whole_stream

Streams = tuple[IterableDataset | None, IterableDataset | None]  # labelled, unlabelled

SHUFFLE_WINDOW = 256  # photos; what is kept in memory of a stream, undecoded


class StreamedCrops:
    """Crops of a stream of labelled and one of unlabelled photos, if both exist.

    Args:
        streams: rows as in `rows.FEATURES`.
        crops: how examples are made; its photos are the first labelled ones of the stream.
        seed: of the order within the window, which is another one in each pass.
    """

    def __init__(self, streams: Streams, crops: PhotoCrops, seed: int):
        self.streams, self.crops, self.seed = streams, crops, seed
        self.labelled_photos, self.class_counts = crops.labelled_photos, crops.class_counts
        self.read_photo = crops.read_photo
        # For `MixedBatches`: one entry stands for each stream.
        self.labelled = np.array([True, False])[[stream is not None for stream in streams]]

    def read(self, batches: MixedBatches, first: int, every: int) -> Iterator[list[dict]]:
        """The examples of batches number `first`, `first` + `every`, ... of a plan that mixes the two streams."""
        readers = [None if stream is None else RowWindow(endless(stream, self.seed)) for stream in self.streams]
        for number in itertools.count(first, every):
            yield [
                self.crops.example(readers[source].rows_from(position), use_label=source == 0, seed=seed)
                for source, position, seed in batches.places(number)
            ]


def set_aside(streams: Streams, num_validation: int, num_known: int) -> tuple[Streams, Dataset, Dataset]:
    """The streams without their first `num_validation` photos (half from each, where there are two); these photos;
    and the `num_known` labelled ones that come next, which stay in the stream as well.
    """
    share = -(-num_validation // sum(stream is not None for stream in streams))
    held_out = rows_at_hand(row for stream in streams if stream is not None for row in stream.take(share))
    labelled, unlabelled = (None if stream is None else stream.skip(share) for stream in streams)
    known = rows_at_hand([] if labelled is None else labelled.take(num_known))
    return (labelled, unlabelled), held_out, known


def endless(rows: IterableDataset, seed: int) -> Iterator[dict]:
    """The rows of a stream again and again, each time shuffled otherwise within a window of SHUFFLE_WINDOW."""
    shuffled = rows.shuffle(seed=seed, buffer_size=SHUFFLE_WINDOW)
    for epoch in itertools.count():
        shuffled.set_epoch(epoch)
        empty = True
        for row in whole_stream(shuffled):
            empty = False
            yield row
        if empty:
            raise InputError("a stream has no photo left to train on; lower --num_validation_images")


class RowWindow:
    """Rows of an endless iterator by position, which may only grow from one call to the next."""

    def __init__(self, rows: Iterator[dict]):
        self.rows, self.first = rows, 0
        self.ahead: deque[dict] = deque()  # read but perhaps still wanted, from position `first` on

    def rows_from(self, position: int) -> Iterator[dict]:
        """The row at that position and those after it."""
        while self.first < position:
            if self.ahead:
                self.ahead.popleft()
            else:
                next(self.rows)
            self.first += 1
        for place in itertools.count():
            if place == len(self.ahead):
                self.ahead.append(next(self.rows))
            yield self.ahead[place]
