"""What a visitor has on the page: a photo, and the row of pictures that came of it.

All pixels are in files, in a folder of the visitor's own that goes when the session does: the server's memory holds the
same however many visitors there are and however large their photos.
"""

import itertools
import json
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from fbinpaint.batch.batch import read_notes
from fbinpaint.errors import InputError
from fbinpaint.images.convert import to_rgb
from fbinpaint.images.crops import resize_image
from fbinpaint.images.io import SAVE_FORMATS, is_lossy, save_image
from fbinpaint.images.modes import as_photo, fit_to_format
from fbinpaint.images.xmp import model_name, tell_provenance
from fbinpaint.labels import LabelSpace

from .inputs import open_upload
from .rendering import shown_classes

MAX_PREVIEW = 1600  # pixels: no pane of the page is wider, and photos of 12 megapixels make browsers slow
MAX_VERSIONS = 20  # the oldest restorations are forgotten
MAX_BYTES = 512 * 10**6  # of a session: 20 restorations of 2 megapixels, 8 of 12
MAX_FILES = 500  # beside those of the versions: masks of clicks, previews, downloads
BLOCK = 4096  # bytes: no file takes less of a disk
FORGOTTEN = "Your photo was forgotten: it lay here unused for an hour, or the server was full. Open it again."
TAKEN_OVER = "This photo is open in another tab now: go on there, or open it here again."
DISK_FULL = "This server's disk is full: nothing was kept of this step. Try again in a few minutes."
THUMB = 120  # pixels high
PREVIEW_OPTIONS: dict[str, Any] = {"quality": 92, "subsampling": 0}
MARK = (230, 0, 122)  # as in painter.js

FOLDER = "visits"
revisions = itertools.count(int(time.time() * 1000))  # grows over restarts, too


@dataclass(frozen=True)
class Recipe:
    """How a version was made: of which, and by what the visitor drew and chose."""

    base: "Version"
    marks: list[dict]
    strokes: list[dict]
    forbidden: list[int]
    model: str
    settings: dict[str, Any]


@dataclass(eq=False)
class Version:
    """A picture in the row. Files: of pixels (H,W,3) uint8; painted (H,W) bool, all that is not of the photo any more;
    labels (H,W) uint8, its map by the model `seen_by`; preview, thumb and map_preview, pictures for the page; drawing,
    the marks and strokes of its recipe, which there are left out."""

    pixels: Path
    preview: Path
    thumb: Path
    label: str
    painted: Path | None = None
    drawing: Path | None = None
    recipe: Recipe | None = None
    labels: Path | None = None
    map_preview: Path | None = None
    seen_by: str | None = None
    shown: list[int] = field(default_factory=list)

    def map(self) -> np.ndarray:
        """(H,W) uint8; there is one once the version was seen by a model."""
        assert self.labels is not None, "`Session.see` comes first"
        return np.load(self.labels)

    @property
    def files(self) -> set[Path]:
        paths = self.pixels, self.preview, self.thumb, self.painted, self.drawing, self.labels, self.map_preview
        return {path for path in paths if path is not None}


