"""What a visitor has drawn, from the browser's list of strokes (painter.js) to pixels of the photo's full size."""

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np

from fbinpaint.errors import InputError
from fbinpaint.labels import IGNORE

MAX_POINTS = 50_000  # of all strokes together
MAX_WORK = 25e9  # pixels to write for all of them, some written many times: one to three seconds
SHIFT = 4  # OpenCV takes points as whole numbers of 1/16 pixel


def marked(
    strokes: Sequence[dict], size: tuple[int, int], scale: float, mask: Callable[[str], np.ndarray]
) -> np.ndarray:
    """Strokes over a photo of (width, height) -> (H,W) bool.

    scale: pixels of the photo for one of the picture that was drawn on
    mask: gives the (H,W) bool mask of a name

    Raises InputError for what no page of ours sends.
    """
    canvas = np.zeros(size[::-1], np.uint8)
    for stroke in check(strokes, size, scale):
        if stroke["kind"] == "mask":
            canvas[mask(stroke["mask"])] = 1
        else:
            draw(canvas, stroke, scale, 0 if stroke.get("erase") else 1)
    return canvas.astype(bool)


def painted_classes(strokes: Sequence[dict], size: tuple[int, int], scale: float, num_classes: int) -> np.ndarray:
    """Strokes over a map -> (H,W) uint8 ids, 255 where nothing is painted. Raises InputError likewise."""
    canvas = np.full(size[::-1], IGNORE, np.uint8)
    for stroke in check(strokes, size, scale):
        label: Any = IGNORE if stroke.get("erase") else stroke.get("label")
        if stroke["kind"] == "mask" or label not in (*range(num_classes), IGNORE):
            raise InputError("The drawing on the map is not of this model's classes; reload the page and draw again.")
        draw(canvas, stroke, scale, label)
    return canvas


def draw(canvas: np.ndarray, stroke: dict, scale: float, value: int) -> None:
    """Puts a value where a line or an area covers the canvas (H,W) uint8, in place."""
    # Canvases count from the corner of the first pixel, OpenCV from its centre.
    points = np.asarray(stroke["points"], float) * scale - 0.5
    if stroke["kind"] == "area":
        fill_outline(canvas, points, value)
        return
    radius = max(0.5, float(stroke["size"]) * scale / 2)
    for x, y in points:
        centre = round(x * 2**SHIFT), round(y * 2**SHIFT)
        cv2.circle(canvas, centre, round(radius * 2**SHIFT), value, cv2.FILLED, shift=SHIFT)
    for a, b in zip(points[:-1], points[1:], strict=True):
        along = b - a
        if (length := np.hypot(*along)) > 0:
            across = np.array([-along[1], along[0]]) / length * radius
            corners = np.array([a + across, b + across, b - across, a - across])
            cv2.fillConvexPoly(canvas, np.rint(corners * 2**SHIFT).astype(np.int32), value, shift=SHIFT)


def fill_outline(canvas: np.ndarray, points: np.ndarray, value: int) -> None:
    """Puts a value where a closed line (n,2) surrounds the canvas (H,W) uint8, in place: once or twice, as whoever goes
    round a thing a second time means all of it. OpenCV leaves out what is surrounded twice."""
    left, top = np.floor(points.min(0)).clip(0, canvas.shape[::-1]).astype(int)
    right, bottom = (np.ceil(points.max(0)) + 1).clip(0, canvas.shape[::-1]).astype(int)
    if left >= right or top >= bottom:
        return
    inside = np.zeros((bottom - top, right - left), np.uint8)
    corners = np.rint((points - (left, top)) * 2**SHIFT).astype(np.int32)
    cv2.fillPoly(inside, [corners], 1, shift=SHIFT)
    outlines, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(inside, outlines, -1, 1, cv2.FILLED)
    canvas[top:bottom, left:right][inside > 0] = value


def work(stroke: dict, size: tuple[int, int], scale: float) -> float:
    """How long drawing a stroke takes, in pixels written."""
    width, height = size
    if stroke["kind"] == "mask":
        return 10 * width * height  # read and unpacked first
    points = np.asarray(stroke["points"], float) * scale
    if stroke["kind"] == "area":
        # In each row, OpenCV sorts all edges that cross it, in squared time.
        crossings = np.abs(np.diff(points[:, 1].clip(0, height), append=points[0, 1].clip(0, height))).sum() / height
        return width * height + 10 * height * crossings**2
    across = max(1.0, float(stroke["size"]) * scale)
    steps = np.hypot(*np.diff(points, axis=0).T).sum()
    disc, whole = min(across, width) * min(across, height), width * height
    return len(points) * disc + min(steps * across, len(points) * whole)


def check(strokes: Any, size: tuple[int, int], scale: float) -> Sequence[dict]:
    """The strokes, if they are such. Raises InputError otherwise, and for more than can be drawn in a moment."""
    try:
        total = needed = 0
        for stroke in strokes:
            if stroke["kind"] == "mask":
                right = isinstance(stroke["mask"], str)
            else:
                points = np.asarray(stroke["points"], float)
                total += len(points)
                right = stroke["kind"] in ("line", "area") and points.shape[1:] == (2,) and len(points) > 0
                right = right and bool(np.isfinite(points).all()) and np.abs(points).max() < 2**15
                if stroke["kind"] == "line":
                    brush: Any = stroke["size"]
                    right = right and isinstance(brush, int | float) and 0 < brush < 2**13
            if not right or total > MAX_POINTS:
                raise ValueError
            needed += work(stroke, size, scale)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise InputError("The drawing did not arrive as it was sent; reload the page and draw again.") from None
    if needed > MAX_WORK:
        raise InputError("So much is drawn that it takes too long: clear the marks, and use the lasso or the box.")
    return strokes
