"""Work in chunks: some photos that are done one after the other, on whichever machine, and what becomes of each."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from fbinpaint.batch.planning import Job, Plan

if TYPE_CHECKING:
    from fbinpaint.batch.batch import Done
    from fbinpaint.restorer import Restorer

LARGEST = 16  # photos of a chunk, or four batches


class Chunk(Protocol):
    """Names of files alone, so that it can be sent to another machine."""

    def __len__(self) -> int:
        """Number of photos."""

    def work(self, restorer: "Restorer") -> "Iterator[Done]":
        """Does the work; what became of each photo."""


Chunks = Iterator[Chunk | str]  # as `fbinpaint.batch.planning.Plan`, which also has lines


@dataclass(frozen=True)
class PhotoChunk:
    """Photos in files."""

    jobs: Sequence[Job]

    def __len__(self) -> int:
        return len(self.jobs)

    def work(self, restorer: "Restorer") -> "Iterator[Done]":
        from fbinpaint.batch.batch import run

        yield from run(restorer.task, self.jobs, restorer.batch_size)


def in_chunks(plan: Callable[[], Plan], batch_size: int) -> Chunks:
    """The jobs of a plan in chunks, as soon as they are known, and its lines at once.

    The first chunks are small, so that results come soon, and few photos are shared by several machines as well.
    """
    size, largest = batch_size, max(LARGEST, 4 * batch_size)
    jobs: list[Job] = []
    for item in plan():
        if not isinstance(item, Job):
            yield item
            continue
        jobs.append(item)
        if len(jobs) == size:
            yield PhotoChunk(tuple(jobs))
            jobs, size = [], min(2 * size, largest)
    if jobs:
        yield PhotoChunk(tuple(jobs))


class Run:
    """A run in this process, over chunks. To be iterated over, once: what became of each photo.

    options: of `fbinpaint.Restorer`
    say: is told each line of the listing
    total: number of photos, once all are known; None before
    """

    def __init__(self, chunks: Callable[[], Chunks], options: Mapping[str, Any], say: Callable[[str], None]):
        self.chunks, self.options, self.say = chunks, options, say
        self.total: int | None = None

    def __iter__(self) -> "Iterator[Done]":
        restorer, total = None, 0
        for item in self.chunks():
            if isinstance(item, str):
                self.say(item)
                continue
            if restorer is None:  # a run that has nothing to do loads no model
                from fbinpaint.restorer import Restorer

                restorer = Restorer(**self.options)
            total += len(item)
            yield from item.work(restorer)
        self.total = total
