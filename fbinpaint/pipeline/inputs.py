"""The tensors and arrays of a call, in the shapes that diffusers takes: apart into single photos, masks and maps."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fbinpaint.errors import InputError
from fbinpaint.images.convert import to_rgb

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


def read_photo(image: Any, value_range: tuple[float, float]) -> tuple[np.ndarray, np.ndarray | None]:
    """A photo as (H,W,3) uint8 and, of a caller who gave floats, these as (H,W,3) float32 in [0,1].

    image: as `to_rgb` takes it, a tensor (3,H,W), or an array (H,W,3) of floats; floats lie in `value_range`.
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
        return to_rgb(image), None
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
