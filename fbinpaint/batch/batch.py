"""Runs over photos: reading, working and writing go on beside each other, and a line is left of whatever fails."""

import os
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from fbinpaint.batch.planning import Job
from fbinpaint.errors import InputError, not_warned
from fbinpaint.images.convert import ALPHA, MOST, check_hole, is_deep, mask_image, name_of, to_mask, to_rgb, upright
from fbinpaint.images.folders import naming
from fbinpaint.images.io import (
    SAVE_FORMATS,
    ImageBytes,
    encode_image,
    fetched,
    frames_and_bits,
    is_lossy,
    load_image,
    not_held,
    number_of_pixels,
    read_bytes,
    save_image,
)
from fbinpaint.images.metadata import carry_over
from fbinpaint.images.modes import NAMES, fit_to_format
from fbinpaint.images.xmp import tell_provenance
from fbinpaint.system.files import whole_file
from fbinpaint.system.urls import Place, Url

if TYPE_CHECKING:
    from fbinpaint.pipeline import FeedbackInpaintPipeline
    from fbinpaint.pipeline.model_choice import Choice
    from fbinpaint.removal import Removal

PIXELS = 24_000_000  # of the photos of a batch, of those read ahead, and of those that are being written
THREADS = min(8, os.cpu_count() or 1)  # that read and write


@dataclass(frozen=True)
class Found:
    """What removals found.

    photos: that were looked at; showing: those that showed one of the classes
    filled, pixels: of the latter, as sums over the photos
    by_class: the photos that showed each of the classes, by name
    """

    photos: int = 0
    showing: int = 0
    filled: int = 0
    pixels: int = 0
    by_class: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, removal: "Removal", wanted: Mapping[str, str]) -> "Found":
        """wanted: the classes that were to go, name -> what people call it."""
        by_class = {shown: int(name in removal.found) for name, shown in wanted.items()}
        if not removal.found:
            return cls(1, by_class=by_class)
        return cls(1, 1, int(removal.mask.sum()), removal.mask.size, by_class)

    def __add__(self, other: "Found") -> "Found":
        names = dict.fromkeys([*self.by_class, *other.by_class])
        return Found(
            self.photos + other.photos,
            self.showing + other.showing,
            self.filled + other.filled,
            self.pixels + other.pixels,
            {name: self.by_class.get(name, 0) + other.by_class.get(name, 0) for name in names},
        )

    def __str__(self) -> str:
        share = f", {percentage(self.filled / self.pixels)} of their pixels" if self.showing else ""
        # One of several may be in no photo at all, which is to be seen.
        each = ", ".join(f"{name} in {number or 'none'}" for name, number in self.by_class.items())
        return f"found in {self.showing} of {self.photos} photos{f' ({each})' if len(self.by_class) > 1 else ''}{share}"


@dataclass
class Given:
    """A photo that was read.

    file: that it was read from
    hole: (H,W) bool; None = none is given
    """

    file: Path | ImageBytes
    photo: Image.Image
    hole: np.ndarray | None = None


@dataclass
class Made:
    """What a model made of a photo: `result`, of a kind that the task knows.

    choice: why this model; None = there was nothing to choose
    """

    model: str
    choice: "Choice | None"
    result: Any


@dataclass
class Done:
    """What became of a photo.

    error: one line, None where it was done; warnings and notes: one line each
    model, choice: as in `Made`
    found: of removals
    """

    job: Job
    error: str | None = None
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    model: str | None = None
    choice: "Choice | None" = None
    found: Found | None = None


class Files:
    """Results become files, whole or not at all."""

    def save(self, image: Image.Image, path: Place, quality: int | None = None) -> None:
        if isinstance(path, Url):
            path.write_bytes(encode_image(image, path, quality))
            return
        self._make_folder(path)
        save_image(image, path, quality)

    def copy(self, source: Path | ImageBytes, path: Place) -> None:
        if isinstance(path, Url):
            path.write_bytes(read_bytes(source))
            return
        self._make_folder(path)
        with whole_file(path) as temporary:
            temporary.write_bytes(read_bytes(source))

    def _make_folder(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"{path.parent}: folder cannot be made ({error.strerror}); choose another"
            ) from error


