"""What visitors and programs give: checked, and told in a line what is wrong with it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import gradio as gr
import numpy as np
from PIL import Image

from ..errors import InputError
from ..images import (
    NOTHING_MARKED,
    check_hole,
    load_image,
    to_mask,
)


@contextmanager
def toasts() -> Iterator[None]:
    """Shows an InputError to the visitor."""
    try:
        yield
    except InputError as error:
        raise gr.Error(str(error), title="Not yet", print_exception=False) from None


def image_path(**settings) -> gr.Image:
    """An image that reaches the functions as the path of its file, unopened: Gradio would refuse a broken file without
    telling the visitor why."""
    image = gr.Image(**settings)
    image.preprocess = lambda payload: payload and payload.path
    return image


def as_sent(component: gr.components.Component) -> gr.components.Component:
    """The component, whose values reach the functions as programs sent them: of text where a number belongs, Gradio
    would not tell them what is wrong."""
    component.preprocess = lambda payload: payload
    return component


def open_upload(path: str | Path, name: str | None = None) -> Image.Image:
    """The uploaded image, `filename` and messages of InputError naming it as the sender called it; None = as the file
    is called."""
    name = Path(name or path).name
    try:
        image = load_image(path)
    except InputError as error:
        raise InputError(str(error).replace(str(path), name)) from None
    image.filename = name
    return image


def received_photo(path: str | None) -> Image.Image:
    """The photo that a program sent. Raises InputError where there is none."""
    if path is None:
        raise InputError("There is no photo yet: send one as `image`.")
    return open_upload(path)


def whole_number(value: object, name: str, highest: int) -> int:
    """A number that a program sent. Raises InputError, naming it, unless it is a whole one from 0 to the highest."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or value % 1 != 0 or not 0 <= value <= highest:
        raise InputError(f"{name} {value!r:.40}: must be a whole number from 0 to {highest}")
    return int(value)


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
