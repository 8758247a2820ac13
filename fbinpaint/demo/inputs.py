"""What visitors and programs give: checked, and told in a line what is wrong with it."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import gradio as gr
import numpy as np
from PIL import Image

from fbinpaint.arguments import names
from fbinpaint.errors import InputError
from fbinpaint.images.convert import NOTHING_MARKED, check_hole, to_mask
from fbinpaint.images.io import MAX_PIXELS, load_image, open_image

from .uploads import NOT_UPLOADED

MAX_NAMES = 2000
FOLDERS = re.compile(r"(?<![^\s'\"(])/(?:[^/\s'\"]+/)+(?=[^/\s])")  # of absolute paths


def without_folders(line: str) -> str:
    """The line as strangers may read it: where the server keeps its files is not theirs to know."""
    return FOLDERS.sub("", line)


@contextmanager
def toasts() -> Iterator[None]:
    """Shows an InputError to the visitor."""
    try:
        yield
    except InputError as error:
        raise gr.Error(without_folders(str(error)), title="Not yet", print_exception=False) from None


def image_path(**settings) -> gr.Image:
    """An image that reaches the functions as the path of its file, unopened: Gradio would refuse a broken file without
    telling the visitor why."""
    image = gr.Image(**settings)
    image.preprocess = lambda payload: payload and payload.path  # type: ignore[method-assign, assignment, return-value]  # Gradio has no hook for it
    return image


def as_sent(component: gr.components.Component) -> gr.components.Component:
    """The component, whose values reach the functions as programs sent them: of text where a number belongs, Gradio
    would not tell them what is wrong."""
    component.preprocess = lambda payload: payload  # type: ignore[method-assign]  # Gradio has no hook for it
    return component


def open_upload(path: str | Path, name: str | None = None) -> Image.Image:
    """The uploaded image, `filename` and messages of InputError naming it as the sender called it; None = as the file
    is called."""
    name = Path(name or path).name
    try:
        if not Path(path).is_file():  # it was uploaded, but an hour ago
            raise InputError(NOT_UPLOADED)
        image = load_image(path)
    except InputError as error:
        raise InputError(str(error).replace(str(path), name)) from None
    image.filename = name  # type: ignore[attr-defined]  # as an ImageFile has it
    return image


def count_pixels(*paths: str | Path | None) -> int:
    """Of uploaded images together, as their headers have it; what is broken is found when it is opened. An AVIF file
    counts as the largest: what is in it may be larger than it says, and is found out only when it is decoded."""
    total = 0
    for path in (path for path in paths if path):
        try:
            with open_image(path, Path(path).name) as image:
                total += MAX_PIXELS if image.format == "AVIF" else image.width * image.height
        except InputError:
            continue
    return total


def received_photo(path: str | None) -> Image.Image:
    """The photo that a program sent. Raises InputError where there is none."""
    if path is None:
        raise InputError("There is no photo yet: send one as `image`.")
    return open_upload(path)


def whole_number(value: object, name: str, highest: int) -> int:
    """A number that a program sent. Raises InputError, naming it, unless it is a whole one from 0 to the highest."""
    if not isinstance(value, int | float) or isinstance(value, bool) or value % 1 != 0 or not 0 <= value <= highest:
        raise InputError(f"{name} {value!r:.40}: must be a whole number from 0 to {highest}")
    return int(value)


def class_list(value: object, name: str) -> list[str]:
    """Classes that a program sent: "car, person". Raises InputError unless it is such a text, or nothing."""
    if not isinstance(value, str | None) or len(value or "") > MAX_NAMES:
        raise InputError(f"{name} {value!r:.40}: must be names or ids by commas, of at most {MAX_NAMES} letters")
    return names(value or "")


def read_hole(
    mask: Image.Image | None, size: tuple[int, int], photo: Image.Image, warn: Callable[[str], None] = gr.Warning
) -> np.ndarray:
    """The (H,W) bool hole that a mask marks in a photo of this (width, height).

    Warns where that can hardly be meant. Raises InputError if nothing is marked, or everything.
    """
    hole = np.zeros(size[::-1], bool) if mask is None else to_mask(mask, size, photo, warn)
    if not hole.any():
        raise InputError(f"The mask: {NOTHING_MARKED}")
    check_hole(hole, "The mask", warn)
    return hole