class Memory(dict):
    """Results are kept: path -> what its file would hold."""

    def save(self, image: Image.Image, path: Place, quality: int | None = None) -> None:
        self[path] = encode_image(image, path, quality)

    def copy(self, source: Path | ImageBytes, path: Place) -> None:  # type: ignore[override]  # as `Files` has it
        self[path] = read_bytes(source)


# ---------------------------------------------------------------------------------------------- tasks


class Task(ABC):
    """What is done with photos: `read` and `write` on several threads, `work` on one.

    pipes: the models, by name; each photo goes to the one that suits it best
    """

    def __init__(self, pipes: "Mapping[str, FeedbackInpaintPipeline]"):
        self.pipes = pipes

    @abstractmethod
    def read(self, job: Job, file: Path | ImageBytes, warn: Callable[[str], None]) -> Given:
        """file: the photo's. Raises InputError for what cannot be read."""

    @abstractmethod
    def results(self, pipe: "FeedbackInpaintPipeline", given: Sequence[Given]) -> list[Any]:
        """What a model makes of some photos."""

    @abstractmethod
    def write(self, done: Done, given: Given, made: Made, output: Files | Memory) -> None:
        """Raises InputError for what cannot be written."""

    def work(self, given: Sequence[Given]) -> list[Made]:
        choices = [self.choose(one) for one in given]
        first = next(iter(self.pipes))
        names = [choice.name if choice else first for choice in choices]
        made: dict[int, Made] = {}
        for name in dict.fromkeys(names):
            places = [i for i, other in enumerate(names) if other == name]
            results = self.results(self.pipes[name], [given[i] for i in places])
            for i, result in zip(places, results, strict=True):
                made[i] = Made(name, choices[i], result)
        return [made[i] for i in range(len(given))]

    def choose(self, given: Given) -> "Choice | None":
        if len(self.pipes) == 1:
            return None
        from fbinpaint.pipeline.model_choice import choose_model  # here, as it imports torch

        return choose_model(self.pipes, given.photo, given.hole)


class Restoration(Task):
    """What masks mark is filled.

    painters: what the results of each model say they were painted by, see `fbinpaint.images.xmp.model_name`; None =
        nothing
    quality: as in `save_image`
    """

    def __init__(
        self,
        pipes: "Mapping[str, FeedbackInpaintPipeline]",
        rounds: int,
        seed: int | None,
        painters: Mapping[str, str | None],
        quality: int | None = None,
    ):
        super().__init__(pipes)
        self.rounds, self.seed, self.painters, self.quality = rounds, seed, painters, quality

    def read(self, job: Job, file: Path | ImageBytes, warn: Callable[[str], None]) -> Given:
        photo = load_image(file)
        return Given(file, photo, read_hole(job, photo, warn))

    def results(self, pipe: "FeedbackInpaintPipeline", given: Sequence[Given]) -> list[tuple[Image.Image, ...]]:
        photos, holes = [one.photo for one in given], [one.hole for one in given]
        with not_warned():  # `read` has told of these holes
            out: Any = pipe(photos, holes, num_feedback_rounds=self.rounds, generator=generator(self.seed))
        return list(zip(out.images, out.semantic_before, out.semantic_after, strict=True))

    def write(self, done: Done, given: Given, made: Made, output: Files | Memory) -> None:
        assert given.hole is not None, "`read` has read one"
        job, (result, before, after) = done.job, made.result
        save_extras(job, {"before": before, "after": after, "mask": mask_image(given.hole)}, output)
        done.notes += read_notes(given.file, given.photo, result)
        painter = self.painters[made.model] if given.hole.any() else None
        write_restored(result, job.result, painter, self.quality, output, done.notes)


