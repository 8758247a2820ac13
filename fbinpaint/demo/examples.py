"""The photos that a visitor can try without one of his own."""

import functools
from pathlib import Path

import numpy as np
from PIL import Image

from fbinpaint.data.scenes import SCENES
from fbinpaint.images.io import load_image
from fbinpaint.labels import LabelSpace
from fbinpaint.masks import protocol_mask

EXAMPLE_PHOTOS = Path(__file__).resolve().parent / "pictures"
# By built-in label space; models of others have no examples. A photo of that folder, or the number of a procedural
# scene and of its mask: small and medium holes.
EXAMPLES: dict[str, tuple[str | int, ...]] = {"celebamask-hq": ("portrait", 0, 5), "cityscapes": (0, 1, 5)}
EXAMPLE_SIZES = {"celebamask-hq": (256, 256), "cityscapes": (256, 192)}  # of a scene, (width, height)
EXAMPLE_SEED = 7
# What they are called on the page.
EXAMPLE_NAMES = {
    "celebamask-hq": ("portrait", "drawn face", "another drawn face"),
    "cityscapes": ("drawn street", "second drawn street", "third drawn street"),
}


@functools.cache
def example(space: str, name: str | int) -> tuple[Image.Image, Image.Image]:
    """One of the label space's `EXAMPLES`, and a mask for it."""
    if isinstance(name, str):
        return load_image(EXAMPLE_PHOTOS / f"{name}.jpg"), load_image(EXAMPLE_PHOTOS / f"{name}_mask.png")
    width, height = EXAMPLE_SIZES[space]
    photo, _ = SCENES[space]((width, height), np.random.default_rng([EXAMPLE_SEED, name]))
    return photo, Image.fromarray(protocol_mask(height, width, name))


def list_examples(spaces_of_models: dict[str, LabelSpace]) -> list[tuple[str, str | int]]:
    """(model, name) of each example: those of every label space that has some, with the first model that knows it."""
    first_models = {space.name: model for model, space in reversed(spaces_of_models.items())}
    return [(model, name) for space, model in reversed(first_models.items()) for name in EXAMPLES.get(space, ())]


def example_name(space: str, name: str | int) -> str:
    return EXAMPLE_NAMES[space][EXAMPLES[space].index(name)]
