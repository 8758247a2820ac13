"""From a user's photo, mask or map to arrays: colour modes, orientation, depth, what a mask marks.

Sizes are (width, height) as in PIL; arrays are (H, W) or (H, W, 3), row first. `InputError` is raised for what a user
can get wrong (a broken file, an odd dtype); everything else is a programming error and raises what it raises.
"""

import struct
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from PIL import ExifTags, Image

from fbinpaint.errors import InputError, warn_user
from fbinpaint.images.crops import MIN_SIDE
from fbinpaint.images.io import MAX_PIXELS, decode_image, index_values
from fbinpaint.images.metadata import TURNED
from fbinpaint.labels import LabelSpace

STRIP = 256  # rows of a photo that are converted at once

# EXIF orientation to the turn that undoes it; 1 is upright.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = tuple(UPRIGHT[orientation] for orientation in (5, 6, 7, 8))  # exchange width and height

ALPHA = "alpha"  # instead of a mask: the transparent part of the photo
NOTHING_MARKED = (
    "nothing is marked, so the photo stays as it is; paint over a part of it, or give a mask that is white there, from "
    "half of its range on"
)
MOST = 0.95  # a mask that marks a larger share of the photo is likely to be black where it should be white


# ------------------------------------------------------------------------------------------- photos, masks and maps


def to_rgb(image: Image.Image | np.ndarray, unknown: np.ndarray | None = None) -> np.ndarray:
    """A photo as upright (H, W, 3) uint8 RGB: EXIF orientation applied, transparency composited on white.

    PIL images may have any mode. Deep greyscale is brought to 8 bits: of I;16 the smallest range of 10, 12, 14 or 16
    bits that holds its maximum maps to 0..255, as cameras and scanners store 12 bits in 16; so does that of 10, 12, 14
    ... 32 bits of I when its maximum is above 255 (else it holds 0..255 already), and of F from 512 on. F below that is
    read as [0, 1] when its maximum is below 2, else as [0, 255]; what lies outside is clipped. Arrays are uint8,
    (H, W), (H, W, 3) RGB or (H, W, 4) RGBA.
    ICC profiles are not applied: the values of an RGB photo come back as they are.

    unknown: (H, W) bool, a hole: what lies in it says nothing of the range of deep greyscale, and need not be finite

    Raises InputError for other types, dtypes and shapes, and for sides below MIN_SIDE or more than MAX_PIXELS.
    """
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4))):
            raise InputError(
                f"the image is a {image.dtype} array of shape {image.shape}; give uint8 (H, W), (H, W, 3) or (H, W, 4)"
            )
        _check_size(image.shape[1], image.shape[0])
        if image.shape[2:] == (3,):
            return np.array(image, order="C")
        image = Image.fromarray(image)
    image = upright(image, "image")
    _check_size(*image.size)

    scale = scale_to_8_bits(image, unknown) if is_deep(image) else None
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    # In strips, as PIL converts by copies of the whole: of 12 megapixels each has 48 MB.
    for top in range(0, image.height, STRIP):
        strip = image.crop((0, top, image.width, min(top + STRIP, image.height)))
        if scale is not None:
            levels = np.nan_to_num(np.asarray(strip).astype(np.float32)) * scale
            strip = Image.fromarray(np.rint(np.clip(levels, 0, 255)).astype(np.uint8))
        if strip.has_transparency_data:
            strip = Image.alpha_composite(Image.new("RGBA", strip.size, "white"), to_rgba(strip))
        pixels[top : top + STRIP] = np.asarray(strip.convert("RGB"))
    return pixels


