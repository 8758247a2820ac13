"""Batches made by worker processes, of photos at hand or streamed; bad photos end the run, or are named and counted."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from torch.utils.data import Dataset as TorchDataset
from tqdm.auto import tqdm

from fbinpaint.errors import InputError, one_line

from .photos import Batch, MixedBatches, PhotoCrops, collate
from .rows import bytes_read, count_bytes
from .streams import StreamedCrops


@dataclass
class Made:
    """What a worker makes: a batch with the photos it had to pass over (name -> problem), and what the worker has read
    in all.

    An error is returned, not raised, since the DataLoader would wrap it in the worker's traceback.
    """

    batch: Batch
    skipped: dict[str, str]
    worker: int  # -1 = the process itself
    bytes_read: int
    reader: int | None = None  # of a stream, and from where it can go on
    marks: list | None = None


class BadPhotos:
    """Photos that could not be read and were passed over: each is named when it is first met."""

    def __init__(self):
        self.problems: dict[str, str] = {}

    def add(self, name: str, problem: str) -> None:
        if name not in self.problems:
            self.problems[name] = problem
            tqdm.write(f"skipped a bad photo: {problem}")

    def __len__(self) -> int:
        return len(self.problems)


class BatchLoader:
    """Batches without end, in the order of the plan however many workers make them.

    Args:
        bad_photos: where the photos are noted that the crops passed over.

    Iterating raises InputError for a photo that cannot be read, if the crops do not pass over it, and for a worker that
    was killed.
    """

    def __init__(
        self, crops: PhotoCrops | StreamedCrops, batches: MixedBatches, num_workers: int, bad_photos: BadPhotos
    ):
        settings: dict[str, Any] = {"batch_size": None, "num_workers": num_workers, "worker_init_fn": start_worker}
        if isinstance(crops, StreamedCrops):
            self.loader = DataLoader(StreamedBatches(crops, batches), **settings)
        else:
            self.loader = DataLoader(PhotoBatches(crops), sampler=batches, **settings)
        self.bad_photos, self.crops, self.batches = bad_photos, crops, batches
        self.workers = max(1, num_workers)
        self.marks: dict[str, list] = {}
        if isinstance(crops, StreamedCrops):
            own = map(str, range(batches.process * self.workers, (batches.process + 1) * self.workers))
            self.marks = {reader: crops.marks[reader] for reader in own if reader in crops.marks}
        self.bytes_of_workers: dict[int, int] = {}
        self.next_batch = batches.start

    def __iter__(self) -> Generator[Batch, None, None]:
        batches = iter(self.loader)
        if self.loader.num_workers:
            with suppress(ValueError, AttributeError):  # in a thread, or on Windows, where no such signal arrives
                # As it was: torch's own handler raises its error about a killed worker out of whatever is being done.
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        while (made := self.next_made(batches)) is not None:
            if isinstance(made, InputError):
                raise made
            for name, problem in made.skipped.items():
                self.bad_photos.add(name, problem)
            if made.worker >= 0:
                self.bytes_of_workers[made.worker] = made.bytes_read
            if made.reader is not None:
                self.marks[str(made.reader)] = made.marks
            self.next_batch += 1
            yield made.batch

    def next_made(self, batches: Iterator[Any]) -> Any:
        try:
            return next(batches, None)
        except (RuntimeError, EOFError, OSError) as error:
            # What a killed worker had begun to hand over breaks off.
            broken_off = isinstance(error, (EOFError, ConnectionError, FileNotFoundError))
            found_dead = "DataLoader worker (pid" in str(error)
            of_worker = str(error).startswith("Caught ")  # of its own, handed on by torch
            if not self.loader.num_workers or of_worker or not (broken_off or found_dead):
                raise
            raise InputError(
                f"a process that makes crops was ended ({one_line(error)[:200]}); where memory or /dev/shm is short, "
                "lower --dataloader_num_workers or --train_batch_size"
            ) from error

    @property
    def bytes_read(self) -> int:
        """By this process and its workers so far."""
        return bytes_read() + sum(self.bytes_of_workers.values())

    def state(self) -> dict | None:
        """Where this process's readers of a stream are after the batch that was taken last, for
        `StreamedCrops.go_on`; None for photos at hand, whose places are a function of the step."""
        if not isinstance(self.crops, StreamedCrops):
            return None
        reading = self.crops.reading(self.batches, self.workers, self.next_batch)
        return reading | {"first_pass": self.crops.first_pass, "marks": self.marks}


def start_worker(_worker: int) -> None:
    count_bytes(-bytes_read())  # what the process that it was forked from has read
    outlive_the_first_sigterm()
    threading.Thread(target=end_with_the_training, name="ends with the training", daemon=True).start()


def end_with_the_training() -> None:
    """However that ends. torch lets a worker look at its parent, but a fork server, Python 3.14's default, lives as
    long as its workers do."""
    training = multiprocessing.parent_process()
    assert training is not None, "a worker has been started by somebody"
    training.join()
    os._exit(1)


def outlive_the_first_sigterm() -> None:
    """A scheduler sends SIGTERM to every process of a run, and the training process, which answers with a checkpoint,
    may need one more batch. It ends its workers in another way; where that fails, by the second SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))


class PhotoBatches(TorchDataset):
    """Whole batches of photos at hand, by the keys of their examples."""

    def __init__(self, crops: PhotoCrops):
        self.crops = crops

    def __getitem__(self, keys: list[tuple[int, int]]) -> Made | InputError:
        try:
            return _made([self.crops[key] for key in keys])
        except InputError as error:
            return error


class StreamedBatches(IterableDataset):
    """Whole batches of a stream. Each worker reads its share of the rows, and makes the batches of its own steps."""

    def __init__(self, crops: StreamedCrops, batches: MixedBatches):
        self.crops, self.batches = crops, batches

    def __iter__(self) -> Iterator[Made | InputError]:
        worker = get_worker_info()
        offset, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        try:
            for examples, reader, marks in self.crops.read(self.batches, self.batches.start + offset, workers):
                yield _made(examples, reader, marks)
        except InputError as error:
            yield error


def _made(examples: list[dict], reader: int | None = None, marks: list | None = None) -> Made:
    skipped = {name: problem for example in examples for name, problem in example["skipped"].items()}
    worker = get_worker_info()
    return Made(collate(examples), skipped, -1 if worker is None else worker.id, bytes_read(), reader, marks)
