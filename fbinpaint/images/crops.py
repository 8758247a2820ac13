"""Sizes, crops around holes, and exact compositing. Sizes are (width, height) as in PIL; arrays (H, W) or (H, W, 3)."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

MIN_SIDE = 16  # pixels
MAX_ASPECT = 4  # a working picture holds at most this many sample_size x sample_size squares
MAX_CROPS = 8  # per photo: bounds the time a speckled mask can take


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


def bounding_box(mask: np.ndarray, margin: int) -> Crop:
    """The rectangle that holds all of an (H, W) bool mask that is not empty, and a margin as far as there is one."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    (top, bottom), (left, right) = ((int(along[0]) - margin, int(along[-1]) + 1 + margin) for along in (rows, columns))
    return Crop(max(0, left), max(0, top), min(mask.shape[1], right), min(mask.shape[0], bottom))


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
    """(H, W, 3) uint8 to the given (width, height): area averages along sides that shrink, bicubic where they grow. The
    array itself where it has this size."""
    height, width = array.shape[:2]
    smaller = min(width, size[0]), min(height, size[1])
    if smaller != (width, height):
        array = cv2.resize(array, smaller, interpolation=cv2.INTER_AREA)
    return array if smaller == tuple(size) else cv2.resize(array, size, interpolation=cv2.INTER_CUBIC)


def shorter_side(size: tuple[int, int], n: int) -> tuple[int, int]:
    """The (width, height) with the same aspect whose shorter side is n pixels."""
    width, height = size
    scale = n / min(size)
    return round(width * scale), round(height * scale)


def working_size(width: int, height: int, sample_size: int, max_aspect: int = MAX_ASPECT) -> tuple[int, int]:
    """The (width, height) a crop is worked on at: never enlarged, shorter side at most sample_size, area at most
    `max_aspect` squares of that.

    A very narrow one is made shorter more than narrower: below MIN_SIDE the networks would pad what is left, and the
    padding would cost as much as a picture.
    """
    area = max_aspect * sample_size**2
    scale = min(1.0, sample_size / min(width, height), (area / (width * height)) ** 0.5)
    narrowest = min(width, height, MIN_SIDE)
    if min(width, height) * scale < narrowest:
        longest = min(max(width, height), area // narrowest)
        return (longest, narrowest) if width > height else (narrowest, longest)
    return round(width * scale), round(height * scale)


def divide_hole(hole: np.ndarray, crops: Sequence[Crop]) -> list[np.ndarray]:
    """The part of an (H, W) bool hole that each crop is to fill, bool of its size: where crops overlap, the last one.

    Together the parts are all that crops cover of the hole, and no pixel is in two of them.
    """
    left, parts = hole.copy(), []
    for crop in reversed(crops):
        parts.append(left[crop.slices].copy())
        left[crop.slices] = False
    return parts[::-1]


def _hole_boxes(mask: np.ndarray) -> np.ndarray:
    """(N, 4) int boxes (left, top, right, bottom), N <= 256, one per 8-connected group of holes.

    Groups are found on a mask shrunk by block maximum, so no hole is lost: to about a thousand pixels a side for speed,
    and further while specks make too many groups, which joins those closer than a block.
    """
    height, width = mask.shape
    block = -(-max(height, width) // 1024)
    blocks = _any_in_blocks(mask, block)
    while True:
        stats = cv2.connectedComponentsWithStats(blocks.astype(np.uint8), connectivity=8)[2]
        if len(stats) <= 257:  # row 0 is the background
            break
        blocks, block = _any_in_blocks(blocks, 2), 2 * block
    left, top, box_width, box_height, _ = stats[1:].T
    right, bottom = left + box_width, top + box_height
    return np.minimum(np.stack([left, top, right, bottom], axis=1) * block, [width, height, width, height])


def _any_in_blocks(mask: np.ndarray, side: int) -> np.ndarray:
    """(H,W) bool, shrunk by block maximum. One axis after the other: blocks of any size take the same time."""
    rows = np.logical_or.reduceat(mask, np.arange(0, mask.shape[0], side), axis=0)
    return np.logical_or.reduceat(rows, np.arange(0, mask.shape[1], side), axis=1)


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


def composite(photo: np.ndarray, fill: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: `fill` where the (H, W) bool mask is True, bit-identical to `photo` elsewhere."""
    return np.where(mask[..., None], fill, photo)
