"""Runs over files and folders of photos: what is to be done, batch by batch, and one line for whatever fails."""

import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from PIL import Image

from fbinpaint.errors import InputError, InputWarning
from fbinpaint.files import whole_file
from fbinpaint.folders import files_by_stem, masked_photo, naming, pair_by_stem, visible_files
from fbinpaint.image_io import (
    PHOTO_SUFFIXES,
    SAVE_FORMATS,
    frames_and_bits,
    is_lossy,
    load_image,
    not_held,
    save_image,
)
from fbinpaint.images import ALPHA, MOST, check_hole, mask_image, name_of, to_mask, to_rgb
from fbinpaint.metadata import carry_over
from fbinpaint.modes import NAMES, fit_to_format
from fbinpaint.xmp import tell_provenance

if TYPE_CHECKING:
    from fbinpaint.model_choice import Choice
    from fbinpaint.pipeline import FeedbackInpaintPipeline
    from fbinpaint.removal import Removal

Read, Made = TypeVar("Read"), TypeVar("Made")
# Jobs, one line for each photo that cannot be done, and one for each file that no photo needs.
Plan = tuple[list["Job"], list[str], list[str]]


class Note(str):
    """A line about a photo that was done; other lines are about photos that failed."""


@dataclass(frozen=True)
class Job:
    """One photo to work on: its files, and the file that the result goes to.

    mask:   ALPHA = the photo's own transparent part; None = none is given
    extras: what is written beside the result, by the word that the file's name ends in: before, after, mask, colour
    """

    image: Path
    mask: Path | str | None
    result: Path
    extras: dict[str, Path] = field(default_factory=dict)

    @property
    def targets(self) -> list[Path]:
        """Every file the job writes, the result first."""
        return [self.result, *self.extras.values()]


@dataclass
class Found:
    """What the removals of a run found, for its last line.

    photos: that were looked at; showing: those that showed one of the classes
    filled, pixels: of the latter, as sums over the photos
    """

    photos: int = 0
    showing: int = 0
    filled: int = 0
    pixels: int = 0

    def add(self, removal: "Removal") -> None:
        self.photos += 1
        if removal.found:
            self.showing += 1
            self.filled += int(removal.mask.sum())
            self.pixels += removal.mask.size

    def __str__(self) -> str:
        share = f", {percentage(self.filled / self.pixels)} of their pixels" if self.showing else ""
        return f"found in {self.showing} of {self.photos} photos{share}"


# ---------------------------------------------------------------------------------------------- planning


def plan_restorations(
    image: Path,
    mask: Path | str | None,
    output: Path,
    save_semantics: bool,
    keep_format: bool = False,
    save_masks: bool = False,
) -> Plan:
    """What `run` has to do; with `save_semantics` each result has NAME_before.png and NAME_after.png beside it, with
    `save_masks` NAME_mask.png. Results are PNG files, or with `keep_format` have the suffix of their photo.

    mask: a file, a folder, which may be that of the photos, or ALPHA; None = no photo has one
    A folder keeps its sub-folders in the output; nothing is read or written yet. Raises InputError where the arguments
    do not fit each other.
    """
    suffixes = [*(("before", "after") if save_semantics else ()), *(("mask",) if save_masks else ())]
    mask_files = (mask,) if isinstance(mask, Path) else ()
    check_exists(image, *mask_files)
    if not image.is_dir():
        if mask_files and mask.is_dir():
            raise InputError(f"{mask}: is a folder, but {image} is one photo; name its mask")
        if mask_files and os.path.realpath(mask) == os.path.realpath(image):
            raise InputError(f"{mask}: is the photo itself; name its mask, or `alpha` if its transparent part is meant")
        result = result_of_photo(image, output, keep_format)
        wanted = SAVE_FORMATS[result_suffix(image, keep_format).lower()]
        if keep_format and SAVE_FORMATS.get(result.suffix.lower(), wanted) != wanted:
            raise InputError(f"{output}: is of another format than {image}; name another file, or no --format keep")
        if result.suffix.lower() not in SAVE_FORMATS:
            raise InputError(f"{output}: unknown suffix '{output.suffix}'; use one of {' '.join(SAVE_FORMATS)}")
        jobs, problems, notes = [job(image, mask, result, suffixes)], [], []
    else:
        photos, masks, notes = photos_and_masks(image, mask, output)
        pairs, problems = pair_by_stem(photos, masks)
        results = [output / f"{pair.stem}{result_suffix(pair.image, keep_format)}" for pair in pairs]
        jobs = [
            job(pair.image, pair.mask or mask, result, suffixes) for pair, result in zip(pairs, results, strict=True)
        ]
        notes = other_files(image, (*mask_files, output)) + notes
    kept, clashes = without_clashes(jobs)
    return kept, problems + clashes, notes


