"""What a run has to do: photos, their masks, and the files that the results go to. Folders are gone through one after
the other, so that the first photos are worked on while others are still to be found."""

import os
import queue
import threading
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from fbinpaint.errors import InputError
from fbinpaint.images.folders import Pair, masked_photo, pairs_by_stem, walk
from fbinpaint.images.io import PHOTO_SUFFIXES, SAVE_FORMATS, ImageBytes, is_lossy
from fbinpaint.system.urls import Place, Url, below, check_writable, exists, is_file, is_folder, lies_in, real

AHEAD = 10_000  # jobs that are listed before they are wanted

Files = dict[str, list[Place]]  # pictures by their path below the folder they were found in, without suffix


class Note(str):
    """A line about what was done, or was not to be; other lines are about photos that failed."""


@dataclass(frozen=True)
class Job:
    """One photo to work on: its files, and the file that the result goes to.

    image:  ImageBytes = it is in no file of its own, as a row of a table has it; so may its mask be
    mask:   ALPHA = the photo's own transparent part; None = none is given
    extras: what is written beside the result, by the word that the file's name ends in: before, after, mask, colour
    """

    image: Place | ImageBytes
    mask: Place | ImageBytes | str | None
    result: Place
    extras: dict[str, Place] = field(default_factory=dict)

    @property
    def targets(self) -> list[Place]:
        """Every file the job writes, the result first."""
        return [self.result, *self.extras.values()]


Plan = Iterator[Job | str]  # jobs, one line for each photo that cannot be done, and Notes


def plan_restorations(
    image: Place,
    mask: Place | str | None,
    output: Place,
    save_semantics: bool,
    keep_format: bool = False,
    save_masks: bool = False,
    resume: bool = False,
    quality: int | None = None,
) -> Plan:
    """What `run` has to do; with `save_semantics` each result has NAME_before.png and NAME_after.png beside it, with
    `save_masks` NAME_mask.png. Results are PNG files, or with `keep_format` have the suffix of their photo.

    mask: a file, a folder, which may be that of the photos, or ALPHA; None = no photo has one
    resume: leave out photos whose files are all there
    quality: of lossy files, which a note names
    A folder keeps its sub-folders in the output; no picture is read yet. Raises InputError where the arguments do not
    fit each other, and on the way where there is nothing to do.
    """
    suffixes = [*(("before", "after") if save_semantics else ()), *(("mask",) if save_masks else ())]
    mask_files = (mask,) if isinstance(mask, Place) else ()
    check_writable(output)
    check_exists(image, *mask_files)
    if is_folder(image):
        check_output_folder(image, output, mask_files)
        plan = in_folders(image, mask, output, suffixes, keep_format, resume)
    else:
        if isinstance(mask, Place) and is_folder(mask):
            raise InputError(f"{mask}: is a folder, but {image} is one photo; name its mask")
        if isinstance(mask, Place) and real(mask) == real(image):
            raise InputError(f"{mask}: is the photo itself; name its mask, or `alpha` if its transparent part is meant")
        result = result_of_photo(image, output, keep_format)
        wanted = SAVE_FORMATS[result_suffix(image, keep_format).lower()]
        if keep_format and SAVE_FORMATS.get(result.suffix.lower(), wanted) != wanted:
            raise InputError(f"{output}: is of another format than {image}; name another file, or no --format keep")
        if result.suffix.lower() not in SAVE_FORMATS:
            raise InputError(
                f"{output}: unknown suffix '{output.suffix}'; use one of {' '.join(SAVE_FORMATS)}, or make the folder "
                "first if it is to be one"
            )
        plan = of_one_photo(job(image, mask, result, suffixes), output, resume)
    return with_format_notes(plan, keep_format, quality)


def plan_maps(image: Place, output: Place, colour: bool) -> Plan:
    """What `segment` has to do; with `colour` each map has NAME_colour.png beside it. As `plan_restorations`."""
    suffixes = ("colour",) if colour else ()
    check_writable(output)
    check_exists(image)
    if is_folder(image):
        check_output_folder(image, output)
        return in_folders(image, None, output, suffixes)
    result = result_of_photo(image, output)
    if result.suffix.lower() != ".png":
        raise InputError(f"{output}: maps are PNG files of class ids; name a .png file, or a folder that is there")
    return of_one_photo(job(image, None, result, suffixes), output)


def job(
    image: Place | ImageBytes, mask: Place | ImageBytes | str | None, result: Place, suffixes: Sequence[str]
) -> Job:
    return Job(image, mask, result, {suffix: result.with_name(f"{result.stem}_{suffix}.png") for suffix in suffixes})


def check_exists(*paths: Place) -> None:
    for path in paths:
        if not exists(path):
            raise InputError(f"{path}: no such file or folder; check the path")


