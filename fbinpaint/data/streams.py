"""Training examples from photos that are read from front to back: sources too big to be copied or shuffled at hand.

The workers of all processes of a run are its readers, numbered through. They share the shards of each stream (its
files), so that in a pass each row is read by one of them; where there are fewer shards than readers, those of a shard
read it together and each keeps its share of the rows. Which reader has which shard is drawn anew for each pass. What a
reader gets is a pure function of (seed, reader, number of readers), and a `Mark` says from where it can be read again.
"""

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from datasets import Dataset

from fbinpaint.errors import InputError

from .photos import MixedBatches, PhotoCrops
from .rows import bytes_held, count_bytes, rows_at_hand

SHUFFLE_WINDOW = 256  # photos; what is kept in memory of a stream, undecoded
MAX_EMPTY_PASSES = 20  # of one reader, one after the other; a single one may get shards of held-out photos alone


class Stream(Protocol):
    """Rows as in `rows.FEATURES`, in shards that can be read independently."""

    source: str
    num_shards: int

    def rows(self, shard: int, start: int = 0) -> Iterator[dict]:
        """Those of a shard from number `start` on, the same at every call."""


Streams = tuple[list[Stream], list[Stream]]  # labelled, unlabelled


class PhotosAtHand:
    """A stream of photos that lie in files: each is a shard of its own."""

    def __init__(self, source: str, photos: Dataset):
        self.source, self.photos, self.num_shards = source, photos, len(photos)

    def rows(self, shard: int, start: int = 0) -> Iterator[dict]:
        if not start:
            yield self.photos[shard]


class Mark(NamedTuple):
    """Where a block of rows begins that a reader shuffles: row `row` of shard number `turn` among its own in a pass.

    position: how many rows the reader has had of the stream before, in all passes
    """

    position: int = 0
    number: int = 0  # of the pass
    turn: int = 0
    row: int = 0


START = Mark()


class StreamReader:
    """What one of several readers gets of a stream: its share of all rows, again and again, shuffled in blocks of
    SHUFFLE_WINDOW.

    Args:
        held_out: names of the rows that are passed over.
        mark: where to begin; one that `mark` gave goes on with the same rows.

    Iterating raises InputError where no row is left.
    """

    def __init__(
        self, stream: Stream, seed: int, reader: int, readers: int, held_out: frozenset[str], mark: Mark = START
    ):
        self.stream, self.seed, self.reader, self.readers = stream, seed, reader, readers
        self.held_out = held_out
        self.marks = deque([mark])  # of the blocks that may still be asked for

    def mark(self, position: int) -> Mark:
        """The latest one from which all rows from `position` on can be read again. Positions may only grow."""
        while len(self.marks) > 1 and self.marks[1].position <= position:
            self.marks.popleft()
        return self.marks[0]

    def __iter__(self) -> Iterator[dict]:
        for mark, block in self._blocks(self.marks[-1]):
            self.marks.append(mark)
            for place in np.random.default_rng((self.seed, self.reader, *mark)).permutation(len(block)):
                yield block[place]

    def _blocks(self, mark: Mark) -> Iterator[tuple[Mark, list[dict]]]:
        """The rows of one pass after the other from `mark` on, in blocks that end with the pass."""
        empty = 0
        while empty < MAX_EMPTY_PASSES:
            empty += 1
            block: list[dict] = []
            for turn, number, row in self._pass(mark):
                if not block:
                    mark = mark._replace(turn=turn, row=number)
                block.append(row)
                if len(block) == SHUFFLE_WINDOW:
                    yield mark, block
                    empty, mark, block = 0, mark._replace(position=mark.position + len(block)), []
            if block:
                yield mark, block
                empty = 0
            mark = Mark(mark.position + len(block), mark.number + 1)
        raise InputError(
            f"{self.stream.source}: no photo is left to train on for reader {self.reader + 1} of {self.readers} "
            "(processes times workers); lower --num_validation_images or --dataloader_num_workers"
        )

    def _pass(self, mark: Mark) -> Iterator[tuple[int, int, dict]]:
        """This reader's rows of a pass from `mark` on, each with where it is found: turn and row of a mark."""
        shards, every, offset = share(self.stream.num_shards, self.seed, mark.number, self.reader, self.readers)
        start = mark.row
        for turn, shard in enumerate(shards[mark.turn :], mark.turn):
            for number, row in enumerate(self.stream.rows(shard, start), start):
                if number % every == offset and row["name"] not in self.held_out:
                    yield turn, number, row
                else:
                    count_bytes(bytes_held(row))  # of the others, whoever opens them counts
            start = 0


