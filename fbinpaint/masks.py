"""Masks: which pixels are missing. Every maker is a pure function of its arguments and a seeded generator.

All return (H,W) bool arrays, True = hole.
"""

from dataclasses import dataclass

import cv2
import numpy as np

RATIO_BINS = ((0.1, 0.2), (0.2, 0.3), (0.3, 0.4), (0.4, 0.5), (0.5, 0.6))


def _draw_shape(canvas: np.ndarray, generator: np.random.Generator, thickness: tuple[float, float]) -> None:
    """Add one brush stroke, ellipse or rotated box, sizes relative to the geometric mean of the sides."""
    height, width = canvas.shape
    side = (height * width) ** 0.5
    start = generator.uniform((0, 0), (width, height))
    kind = generator.choice(("stroke", "ellipse", "box"), p=(0.6, 0.2, 0.2))
    if kind == "stroke":
        angle = generator.uniform(0, 2 * np.pi)
        points = [start]
        for _ in range(generator.integers(1, 6)):
            angle += generator.uniform(-1.2, 1.2)
            step = generator.uniform(0.08, 0.35) * side
            points.append(points[-1] + step * np.array((np.cos(angle), np.sin(angle))))
        brush = max(1, round(generator.uniform(*thickness) * side))
        cv2.polylines(canvas, [np.rint(points).astype(np.int32)], False, 1, brush)
        for x, y in np.rint(points).astype(int):
            cv2.circle(canvas, (int(x), int(y)), brush // 2, 1, -1)
    else:
        axes = generator.uniform(0.05, 0.18, size=2) * side
        degrees = generator.uniform(0, 180) if generator.random() < 0.5 else 0.0
        if kind == "ellipse":
            cv2.ellipse(canvas, (tuple(map(float, start)), tuple(map(float, 2 * axes)), degrees), 1, -1)
        else:
            corners = cv2.boxPoints((tuple(map(float, start)), tuple(map(float, 2 * axes)), degrees))
            cv2.fillPoly(canvas, [np.rint(corners).astype(np.int32)], 1)


def free_form_mask(
    height: int,
    width: int,
    generator: np.random.Generator,
    ratio: tuple[float, float] = (0.1, 0.6),
    thickness: tuple[float, float] = (0.04, 0.12),
) -> np.ndarray:
    """Strokes, ellipses and boxes until their area lies within `ratio` (after Yu et al., ICCV 2019; LaMa).

    `thickness` is the brush's width relative to the geometric mean of the sides: thin (0.02, 0.05), medium (the
    default), thick (0.12, 0.25). A shape that would overshoot is taken back and another one tried.
    """
    low, high = ratio
    goal = generator.uniform(low, high)
    canvas = np.zeros((height, width), np.uint8)
    for _ in range(200):
        trial = canvas.copy()
        _draw_shape(trial, generator, thickness)
        if trial.mean() <= high:
            canvas = trial
        if canvas.mean() >= max(goal - 0.03, low):
            break
    return canvas.astype(bool)


def box_mask(height: int, width: int, generator: np.random.Generator) -> np.ndarray:
    """One to three upright boxes with sides of 20 to 60 % of the picture's."""
    mask = np.zeros((height, width), bool)
    for _ in range(generator.integers(1, 4)):
        h, w = (max(1, round(generator.uniform(0.2, 0.6) * side)) for side in (height, width))
        top, left = generator.integers(0, height - h + 1), generator.integers(0, width - w + 1)
        mask[top : top + h, left : left + w] = True
    return mask


def centre_mask(height: int, width: int) -> np.ndarray:
    """The central box of half the sides: a quarter of the area."""
    mask = np.zeros((height, width), bool)
    mask[height // 4 : height - height // 4, width // 4 : width - width // 4] = True
    return mask


def border_mask(height: int, width: int, generator: np.random.Generator) -> np.ndarray:
    """Outpainting: one to all four borders are missing, each 10 to 30 % deep."""
    mask = np.zeros((height, width), bool)
    for side in generator.permutation(4)[: generator.integers(1, 5)]:
        turned = np.rot90(mask, side)  # a view: writing to it writes the mask
        turned[: max(1, round(generator.uniform(0.1, 0.3) * len(turned)))] = True
    return mask


def object_mask(semantic_map: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The outline of one object: a connected region of one class, grown a little. semantic_map (H,W), 255 = ignore.

    Empty where no region covers between 1 and 60 % of the picture.
    """
    mask = np.zeros(semantic_map.shape, bool)
    for label in generator.permutation(np.setdiff1d(np.unique(semantic_map), [255])):
        count, regions, stats, _ = cv2.connectedComponentsWithStats((semantic_map == label).astype(np.uint8))
        for region in 1 + generator.permutation(count - 1):
            if 0.01 <= stats[region, cv2.CC_STAT_AREA] / mask.size <= 0.6:
                grow = 1 + 2 * max(1, round(0.02 * mask.size**0.5))
                return cv2.dilate((regions == region).astype(np.uint8), np.ones((grow, grow), np.uint8)).astype(bool)
    return mask


def training_mask(
    height: int, width: int, generator: np.random.Generator, semantic_map: np.ndarray | None = None
) -> np.ndarray:
    """The mixture that training draws from: mostly free-form, then boxes, objects, borders and the centre."""
    kind = generator.choice(("free", "box", "object", "border", "centre"), p=(0.7, 0.1, 0.1, 0.07, 0.03))
    if kind == "object" and semantic_map is not None:
        mask = object_mask(semantic_map, generator)
        if mask.any():
            return mask
    if kind == "box":
        return box_mask(height, width, generator)
    if kind == "border":
        return border_mask(height, width, generator)
    if kind == "centre":
        return centre_mask(height, width)
    thickness = ((0.03, 0.08), (0.04, 0.12), (0.12, 0.25))[generator.integers(3)]
    return free_form_mask(height, width, generator, thickness=thickness)


def protocol_mask(height: int, width: int, index: int, seed: int = 0) -> np.ndarray:
    """The evaluation mask of photo number `index`: its area cycles through 10-20 %, 20-30 %, ... 50-60 %.

    Drawn from (seed, index) alone, so the same photo always gets the same mask.
    """
    ratio = RATIO_BINS[index % len(RATIO_BINS)]
    generator = np.random.default_rng((seed, index))
    for _ in range(100):
        mask = free_form_mask(height, width, generator, ratio)
        if ratio[0] <= mask.mean() <= ratio[1]:
            return mask
    raise ValueError(f"no mask with an area in {ratio} on {width}x{height} pixels")


@dataclass(frozen=True)
class LamaMask:
    """One of the three kinds of LaMa's (Suvorov et al., WACV 2022, and its configurations at 256 pixels): chains of
    strokes, or, in 3 of 13 masks, boxes. Lengths are pixels where the shorter side has 256; ranges are [low, high).

    strokes: how many chains, of one to five strokes each
    boxes:   how many, with sides of `box_side`, `margin` away from the photo's edge; None = never
    """

    strokes: tuple[int, int]
    width: tuple[int, int]
    length: tuple[int, int]
    boxes: tuple[int, int] | None = None
    box_side: tuple[int, int] = (0, 0)
    margin: int = 0


LAMA_MASKS = {
    "thin": LamaMask(strokes=(4, 51), width=(5, 15), length=(10, 50)),
    "medium": LamaMask(strokes=(4, 6), width=(5, 55), length=(10, 110), boxes=(1, 6), box_side=(10, 50)),
    "thick": LamaMask(
        strokes=(1, 6), width=(5, 105), length=(10, 210), boxes=(1, 4), box_side=(30, 150), margin=10
    ),
}
MASK_KINDS = ("irregular", "centre", *LAMA_MASKS)


def evaluation_mask(kind: str, height: int, width: int, index: int, seed: int = 0) -> np.ndarray:
    """The mask of photo number `index`, of one of MASK_KINDS, drawn from (seed, index) alone: "irregular" is
    `protocol_mask`, "centre" `centre_mask`, the others are LaMa's, drawn anew where they cover over half of the photo.
    """
    if kind == "irregular":
        return protocol_mask(height, width, index, seed)
    if kind == "centre":
        return centre_mask(height, width)
    generator = np.random.default_rng((seed, index))
    while True:  # a chain of one narrow stroke never covers half, so this ends
        mask = lama_mask(height, width, generator, LAMA_MASKS[kind])
        if 0 < mask.mean() <= 0.5:
            return mask


def lama_mask(height: int, width: int, generator: np.random.Generator, kind: LamaMask) -> np.ndarray:
    """A mask of one of LAMA_MASKS."""
    canvas, scale = np.zeros((height, width), np.uint8), min(height, width) / 256
    if kind.boxes and generator.random() < 3 / 13:
        margin = round(kind.margin * scale)
        for _ in range(generator.integers(*kind.boxes)):
            h, w = (max(1, round(generator.integers(*kind.box_side) * scale)) for _ in range(2))
            top = generator.integers(margin, height - margin - h + 1)
            left = generator.integers(margin, width - margin - w + 1)
            canvas[top : top + h, left : left + w] = 1
        return canvas.astype(bool)
    for chain in range(generator.integers(*kind.strokes)):
        x, y = generator.integers(width), generator.integers(height)
        for _ in range(generator.integers(1, 6)):
            angle = (0.01 + generator.integers(4)) * (-1 if chain % 2 == 0 else 1)  # one of four, in radians
            length = generator.integers(*kind.length) * scale
            brush = max(1, round(generator.integers(*kind.width) * scale))
            start = int(x), int(y)
            x = int(np.clip(x + length * np.sin(angle), 0, width))
            y = int(np.clip(y + length * np.cos(angle), 0, height))
            cv2.line(canvas, start, (x, y), 1, brush)
    return canvas.astype(bool)


def grow_mask(mask: np.ndarray, pixels: int) -> np.ndarray:
    """The (H,W) bool mask grown by so many pixels all around; shrunk, if negative. The picture's edge is no border."""
    if pixels == 0:
        return mask
    shrinks = pixels < 0
    # Not by a disc as structuring element: on a large photo a large one takes minutes.
    far = (mask if shrinks else ~mask).astype(np.uint8)
    changed = cv2.distanceTransform(far, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) <= abs(pixels)
    return mask & ~changed if shrinks else changed


def feather_weights(mask: np.ndarray, pixels: int) -> np.ndarray:
    """How much of a fill to show, (H,W) float32: 1 in the bool mask, falling to 0 within so many pixels around it."""
    distance = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.clip(1 - distance / (pixels + 1), 0, 1).astype(np.float32)