class Removing(Task):
    """The things of some classes are taken out, and what masks mark, if there are any.

    painters, quality: as in `Restoration`
    options: those of `fbinpaint.removal.remove`
    """

    def __init__(
        self,
        pipes: "Mapping[str, FeedbackInpaintPipeline]",
        seed: int | None,
        painters: Mapping[str, str | None],
        quality: int | None,
        **options: Any,
    ):
        super().__init__(pipes)
        self.seed, self.painters, self.quality, self.options = seed, painters, quality, options
        self.unseen = {name: pipe.unseen_classes for name, pipe in pipes.items()}

    def read(self, job: Job, file: Path | ImageBytes, warn: Callable[[str], None]) -> Given:
        photo = load_image(file)
        return Given(file, photo, None if job.mask is None else read_hole(job, photo, warn, may_be_empty=True))

    def results(self, pipe: "FeedbackInpaintPipeline", given: Sequence[Given]) -> "list[tuple[Removal, bool]]":
        """Of each photo also whether something was found though it is of another kind than the model knows."""
        from fbinpaint.pipeline.model_choice import is_unlike  # here, as these import torch
        from fbinpaint.removal import remove

        photos = [one.photo for one in given]
        masks = [one.hole for one in given]
        with not_warned():  # of masks that somebody drew; `write` has words for these
            removals = remove(pipe, photos, masks=masks, generator=generator(self.seed), **self.options)
            found = zip(removals, photos, masks, strict=True)
            return [(removal, bool(removal.found) and is_unlike(pipe, *seen)) for removal, *seen in found]

    def write(self, done: Done, given: Given, made: Made, output: Files | Memory) -> None:
        job, photo = done.job, given.photo
        removal, doubtful = made.result
        space = self.pipes[made.model].label_space
        filled = removal.mask.mean()
        stored = "JPEG" if photo.format == "MPO" else photo.format  # several JPEG pictures in one file
        copied = not filled and SAVE_FORMATS[job.result.suffix.lower()][0] == stored
        before, after = removal.semantic_before, removal.semantic_after
        save_extras(job, {"before": before, "after": after, "mask": mask_image(removal.mask)}, output)
        if copied:
            output.copy(given.file, job.result)
        else:
            done.notes += read_notes(given.file, photo, removal.image)
            painter = self.painters[made.model] if filled else None
            write_restored(removal.image, job.result, painter, self.quality, output, done.notes)
        wanted = {i: space.shown_names[i] for i in space.class_ids(self.options["classes"])}
        done.found = Found.of(removal, {space.classes[i]: shown for i, shown in wanted.items()})
        if unknown := [f"no {wanted[i]}" for i in wanted if i in self.unseen[made.model]]:
            told = f"the labelled photos that it keeps show {listed(unknown)}, so it hardly finds any"
            done.warnings.append(f"model {made.model}: {told}")
        if not removal.found:
            nothing = [f"no {shown}" for shown in wanted.values()]
            lossy = not copied and is_lossy(job.result, self.quality)
            unfilled = "nothing was filled, but it was encoded again" if lossy else "copied as it is"
            did = "only what its mask marks was filled" if filled else unfilled
            done.notes.append(f"{job.image}: shows {listed(nothing)}; {did}")
        if doubtful:
            taken = listed([shown for i, shown in wanted.items() if space.classes[i] in removal.found])
            done.notes.append(
                f"{job.image}: unlike the photos that model {made.model} has learnt from; what was taken for {taken} "
                "may be something else, so look at it"
            )
        if filled > MOST:
            done.notes.append(f"{job.image}: {percentage(filled)} of it was filled, so there was little to go by")
        if removal.seen_again:
            shown = dict(zip(space.classes, space.shown_names, strict=True))
            shares = {shown[name]: share for name, share in removal.seen_again.items()}
            done.notes.append(f"{job.image}: {still_seen(shares)}")


class Segmentation(Task):
    """Intact photos become maps; those of extras are colour pictures."""

    def read(self, job: Job, file: Path | ImageBytes, warn: Callable[[str], None]) -> Given:
        return Given(file, load_image(file))

    def results(self, pipe: "FeedbackInpaintPipeline", given: Sequence[Given]) -> list[Image.Image]:
        return pipe.segment([one.photo for one in given])

    def write(self, done: Done, given: Given, made: Made, output: Files | Memory) -> None:
        if (frames := frames_and_bits(given.file)[0]) > 1:
            done.notes.append(
                f"{done.job.image}: only the first of its {frames} frames is segmented, the others are left out"
            )
        output.save(made.result, done.job.result)
        for path in done.job.extras.values():
            output.save(made.result.convert("RGB"), path)


def read_hole(
    job: Job, photo: Image.Image, warn: Callable[[str], None], may_be_empty: bool = False
) -> np.ndarray:
    """The hole (H,W) bool of a job that has a mask. Raises InputError for what cannot be used."""
    assert job.mask is not None, "such a job has no hole"
    mask = ALPHA if isinstance(job.mask, str) else load_image(fetched(job.mask))
    with naming(job.image):
        if not is_deep(photo):  # what lies in the hole of such a photo is not looked at
            to_rgb(photo)  # what is wrong with the photo is said before its mask is looked at
        hole = to_mask(mask, upright(photo, "image").size, photo, warn, may_be_empty)
        if hole.any() or not may_be_empty:
            check_hole(hole, name_of(photo if isinstance(mask, str) else mask, "the mask"), warn)
    return hole