def plan_maps(image: Path, output: Path, colour: bool) -> Plan:
    """What `segment` has to do; with `colour` each map has NAME_colour.png beside it. As `plan_restorations`."""
    suffixes = ("colour",) if colour else ()
    check_exists(image)
    if not image.is_dir():
        result = result_of_photo(image, output)
        if result.suffix.lower() != ".png":
            raise InputError(f"{output}: maps are PNG files of class ids; name a .png file, or a folder")
        jobs, problems, notes = [job(image, None, result, suffixes)], [], []
    else:
        pairs, problems = pair_by_stem(photos_of_folder(image, output), None)
        jobs = [job(pair.image, None, output / f"{pair.stem}.png", suffixes) for pair in pairs]
        notes = other_files(image, (output,))
    kept, clashes = without_clashes(jobs)
    return kept, problems + clashes, notes


def job(image: Path, mask: Path | str | None, result: Path, suffixes: Sequence[str]) -> Job:
    return Job(image, mask, result, {suffix: result.with_name(f"{result.stem}_{suffix}.png") for suffix in suffixes})


def check_exists(*paths: Path) -> None:
    for path in paths:
        if not os.path.exists(path):  # Path.exists raises on names that are too long, and so on
            raise InputError(f"{path}: no such file or folder; check the path")


def result_of_photo(image: Path, output: Path, keep_format: bool = False) -> Path:
    """The file for the result of one photo, where `output` may also be a folder."""
    name = f"{image.stem}{result_suffix(image, keep_format)}"
    return output / name if os.path.isdir(output) or not output.suffix else output


def result_suffix(image: Path, keep_format: bool) -> str:
    """.png, or the photo's own where that is wanted and can be written."""
    return image.suffix if keep_format and image.suffix.lower() in SAVE_FORMATS else ".png"


def format_notes(jobs: Sequence[Job], keep_format: bool, quality: int | None) -> list[str]:
    """What is to be said of the formats of the results before the work begins."""
    lossy = [job.result for job in jobs if is_lossy(job.result, quality)]
    others = [job.image for job in jobs if keep_format and job.result.suffix.lower() != job.image.suffix.lower()]
    notes = [f"{path}: its result is a PNG file, as {path.suffix} files are not written" for path in others]
    if lossy:
        suffixes = ", ".join(sorted({path.suffix.lower() for path in lossy}))
        notes.append(
            f"{len(lossy)} results in lossy files ({suffixes}): known pixels are encoded again, at quality "
            f"{quality or 95}, and may differ a little; PNG keeps them bit for bit"
        )
    return notes


def photos_of_folder(image: Path, output: Path, leave_out: Sequence[Path] = ()) -> dict[str, list[Path]]:
    """`files_by_stem` of a folder of photos. Raises InputError where `output` is no folder beside it."""
    if os.path.exists(output) and not output.is_dir():
        raise InputError(f"{output}: is a file, but {image} is a folder; name a folder for the results")
    if os.path.realpath(output) in map(os.path.realpath, (image, *leave_out)):
        raise InputError(f"{output}: results would mix with the input; name another folder")
    photos = files_by_stem(image, leave_out=(*leave_out, output))
    if not photos:
        raise InputError(f"{image}: holds no photo; use {' '.join(PHOTO_SUFFIXES)}")
    if output.suffix.lower() in SAVE_FORMATS and not os.path.lexists(output):
        raise InputError(f"{output}: has the name of a file, but {image} is a folder; name a folder for the results")
    return photos


