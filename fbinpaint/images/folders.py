"""Pictures in folders: finding them, pairing photos with masks by stem, cutting them into batches of one size."""

import itertools
import os
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Protocol, TypeVar

from fbinpaint.errors import InputError
from fbinpaint.images.convert import on_its_side
from fbinpaint.images.crops import shorter_side
from fbinpaint.images.io import PHOTO_SUFFIXES, ImageBytes, fetched, open_image
from fbinpaint.system.processes import print_note
from fbinpaint.system.urls import Place, Url, is_folder, lies_in, real

Photo = TypeVar("Photo", bound="HasImage")
Pictures = Mapping[str, Sequence[Path | Url]]  # by stem

MASK_STEM = re.compile(r"(.+)_mask\d*")  # of the mask of the photo whose stem comes before
BATCH_PIXELS = 1_500_000  # per batch: keeps the activations of eight large photos out of memory


@dataclass(frozen=True)
class Pair:
    """A photo and its mask; `stem` is the photo's path below its folder, "/" between, without suffix.

    mask: None = make the protocol mask
    """

    stem: str
    image: Place
    mask: Place | None


class HasImage(Protocol):
    @property
    def image(self) -> Place: ...


def walk(
    folder: Place, leave_out: Sequence[Place] = (), refuse: Callable[[str], None] | None = None
) -> Iterator[tuple[Place, list[str]]]:
    """The folders in `folder`, itself first, each with the sorted names of its files, without hidden ones; links to
    nothing are among them, to fail by name when they are read. Links to folders are followed, once each, and after all
    folders, so that what lies in one of these is met there.

    leave_out: folders whose files are not meant, where they lie inside `folder` (those of masks or results)
    refuse: is told a line about what cannot be read; None = that raises InputError
    Raises InputError if there is no such folder.
    """
    if not is_folder(folder):
        raise InputError(f"{folder}: no such folder; name one that holds pictures")
    root, others = real(folder), [real(other) for other in leave_out]
    inside = [other for other in others if other != root and lies_in(other, root)]

    def unreadable(error: OSError) -> None:
        line = f"{error.filename}: cannot be read ({error.strerror}); allow it, or move it away"
        if refuse is None:
            raise InputError(line) from error
        refuse(line)

    def left_out(path: str) -> bool:
        return any(lies_in(path, other) for other in inside)

    if isinstance(folder, Url):
        yield from _walk_url(folder, left_out, refuse)
        return
    seen = set()
    waiting = [str(folder)]
    while waiting:
        for place, folders, names in os.walk(waiting.pop(0), onerror=unreadable):
            here = real(Path(place))
            if here in seen or left_out(here):
                folders.clear()
                continue
            seen.add(here)
            paths = {name: os.path.join(place, name) for name in sorted(folders) if not name.startswith(".")}
            waiting += [path for path in paths.values() if os.path.islink(path)]
            folders[:] = [name for name, path in paths.items() if not os.path.islink(path)]
            names = sorted(name for name in names if not name.startswith("."))
            if inside:  # where a link may lead
                paths = {name: os.path.join(place, name) for name in names}
                names = [
                    x for x, path in paths.items() if not os.path.islink(path) or not left_out(os.path.realpath(path))
                ]
            yield Path(place), names


def _walk_url(
    folder: Url, left_out: Callable[[str], bool], refuse: Callable[[str], None] | None
) -> Iterator[tuple[Url, list[str]]]:
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        if left_out(str(place)):
            continue
        try:
            folders, names = place.listed()
        except InputError as error:
            if refuse is None:
                raise
            refuse(str(error))
            continue
        yield place, [name for name in names if not name.startswith(".")]
        waiting += [place / name for name in reversed(folders) if not name.startswith(".")]


def visible_files(folder: Path, leave_out: Sequence[Path] = ()) -> list[Path]:
    """The files that `walk` finds, sorted.

    Raises InputError if there is no such folder, or if it or one below cannot be read.
    """
    return sorted(
        place / name  # type: ignore[misc]  # paths, as the folder is one
        for place, names in walk(folder, leave_out)
        for name in names
    )


