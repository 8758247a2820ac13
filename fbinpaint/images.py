"""Everything between a user's photo and the networks: colour modes, masks, padding, crops, exact compositing.

Sizes are (width, height) as in PIL; arrays are (H, W) or (H, W, 3), row first. `InputError` is raised for what a user
can get wrong (a broken file, an odd dtype); everything else is a programming error and raises what it raises.
"""

import struct
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import ExifTags, Image

from fbinpaint.errors import InputError
from fbinpaint.image_io import (  # noqa: F401  also importable from here
    MAX_PIXELS,
    MAX_PROFILE,
    PHOTO_SUFFIXES,
    READ_FORMATS,
    SAVE_FORMATS,
    decode_image,
    load_image,
    open_image,
    save_image,
)

MIN_SIDE = 16  # pixels
MAX_ASPECT = 4  # a working picture holds at most this many sample_size x sample_size squares
MAX_CROPS = 8  # per photo: bounds the time a speckled mask can take

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


# ------------------------------------------------------------------------------------------- photos, masks and maps


def to_rgb(image: Image.Image | np.ndarray) -> np.ndarray:
    """A photo as upright (H, W, 3) uint8 RGB: EXIF orientation applied, transparency composited on white.

    PIL images may have any mode. Deep greyscale is brought to 8 bits: of I;16 the smallest range of 10, 12, 14 or 16
    bits that holds its maximum maps to 0..255, as cameras and scanners store 12 bits in 16; so it does of I when its
    maximum is above 255 (else it holds 0..255 already); F is read as [0, 1] when its maximum is at most 1, else as
    [0, 255]; what lies outside is clipped. Arrays are uint8, (H, W), (H, W, 3) RGB or (H, W, 4) RGBA.
    ICC profiles are not applied: the values of an RGB photo come back as they are.

    Raises InputError for other types, dtypes and shapes, and for sides below MIN_SIDE or more than MAX_PIXELS.
    """
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4))):
            raise InputError(
                f"the image is a {image.dtype} array of shape {image.shape}; give uint8 (H, W), (H, W, 3) or (H, W, 4)"
            )
        _check_size(image.shape[1], image.shape[0])
        image = Image.fromarray(image)
    image = _upright(image, "image")
    _check_size(*image.size)

    if _is_deep(image):
        levels = np.asarray(image).astype(np.float32) * scale_to_8_bits(image)
        image = Image.fromarray(np.rint(np.clip(levels, 0, 255)).astype(np.uint8))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), _to_rgba(image))
    return np.array(image.convert("RGB"))