def photos_and_masks(
    image: Path, mask: Path | str | None, output: Path
) -> tuple[dict[str, list[Path]], dict[str, list[Path]] | None, list[str]]:
    """The photos of a folder, their masks (None = `mask` serves all), both by stem, and a note for each other picture.

    What lies beside a photo under the name of its mask is no photo, and a photo that lies beside its mask, among other
    masks, is none: so a folder of results and the masks that they were filled by is a folder of masks. Raises
    InputError where the folder of masks is that of the photos and holds no mask.
    """
    found = photos_of_folder(image, output, leave_out=(mask,) if isinstance(mask, Path) else ())
    given = os.path.realpath(mask) if isinstance(mask, Path) else None  # one mask for all may lie among the photos
    files = {stem: [path for path in paths if os.path.realpath(path) != given] for stem, paths in found.items()}
    beside = {stem: paths for stem, paths in files.items() if masked_photo(stem, files)}
    masks, notes = None, []
    if given == os.path.realpath(image):
        if not beside:
            raise InputError(f"{mask}: holds photos but no mask; put NAME_mask.png beside each, or name another --mask")
        masks = beside
    else:
        if given and mask.is_dir():
            masks = files_by_stem(mask, leave_out=(image, output))
            if masked := {masked_photo(stem, masks) for stem in masks if stem not in files} - {None}:
                maps = {f"{stem}_{word}" for stem in masked for word in ("before", "after")} - files.keys()
                masks = {stem: paths for stem, paths in masks.items() if stem not in masked | maps}
                notes.append(f"{mask}: holds {len(masked)} photos beside their masks (NAME_mask.png); these are used")
            # A mask of its very name makes it a photo; beside a mask of the photo's own name none could tell.
            beside = {s: paths for s, paths in beside.items() if s not in masks or masked_photo(s, files) in masks}
        notes += [f"{path}: is a mask by its name, left alone" for paths in beside.values() for path in paths]
    photos = {stem: paths for stem, paths in files.items() if paths and stem not in beside}
    unused = [stem for stem in masks or () if stem not in photos and not masked_photo(stem, photos)]
    notes += [f"{path}: has no photo, not used" for stem in unused for path in masks[stem]]
    return photos, masks, notes


def other_files(image: Path, leave_out: Sequence[Path]) -> list[str]:
    others = [path for path in visible_files(image, leave_out) if path.suffix.lower() not in PHOTO_SUFFIXES]
    return [f"{path}: is not a photo, left alone" for path in others]


def without_clashes(jobs: Sequence[Job]) -> tuple[list[Job], list[str]]:
    """The jobs that write over no photo, no mask and no result of another, and a line for each of the others."""
    # Not Path.resolve: before Python 3.13 it raises on links that go round in circles.
    taken = {os.path.realpath(path) for job in jobs for path in (job.image, job.mask) if isinstance(path, Path)}
    kept, problems = [], []
    for job in jobs:
        targets = [os.path.realpath(path) for path in job.targets]
        clash = next((path for path in targets if path in taken), None)
        if clash:
            problems.append(f"{job.image}: its result would overwrite {clash}; name another output")
        else:
            kept.append(job)
            taken.update(targets)
    return kept, problems


# ---------------------------------------------------------------------------------------------- running


def by_model(
    pipes: "Mapping[str, FeedbackInpaintPipeline]", jobs: Sequence[Job]
) -> list[tuple[str, list[Job], list["Choice"]]]:
    """The jobs shared among the models by what suits their photos: a model's name, its jobs, and the choices made.

    There is nothing to choose where there is one model, or where a photo or its mask cannot be read: that goes to the
    first one, and is said when it is read again.
    """
    shares: dict[str, tuple[list[Job], list[Choice]]] = {}
    for job in jobs:
        choice = choose(pipes, job) if len(pipes) > 1 else None
        members, choices = shares.setdefault(choice.name if choice else next(iter(pipes)), ([], []))
        members.append(job)
        if choice:
            choices.append(choice)
    return [(name, *share) for name, share in shares.items()]


def choose(pipes: "Mapping[str, FeedbackInpaintPipeline]", job: Job) -> "Choice | None":
    """None where its photo or mask cannot be read."""
    from fbinpaint.model_choice import choose_model  # here, as it imports torch

    try:
        mask = load_image(job.mask) if isinstance(job.mask, Path) else job.mask
        return choose_model(pipes, load_image(job.image), mask)
    except InputError:
        return None