def files_by_stem(folder: Path, leave_out: Sequence[Path] = ()) -> dict[str, list[Path]]:
    """The pictures among `visible_files`, keyed by their path below `folder`, "/" between, without suffix."""
    found: dict[str, list[Path]] = {}
    for path in visible_files(folder, leave_out):
        if path.suffix.lower() in PHOTO_SUFFIXES:
            found.setdefault(path.relative_to(folder).with_suffix("").as_posix(), []).append(path)
    return found


def tell_no_photos(paths: Iterable[Path | str]) -> None:
    """Prints a note where some of these files are no pictures by their names."""
    others = [path for path in paths if PurePath(path).suffix.lower() not in PHOTO_SUFFIXES]
    print_note([f"{path}: is not a photo that can be read, left alone" for path in others])


def masked_photo(stem: str, stems: Container[str]) -> str | None:
    """The one of `stems` whose mask a file is by its name: NAME of NAME_mask or NAME_mask001, as LaMa calls them."""
    named = MASK_STEM.fullmatch(stem)
    return named[1] if named and named[1] in stems else None


def pair_by_stem(photos: Pictures, masks: Pictures | None) -> tuple[list[Pair], list[str]]:
    """The photos with their one mask (`masks` None = none needed), and one line for every photo without."""
    pairs: list[Pair] = []
    problems: list[str] = []
    for found in pairs_by_stem(photos, masks):
        if isinstance(found, Pair):
            pairs.append(found)
        else:
            problems.append(found)
    return pairs, problems


def pairs_by_stem(photos: Pictures, masks: Pictures | None) -> Iterator[Pair | str]:
    """As `pair_by_stem`, one by one.

    The mask of the photo NAME is called NAME too, or NAME_mask, or NAME_mask001 with any number. No photo is its own.
    """
    of_photo: dict[str, list[Place]] = {}
    for stem, paths in (masks or {}).items():
        photo = stem if stem in photos else masked_photo(stem, photos)
        of_photo.setdefault(photo or stem, []).extend(paths)
    for stem, images in photos.items():
        names = ", ".join(map(str, images))
        candidates: list[Place | None] = [None]
        if masks is not None:
            own = set(map(real, images))
            candidates = [path for path in of_photo.get(stem, []) if real(path) not in own]
        if len(images) > 1:
            yield f"{names}: photos of the same stem cannot be told apart; rename all but one"
        elif not candidates:
            itself = " but itself" if stem in of_photo else ""
            yield f"{names}: has no mask{itself}; add {stem}.png or {stem}_mask.png to the folder of masks"
        elif len(candidates) > 1:
            yield f"{names}: has several masks ({', '.join(map(str, candidates))}); keep one"
        else:
            yield Pair(stem, images[0], candidates[0])


def equal_size_batches(photos: Sequence[Photo], batch_size: int, resolution: int | None = None) -> list[list[Photo]]:
    """Cuts `photos` (each has a path `.image`) into batches of one size, which the networks take at once.

    resolution: length that the shorter side will be resized to; None = photos stay as they are

    At most `batch_size` photos and, beyond the first, BATCH_PIXELS pixels. Headers are read, of PNG files all; a file
    without a readable one comes alone, to fail alone when it is loaded.
    """
    sized = sorted(((photo_size(photo.image, resolution), photo) for photo in photos), key=lambda item: item[0])
    batches: list[list[Photo]] = []
    for (width, height), group in itertools.groupby(sized, key=lambda item: item[0]):
        members = [photo for _, photo in group]
        step = max(1, min(batch_size, BATCH_PIXELS // (width * height))) if width else 1
        batches.extend(members[start : start + step] for start in range(0, len(members), step))
    return batches


def photo_size(path: Place, resolution: int | None) -> tuple[int, int]:
    """(width, height) as the photo will be run, (0, 0) if the file cannot be read."""
    try:
        with open_image(fetched(path), str(path)) as image:
            # Of a PNG file the pixels are decoded: its EXIF may stand behind them.
            size = image.size[::-1] if on_its_side(image) else image.size
    except Exception:  # PIL raises many kinds on broken files; `load_image` words it when the photo's turn comes
        return 0, 0
    return size if resolution is None else shorter_side(size, resolution)


@contextmanager
def naming(path: Place | ImageBytes | str) -> Iterator[None]:
    """Puts the file in front of an InputError that does not name it."""
    try:
        yield
    except InputError as error:
        if str(path) in str(error):
            raise
        raise InputError(f"{path}: {error}") from error