@dataclass
class Session:
    """name: of the visitor's file; model: what the visitor chose, "auto" = by the photo; used: the model that it came
    to, "" = not yet known."""

    folder: Path
    given: Path
    name: str
    size: tuple[int, int]
    model: str
    used: str = ""
    versions: list[Version] = field(default_factory=list)
    at: int = 0
    closed: str = ""  # why, for its visitor
    last_used: float = field(default_factory=time.time)
    lock: threading.Lock = field(default_factory=threading.Lock)
    made: list[Path] = field(default_factory=list)  # in the step that is being written

    @classmethod
    def open(cls, cache: Path, source: str | Path, name: str, model: str) -> "Session":
        """The session of a photo's file. Raises InputError, naming the file as the visitor does, if it is none."""
        folder = cache / FOLDER / secrets.token_hex(16)
        folder.mkdir(parents=True)
        try:
            given = folder / "given"
            try:
                shutil.copyfile(source, given)
            except FileNotFoundError:
                raise InputError(f"{Path(name).name}: did not arrive; send it again") from None
            except OSError as error:
                raise InputError(DISK_FULL) from error
            picture = open_upload(given, name)
            try:
                pixels = to_rgb(picture)
            except InputError as error:  # its size; which file it is of is not said
                raise InputError(f"{Path(name).name}: {error}") from None
            session = cls(folder, given, name, pixels.shape[1::-1], model)
            session.append(pixels, "The photo as it came")
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return session

    def close(self) -> None:
        """Also what is still being restored for it ends."""
        if not self.closed:
            self.closed = FORGOTTEN
            shutil.rmtree(self.folder, ignore_errors=True)

    def take_over(self) -> "Session":
        """The same visit for a page that was loaded anew. For the page before it, this one is closed."""
        with self.lock:
            taken = replace(self, lock=threading.Lock())
            self.closed = TAKEN_OVER
        return taken

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def pixels(self) -> int:
        return self.size[0] * self.size[1]

    @property
    def now(self) -> Version:
        return self.versions[self.at]

    @property
    def scale(self) -> float:
        """Pixels of the photo for one of its preview."""
        return max(1.0, max(self.size) / MAX_PREVIEW)

    @property
    def preview_size(self) -> tuple[int, int]:
        width, height = self.size
        return max(1, round(width / self.scale)), max(1, round(height / self.scale))

    # ------------------------------------------------------------------------------------------ versions

    def append(
        self, pixels: np.ndarray, label: str, recipe: Recipe | None = None, hole: np.ndarray | None = None
    ) -> Version:
        """The picture (H,W,3) uint8 follows on the one that is shown now, in place of those that did before."""
        with self.whole():
            preview = self.preview(pixels)
            width = max(1, round(THUMB * self.size[0] / self.size[1]))
            thumb = self.save_preview(resize_image(pixels, (width, THUMB)))
            version = Version(self.save(pixels), preview, thumb, label)
            if recipe is not None and hole is not None:
                # What was drawn is in a file: half a million points are 80 MB of memory.
                version.recipe, before = replace(recipe, marks=[], strokes=[]), recipe.base.painted
                version.drawing = self.file(".json")
                version.drawing.write_text(json.dumps([recipe.marks, recipe.strokes]), encoding="utf-8")
                version.painted = self.save_mask(hole if before is None else hole | self.load_mask(before))
        gone = self.versions[self.at + 1 :]
        self.versions[self.at + 1 :] = [version]
        if len(self.versions) > MAX_VERSIONS:
            gone.append(self.versions.pop(1))
        self.at = len(self.versions) - 1
        self.drop(gone)
        self.trim()
        return version

    def recipe(self, version: Version) -> Recipe | None:
        """How the version was made, with all that was drawn."""
        if version.recipe is None or version.drawing is None:
            return None
        marks, strokes = json.loads(version.drawing.read_text(encoding="utf-8"))
        return replace(version.recipe, marks=marks, strokes=strokes)

    def preview(self, pixels: np.ndarray) -> Path:
        """The file of a picture (H,W,3) uint8 as the page shows it."""
        return self.save_preview(pixels if self.scale == 1 else resize_image(pixels, self.preview_size))

    def save_preview(self, pixels: np.ndarray) -> Path:
        path = self.file(".jpg")
        Image.fromarray(pixels).save(path, **PREVIEW_OPTIONS)
        return path

    def see(self, version: Version, labels: np.ndarray, model: str, space: LabelSpace) -> None:
        """Notes the version's map (H,W) uint8 by a model."""
        small = cv2.resize(labels, self.preview_size, interpolation=cv2.INTER_NEAREST_EXACT)
        with self.whole():
            path = self.file(".png")
            space.to_palette_image(small).save(path)
            saved = self.save(labels)
        version.labels, version.map_preview, version.seen_by = saved, path, model
        version.shown = shown_classes(small, space)

    # ------------------------------------------------------------------------------------------ masks

    def add_mask(self, mask: np.ndarray) -> dict:
        """The stroke (painter.js) that is a mask (H,W) bool."""
        self.trim()
        with self.whole():
            path = self.save_mask(mask)
            return {"kind": "mask", "mask": path.stem, "url": str(self.tinted(mask, MARK))}

    def tinted(self, mask: np.ndarray, colour: tuple[int, int, int]) -> Path:
        """The file of a picture that has this colour where the mask (H,W), bool or shares from 0 to 1, is."""
        alpha = resize_image(np.rint(mask.astype(np.float32) * 255).astype(np.uint8), self.preview_size)
        picture = Image.new("RGB", self.preview_size, colour)
        picture.putalpha(Image.fromarray(alpha))
        path = self.file(".png")
        picture.save(path, compress_level=1)
        return path

    def mask(self, name: str) -> np.ndarray:
        path = self.folder / f"{name}.npy"
        if not re.fullmatch(r"\d+", name) or not path.is_file():
            raise InputError("A mask of this drawing is gone; clear the marks and draw again.")
        return self.load_mask(path)

    # ------------------------------------------------------------------------------------------ files

    def export(self, suffix: str, models: dict[str, str]) -> tuple[Path, str | None]:
        """The picture that is shown now, at full size, as a file with this suffix, in the photo's mode and with its
        metadata as far as the format holds them; and what it has not of the photo, in a line."""
        version = self.now
        pixels = np.load(version.pixels)
        painted = np.zeros(pixels.shape[:2], bool) if version.painted is None else self.load_mask(version.painted)
        photo = open_upload(self.given, self.name)
        result = as_photo(photo, pixels, painted)
        notes = [note.removeprefix(f"{self.given}: ") for note in read_notes(self.given, photo, result)]
        picture, converted = fit_to_format(result, f"x{suffix}")
        if version.recipe:
            model = model_name(models[version.recipe.model])
            picture.info["xmp"] = tell_provenance(picture.info.get("xmp"), model)
        self.trim()
        with self.whole():
            path = self.named_file(f"{Path(self.name).stem}_restored", suffix)
            try:
                save_image(picture, path)
            except InputError as error:
                raise InputError(str(error).replace(str(path), path.name)) from error.__cause__
        if converted:
            notes.append(converted.removeprefix(f"x{suffix}: "))
        elif is_lossy(path):
            notes.append("known pixels are encoded anew, too; PNG keeps them bit for bit")
        return path, "; ".join(notes) or None

    def export_map(self, space: LabelSpace) -> Path:
        """The map that is shown now, at full size: a PNG whose values are class ids."""
        self.trim()
        with self.whole():
            path = self.named_file(f"{Path(self.name).stem}_map", ".png")
            space.to_palette_image(self.now.map()).save(path)
        return path

    def own_suffix(self) -> str:
        """The suffix of the visitor's file, or .png where that is none that can be written."""
        suffix = Path(self.name).suffix.lower()
        return suffix if suffix in SAVE_FORMATS else ".png"

    def save(self, array: np.ndarray) -> Path:
        path = self.file(".npy")
        np.save(path, array, allow_pickle=False)
        return path

    def save_mask(self, mask: np.ndarray) -> Path:
        """(H,W) bool of the photo's size, a bit for each pixel."""
        return self.save(np.packbits(mask))

    def load_mask(self, path: Path) -> np.ndarray:
        width, height = self.size
        return np.unpackbits(np.load(path), count=width * height).reshape(height, width).astype(bool)

    def file(self, suffix: str) -> Path:
        path = self.folder / f"{next(revisions)}{suffix}"
        self.made.append(path)
        return path

    def named_file(self, stem: str, suffix: str) -> Path:
        """In a folder of its own, under the name that the visitor's browser is to give it."""
        folder = self.file("")
        folder.mkdir()
        return folder / (re.sub(r"[^\w. ()-]", "_", stem)[-80:] + suffix)

    @contextmanager
    def whole(self) -> Iterator[None]:
        """What is written meanwhile is there as a whole, or, after an error, not at all. A full disk is an InputError,
        which names no path of the server's."""
        self.made = []
        try:
            yield
        except BaseException as error:
            for path in self.made:
                remove(path)
            if isinstance(error, OSError) or isinstance(error.__cause__, OSError):
                raise InputError(DISK_FULL) from error
            raise
        finally:
            self.made = []

    def drop(self, gone: list[Version]) -> None:
        """Removes the files of versions that left the row, and of those they were made of, as far as none is needed."""
        needed = self.needed()
        for version in [*gone, *(version.recipe.base for version in gone if version.recipe)]:
            if version not in needed:
                version.recipe = None  # or all that was ever restored would hang on to it
                for path in version.files:
                    remove(path)

    def needed(self) -> list[Version]:
        return [*self.versions, *(version.recipe.base for version in self.versions if version.recipe)]

    def trim(self) -> None:
        """Where the files are too many or too large, the oldest go: first masks, previews and downloads, then
        restorations, but neither the photo nor what is shown."""
        kept = {self.given}.union(*(version.files for version in self.needed()))
        others = sorted((path for path in self.folder.iterdir() if path not in kept), key=lambda path: int(path.stem))
        total = size_of(self.folder)
        while others and (total > MAX_BYTES or len(others) > MAX_FILES):
            oldest = others.pop(0)
            total -= size_of(oldest)
            remove(oldest)
        while total > MAX_BYTES and self.at > 1:
            self.at -= 1
            self.drop([self.versions.pop(1)])
            total = size_of(self.folder)


def size_of(path: Path) -> int:
    """Bytes that a file, or all files in a folder, take of the disk; 0 if it is gone."""
    try:
        if path.is_dir():
            return sum(size_of(inside) for inside in path.iterdir())
        return max(BLOCK, os.lstat(path).st_size)
    except OSError:
        return 0


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