def restore(
    pipe: "FeedbackInpaintPipeline",
    jobs: Sequence[Job],
    rounds: int,
    seed: int | None,
    model: str | None,
    quality: int | None = None,
) -> Iterator[str]:
    """Restores and writes the photos of `jobs` as one batch; yields one line for each that failed, and Notes.

    model: what the results say they were painted by, see `fbinpaint.xmp.model_name`; None = they do not say
    quality: as in `save_image`
    """

    def read(job: Job) -> tuple[Image.Image, Image.Image | str]:
        return load_image(job.image), ALPHA if job.mask == ALPHA else load_image(job.mask)

    def fill(pictures: Sequence[tuple[Image.Image, Image.Image | str]]) -> list[tuple[Image.Image, ...]]:
        photos, masks = (list(column) for column in zip(*pictures, strict=True))
        import torch  # here, so that what is wrong with the arguments is said at once

        generator = None if seed is None else torch.Generator().manual_seed(seed)
        out = pipe(photos, masks, num_feedback_rounds=rounds, generator=generator)
        return list(zip(out.images, out.semantic_before, out.semantic_after, strict=True))

    def write(job: Job, read: tuple[Image.Image, Image.Image | str], made: Sequence[Image.Image]) -> Iterator[Note]:
        (photo, mask), (result, before, after) = read, made
        pictures = {"before": before, "after": after}
        if "mask" in job.extras:
            pictures["mask"] = mask_image(to_mask(mask, result.size, photo, lambda line: None))  # it is said already
        save_extras(job, pictures)
        yield from read_notes(job.image, photo, result)
        yield from write_restored(result, job.result, model, quality)

    yield from process(jobs, read, fill, write)


def remove(
    pipe: "FeedbackInpaintPipeline",
    jobs: Sequence[Job],
    seed: int | None,
    model: str | None,
    quality: int | None,
    found: Found,
    **options: Any,
) -> Iterator[str]:
    """Takes the things of some classes out of the photos of `jobs`, as `restore` does what their masks mark.

    found: is told what became of each photo that was written
    options: those of `fbinpaint.removal.remove`
    """
    from fbinpaint import removal  # here, for the same reason as torch below

    space = pipe.label_space
    wanted = [space.shown_names[i] for i in space.class_ids(options["classes"])]
    shown = dict(zip(space.classes, space.shown_names, strict=True))

    def read(job: Job) -> tuple[Image.Image, np.ndarray | None]:
        photo = load_image(job.image)
        if job.mask is None:
            return photo, None
        mask = ALPHA if job.mask == ALPHA else load_image(job.mask)
        with naming(job.image):
            height, width, _ = to_rgb(photo).shape  # what is wrong with the photo is said before its mask is looked at
            hole = to_mask(mask, (width, height), photo)
            if hole.any():
                check_hole(hole, name_of(photo if mask == ALPHA else mask, "the mask"))
        return photo, hole

    def take_out(pictures: Sequence[tuple[Image.Image, np.ndarray | None]]) -> "list[Removal]":
        import torch

        photos = [photo for photo, _ in pictures]
        masks = None if pictures[0][1] is None else [mask for _, mask in pictures]  # one run has masks, or none
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InputWarning)  # of masks that somebody drew; `write` has words for these
            return removal.remove(pipe, photos, masks=masks, generator=generator, **options)

    def write(job: Job, read: tuple[Image.Image, np.ndarray | None], made: "Removal") -> Iterator[Note]:
        photo, _ = read
        filled = made.mask.mean()
        stored = "JPEG" if photo.format == "MPO" else photo.format  # several JPEG pictures in one file
        copied = not filled and SAVE_FORMATS[job.result.suffix.lower()][0] == stored
        pictures = {"before": made.semantic_before, "after": made.semantic_after, "mask": mask_image(made.mask)}
        save_extras(job, pictures)
        if copied:
            with whole_file(job.result) as temporary:
                shutil.copyfile(job.image, temporary)
        else:
            yield from read_notes(job.image, photo, made.image)
            yield from write_restored(made.image, job.result, model if filled else None, quality)
        found.add(made)
        if not made.found:
            lossy = not copied and is_lossy(job.result, quality)
            unfilled = "nothing was filled, but it was encoded again" if lossy else "copied as it is"
            done = "only what its mask marks was filled" if filled else unfilled
            yield Note(f"{job.image}: shows {listed([f'no {name}' for name in wanted])}; {done}")
        if filled > MOST:
            yield Note(f"{job.image}: {percentage(filled)} of it was filled, so there was little to go by")
        if made.seen_again:
            yield Note(f"{job.image}: {still_seen({shown[name]: x for name, x in made.seen_again.items()})}")

    yield from process(jobs, read, take_out, write)


