"""The files of a visitor's session, in a folder of their own: the photo as it came, arrays, masks, pictures to show."""

import itertools
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fbinpaint.errors import InputError
from fbinpaint.images.crops import resize_image
from fbinpaint.images.io import SAVE_FORMATS

MAX_PREVIEW = 1600  # pixels: no pane of the page is wider, and photos of 12 megapixels make browsers slow
BLOCK = 4096  # bytes: no file takes less of a disk
MAX_NAME = 200  # bytes: file systems allow 255, for what is added to it, too
NOT_IN_NAMES = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|#%\ud800-\udfff]')  # of files on all systems, or of addresses
DISK_FULL = "This server's disk is full: nothing was kept of this step. Try again in a few minutes."
PREVIEW_OPTIONS: dict[str, Any] = {"quality": 92, "subsampling": 0}
revisions = itertools.count(int(time.time() * 1000))  # grows over restarts, too


@dataclass
class SessionFiles:
    """folder: of the session; given: the photo as it came; name: of the visitor's file; size: (width, height)."""

    folder: Path
    given: Path
    name: str
    size: tuple[int, int]
    made: list[Path] = field(default_factory=list, kw_only=True)  # in the step that is being written

    @property
    def pixels(self) -> int:
        return self.size[0] * self.size[1]

    @property
    def scale(self) -> float:
        """Pixels of the photo for one of its preview."""
        return max(1.0, max(self.size) / MAX_PREVIEW)

    @property
    def preview_size(self) -> tuple[int, int]:
        width, height = self.size
        return max(1, round(width / self.scale)), max(1, round(height / self.scale))

    def preview(self, pixels: np.ndarray) -> Path:
        """The file of a picture (H,W,3) uint8 as the page shows it."""
        return self.save_preview(pixels if self.scale == 1 else resize_image(pixels, self.preview_size))

    def save_preview(self, pixels: np.ndarray) -> Path:
        path = self.file(".jpg")
        Image.fromarray(pixels).save(path, **PREVIEW_OPTIONS)
        return path

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

    def mask_files(self, marks: Sequence[dict]) -> frozenset[Path]:
        """Of the masks among these marks: their pixels, and the pictures of them that the page shows."""
        masks = [stroke for stroke in marks if stroke.get("kind") == "mask"]
        pixels = {self.folder / f"{stroke.get('mask')}.npy" for stroke in masks}
        return frozenset(pixels | {Path(str(stroke.get("url"))) for stroke in masks})

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
        name = NOT_IN_NAMES.sub("_", stem).encode()[-MAX_NAME:].decode(errors="ignore")
        return folder / f"{name}{suffix}"

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
