"""What scenes are painted with: numbers and textures, and a canvas on which picture and labels cannot disagree.

Every call lays down a shape, its colour and, unless it is mere shading, its class. Colours are functions of position
("materials").
"""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from PIL import Image

Material = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (h,w) x and y in scene units -> (h,w,3) RGB in 0..1
Colour = tuple[float, float, float] | np.ndarray | Material

# Of people, near and far.
SKINS = ("f3d3bd", "eabf9f", "e0ac86", "c98f68", "a56c48", "7c4d33", "5f3b27")
HAIRS = ("15110f", "2a1c14", "4a2f1d", "6e4726", "a3733f", "d2ad6c", "8d3f1f", "8f8b88", "c9c5c0")


def rgb(code: str) -> np.ndarray:
    """"c0ffee" -> (3,) float32 in 0..1."""
    return np.frombuffer(bytes.fromhex(code), dtype=np.uint8).astype(np.float32) / 255


def pick(generator: np.random.Generator, *codes: str) -> np.ndarray:
    """One of the colours, a little lighter or darker."""
    return np.clip(rgb(codes[generator.integers(len(codes))]) * np.float32(generator.uniform(0.9, 1.1)), 0, 1)


def ramp(start: float | np.ndarray, end: float | np.ndarray, value: np.ndarray) -> np.ndarray:
    """Smooth step: 0 at `start`, 1 at `end` (which may be the smaller one)."""
    t = np.clip((value - start) / (end - start), 0, 1)
    return t * t * (3 - 2 * t)


def mix(first: np.ndarray, second: np.ndarray, weight: np.ndarray | float) -> np.ndarray:
    """Linear blend of colours; an (h,w) weight blends per pixel."""
    weight = np.asarray(weight, dtype=np.float32)[..., None]
    return first * (1 - weight) + second * weight