def share(num_shards: int, seed: int, number: int, reader: int, readers: int) -> tuple[list[int], int, int]:
    """What a reader reads in pass `number`: its shards, in their order, and (n, k), where it keeps one row in n of
    them, those whose number leaves k. That is (1, 0), all rows, unless there are fewer shards than readers."""
    order = np.random.default_rng((seed, number)).permutation(num_shards)
    groups = min(num_shards, readers)
    group = reader % groups
    return order[group::groups].tolist(), len(range(group, readers, groups)), reader // groups


class RowWindow:
    """The rows of several stream readers in turn, by position, which may only grow from one call to the next.

    Args:
        first: the position to begin with.
    """

    def __init__(self, readers: list[StreamReader], first: int):
        self.readers, self.first = readers, first
        self.rows = self._in_turn(first)
        self.ahead: deque[dict] = deque()  # read but perhaps still wanted, from position `first` on

    def _in_turn(self, first: int) -> Iterator[dict]:
        starts = counts_in_turn(first, len(self.readers))
        rows = [
            # A mark lies at the start of a block, which is read again.
            itertools.islice(reader, start - reader.marks[-1].position, None)
            for reader, start in zip(self.readers, starts, strict=True)
        ]
        for position in itertools.count(first):
            yield next(rows[position % len(rows)])

    def marks(self, position: int) -> list[Mark]:
        """Of each reader, to begin with that position another time."""
        starts = counts_in_turn(position, len(self.readers))
        return [reader.mark(start) for reader, start in zip(self.readers, starts, strict=True)]

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