def check_output_folder(image: Place, output: Place, masks: Sequence[Place] = ()) -> None:
    """Raises InputError where `output` can be no folder for results beside a folder of photos, or their masks."""
    if exists(output) and not is_folder(output):
        raise InputError(f"{output}: is a file, but {image} is a folder; name a folder for the results")
    if real(output) in map(real, (image, *masks)):
        raise InputError(f"{output}: results would mix with the input; name another folder")
    there = exists(output) if isinstance(output, Url) else os.path.lexists(output)  # also a link that leads nowhere
    if output.suffix.lower() in SAVE_FORMATS and not there:
        raise InputError(f"{output}: has the name of a file, but {image} is a folder; name a folder for the results")


def result_of_photo(image: Place, output: Place, keep_format: bool = False) -> Place:
    """The file for the result of one photo, where `output` may also be a folder."""
    name = f"{image.stem}{result_suffix(image, keep_format)}"
    return output / name if is_folder(output) or not output.suffix else output


def result_suffix(image: Place, keep_format: bool) -> str:
    """.png, or the photo's own where that is wanted and can be written."""
    return image.suffix if keep_format and image.suffix.lower() in SAVE_FORMATS else ".png"


def with_format_notes(plan: Plan, keep_format: bool, quality: int | None) -> Plan:
    """A plan, with what is to be said of the formats of its results before they are made."""
    lossy: set[str] = set()
    said = False  # that there are results which the quality is not of
    for item in plan:
        if isinstance(item, Job) and not isinstance(item.image, ImageBytes):
            suffix, own = item.result.suffix.lower(), item.image.suffix.lower()
            if keep_format and suffix == ".png" and own not in SAVE_FORMATS:
                yield Note(f"{item.image}: its result is a PNG file, as {item.image.suffix} files are not written")
            if is_lossy(item.result, quality) and suffix not in lossy:
                lossy.add(suffix)
                yield Note(
                    f"results in {suffix} files are lossy: known pixels are encoded again, at quality "
                    f"{quality or 95}, and may differ a little; PNG keeps them bit for bit"
                )
            if quality is not None and not is_lossy(item.result, quality) and not said:
                said = True
                yield Note(f"{item.result}: is lossless, so --quality changes nothing there")
        yield item


def of_one_photo(job: Job, output: Place, resume: bool = False) -> Plan:
    done = resume and are_written(job)
    if clash := clash_of(job):
        yield clash
    elif not done:
        yield job
    if resume:
        yield done_already(output, int(done), 1)


def clash_of(job: Job, taken: Collection[str] = ()) -> str | None:
    """A line for a job that would write over what it reads, or over the real paths `taken`."""
    sources = {real(path) for path in (job.image, job.mask) if isinstance(path, Place)}
    clash = next((target for target in map(real, job.targets) if target in sources or target in taken), None)
    return clash and overwrites(job, clash)


def overwrites(job: Job, path: Place | str) -> str:
    return f"{job.image}: its result would overwrite {path}; name another output"


def are_written(job: Job, present: Collection[str] | None = None) -> bool:
    """Whether all files of a job are there. Those of paths hold something, too: a crash, a full disk or a broken copy
    leaves empty ones.

    present: the names in their folder, which of a store say enough; None = each file is asked for
    """
    return all(_is_written(target, present) for target in job.targets)


def _is_written(path: Place, present: Collection[str] | None) -> bool:
    if present is not None and path.name not in present:
        return False
    if isinstance(path, Url):
        return present is not None or is_file(path)
    return os.path.isfile(path) and os.path.getsize(path) > 0


def done_already(output: Place, done: int, all_: int) -> Note:
    return Note(f"{output}: {done} of {all_} photos are done already, left alone")


# ---------------------------------------------------------------------------------------------- folders