def to_mask(
    mask: Image.Image | np.ndarray | str,
    size: tuple[int, int],
    photo: Image.Image | np.ndarray | None = None,
    warn: Callable[[str], None] = warn_user,
    may_be_empty: bool = False,
) -> np.ndarray:
    """A mask as (H, W) bool of the given (width, height), True = hole.

    White = hole: a pixel whose brightest channel reaches half of its range, which is 255 for 8 bits, 65535 for 16, and
    1 for floats (255 where one is above 1); wider integers have the narrowest of these that holds them. So a soft mask
    is cut in its middle, and the ringing of a JPEG changes nothing. Bools, and a mask of nothing but 0 and 1, are taken
    as they are. Where some pixels are transparent (alpha below half), the mask is a painted layer: what is not
    transparent is the hole, whatever its colour. "alpha" instead of a mask takes the transparent part of the photo.
    PIL images may have any mode (palette images count by colour) and are turned upright; arrays are bool, integer or
    float, (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) RGBA.

    Another size of the same shape is resized with nearest. A mask that only fits the pixels of `photo` as they are
    stored is turned as its EXIF orientation asks, and `warn` is told. One without holes is allowed; see `check_hole`.

    photo: whose size it is, as `to_rgb` takes it; None = nothing is known of it but its size
    warn: takes a line of text; default: an InputWarning
    may_be_empty: whether "alpha" of a photo without a transparent part is a mask without holes
    Raises InputError for other types, dtypes and shapes, for empty arrays, for values that are not finite, negative or
    above all ranges, for another shape than the photo's, and for "alpha" of a photo without a transparent part.
    """
    if isinstance(mask, str):
        if mask != ALPHA:
            raise InputError(f"the mask is a str; give a PIL image or a numpy array, or {ALPHA!r}")
        return _transparent_part(photo, may_be_empty)
    name = name_of(mask, "the mask")
    values, turn = _mask_values(mask, name)
    hole = _marked(values, name)
    if not same_shape(hole.shape[::-1], size):
        stored = stored_turn(photo) if isinstance(photo, Image.Image) else None
        if turn is not None or stored not in SIDEWAYS or not same_shape(hole.shape, size):
            (width, height), (across, down) = hole.shape[::-1], size
            raise InputError(f"{name}: is {width}x{height}, the photo {across}x{down}; give one of the photo's shape")
        whose = name_of(photo, "the photo")  # one mask may serve many
        warn(f"{name}: fits {whose} as it is stored, not as its EXIF orientation shows it; was turned with the photo")
        hole = np.asarray(Image.fromarray(hole).transpose(stored))
    return _resize_nearest(hole.astype(np.uint8), size).astype(bool)


def mask_image(mask: np.ndarray) -> Image.Image:
    """A mask (H, W) bool as a picture of mode "L", white = True."""
    return Image.fromarray(mask.astype(np.uint8) * 255)


def check_hole(hole: np.ndarray, name: str = "the mask", warn: Callable[[str], None] = warn_user) -> None:
    """Tells `warn` of an (H, W) bool hole that can hardly be meant: of no pixel, or of most of the photo.

    name: opens the line of text
    Raises InputError where the hole is the whole photo: any fill would be made up.
    """
    if not hole.any():
        warn(f"{name}: {NOTHING_MARKED}")
    elif hole.all():
        raise InputError(f"{name}: everything is marked, so nothing of the photo is known; leave a part of it unmarked")
    elif (share := hole.mean()) > MOST:
        warn(f"{name}: {share:.1%} of the photo is marked; white = hole: if black was meant, invert the mask "
             "(PIL.ImageOps.invert)")  # fmt: skip


def name_of(image: Image.Image | np.ndarray | None, otherwise: str) -> str:
    """What messages call an image: its file, where PIL knows it."""
    return str(getattr(image, "filename", "")) or otherwise


def _mask_values(mask: Image.Image | np.ndarray, name: str) -> tuple[np.ndarray, Image.Transpose | None]:
    """The mask's (H, W, 1), (H, W, 3) or (H, W, 4) numbers, finite and from 0 up, and how its own EXIF turned it."""
    turn = None
    if isinstance(mask, np.ndarray):
        values = mask
    else:
        image = upright(mask, "mask")
        turn = exif_turn(mask)
        if image.mode == "LAB":
            image = image.getchannel("L")  # through RGB, black would round to 1
        elif not is_deep(image):
            colours = to_rgba(image) if image.has_transparency_data else image.convert("RGB")
            # Indices 0 and 1 under a palette that was never set, which PIL makes all black: a 0/1 array, too.
            blank = image.mode == "P" and image.getextrema() == (0, 1) and not colours.getbbox()
            image = image if blank else colours
        values = np.asarray(image)

    if values.ndim == 2:
        values = values[..., None]
    if values.dtype.kind not in "biuf" or values.ndim != 3 or values.shape[2] not in (1, 3, 4) or not values.size:
        raise InputError(f"{name}: is a {values.dtype} array of shape {values.shape}; give numbers of shape (H, W)")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise InputError(f"{name}: contains NaN or infinity; use 0 for known and 1 for hole")
    if values.min() < 0:
        raise InputError(f"{name}: contains {values.min():g}; use 0 for known and 1 for hole")
    return values, turn