def bump(x: np.ndarray, y: np.ndarray, cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
    """A Gaussian hill of height 1."""
    return np.exp(-0.5 * (((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2))


def smooth(points: list | np.ndarray, closed: bool = True) -> np.ndarray:
    """Rounds a polygon's corners (three times Chaikin's corner cutting)."""
    points = np.asarray(points, dtype=np.float32)
    for _ in range(3):
        following = np.roll(points, -1, axis=0)
        cut = np.stack([0.75 * points + 0.25 * following, 0.25 * points + 0.75 * following], axis=1).reshape(-1, 2)
        points = cut if closed else np.concatenate([points[:1], cut[:-2], points[-1:]])
    return points


def mirrored(right_half: list | np.ndarray) -> np.ndarray:
    """Closes a right half, listed top to bottom, with its mirror image about x = 0."""
    right = np.asarray(right_half, dtype=np.float32)
    return np.concatenate([right, (right * [-1, 1])[::-1]])


def ellipse(cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    return np.stack([cx + rx * np.cos(angle), cy + ry * np.sin(angle)], axis=1)


class Noise:
    """Smooth repeatable noise in 0..1 over the plane, from one table of random numbers."""

    def __init__(self, generator: np.random.Generator):
        self.table = generator.random((256, 256), dtype=np.float32)

    def __call__(self, x: np.ndarray, y: np.ndarray, octaves: int = 1) -> np.ndarray:
        """(h,w) coordinates, one random value a unit -> (h,w); each octave doubles the detail and halves the weight."""
        total, weight = np.zeros((), np.float32), 0.0
        for octave in range(octaves):
            at_x, at_y = (np.asarray(c * 2**octave + 37 * octave, dtype=np.float32) for c in (x, y))
            total = total + cv2.remap(self.table, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP) / 2**octave
            weight += 1 / 2**octave
        return total / weight

    def cell(self, column: np.ndarray, row: np.ndarray) -> np.ndarray:
        """One unrelated value for each integer cell."""
        return self.table[row.astype(np.int32) & 255, (column.astype(np.int32) * 7 + 3) & 255]


class Canvas:
    """A picture and its label map, painted together in scene units.

    size: (width, height) of the result in pixels.  unit: result pixels a scene unit.
    origin: where scene (0,0) lies, as a fraction of the size.  roll: the scene's rotation in radians.
    """

    def __init__(self, size: tuple[int, int], unit: float, origin: tuple[float, float], label: int, roll: float = 0.0):
        self.size = size
        self.oversampling = int(np.clip(round(300 / max(size)), 2, 8))
        width, height = (side * self.oversampling for side in size)
        self.scale = unit * self.oversampling
        self.rotation = np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]], dtype=np.float32)
        self.shift = np.array(origin, dtype=np.float32) * (width, height) - 0.5  # whole numbers are pixel centres
        columns = np.arange(width, dtype=np.float32)[None] - self.shift[0]
        rows = np.arange(height, dtype=np.float32)[:, None] - self.shift[1]
        (xx, yx), (xy, yy) = self.rotation / self.scale  # rotations invert by transposing
        self.x, self.y = columns * xx + rows * yx, columns * xy + rows * yy
        self.rgb = np.zeros((height, width, 3), dtype=np.float32)
        self.ids = np.full((height, width), label, dtype=np.uint8)

    def fill(self, outline: np.ndarray, colour: Colour | None, label: int | None = None, opacity=1.0, blur=0.0):
        """Fills a polygon (N,2). blur: softness of its edge in scene units. No colour: label only, and vice versa."""
        self._lay(outline, None, colour, label, opacity, blur)

    def stroke(self, line: np.ndarray, width: float, colour: Colour, label: int | None = None, opacity=1.0, blur=0.0):
        """Draws an open line (N,2), `width` in scene units."""
        self._lay(line, width, colour, label, opacity, blur)

    def wash(self, colour: Colour) -> None:
        """Colours every pixel and leaves the labels alone."""
        self.rgb[:] = colour(self.x, self.y) if callable(colour) else colour

    def _lay(self, points, width, colour, label, opacity, blur) -> None:
        pixels = np.asarray(points, dtype=np.float32) @ self.rotation * self.scale + self.shift
        if np.ptp(pixels, axis=0).max() < 0.5 * self.oversampling and not blur:
            return  # less than half a pixel of the result: the far end of a street is full of such things
        margin = int(3 * blur * self.scale + (width or 0) * self.scale) + 2
        limit = np.array(self.ids.shape[::-1])
        low = np.clip(np.floor(pixels.min(axis=0)) - margin, 0, limit).astype(int)
        high = np.clip(np.ceil(pixels.max(axis=0)) + margin, 0, limit).astype(int)
        if (high <= low).any():
            return
        area = np.s_[low[1] : high[1], low[0] : high[0]]
        mask = np.zeros((high - low)[::-1], dtype=np.uint8)
        corners = [np.round(np.clip(pixels - low, -30000, 30000) * 16).astype(np.int32)]  # 4 fractional bits
        if width is None:
            cv2.fillPoly(mask, corners, 255, shift=4)
        else:
            cv2.polylines(mask, corners, False, 255, thickness=max(1, round(width * self.scale)), shift=4)
        if label is not None:
            self.ids[area][mask > 0] = label
        if colour is None:
            return
        if callable(colour):
            colour = colour(self.x[area], self.y[area])
        alpha = mask.astype(np.float32)
        if blur * self.scale > 0.3:
            alpha = cv2.GaussianBlur(alpha, (0, 0), blur * self.scale)
        alpha *= opacity / 255
        region = self.rgb[area]
        region += (colour - region) * alpha[..., None]

    def finish(self, generator: np.random.Generator, grain: float) -> tuple[Image.Image, np.ndarray]:
        """Down to the size asked for, with sensor grain (standard deviation in 0..1): the picture and its ids."""
        picture: Any = cv2.resize(self.rgb, self.size, interpolation=cv2.INTER_AREA)
        picture += generator.normal(0, grain, picture.shape).astype(np.float32)
        picture = (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
        centre, step = self.oversampling // 2, self.oversampling
        return Image.fromarray(picture), self.ids[centre::step, centre::step].copy()