def in_folders(
    image: Place,
    mask: Place | str | None,
    output: Place,
    suffixes: Sequence[str],
    keep_format: bool = False,
    resume: bool = False,
) -> Plan:
    """The jobs of a folder of photos. What it holds is listed folder by folder, and so are those of masks and results.

    Raises InputError, having found all there is, where there is no photo, or where the folder of masks is that of the
    photos and there is no mask.
    """
    if lies_in(real(output), real(image)) and is_folder(output):
        yield Note(f"{output}: lies in {image}, so what it holds is taken for earlier results, not for photos")
    cannot = Once()  # lines about folders
    masks, results = Masks(image, mask, output, cannot.add), Results(image, mask, output, resume)
    count: Counter[str] = Counter()
    lost: list[str] = []  # lines about photos without a mask, kept back until it is clear that there are masks
    for place, names in walk(image, (output, *masks.elsewhere), cannot.add):
        yield from cannot.new()
        files, others = by_stem(place, names, image)
        count["pictures"] += sum(map(len, files.values()))
        yield from (Note(f"{path}: is not a photo that can be read, left alone") for path in others)
        photos, own_masks, notes = masks.share(below(place, image), files)
        yield from notes
        results.enter(below(place, image))
        for pair in pairs_by_stem(photos, own_masks):
            if not isinstance(pair, Pair):
                lost.append(pair)
                continue
            result = output / f"{pair.stem}{result_suffix(pair.image, keep_format)}"
            todo = job(pair.image, pair.mask or mask, result, suffixes)
            if clash := results.clash(todo):
                yield clash
                continue
            count["all"] += 1
            if resume and are_written(todo, results.present):
                count["done"] += 1
            else:
                yield todo
        if not masks.missing:
            yield from lost
            lost.clear()
    yield from cannot.new()
    if not count["pictures"]:
        raise InputError(f"{image}: holds no photo; use {' '.join(PHOTO_SUFFIXES)}")
    if masks.missing:
        raise InputError(f"{mask}: holds photos but no mask; put NAME_mask.png beside each, or name another --mask")
    yield from masks.rest()
    yield from cannot.new()
    if resume:
        yield done_already(output, count["done"], count["all"])


def by_stem(place: Place, names: Sequence[str], root: Place) -> tuple[Files, list[Place]]:
    """The pictures of one folder by their path below `root`, without suffix, "/" between; and the other files."""
    files: Files = {}
    others = []
    for path in (place / name for name in names):
        if path.suffix.lower() in PHOTO_SUFFIXES:
            files.setdefault(below(path, root).with_suffix("").as_posix(), []).append(path)
        else:
            others.append(path)
    return files, others


def spelled_as_photos(masks: Files, photos: Files) -> Files:
    """The masks under the names of their photos where these have another Unicode form: a Mac splits é in two."""
    forms = {unicodedata.normalize("NFC", stem): stem for stem in photos}
    found: Files = {}
    for stem, paths in masks.items():
        if stem not in photos and not masked_photo(stem, photos):
            plain = unicodedata.normalize("NFC", stem)
            stem = forms.get(plain) or forms.get(masked_photo(plain, forms) or "", stem)
        found.setdefault(stem, []).extend(paths)
    return found


class Once:
    """Lines, each of which is told once."""

    def __init__(self) -> None:
        self.told: dict[str, bool] = {}

    def add(self, line: str) -> None:
        self.told.setdefault(line, False)

    def new(self) -> list[str]:
        new = [line for line, told in self.told.items() if not told]
        self.told |= dict.fromkeys(new, True)
        return new


class Masks:
    """The masks of a folder of photos, folder by folder: what lies beside a photo under the name of its mask is no
    photo, and a photo that lies beside its mask, among other masks, is none: so a folder of results and the masks that
    they were filled by is a folder of masks.

    missing: masks lie beside their photos, but none was found yet
    elsewhere: a folder of its own, if any
    refuse: is told a line about each folder that cannot be read
    """

    def __init__(self, image: Place, mask: Place | str | None, output: Place, refuse: Callable[[str], None]):
        self.image, self.output, self.refuse = image, output, refuse
        self.given = real(mask) if isinstance(mask, Place) else None
        self.beside = self.missing = self.given == real(image)
        self.folder = mask if isinstance(mask, Place) and not self.beside and is_folder(mask) else None
        self.elsewhere = () if self.folder is None else (self.folder,)
        self.visited: set[str] = set()
        self.masked = 0  # photos that lie beside their masks in that folder

    def share(self, relative: PurePath, files: Files) -> tuple[Files, Files | None, list[Note]]:
        """The photos among the pictures of a folder, their masks (None = one serves all, or none is given), and a note
        for each other picture."""
        if self.given and not self.beside:  # one mask for all may lie among the photos
            files = {stem: [path for path in paths if real(path) != self.given]
                     for stem, paths in files.items()}  # fmt: skip
        beside = {stem: paths for stem, paths in files.items() if masked_photo(stem, files)}
        masks: Files | None = None
        notes: list[Note] = []
        if self.beside:
            masks = beside
            self.missing = self.missing and not beside
        else:
            if self.folder is not None:
                masks = self._in_folder(self.folder, relative, files)
                # A mask of its very name makes it a photo; beside a mask of the photo's own name none could tell.
                beside = {s: x for s, x in beside.items() if s not in masks or masked_photo(s, files) in masks}
            notes += [Note(f"{path}: is a mask by its name, left alone") for paths in beside.values() for path in paths]
        photos = {stem: paths for stem, paths in files.items() if paths and stem not in beside}
        unused = [
            paths for stem, paths in (masks or {}).items() if stem not in photos and not masked_photo(stem, photos)
        ]
        notes += [Note(f"{path}: has no photo, not used") for paths in unused for path in paths]
        return photos, masks, notes

    def _in_folder(self, folder: Place, relative: PurePath, files: Files) -> Files:
        place = folder / relative
        self.visited.add(real(place))
        if not is_folder(place):
            return {}
        here = next(walk(place, (self.image, self.output), self.refuse), None)
        return self._but_photos(spelled_as_photos(by_stem(*here, folder)[0], files), files) if here else {}

    def _but_photos(self, masks: Files, files: Files) -> Files:
        masked = {masked_photo(stem, masks) for stem in masks if stem not in files} - {None}
        self.masked += len(masked)
        maps = {f"{stem}_{word}" for stem in masked for word in ("before", "after")} - files.keys()
        return {stem: paths for stem, paths in masks.items() if stem not in masked | maps}

    def rest(self) -> Iterator[Note]:
        """Notes of masks in folders that hold no photo, and of the photos among the masks."""
        for folder in self.elsewhere:
            for place, names in walk(folder, (self.image, self.output), self.refuse):
                if real(place) in self.visited:
                    continue
                masks = self._but_photos(by_stem(place, names, folder)[0], {})
                yield from (Note(f"{path}: has no photo, not used") for paths in masks.values() for path in paths)
        if self.masked:
            yield Note(f"{self.folder}: holds {self.masked} photos beside their masks (NAME_mask.png); these are used")