def generator(seed: int | None):
    """A new one for each batch, so that what a photo becomes does not depend on those before it; None = no seed."""
    if seed is None:
        return None
    import torch  # here, so that what is wrong with the arguments is said at once

    return torch.Generator().manual_seed(seed)


# ---------------------------------------------------------------------------------------------- what is written


def save_extras(job: Job, pictures: Mapping[str, Image.Image], output: Files | Memory) -> None:
    """What is written beside the result, and before it: where a result is, its mask is, too."""
    for name, path in job.extras.items():
        output.save(pictures[name], path)


def read_notes(file: Path | ImageBytes, photo: Image.Image, result: Image.Image) -> Iterator[str]:
    """What a photo had that its result has not."""
    frames, bits = frames_and_bits(file)
    if frames > 1:
        yield f"{file}: only the first of its {frames} frames is in the result, the others are left out"
    if bits > 8 and photo.mode in ("RGB", "RGBA", "LA", "CMYK"):
        yield f"{file}: written as {NAMES[result.mode]}, because its {bits} bits a colour can only be read as 8"
    if photo.mode == "P":
        yield f"{file}: written as {NAMES[result.mode]}, because results keep no palette"
    if lost := carry_over(photo).lost:
        yield f"{file}: its result is without {', and without '.join(lost)}"


def write_restored(
    result: Image.Image, path: Place, model: str | None, quality: int | None, output: Files | Memory, notes: list[str]
) -> None:
    """Writes a restored photo, with what tells its origin; notes what the format of the file does not hold."""
    fitted, converted = fit_to_format(result, path)
    if model is not None:
        own = fitted.info.get("xmp")
        fitted.info["xmp"] = tell_provenance(own, model)
        if own and "XMP" in not_held(fitted, path):
            fitted.info["xmp"] = tell_provenance(None, model)
            notes.append(f"{path}: its photo's XMP is left out, as it is too long for {path.suffix} files")
    output.save(fitted, path, quality)
    if converted:
        notes.append(converted)
    if missing := not_held(fitted, path):
        untold = ", so nothing in it tells that a part was painted by a model" if "XMP" in missing and model else ""
        notes.append(f"{path}: {path.suffix} files hold no {' and no '.join(missing)}{untold}")


def still_seen(shares: Mapping[str, float]) -> str:
    """What a result still shows, by class the share of what was filled, in words."""
    (first, share), *others = shares.items()
    parts = [f"{first} is still seen in {percentage(share)}", *(f"{name} in {percentage(x)}" for name, x in others)]
    return f"{listed(parts)} of what was filled"


def percentage(share: float) -> str:
    """A share in [0,1], for people to read."""
    return "less than 0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"