def to_mask(mask: Image.Image | np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask as (H, W) bool of the given (width, height), True = hole; resized with nearest when it has another size.

    A pixel is a hole where its colour is not black (any channel non-zero) and its alpha, if it has one, is non-zero.
    PIL images may have any mode (palette images count by colour) and are turned upright; arrays are bool, integer or
    float, (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) RGBA. A mask without holes is allowed.

    Raises InputError for other types, dtypes and shapes, for empty arrays and for NaN.
    """
    if isinstance(mask, np.ndarray):
        values = mask
    else:
        image = _upright(mask, "mask")
        if image.mode == "LAB":
            image = image.getchannel("L")  # through RGB, black would round to 1
        elif not _is_deep(image):
            image = _to_rgba(image) if image.has_transparency_data else image.convert("RGB")
        values = np.asarray(image)

    if values.ndim == 2:
        values = values[..., None]
    if values.dtype.kind not in "biuf" or values.ndim != 3 or values.shape[2] not in (1, 3, 4) or not values.size:
        raise InputError(f"the mask is a {values.dtype} array of shape {values.shape}; give numbers of shape (H, W)")
    if np.isnan(values).any():
        raise InputError("the mask contains NaN; use 0 for known and 1 for hole")
    # Channel by channel: `any(axis=2)` over so short an axis is several times slower on a 12 Mpx photo.
    hole = np.logical_or.reduce([values[..., channel] != 0 for channel in range(min(values.shape[2], 3))])
    if values.shape[2] == 4:
        hole &= values[..., 3] != 0
    return _resize_nearest(hole.astype(np.uint8), size).astype(bool)


def to_index_map(semantic_map: Image.Image | np.ndarray, size: tuple[int, int], num_classes: int) -> np.ndarray:
    """A semantic map edited by the user as (H, W) uint8 class ids of the given (width, height), 255 = undecided.

    Takes a palette image (its INDICES, never its colours), a greyscale image or an (H, W) integer array; resized with
    nearest when it has another size.

    Raises InputError for anything else and for an id that is neither in 0..num_classes-1 nor 255.
    """
    if isinstance(semantic_map, np.ndarray):
        ids = semantic_map
    else:
        image = _upright(semantic_map, "semantic map")
        if image.mode not in ("1", "L", "P") and not image.mode.startswith("I"):
            raise InputError(f"the semantic map has mode {image.mode}; give class ids as a palette or greyscale image")
        ids = np.asarray(image)

    if ids.dtype.kind not in "biu" or ids.ndim != 2 or not ids.size:
        raise InputError(f"the semantic map is a {ids.dtype} array of shape {ids.shape}; give integers of shape (H, W)")
    unknown = ((ids < 0) | (ids >= num_classes)) & (ids != 255)
    if unknown.any():
        raise InputError(
            f"the semantic map contains class id {ids[unknown][0]}; use 0..{num_classes - 1}, or 255 for undecided"
        )
    return _resize_nearest(ids.astype(np.uint8), size)


def _upright(image: Image.Image, name: str) -> Image.Image:
    if not isinstance(image, Image.Image):
        raise InputError(f"the {name} is a {type(image).__name__}; give a PIL image or a numpy array")
    decode_image(image, f"the {name}")
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except (SyntaxError, ValueError, struct.error):  # unreadable EXIF: the photo itself is still good
        orientation = None
    # Not ImageOps.exif_transpose: it also writes the EXIF back and fails on the odd tags that some cameras leave.
    return image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image


def _check_size(width: int, height: int) -> None:
    if min(width, height) < MIN_SIDE:
        raise InputError(f"the image is {width}x{height}; give at least {MIN_SIDE}x{MIN_SIDE} pixels")
    if width * height > MAX_PIXELS:
        raise InputError(f"the image is {width}x{height}; give at most {MAX_PIXELS // 10**6} megapixels")


def _is_deep(image: Image.Image) -> bool:
    """One channel of more than 8 bits (I, I;16 and its byte orders, F): PIL would clip these instead of scaling."""
    return image.mode.startswith("I") or image.mode == "F"


def scale_to_8_bits(image: Image.Image) -> float:
    """What takes the values of a deep greyscale image to [0, 255]; the ranges are those of `to_rgb`.

    Raises InputError for NaN and infinity.
    """
    values = np.asarray(image)
    if not np.isfinite(values).all():
        raise InputError("the image contains NaN or infinity; give finite values in [0, 1] or [0, 255]")
    highest = values.max()
    if image.mode == "F":
        return 255.0 if highest <= 1 else 1.0
    if image.mode == "I" and highest <= 255:
        return 1.0
    bits = next((bits for bits in (10, 12, 14) if highest < 2**bits), 16)
    return 255 / (2**bits - 1)


def _to_rgba(image: Image.Image) -> Image.Image:
    # Premultiplied grey has no direct way to RGBA in PIL.
    return (image.convert("LA") if image.mode == "La" else image).convert("RGBA")


def _resize_nearest(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    # INTER_NEAREST samples pixel corners and shifts the result; _EXACT samples centres, as PIL does.
    return cv2.resize(array, size, interpolation=cv2.INTER_NEAREST_EXACT)


# --------------------------------------------------------------------------------------------------- sizes and crops


@dataclass(frozen=True)
class Crop:
    """A rectangle in photo pixels; right and bottom are exclusive."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def slices(self) -> tuple[slice, slice]:
        """`array[crop.slices]` cuts an (H, W, ...) array."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


def plan_crops(mask: np.ndarray, min_size: int, context: float) -> list[Crop]:
    """At most MAX_CROPS rectangles that together cover every hole of the (H, W) bool mask; none where it has no hole.

    Each group of touching holes gets its bounding box, grown on every side by `context` times the box's longer side
    and to at least min_size x min_size pixels, moved back into the photo where it sticks out, then clipped. Crops that
    share most of their area become one, and the last ones may still overlap a little. The whole photo is the one crop
    when it is small (longer side up to 1.5 min_size) or when some crop covers most of it anyway.
    """
    height, width = mask.shape
    boxes = _hole_boxes(mask)
    if not len(boxes):
        return []
    whole = Crop(0, 0, width, height)
    if max(width, height) <= 1.5 * min_size:
        return [whole]

    crops = _grow(boxes, width, height, min_size, context)
    while len(crops) > 1:
        first, second, worthwhile = _best_merge(crops)
        if not worthwhile and len(crops) <= MAX_CROPS:
            break
        merged = _union(boxes[first], boxes[second])
        boxes = np.vstack([np.delete(boxes, [first, second], axis=0), merged])
        crops = _grow(boxes, width, height, min_size, context)

    if _area(crops).max() >= 0.7 * width * height:
        return [whole]
    return [Crop(*map(int, crop)) for crop in crops]


def resize_image(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8 to the given (width, height): area averages along sides that shrink, bicubic where they grow."""
    height, width = array.shape[:2]
    small = cv2.resize(array, (min(width, size[0]), min(height, size[1])), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, size, interpolation=cv2.INTER_CUBIC)


def shorter_side(size: tuple[int, int], n: int) -> tuple[int, int]:
    """The (width, height) with the same aspect whose shorter side is n pixels."""
    width, height = size
    scale = n / min(size)
    return round(width * scale), round(height * scale)


def working_size(width: int, height: int, sample_size: int) -> tuple[int, int]:
    """The (width, height) a crop is worked on at: never enlarged, shorter side at most sample_size, bounded area."""
    scale = min(1.0, sample_size / min(width, height), (MAX_ASPECT * sample_size**2 / (width * height)) ** 0.5)
    return max(1, round(width * scale)), max(1, round(height * scale))


def pad_to_multiple(x: torch.Tensor, multiple: int, mode: str = "replicate") -> torch.Tensor:
    """Pads a float (B, C, H, W) on the right and the bottom until both sides are multiples; `mode` as in F.pad."""
    height, width = x.shape[-2:]
    return F.pad(x, (0, -width % multiple, 0, -height % multiple), mode=mode)


def _hole_boxes(mask: np.ndarray) -> np.ndarray:
    """(N, 4) int boxes (left, top, right, bottom), N <= 256, one per 8-connected group of holes.

    Groups are found on a mask shrunk by block maximum, so no hole is lost: to about a thousand pixels a side for speed,
    and further while specks make too many groups, which joins those closer than a block.
    """
    height, width = mask.shape
    block = -(-max(height, width) // 1024)
    while True:
        # The dilation puts the maximum of each block at its top left pixel.
        dilated = cv2.dilate(mask.astype(np.uint8), np.ones((block, block), np.uint8), anchor=(0, 0))
        stats = cv2.connectedComponentsWithStats(np.ascontiguousarray(dilated[::block, ::block]), connectivity=8)[2]
        if len(stats) <= 257:  # row 0 is the background
            break
        block *= 2
    left, top, box_width, box_height, _ = stats[1:].T
    right, bottom = left + box_width, top + box_height
    return np.minimum(np.stack([left, top, right, bottom], axis=1) * block, [width, height, width, height])


def _grow(boxes: np.ndarray, width: int, height: int, min_size: int, context: float) -> np.ndarray:
    """(N, 4) boxes to (N, 4) crops inside the photo, each containing its box."""
    photo = np.array([width, height])
    start, stop = boxes[:, :2], boxes[:, 2:]
    sides = stop - start
    margin = np.ceil(context * sides.max(axis=1, keepdims=True)).astype(int)
    grown = np.minimum(np.maximum(sides + 2 * margin, min_size), photo)
    start = np.clip(start - (grown - sides) // 2, 0, photo - grown)
    return np.hstack([start, start + grown])


def _best_merge(crops: np.ndarray) -> tuple[int, int, bool]:
    """The pair of (N, 4) crops whose joint crop adds the fewest pixels, and whether joining them is worthwhile.

    It is when the joint crop is smaller than the two by at least half of the smaller one: then they overlap by half or
    more, and one crop gives the networks more context for less work.
    """
    areas = _area(crops)
    added = _area(_union(crops[:, None], crops[None])) - areas[:, None] - areas[None]  # (N, N)
    added = added + np.minimum(areas[:, None], areas[None]) / 2
    np.fill_diagonal(added, np.inf)
    first, second = np.unravel_index(added.argmin(), added.shape)
    return int(first), int(second), bool(added[first, second] <= 0)


def _union(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.concatenate([np.minimum(a, b)[..., :2], np.maximum(a, b)[..., 2:]], axis=-1)


def _area(boxes: np.ndarray) -> np.ndarray:
    return np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1, dtype=np.int64)


# ----------------------------------------------------------------------------------------------- arrays and tensors


def composite(photo: np.ndarray, fill: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: `fill` where the (H, W) bool mask is True, bit-identical to `photo` elsewhere."""
    return np.where(mask[..., None], fill, photo)


def to_tensor(array: np.ndarray) -> torch.Tensor:
    """(H, W, 3) uint8 to (1, 3, H, W) float in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(array)).permute(2, 0, 1)[None].float() / 127.5 - 1


def to_uint8(tensor: torch.Tensor) -> np.ndarray:
    """(B, 3, H, W) float in [-1, 1] to (B, H, W, 3) uint8, rounded and clamped; the exact inverse of `to_tensor`."""
    levels = ((tensor.detach().float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return levels.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def mask_to_tensor(mask: np.ndarray) -> torch.Tensor:
    """(H, W) bool to (1, 1, H, W) float in {0, 1}."""
    return torch.from_numpy(np.ascontiguousarray(mask))[None, None].float()
