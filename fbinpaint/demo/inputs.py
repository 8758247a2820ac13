"""What visitors and programs give: checked, and told in a line what is wrong with it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import gradio as gr
import numpy as np
from PIL import Image

from ..arguments import names
from ..errors import InputError
from ..images import (
    NOTHING_MARKED,
    check_hole,
    load_image,
    resize_image,
    to_mask,
    to_rgb,
)
from ..labels import IGNORE, LabelSpace
from ..masks import grow_mask

MAX_SIDE = 2048  # pixels; longer photos are scaled down on the page: no screen shows more, and the browser is slow


@contextmanager
def toasts() -> Iterator[None]:
    """Shows an InputError to the visitor."""
    try:
        yield
    except InputError as error:
        raise gr.Error(str(error), title="Not yet", print_exception=False) from None


def background_of(drawing: dict | None) -> Image.Image:
    """The photo in the editor. Raises InputError where there is none."""
    background = drawing["background"] if drawing else None
    if background is None or not background.getchannel("A").getbbox():  # a cleared canvas is transparent
        raise InputError("There is no photo yet: drop one into the editor, or pick an example.")
    return background


def read_photo(photo: Image.Image) -> np.ndarray:
    """(H,W,3) uint8, at most MAX_SIDE pixels long."""
    pixels = to_rgb(photo)
    height, width = pixels.shape[:2]
    if max(height, width) <= MAX_SIDE:
        return pixels
    scale = MAX_SIDE / max(height, width)
    size = (max(16, round(width * scale)), max(16, round(height * scale)))
    gr.Info(f"The photo of {width} × {height} pixels was scaled down to {size[0]} × {size[1]}.")
    return resize_image(pixels, size)


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


def open_upload(path: str) -> Image.Image:
    """The uploaded image, `filename` and messages of InputError naming it as the sender called it."""
    try:
        image = load_image(path)
    except InputError as error:
        raise InputError(str(error).replace(path, Path(path).name)) from None
    image.filename = Path(path).name
    return image


def received_photo(path: str | None) -> Image.Image:
    """The photo that a program sent. Raises InputError where there is none."""
    if path is None:
        raise InputError("There is no photo yet: send one as `image`.")
    return open_upload(path)


def listed_classes(text: str | None, space: LabelSpace) -> list[int]:
    """The ids of "car, person": names or ids, by commas. Raises InputError for what is no class."""
    return space.class_ids(names(text or ""))


def whole_number(value: object, name: str, highest: int) -> int:
    """A number that a program sent. Raises InputError, naming it, unless it is a whole one from 0 to the highest."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or value % 1 != 0 or not 0 <= value <= highest:
        raise InputError(f"{name} {value!r:.40}: must be a whole number from 0 to {highest}")
    return int(value)


def read_hole(
    masks: list[Image.Image],
    size: tuple[int, int],
    grow: int = 0,
    invert: bool = False,
    photo: Image.Image | None = None,
) -> np.ndarray:
    """The (H,W) bool union of the masks at the photo's (width, height), inverted, then grown.

    Warns in a toast where that can hardly be meant. Raises InputError if nothing is marked, or everything.
    """
    hole = np.zeros(size[::-1], bool)
    for mask in masks:
        hole |= to_mask(mask, size, photo, gr.Warning)
    if not hole.any():
        raise InputError(f"The mask: {NOTHING_MARKED}")
    hole = grow_mask(~hole if invert else hole, grow)
    if not hole.any():
        raise InputError("Nothing of the marked part is left: shrink it less, or do not invert it.")
    check_hole(hole, "The mask", gr.Warning)
    return hole


def read_edits(layers: list[np.ndarray], hole: np.ndarray, space: LabelSpace) -> np.ndarray:
    """The classes painted on the map: brush strokes, (H,W,4) uint8, in the colours of the classes -> (H,W) ids, 255
    where nothing is painted, outside the hole, or where the colour is no class's."""
    edits = np.full(hole.shape, IGNORE, np.uint8)
    for layer in layers:
        layer = cv2.resize(layer, hole.shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        for label, colour in enumerate(space.palette):
            edits[hole & (layer[..., 3] > 127) & (layer[..., :3] == colour).all(axis=2)] = label
    return edits