def _marked(values: np.ndarray, name: str) -> np.ndarray:
    """Which pixels of `_mask_values` are a hole, (H, W) bool."""
    if values.shape[2] == 4:
        transparent = ~_from_half_on(values[..., 3], _full_scale(values, name))
        if transparent.any():
            return ~transparent
    colours = values[..., :3]
    full = _full_scale(colours, name)
    # Channel by channel: `any(axis=2)` over so short an axis is several times slower on a 12 Mpx photo.
    return np.logical_or.reduce([_from_half_on(colours[..., i], full) for i in range(colours.shape[2])])


def _full_scale(values: np.ndarray, name: str) -> int:
    """The largest number of the range that a mask's values are in: 1, 255 or 65535."""
    highest = values.max()
    if highest <= 1:
        return 1
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:  # of either byte order
        return 65535
    full = 255 if highest <= 255 or values.dtype.kind == "f" else 65535
    if highest > full:
        raise InputError(f"{name}: contains {highest:g}, above {full}; use 0 for known and 1 for hole")
    return full


def _from_half_on(values: np.ndarray, full: int) -> np.ndarray:
    # As an integer where the values are: beside 127.5, uint8 would become float64 first.
    return values >= (full / 2 if values.dtype.kind == "f" else (full + 1) // 2)


def same_shape(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether one is the other resized: sides in the same proportion, up to 2 % or the rounding to whole pixels."""
    (width, height), (other_width, other_height) = size, other
    expected = width * other_height / other_width, height * other_width / other_height
    return abs(height - expected[0]) <= max(0.02 * height, 1) or abs(width - expected[1]) <= max(0.02 * width, 1)


def _transparent_part(photo: Image.Image | np.ndarray | None, may_be_empty: bool) -> np.ndarray:
    """(H, W) bool: where the alpha of the upright photo is below half."""
    alpha = None
    if isinstance(photo, Image.Image) and photo.has_transparency_data:
        alpha = np.asarray(to_rgba(upright(photo, "image")).getchannel("A"))
    elif isinstance(photo, np.ndarray) and photo.shape[2:] == (4,):
        alpha = photo[..., 3]
    if alpha is None and may_be_empty and photo is not None:
        return np.zeros(upright(photo, "image").size[::-1] if isinstance(photo, Image.Image) else photo.shape[:2], bool)
    if alpha is None or ((alpha >= 128).all() and not may_be_empty):
        name = name_of(photo, "the photo")
        raise InputError(f"{name}: no part of it is transparent, so it cannot be its own mask; name a mask")
    return alpha < 128


def to_index_map(
    semantic_map: Image.Image | np.ndarray, size: tuple[int, int], num_classes: int, ignored_ids: Sequence[int] = ()
) -> np.ndarray:
    """A semantic map edited by the user as (H, W) uint8 class ids of the given (width, height), 255 = undecided.

    Takes a palette image (its INDICES, never its colours), a greyscale image or an (H, W) integer array; resized with
    nearest when it has another size. `ignored_ids` (of the label space) mean undecided, too.

    Raises InputError for anything else and for an id that is neither in 0..num_classes-1 nor 255.
    """
    if isinstance(semantic_map, np.ndarray):
        ids = semantic_map
    else:
        image = upright(semantic_map, "semantic map")
        if image.mode not in ("1", "L", "P") and not image.mode.startswith("I"):
            raise InputError(f"the semantic map has mode {image.mode}; give class ids as a palette or greyscale image")
        ids = index_values(image)

    if ids.dtype.kind not in "biu" or ids.ndim != 2 or not ids.size:
        raise InputError(f"the semantic map is a {ids.dtype} array of shape {ids.shape}; give integers of shape (H, W)")
    if ignored_ids:
        ids = np.where(np.isin(ids, ignored_ids), 255, ids)
    unknown = ((ids < 0) | (ids >= num_classes)) & (ids != 255)
    if unknown.any():
        raise InputError(
            f"the semantic map contains class id {ids[unknown][0]}; use 0..{num_classes - 1}, or 255 for undecided"
        )
    return _resize_nearest(ids.astype(np.uint8), size)


def read_map(
    semantic_map: Image.Image | np.ndarray,
    photo_size: tuple[int, int],
    label_space: LabelSpace,
    size: tuple[int, int] | None = None,
) -> np.ndarray:
    """The map of a photo of this (width, height), as `to_index_map` has it, at another size; None = the photo's.

    Raises InputError likewise, and for a map of another shape than the photo's: it would be distorted, and what it
    shows would lie elsewhere.
    """
    labels = to_index_map(semantic_map, size or photo_size, label_space.num_classes, label_space.ignored_ids)
    shape = semantic_map.shape if isinstance(semantic_map, np.ndarray) else upright(semantic_map, "map").size[::-1]
    if not same_shape((shape[1], shape[0]), photo_size):
        name, (width, height) = name_of(semantic_map, "the semantic map"), photo_size
        raise InputError(f"{name}: is {shape[1]}x{shape[0]}, the photo {width}x{height}; give one of the photo's shape")
    return labels


def upright(image: Image.Image, name: str) -> Image.Image:
    if not isinstance(image, Image.Image):
        raise InputError(f"the {name} is a {type(image).__name__}; give a PIL image or a numpy array")
    decode_image(image, f"the {name}")
    # Not ImageOps.exif_transpose: it also writes the EXIF back and fails on the odd tags that some cameras leave.
    turn = exif_turn(image)
    return image if turn is None else image.transpose(turn)


def exif_turn(image: Image.Image) -> Image.Transpose | None:
    """The turn that makes an image upright, by its EXIF orientation; None where it is upright or does not say."""
    try:
        return UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except (SyntaxError, ValueError, struct.error):  # unreadable EXIF: the photo itself is still good
        return None


def on_its_side(image: Image.Image) -> bool:
    """Whether an image, as PIL gives its size, exchanges width and height to be upright; of a TIFF file PIL gives the
    size that it will have."""
    return exif_turn(image) in SIDEWAYS and image.format != "TIFF"


def stored_turn(image: Image.Image) -> Image.Transpose | None:
    """As `exif_turn`, also where PIL has turned the image."""
    return UPRIGHT.get(image.info.get(TURNED, 1)) or exif_turn(image)


def _check_size(width: int, height: int) -> None:
    if min(width, height) < MIN_SIDE:
        raise InputError(f"the image is {width}x{height}; give at least {MIN_SIDE}x{MIN_SIDE} pixels")
    if width * height > MAX_PIXELS:
        raise InputError(f"the image is {width}x{height}; give at most {MAX_PIXELS // 10**6} megapixels")


def is_deep(image: Image.Image) -> bool:
    """One channel of more than 8 bits (I, I;16 and its byte orders, F): PIL would clip these instead of scaling."""
    return image.mode.startswith("I") or image.mode == "F"


def scale_to_8_bits(image: Image.Image, unknown: np.ndarray | None = None) -> float:
    """What takes the values of an upright deep greyscale image to [0, 255]; the ranges are those of `to_rgb`.

    Raises InputError for NaN and infinity.
    """
    values = np.asarray(image)
    if unknown is not None and not unknown.all():
        values = values[~unknown]
    if not np.isfinite(values).all():
        raise InputError("the image contains NaN or infinity; give finite values in [0, 1] or [0, 255]")
    highest = values.max()
    if image.mode == "F" and highest < 512:
        return 255.0 if highest < 2 else 1.0  # lights may lie a little above 1
    if image.mode == "I" and highest <= 255:
        return 1.0
    bits = next((bits for bits in range(10, 32, 2) if highest < 2**bits), 32)
    return 255 / (2**bits - 1)


def to_rgba(image: Image.Image) -> Image.Image:
    # Premultiplied grey has no direct way to RGBA in PIL.
    return (image.convert("LA") if image.mode == "La" else image).convert("RGBA")


def _resize_nearest(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    # INTER_NEAREST samples pixel corners and shifts the result; _EXACT samples centres, as PIL does.
    return cv2.resize(array, size, interpolation=cv2.INTER_NEAREST_EXACT)