def save_extras(job: Job, pictures: Mapping[str, Image.Image]) -> None:
    """What is written beside the result, and before it: where a result is, its mask is, too."""
    for name, target in job.extras.items():
        save_image(pictures[name], target)


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


def read_notes(path: Path, photo: Image.Image, result: Image.Image) -> Iterator[Note]:
    """What a photo had that its result has not."""
    frames, bits = frames_and_bits(path)
    if frames > 1:
        yield Note(f"{path}: only the first of its {frames} frames is in the result, the others are left out")
    if bits > 8 and photo.mode in ("RGB", "RGBA", "LA", "CMYK"):
        yield Note(f"{path}: written as {NAMES[result.mode]}, because its {bits} bits a colour can only be read as 8")
    if photo.mode == "P":
        yield Note(f"{path}: written as {NAMES[result.mode]}, because results keep no palette")
    if lost := carry_over(photo).lost:
        yield Note(f"{path}: its result is without {', and without '.join(lost)}")


def write_restored(result: Image.Image, path: Path, model: str | None, quality: int | None) -> Iterator[Note]:
    """Writes a restored photo, with what tells its origin; says what the format of the file does not hold."""
    fitted, converted = fit_to_format(result, path)
    if model is not None:
        own = fitted.info.get("xmp")
        fitted.info["xmp"] = tell_provenance(own, model)
        if own and "XMP" in not_held(fitted, path):
            fitted.info["xmp"] = tell_provenance(None, model)
            yield Note(f"{path}: its photo's XMP is left out, as it is too long for {path.suffix} files")
    save_image(fitted, path, quality)
    if converted:
        yield Note(converted)
    if missing := not_held(fitted, path):
        untold = ", so nothing in it tells that a part was painted by a model" if "XMP" in missing and model else ""
        yield Note(f"{path}: {path.suffix} files hold no {' and no '.join(missing)}{untold}")


def segment(pipe: "FeedbackInpaintPipeline", jobs: Sequence[Job]) -> Iterator[str]:
    """Segments the photos of `jobs` as one batch and writes their maps; yields one line for each that failed."""

    in_colour = any(job.extras for job in jobs)

    def find(photos: Sequence[Image.Image]) -> list[list[Image.Image]]:
        maps = pipe.segment(list(photos))
        return [[found, found.convert("RGB")] if in_colour else [found] for found in maps]

    def write(job: Job, photo: Image.Image, pictures: Sequence[Image.Image]) -> Iterator[Note]:
        if (frames := frames_and_bits(job.image)[0]) > 1:
            yield Note(f"{job.image}: only the first of its {frames} frames is segmented, the others are left out")
        for target, picture in zip(job.targets, pictures, strict=False):
            save_image(picture, target)

    yield from process(jobs, lambda job: load_image(job.image), find, write)


def process(
    jobs: Sequence[Job],
    read: Callable[[Job], Read],
    compute: Callable[[Sequence[Read]], list[Made]],
    write: Callable[[Job, Read, Made], Iterator[Note]],
) -> Iterator[str]:
    """Reads, computes all at once, and writes the targets of each job; yields a line for each that failed, and Notes.

    compute: what `write` is given, of each job
    """
    ready, inputs = [], []
    for job in jobs:
        try:
            inputs.append(read(job))
        except InputError as error:
            yield str(error)
        else:
            ready.append(job)
    if not ready:
        return
    try:
        results = compute(inputs)
    except (InputError, RuntimeError, MemoryError) as error:  # RuntimeError: torch out of memory, above all
        if len(ready) == 1:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            yield reason if str(ready[0].image) in reason else f"{ready[0].image}: {reason}"
        else:  # one photo must not take the others with it
            for job in ready:
                yield from process([job], read, compute, write)
        return
    for job, given, made in zip(ready, inputs, results, strict=True):
        try:
            job.result.parent.mkdir(parents=True, exist_ok=True)
            yield from write(job, given, made)
        except InputError as error:
            yield str(error)
        except OSError as error:
            yield f"{job.result.parent}: folder cannot be made ({error.strerror}); choose another"
