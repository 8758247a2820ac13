"""What a visitor has on the page: a photo, and the row of pictures that came of it.

All pixels are in files, in a folder of the visitor's own that goes when the session does: the server's memory holds the
same however many visitors there are and however large their photos.
"""

import json
import secrets
import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fbinpaint.errors import InputError
from fbinpaint.images.convert import to_rgb
from fbinpaint.images.crops import resize_image
from fbinpaint.labels import LabelSpace

from .inputs import open_upload
from .rendering import shown_classes
from .session_files import DISK_FULL, SessionFiles, remove, size_of

MAX_VERSIONS = 20  # the oldest restorations are forgotten
MAX_BYTES = 512 * 10**6  # of a session: 20 restorations of 2 megapixels, 8 of 12
MAX_FILES = 500  # beside those of the versions: masks of clicks, previews, downloads
FORGOTTEN = "Your photo was forgotten: it lay unused for an hour, or the server was full or restarted. Open it again."
TAKEN_OVER = "This photo is open in another tab now: go on there, or open it here again."
THUMB = 120  # pixels high
MARK = (230, 0, 122)  # as in painter.js

FOLDER = "visits"


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
    the marks and strokes of its recipe, which there are left out; masks, those among these marks."""

    pixels: Path
    preview: Path
    thumb: Path
    label: str
    painted: Path | None = None
    drawing: Path | None = None
    masks: frozenset[Path] = frozenset()
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
class Session(SessionFiles):
    """model: what the visitor chose, "auto" = by the photo; used: the model that it came to, "" = not yet known."""

    model: str
    used: str = ""
    versions: list[Version] = field(default_factory=list)
    at: int = 0
    closed: str = ""  # why, for its visitor
    last_used: float = field(default_factory=time.time)
    lock: threading.Lock = field(default_factory=threading.Lock)

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
    def now(self) -> Version:
        return self.versions[self.at]

    # ------------------------------------------------------------------------------------------ versions

    def append(
        self, pixels: np.ndarray, label: str, recipe: Recipe | None = None, hole: np.ndarray | None = None
    ) -> Version:
        """The picture (H,W,3) uint8 follows on the one that is shown now, in place of those that did before."""
        with self.whole():
            preview = self.preview(pixels)
            width = min(max(1, round(THUMB * self.size[0] / self.size[1])), 8 * THUMB)
            thumb = self.save_preview(resize_image(pixels, (width, THUMB)))
            version = Version(self.save(pixels), preview, thumb, label)
            if recipe is not None and hole is not None:
                # What was drawn is in a file: half a million points are 80 MB of memory.
                version.recipe, before = replace(recipe, marks=[], strokes=[]), recipe.base.painted
                version.masks = self.mask_files(recipe.marks)
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

    def add_mask(self, mask: np.ndarray, marks: Sequence[dict] = ()) -> dict:
        """The stroke (painter.js) that is a mask (H,W) bool; marks: those that it is added to."""
        self.trim(marks)
        with self.whole():
            path = self.save_mask(mask)
            return {"kind": "mask", "mask": path.stem, "url": str(self.tinted(mask, MARK))}

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

    def trim(self, marks: Sequence[dict] = ()) -> None:
        """Where the files are too many or too large, the oldest go: first masks that nothing is drawn with, previews
        and downloads, then restorations, but neither the photo nor what is shown, nor the masks among its marks."""
        while True:
            kept = {self.given, *self.mask_files(marks)}.union(*(x.files | x.masks for x in self.needed()))
            others = sorted((x for x in self.folder.iterdir() if x not in kept), key=lambda path: int(path.stem))
            total = size_of(self.folder)
            while others and (total > MAX_BYTES or len(others) > MAX_FILES):
                oldest = others.pop(0)
                total -= size_of(oldest)
                remove(oldest)
            if total <= MAX_BYTES or self.at <= 1:
                return
            self.at -= 1
            self.drop([self.versions.pop(1)])