class Results:
    """The folders of results, one after the other: nothing may be written over a photo, a mask or another result."""

    def __init__(self, image: Place, mask: Place | str | None, output: Place, resume: bool):
        self.output, self.root, self.resume = output, real(output), resume
        sources = {real(path): is_folder(path) for path in (image, mask) if isinstance(path, Place)}
        self.files = {path for path, holds_others in sources.items() if not holds_others}
        self.sources = [path for path, holds_others in sources.items() if holds_others]
        self.used: dict[str, Place] = {}

    def enter(self, relative: PurePath) -> None:
        """Go on to the results of photos in this folder, a path below that of all photos."""
        self.folder = self.output / relative
        self.real = real(self.folder)
        self.among_sources = self._is_source(self.real)
        self.present = frozenset(self._names())
        self.other = self.used.setdefault(self.real, self.folder)
        self.taken: set[str] = set()

    def _names(self) -> list[str]:
        if isinstance(self.folder, Url):  # which takes a request, for what only two cases need to know
            return self.folder.listed()[1] if self.resume or self.among_sources else []
        try:
            return os.listdir(self.folder)
        except OSError:  # not there yet, or to be refused when the first result is written
            return []

    def _is_source(self, path: str) -> bool:
        """Whether photos or masks are read at a real path. Where the output lies among them, they are not in it."""
        places = (source for source in self.sources if lies_in(path, source))
        return any(not (lies_in(self.root, source) and lies_in(path, self.root)) for source in places)

    def clash(self, job: Job) -> str | None:
        """A line for a job that would write over something."""
        names = [target.name for target in job.targets]
        for name in names:
            path = f"{self.real}/{name}" if isinstance(self.folder, Url) else os.path.join(self.real, name)
            if name in self.taken or path in self.files or (self.among_sources and name in self.present):
                return overwrites(job, path)
            if name in self.present and os.path.islink(path) and self._is_source(linked := os.path.realpath(path)):
                return overwrites(job, linked)
        if self.other != self.folder:
            return f"{job.image}: its result would go where those of {self.other} go; name another output"
        self.taken.update(names)
        return None


class Listing:
    """The jobs of a plan, which is gone through on a thread of its own, up to AHEAD jobs before they are wanted.

    say: is told each line of the plan as soon as it is known
    total: number of jobs, once all are known; None before
    """

    def __init__(self, plan: Plan, say: Callable[[str], None]):
        self.total: int | None = None
        self.found: queue.Queue[Job | Exception | None] = queue.Queue(AHEAD)
        self.first: Job | None = None
        threading.Thread(target=self._go_through, args=[plan, say], name="listing", daemon=True).start()

    def _go_through(self, plan: Plan, say: Callable[[str], None]) -> None:
        total = 0
        try:
            for item in plan:
                if isinstance(item, Job):
                    total += 1
                    self.found.put(item)
                else:
                    say(item)
        except Exception as error:  # raised where the jobs are wanted
            self.found.put(error)
        else:
            self.total = total
            self.found.put(None)

    def is_empty(self) -> bool:
        """Whether there is no job; waits for the first. Raises what the plan raises before it."""
        self.first = self.first or self._next()
        return self.first is None

    def __iter__(self) -> Iterator[Job]:
        job, self.first = self.first or self._next(), None
        while job is not None:
            yield job
            job = self._next()

    def _next(self) -> Job | None:
        found = self.found.get()
        if isinstance(found, Exception):
            raise found
        return found