def listed(words: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


# ---------------------------------------------------------------------------------------------- running


def run(task: Task, jobs: Iterable[Job], batch_size: int, output: Files | Memory | None = None) -> Iterator[Done]:
    """What becomes of each job, in their order. The next photos are read, and the last results written, on other
    threads than this one, which works on batches of photos of any sizes.

    output: where results go; default: files
    """
    running = Run(task, Files() if output is None else output)
    try:
        yield from running.go_through(iter(jobs), batch_size)
    finally:
        running.end()


class Run:
    def __init__(self, task: Task, output: Files | Memory):
        self.task, self.output = task, output
        self.ahead = Ahead()
        # Of their own, so that no result waits behind photos that wait for their turn.
        self.readers, self.writers = ThreadPoolExecutor(THREADS, "reading"), ThreadPoolExecutor(THREADS, "writing")
        self.reading: deque[Future[tuple[Done, Given | None]]] = deque()
        self.writing: deque[tuple[Future[Done], int]] = deque()  # with the photo's number of pixels

    def go_through(self, jobs: Iterator[Job], batch_size: int) -> Iterator[Done]:
        numbered = enumerate(jobs)
        left = True
        while left or self.reading:
            while left and len(self.reading) < 2 * batch_size:
                number, job = next(numbered, (0, None))
                left = job is not None
                if job is not None:
                    self.reading.append(self.readers.submit(self._read, number, job))
            ready = self._next_batch(batch_size)
            made = iter(work(self.task, [(done, given) for done, given in ready if given is not None]))
            for done, given in ready:
                future = self.writers.submit(self._write, done, given, None if given is None else next(made))
                self.writing.append((future, pixels_of(given)))
            while self.writing and (self.writing[0][0].done() or self._much_to_write(batch_size)):
                yield self.writing.popleft()[0].result()
        while self.writing:
            yield self.writing.popleft()[0].result()

    def end(self) -> None:
        """What is being written becomes whole, nothing else is begun."""
        self.ahead.end()
        for pool in (self.readers, self.writers):
            pool.shutdown(cancel_futures=True)

    def _next_batch(self, batch_size: int) -> list[tuple[Done, Given | None]]:
        """Those read first, together of at most PIXELS, unless the first one alone is larger."""
        ready: list[tuple[Done, Given | None]] = []
        pixels = 0
        while self.reading and len(ready) < batch_size:
            done, given = self.reading[0].result()
            pixels += pixels_of(given)
            if ready and pixels > PIXELS:
                break
            self.reading.popleft()
            self.ahead.go_on(pixels_of(given))
            ready.append((done, given))
        return ready

    def _much_to_write(self, batch_size: int) -> bool:
        return len(self.writing) > 2 * batch_size or sum(pixels for _, pixels in self.writing) > PIXELS

    def _read(self, number: int, job: Job) -> tuple[Done, Given | None]:
        done = Done(job)
        pixels = 0
        try:
            file = fetched(job.image)
            pixels = number_of_pixels(file)
            self.ahead.wait(number, pixels)
            return done, self.task.read(job, file, done.warnings.append)
        except Exception as error:
            done.error = str(error) if isinstance(error, InputError) else told(done, error)
            self.ahead.give_back(pixels)
        return done, None

    def _write(self, done: Done, given: Given | None, made: Made | None) -> Done:
        if given is not None and made is not None:
            done.model, done.choice = made.model, made.choice
            try:
                self.task.write(done, given, made, self.output)
            except Exception as error:
                done.error = str(error) if isinstance(error, InputError) else told(done, error)
        return done


class Ahead:
    """How far ahead of the model photos are decoded: as long as they have PIXELS together, and always the next one.

    free: pixels that may still be decoded
    turn: number of the photo that the model is to work on next
    """

    def __init__(self):
        self.free, self.turn, self.ended = PIXELS, 0, False
        self.changed = threading.Condition()

    def wait(self, number: int, pixels: int) -> None:
        """Until a photo may be decoded. Raises CancelledError where none is wanted any more."""
        with self.changed:
            self.changed.wait_for(lambda: self.ended or number <= self.turn or pixels <= self.free)
            if self.ended:
                raise CancelledError
            self.free -= pixels

    def go_on(self, pixels: int) -> None:
        """The model takes the next photo."""
        with self.changed:
            self.turn += 1
            self.free += pixels
            self.changed.notify_all()

    def give_back(self, pixels: int) -> None:
        with self.changed:
            self.free += pixels
            self.changed.notify_all()

    def end(self) -> None:
        with self.changed:
            self.ended = True
            self.changed.notify_all()


def pixels_of(given: Given | None) -> int:
    return 0 if given is None else given.photo.width * given.photo.height


def work(task: Task, ready: Sequence[tuple[Done, Given]]) -> Sequence[Made | None]:
    """What the models make of photos that were read, all at once; None where that fails, with its error in `Done`."""
    if not ready:
        return []
    try:
        return task.work([given for _, given in ready])
    except Exception as error:
        if len(ready) > 1:  # one photo must not take the others with it
            return [made for one in ready for made in work(task, [one])]
        (done, _), = ready
        done.error = told(done, error)
        return [None]


def told(done: Done, error: Exception) -> str:
    """One line about what became of a photo; whatever it was, the others of a run go on."""
    kind, (first, *_) = type(error).__name__, (*str(error).strip().splitlines(), "")
    if isinstance(error, InputError):
        reason = str(error)
    elif isinstance(error, (RuntimeError, MemoryError)):  # torch out of memory, above all
        reason = first or kind
    else:
        reason = f"{kind}: {first}"
    return reason if str(done.job.image) in reason else f"{done.job.image}: {reason}"
