"""The arguments of a call, checked: tensors and arrays in the shapes that diffusers takes, apart into single photos,
masks and maps."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from fbinpaint.errors import InputError
from fbinpaint.images.convert import check_hole, is_deep, name_of, read_map, to_mask, to_rgb, upright
from fbinpaint.images.metadata import carry_over
from fbinpaint.images.modes import own_copy
from fbinpaint.labels import LabelSpace
from fbinpaint.pipeline.outputs import Patch, Photo

MAX_ROUNDS = 100  # each keeps its patches in memory
MAX_CHANNELS = 4  # an array whose last axis is no longer holds colours there


def split_photos(image: Any) -> list[Any]:
    """One photo, a list, or a batch, tensor (B,3,H,W) or array (B,H,W,3) -> a list of photos."""
    if isinstance(image, list | tuple):
        return [photo for item in image for photo in (list(item) if is_batch(item) else [item])]
    return list(image) if is_batch(image) else [image]


def is_batch(image: Any) -> bool:
    return isinstance(image, Tensor | np.ndarray) and image.ndim == 4


def split_planes(planes: Any) -> list[Any]:
    """One mask or map, a list, or a batch -> a list of PIL images and arrays.

    Tensors are (H,W), (B,H,W) or (B,1,H,W); arrays (H,W), (H,W,C) with C up to 4, (B,H,W) or (B,H,W,C).
    """
    singles = []
    for item in planes if isinstance(planes, list | tuple) else [planes]:
        if isinstance(item, Tensor):
            item = item.squeeze(1) if item.ndim == 4 else item
            several = item.ndim > 2
            item = (item.float() if item.is_floating_point() else item).detach().cpu().numpy()
        else:
            axes = item.ndim if isinstance(item, np.ndarray) else 2
            several = axes > 3 or (axes == 3 and item.shape[2] > MAX_CHANNELS)
        singles += list(item) if several else [item]
    return singles


def read_photo(
    image: Any, value_range: tuple[float, float], unknown: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """A photo as (H,W,3) uint8 and, of a caller who gave floats, these as (H,W,3) float32 in [0,1].

    image, unknown: as `to_rgb` takes them, or a tensor (3,H,W), or an array (H,W,3) of floats; floats lie in
    `value_range`.
    Raises InputError for anything else.
    """
    low, high = check_value_range(value_range)
    if isinstance(image, Tensor):
        if image.ndim != 3 or image.shape[0] != 3 or not (image.is_floating_point() or image.dtype == torch.uint8):
            what = f"{image.dtype} tensor of shape {tuple(image.shape)}"
            raise InputError(f"the image is a {what}; give (B,3,H,W) or (3,H,W), floating point or uint8")
        image = image.detach().cpu().movedim(0, -1)
        image = (image.float() if image.is_floating_point() else image).numpy()
    if not isinstance(image, np.ndarray) or image.dtype.kind != "f":
        return to_rgb(image, unknown), None
    if image.ndim != 3 or image.shape[2] != 3:
        raise InputError(f"the image is a {image.dtype} array of shape {image.shape}; give floats as (H,W,3)")
    floats = image.astype(np.float32)
    least, most = (floats.min(), floats.max()) if floats.size else (low, high)
    if not np.isfinite(least + most):
        raise InputError("the image contains NaN or infinity; give finite values")
    if least < low or most > high:
        raise InputError(
            f"the image has values from {least:g} to {most:g}, which is not within value_range=({low:g}, {high:g}); "
            "name the range of yours, such as value_range=(-1, 1) or (0, 255), and clamp them if they overshoot it"
        )
    floats = (floats - low) / (high - low)
    return to_rgb(np.rint(floats * 255).astype(np.uint8)), floats


def check_value_range(value_range: Any) -> tuple[float, float]:
    try:
        low, high = map(float, value_range)
    except (TypeError, ValueError):
        low = high = np.nan
    if not (np.isfinite([low, high]).all() and low < high):
        raise InputError(f"value_range {value_range!r}: must be two numbers, such as (0, 1), (-1, 1) or (0, 255)")
    return low, high


def read_photos(
    label_space: LabelSpace,
    image: Any,
    mask: Any,
    mask_image: Any,
    semantic_map: Any,
    num_rounds: int,
    output_type: str,
    value_range: tuple[float, float],
) -> list[Photo]:
    """The arguments of a call, checked."""
    check_output_type(output_type)
    if (mask is None) == (mask_image is None):
        raise InputError(f"{'no mask' if mask is None else 'mask and mask_image'}: give one of mask and mask_image")
    check_rounds(num_rounds)
    images, maps = split_photos(image), split_planes(semantic_map)
    masks = split_planes(mask_image if mask is None else mask)
    masks = masks * len(images) if len(masks) == 1 else masks
    maps = maps * len(images) if len(maps) == 1 else maps
    if len(masks) != len(images) or len(maps) != len(images):
        raise InputError(f"{len(images)} photos, {len(masks)} masks, {len(maps)} semantic maps: one each, please")
    photos = []
    for x, m, s in zip(images, masks, maps, strict=True):
        # What lies in the hole of a deep greyscale photo says nothing of its range: the mask comes first.
        deep = isinstance(x, PIL.Image.Image) and is_deep(x)
        hole = to_mask(m, upright(x, "image").size, photo=x) if deep else None
        pixels, original = read_photo(x, value_range, hole)
        size = (pixels.shape[1], pixels.shape[0])
        drawn = None if s is None else read_map(s, size, label_space)
        patches: list[list[Patch]] = [[] for _ in range(num_rounds + 1)]
        hole = to_mask(m, size, photo=x) if hole is None else hole
        check_hole(hole, name_of(x if isinstance(m, str) else m, "the mask"))
        photos.append(Photo(pixels, hole, drawn, original, patches))
        if isinstance(x, PIL.Image.Image):
            photos[-1].source, photos[-1].info = own_copy(x), carry_over(x).info
    return photos


def check_rounds(number: int) -> None:
    """Raises InputError for what is no number of feedback rounds."""
    if not isinstance(number, Integral) or not 0 <= number <= MAX_ROUNDS:
        raise InputError(f"num_feedback_rounds {number!r}: must be a whole number from 0 to {MAX_ROUNDS}")


def read_forbidden(classes: str | int | Sequence[str | int] | None, label_space: LabelSpace) -> Tensor | None:
    """(C,) bool, or None where nothing is forbidden."""
    ids = label_space.class_ids(classes)
    if len(ids) == label_space.num_classes:
        raise InputError(f"forbidden: these are all classes of {label_space.name}; leave at least one")
    return torch.from_numpy(np.isin(np.arange(label_space.num_classes), ids)) if ids else None


def draw_seed(generator: torch.Generator | None) -> int:
    """A number for `fbinpaint.pipeline.runner.with_grain`, the same one each time without a generator."""
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    if not isinstance(generator, torch.Generator):
        raise InputError(f"generator is a {type(generator).__name__}; give one torch.Generator")
    return int(torch.randint(2**31, (), generator=generator, device=generator.device))


def check_output_type(output_type: str) -> None:
    if output_type not in ("pil", "np", "pt"):
        raise InputError(f"output_type {output_type!r}: must be 'pil', 'np' or 'pt'")
