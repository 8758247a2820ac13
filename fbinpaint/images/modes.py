"""Photos keep their mode: what is painted, 8-bit RGB, goes back into greyscale, transparency, 16 bits or CMYK; and what
a file format cannot hold is converted, and said."""

import os
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image

from fbinpaint.images.convert import STRIP, is_deep, scale_to_8_bits, to_rgb, to_rgba, upright
from fbinpaint.images.io import SAVE_FORMATS
from fbinpaint.images.metadata import carry_over
from fbinpaint.system.urls import Url

NAMES = {
    "1": "black and white", "L": "8-bit greyscale", "LA": "8-bit greyscale with transparency",
    "I;16": "16-bit greyscale", "I;16B": "16-bit greyscale", "I;16L": "16-bit greyscale", "I;16N": "16-bit greyscale",
    "I": "32-bit greyscale", "F": "floating-point greyscale", "RGB": "8-bit RGB", "RGBA": "8-bit RGB with transparency",
    "P": "a palette", "CMYK": "CMYK", "LAB": "CIELAB",
}  # fmt: skip
DEEP = ("I;16", "I;16B", "I;16L", "I;16N")

# What each format holds. PIL writes more modes, converting them silently.
MODES_OF = {
    "PNG": ("1", "L", "LA", "I;16", "RGB", "RGBA", "P"),
    "JPEG": ("L", "RGB", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "TIFF": ("1", "L", "LA", *DEEP, "I", "F", "RGB", "RGBA", "P", "CMYK", "LAB"),
    "AVIF": ("L", "RGB", "RGBA"),
    "JPEG2000": ("L", "LA", "I;16", "RGB", "RGBA"),
    "BMP": ("1", "L", "RGB", "P"),
    "PPM": ("1", "L", "I;16", "RGB"),
}
# What else a mode may be written as, best first; all others only as RGB.
NEXT_BEST = {
    "1": ("L", "RGB"),
    "L": ("RGB",),
    "LA": ("RGBA", "L", "RGB"),
    **dict.fromkeys((*DEEP, "I"), ("I;16", "L", "RGB")),
    "F": ("L", "RGB"),
}
# The modes whose values a colour profile can mean, by the colour space in its header.
PROFILED = {b"GRAY": ("1", "L", "LA", *DEEP, "I", "F"), b"RGB ": ("RGB", "RGBA"), b"CMYK": ("CMYK",), b"Lab ": ("LAB",)}


def as_photo(
    photo: Image.Image, pixels: np.ndarray, hole: np.ndarray, unknown: np.ndarray | None = None
) -> Image.Image:
    """`in_mode_of`, with what the photo says of itself (`fbinpaint.images.metadata.carry_over`) in `info`."""
    image = in_mode_of(photo, pixels, hole, unknown)
    image.info = cast("dict[str | tuple[int, int], Any]", carry_over(photo).info)
    return image


def own_copy(photo: Image.Image) -> Image.Image | None:
    """A photo for `in_mode_of`, whatever is done to the original meanwhile: upright, with nothing that it says of
    itself. None of a plain RGB photo, of which the pixels that were read hold everything."""
    if photo.mode == "RGB" and not photo.has_transparency_data:
        return None
    image = upright(photo, "image")
    image = image.copy() if image is photo else image
    image.info = {key: value for key, value in image.info.items() if key == "transparency"}
    return image


def in_mode_of(
    photo: Image.Image, pixels: np.ndarray, hole: np.ndarray, unknown: np.ndarray | None = None
) -> Image.Image:
    """The upright photo, filled, in its own mode: every pixel outside the hole is bit-identical, alpha included.

    pixels: (H, W, 3) uint8, what was painted, anything outside the hole; hole: (H, W) bool; unknown: as the photo was
    read with, see `to_rgb`.

    CMYK and LAB are filled by PIL's plain conversion of the painted colours, without the photo's profile: their known
    values stay, where a way through RGB would change them.

    Greyscale of more than 8 bits is filled in its own range, see `to_rgb`; black and white at a threshold of half. A
    fill under partial transparency looks on white as it was painted, as that is how the photo was read. It keeps the
    photo's alpha, except where that is 0: there was nothing to see, so what is painted there is opaque. So is the whole
    fill of a hole that is nowhere more than half opaque: there, transparency is what was missing.

    The modes that differ: P becomes RGB, or RGBA if it has transparent pixels, as a palette has no room for what is
    painted; RGB and L with a transparent colour become RGBA and LA; RGBa, PA, La and RGBX lose their odd ways to store
    pixels, not the pixels.
    """
    image = upright(photo, "image")
    if is_deep(image):
        values = np.array(image)
        levels = np.asarray(Image.fromarray(pixels).convert("L"))[hole] / scale_to_8_bits(image, unknown)
        values[hole] = levels if image.mode == "F" else np.rint(levels)
        return Image.fromarray(values)
    if image.has_transparency_data:
        return _under_alpha(image, pixels, hole)
    filled = image.convert({"P": "RGB", "RGBX": "RGB"}.get(image.mode, image.mode))
    for top in range(0, filled.height, STRIP):
        rows = slice(top, top + STRIP)
        fill = Image.fromarray(pixels[rows]).convert(filled.mode, dither=Image.Dither.NONE)
        filled.paste(fill, (0, top), Image.fromarray(hole[rows]))
    return filled


def _under_alpha(image: Image.Image, pixels: np.ndarray, hole: np.ndarray) -> Image.Image:
    rgba = np.array(to_rgba(image))
    alpha = rgba[hole][:, 3].astype(np.float32)
    alpha[(alpha == 0) | (alpha.max(initial=0) < 128)] = 255
    # Painted = alpha * colour + (1 - alpha) * white.
    colours = 255 - (255 - pixels[hole]) / (alpha[:, None] / 255)
    rgba[hole] = np.rint(np.column_stack([np.clip(colours, 0, 255), alpha])).astype(np.uint8)
    filled = Image.fromarray(rgba)
    return filled.convert("LA") if image.mode in ("1", "L", "LA", "La") else filled


def fit_to_format(image: Image.Image, path: str | os.PathLike | Url) -> tuple[Image.Image, str | None]:
    """The image in the best mode that the format of the suffix (a key of SAVE_FORMATS) holds, and one line that says
    what was changed, if anything. Transparency that it does not hold is laid on white."""
    file_format, _ = SAVE_FORMATS[Path(str(path)).suffix.lower()]
    if image.mode in MODES_OF[file_format]:
        return image, None
    choices = [mode for mode in NEXT_BEST.get(image.mode, ("RGB",)) if mode in MODES_OF[file_format]]
    if image.mode == "I" and "I;16" in choices and not _fits_16_bits(image):
        choices.remove("I;16")
    fitted = _convert(image, choices[0])
    fitted.info = dict(image.info)
    stored, held = NAMES.get(image.mode, image.mode), NAMES[fitted.mode]
    said = f"{path}: written as {held}, because {file_format} holds no {stored}"
    if fitted.mode not in PROFILED.get(image.info.get("icc_profile", b"")[16:20], (fitted.mode,)):
        del fitted.info["icc_profile"]
        said += "; without its colour profile, which is not one of these colours"
    return fitted, None if held == stored else said


def _fits_16_bits(image: Image.Image) -> bool:
    lowest, highest = cast("tuple[float, float]", image.getextrema())  # of one channel
    return lowest >= 0 and highest < 2**16


def _convert(image: Image.Image, mode: str) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(np.asarray(image).astype(np.uint16))
    if mode == "RGBA":
        return image.convert("RGBA")
    return Image.fromarray(to_rgb(image)).convert(mode)
