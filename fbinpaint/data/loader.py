"""Batches made by worker processes, of photos at hand or streamed; bad photos end the run, or are named and counted."""

import signal
from collections.abc import Iterator

from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from torch.utils.data import Dataset as TorchDataset
from tqdm.auto import tqdm

from ..errors import InputError
from .photos import Batch, MixedBatches, PhotoCrops, collate
from .streams import StreamedCrops

# What a worker makes: a batch with the photos it had to pass over (name -> problem). An error is returned, not raised,
# since the DataLoader would wrap it in the worker's traceback.
Made = tuple[Batch, dict[str, str]] | InputError


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

    Iterating raises InputError for a photo that cannot be read, if the crops do not pass over it.
    """

    def __init__(
        self, crops: PhotoCrops | StreamedCrops, batches: MixedBatches, num_workers: int, bad_photos: BadPhotos
    ):
        settings = {"batch_size": None, "num_workers": num_workers, "worker_init_fn": outlive_the_first_sigterm}
        if isinstance(crops, StreamedCrops):
            self.loader = DataLoader(StreamedBatches(crops, batches), **settings)
        else:
            self.loader = DataLoader(PhotoBatches(crops), sampler=batches, **settings)
        self.bad_photos = bad_photos

    def __iter__(self) -> Iterator[Batch]:
        for made in self.loader:
            if isinstance(made, InputError):
                raise made
            batch, skipped = made
            for name, problem in skipped.items():
                self.bad_photos.add(name, problem)
            yield batch


def outlive_the_first_sigterm(_worker: int) -> None:
    """A scheduler sends SIGTERM to every process of a run, and the training process, which answers with a checkpoint,
    may need one more batch. It ends its workers in another way; where that fails, by the second SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))


class PhotoBatches(TorchDataset):
    """Whole batches of photos at hand, by the keys of their examples."""

    def __init__(self, crops: PhotoCrops):
        self.crops = crops

    def __getitem__(self, keys: list[tuple[int, int]]) -> Made:
        try:
            return _batch([self.crops[key] for key in keys])
        except InputError as error:
            return error


class StreamedBatches(IterableDataset):
    """Whole batches of a stream. Each worker reads all of it, but decodes only the photos of its own batches."""

    def __init__(self, crops: StreamedCrops, batches: MixedBatches):
        self.crops, self.batches = crops, batches

    def __iter__(self) -> Iterator[Made]:
        worker = get_worker_info()
        offset, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        first, every = self.batches.number(self.batches.start + offset), workers * self.batches.processes
        try:
            for examples in self.crops.read(self.batches, first, every):
                yield _batch(examples)
        except InputError as error:
            yield error


def _batch(examples: list[dict]) -> Made:
    skipped = {name: problem for example in examples for name, problem in example["skipped"].items()}
    return collate(examples), skipped
