"""Runs over files and folders of photos: what is to be done, batch by batch, and one line for whatever fails."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from PIL import Image

from fbinpaint.errors import InputError
from fbinpaint.folders import files_by_stem, masked_photo, pair_by_stem, visible_files
from fbinpaint.image_io import (
    PHOTO_SUFFIXES,
    SAVE_FORMATS,
    frames_and_bits,
    is_lossy,
    load_image,
    not_held,
    save_image,
)
from fbinpaint.images import ALPHA
from fbinpaint.metadata import carry_over
from fbinpaint.modes import NAMES, fit_to_format
from fbinpaint.xmp import tell_provenance

if TYPE_CHECKING:
    from fbinpaint.pipeline import FeedbackInpaintPipeline

Read = TypeVar("Read")
# Jobs, one line for each photo that cannot be done, and one for each file that no photo needs.
Plan = tuple[list["Job"], list[str], list[str]]


class Note(str):
    """A line about a photo that was done; other lines are about photos that failed."""


@dataclass(frozen=True)
class Job:
    """One photo to work on: its files, and the file that the result goes to.

    mask:   ALPHA = the photo's own transparent part; None = the photo is only segmented
    extras: what is written beside the result
    """

    image: Path
    mask: Path | str | None
    result: Path
    extras: tuple[Path, ...] = ()

    @property
    def targets(self) -> list[Path]:
        """Every file the job writes, the result first."""
        return [self.result, *self.extras]


# ---------------------------------------------------------------------------------------------- planning


def plan_restorations(
    image: Path, mask: Path | str, output: Path, save_semantics: bool, keep_format: bool = False
) -> Plan:
    """What `run` has to do; with `save_semantics` each result has NAME_before.png and NAME_after.png beside it. Results
    are PNG files, or with `keep_format` have the suffix of their photo.

    mask: a file, a folder, which may be that of the photos, or ALPHA
    A folder keeps its sub-folders in the output; nothing is read or written yet. Raises InputError where the arguments
    do not fit each other.
    """
    suffixes = ("before", "after") if save_semantics else ()
    check_exists(image, *(() if mask == ALPHA else (mask,)))
    if not image.is_dir():
        if mask != ALPHA and mask.is_dir():
            raise InputError(f"{mask}: is a folder, but {image} is one photo; name its mask")
        if mask != ALPHA and os.path.realpath(mask) == os.path.realpath(image):
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
        notes = other_files(image, (output,) if mask == ALPHA else (mask, output)) + notes
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


def job(image: Path, mask: Path | None, result: Path, suffixes: Sequence[str]) -> Job:
    return Job(image, mask, result, tuple(result.with_name(f"{result.stem}_{suffix}.png") for suffix in suffixes))


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
    image: Path, mask: Path | str, output: Path
) -> tuple[dict[str, list[Path]], dict[str, list[Path]] | None, list[str]]:
    """The photos of a folder, their masks (None = `mask` serves all), both by stem, and a note for each other picture.

    What lies beside a photo under the name of its mask is no photo. Raises InputError where the folder of masks is that
    of the photos and holds no mask.
    """
    found = photos_of_folder(image, output, leave_out=() if mask == ALPHA else (mask,))
    given = os.path.realpath(mask)  # one mask for all may lie among the photos
    files = {stem: [path for path in paths if os.path.realpath(path) != given] for stem, paths in found.items()}
    beside = {stem: paths for stem, paths in files.items() if masked_photo(stem, files)}
    masks, notes = None, []
    if mask != ALPHA and given == os.path.realpath(image):
        if not beside:
            raise InputError(f"{mask}: holds photos but no mask; put NAME_mask.png beside each, or name another --mask")
        masks = beside
    else:
        if mask != ALPHA and mask.is_dir():
            masks = files_by_stem(mask, leave_out=(image, output))
            beside = {stem: paths for stem, paths in beside.items() if stem not in masks}
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

    def fill(pictures: Sequence[tuple[Image.Image, Image.Image | str]]) -> list[list[Image.Image]]:
        photos, masks = (list(column) for column in zip(*pictures, strict=True))
        import torch  # here, so that what is wrong with the arguments is said at once

        generator = None if seed is None else torch.Generator().manual_seed(seed)
        out = pipe(photos, masks, num_feedback_rounds=rounds, generator=generator)
        return [list(of_photo) for of_photo in zip(out.images, out.semantic_before, out.semantic_after, strict=True)]

    def write(job: Job, read: tuple[Image.Image, Image.Image], pictures: Sequence[Image.Image]) -> Iterator[Note]:
        (photo, _), (result, *maps) = read, pictures
        yield from read_notes(job.image, photo, result)
        yield from write_restored(result, job.result, model, quality)
        for target, picture in zip(job.extras, maps, strict=False):
            save_image(picture, target)

    yield from process(jobs, read, fill, write)


def read_notes(path: Path, photo: Image.Image, result: Image.Image) -> Iterator[Note]:
    """What a photo had that its result has not."""
    frames, bits = frames_and_bits(path)
    if frames > 1:
        yield Note(f"{path}: only the first of its {frames} frames is restored, the others are left out")
    if bits > 8 and photo.mode in ("RGB", "RGBA", "LA", "CMYK"):
        yield Note(f"{path}: written as {NAMES[result.mode]}, because its {bits} bits a colour can only be read as 8")
    if photo.mode == "P":
        yield Note(f"{path}: written as {NAMES[result.mode]}, because a palette has no room for what is painted")
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
    compute: Callable[[Sequence[Read]], list[list[Image.Image]]],
    write: Callable[[Job, Read, Sequence[Image.Image]], Iterator[Note]],
) -> Iterator[str]:
    """Reads, computes all at once, and writes the targets of each job; yields one line for each that failed, and Notes.

    compute: the pictures of each job, in the order of its targets; those beyond them are not written
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
    for job, given, pictures in zip(ready, inputs, results, strict=True):
        try:
            job.result.parent.mkdir(parents=True, exist_ok=True)
            yield from write(job, given, pictures)
        except InputError as error:
            yield str(error)
        except OSError as error:
            yield f"{job.result.parent}: folder cannot be made ({error.strerror}); choose another"