def counts_in_turn(total: int, sources: int) -> list[int]:
    """How many of the first `total` rows come from each of so many sources that take turns."""
    return [(total - source + sources - 1) // sources for source in range(sources)]


class StreamedCrops:
    """Crops of streams of labelled and of unlabelled photos, if both exist; streams of one kind take turns.

    Args:
        streams: labelled ones, unlabelled ones.
        crops: how examples are made; its photos are the first labelled ones of the streams.
        seed: of the order of the shards, and of that within the window, both of which are others in each pass.
        held_out: names of the photos that are not for training.
    """

    def __init__(self, streams: Streams, crops: PhotoCrops, seed: int, held_out: Sequence[str] = ()):
        self.streams, self.crops, self.seed, self.held_out = streams, crops, seed, frozenset(held_out)
        self.labelled_photos, self.class_counts = crops.labelled_photos, crops.class_counts
        self.read_photo = crops.read_photo
        # For `MixedBatches`: one entry stands for each kind.
        self.labelled = np.array([True, False])[[bool(kind) for kind in streams]]
        self.marks: dict[str, list[list[list[int]]]] = {}
        self.first_pass = 0

    def go_on(self, state: dict | None, batches: MixedBatches, workers: int) -> bool:
        """Begin where the readers of a run had come to, as of `BatchLoader.state`: each with the row that was next.

        False: the state is of other processes, workers, batches, seed or shards, or there is none. Rows are shared
        otherwise then, and reading begins with a new pass.
        """
        if state is None:
            return False
        reading = self.reading(batches, workers, batches.start)
        if any(state.get(name) != value for name, value in reading.items()):
            marks = (mark for kinds in state["marks"].values() for kind in kinds for mark in kind)
            self.first_pass = 1 + max((Mark(*mark).number for mark in marks), default=state["first_pass"])
            return False
        self.marks, self.first_pass = state["marks"], state["first_pass"]
        return True

    def reading(self, batches: MixedBatches, workers: int, number: int) -> dict[str, Any]:
        """Who reads what, before batch `number` of a process: marks are places in just these rows."""
        return batches.reading(workers, number) | {
            "shards": [[stream.num_shards for stream in kind] for kind in self.streams]
        }

    def read(self, batches: MixedBatches, first: int, workers: int) -> Iterator[tuple[list[dict], int, list]]:
        """The examples of this process's batches of the steps `first`, `first` + `workers`, ... of a plan that mixes
        the two kinds of streams; the number of the reader, and the marks from which it can go on after this batch."""
        reader, readers = batches.process * workers + first % workers, batches.processes * workers
        windows: list[Any] = [None, None]  # a RowWindow for each kind that a batch has
        starts = {source: position for source, position, _ in reversed(batches.places(first // workers))}
        for kind, start in starts.items():
            counts = counts_in_turn(start, len(self.streams[kind]))
            marks = [Mark(count, self.first_pass) for count in counts]
            if (saved := self.marks.get(str(reader))) is not None:
                marks = [Mark(*mark) for mark in saved[kind]]
            windows[kind] = RowWindow(
                [
                    StreamReader(stream, self.seed, reader, readers, self.held_out, mark)
                    for stream, mark in zip(self.streams[kind], marks, strict=True)
                ],
                start,
            )
        for step in itertools.count(first, workers):
            # Positions count this reader's own rows; what is drawn for an example is a function of the whole run.
            own, seeds = batches.places(step // workers), batches.places(batches.number(step))
            examples = [
                self.crops.example(windows[kind].rows_from(position), use_label=kind == 0, seed=seed)
                for (kind, position, _), (_, _, seed) in zip(own, seeds, strict=True)
            ]
            ends = {kind: position + 1 for kind, position, _ in own}
            yield examples, reader, [
                [list(mark) for mark in window.marks(ends[kind])] if window else []
                for kind, window in enumerate(windows)
            ]

    def cost_of_sharing(self, readers: int) -> list[str]:
        """A line for each stream of fewer shards than readers, all of which read more than their own rows."""
        return [
            f"{stream.source}: {stream.num_shards} files for {readers} readers (processes times workers): each is read "
            f"by up to {-(-readers // stream.num_shards)} of them, {readers / stream.num_shards:.1f} times as many "
            f"bytes in all; write {readers} files or more of like size, or lower --dataloader_num_workers"
            for kind in self.streams
            for stream in kind
            if stream.num_shards < readers
        ]


def set_aside(streams: Streams, num_validation: int, num_known: int) -> tuple[Dataset, Dataset]:
    """The first `num_validation` photos (half from each kind, where there are two), which are to be held out; and the
    `num_known` labelled ones that come next, which are not. The same in every process."""
    share_of_kind = -(-num_validation // sum(map(bool, streams)))
    labelled, unlabelled = map(rows_in_turn, streams)
    held_out = list(itertools.islice(labelled, share_of_kind)) + list(itertools.islice(unlabelled, share_of_kind))
    return rows_at_hand(held_out), rows_at_hand(itertools.islice(labelled, num_known))


def rows_in_turn(streams: Sequence[Stream]) -> Iterator[dict]:
    """All rows of streams that take turns, each from its first shard to its last."""
    waiting = deque(
        itertools.chain.from_iterable(map(stream.rows, range(stream.num_shards))) for stream in streams
    )
    while waiting:
        rows = waiting.popleft()
        if (row := next(rows, None)) is not None:
            yield row
            waiting.append(rows)
