"""Procedural faces and streets with exact label maps: data without a download, for the demo, the tests, a dry run.

    from fbinpaint.data.scenes import write_scenes
    write_scenes("scenes/train", "cityscapes", count=100, size=(128, 96), seed=0)

A scene is painted back to front on a `Canvas`: every call lays down a shape, its colour and, unless it is mere shading,
its class, so picture and labels cannot disagree. Colours are functions of position ("materials"). A street is seen
through a pinhole camera, so facades, road and cars are textured in metres and foreshorten by themselves; a face is lit
as a small height field. Both are drawn several times larger than asked, then averaged (picture) or sampled within a
quarter of a pixel of the pixel centres (labels). The same generator state gives the same scene at every size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from fbinpaint.labels import CELEBAMASK_HQ, CITYSCAPES, get_label_space

Material = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (h,w) x and y in scene units -> (h,w,3) RGB in 0..1
Colour = tuple[float, float, float] | np.ndarray | Material

FACE = {name: index for index, name in enumerate(CELEBAMASK_HQ.classes)}
STREET = {name: index for index, name in enumerate(CITYSCAPES.classes)}


# --------------------------------------------------------------------------------------------- numbers and textures


def rgb(code: str) -> np.ndarray:
    """"c0ffee" -> (3,) float32 in 0..1."""
    return np.frombuffer(bytes.fromhex(code), dtype=np.uint8).astype(np.float32) / 255


def pick(generator: np.random.Generator, *codes: str) -> np.ndarray:
    """One of the colours, a little lighter or darker."""
    return np.clip(rgb(codes[generator.integers(len(codes))]) * np.float32(generator.uniform(0.9, 1.1)), 0, 1)


def ramp(start: float, end: float, value: np.ndarray) -> np.ndarray:
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
        total, weight = 0.0, 0.0
        for octave in range(octaves):
            at_x, at_y = (np.asarray(c * 2**octave + 37 * octave, dtype=np.float32) for c in (x, y))
            total = total + cv2.remap(self.table, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP) / 2**octave
            weight += 1 / 2**octave
        return total / weight

    def cell(self, column: np.ndarray, row: np.ndarray) -> np.ndarray:
        """One unrelated value for each integer cell."""
        return self.table[row.astype(np.int32) & 255, (column.astype(np.int32) * 7 + 3) & 255]


# ------------------------------------------------------------------------------------------------------- the canvas


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
        picture = cv2.resize(self.rgb, self.size, interpolation=cv2.INTER_AREA)
        picture += generator.normal(0, grain, picture.shape).astype(np.float32)
        picture = (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
        centre, step = self.oversampling // 2, self.oversampling
        return Image.fromarray(picture), self.ids[centre::step, centre::step].copy()


# ------------------------------------------------------------------------------------------------------------- faces
# Face units: the eyes lie at x = -0.42 and 0.42 on y = -0.12, the chin at y = 1.3, the crown at y = -1.3.

SKINS = ("f3d3bd", "eabf9f", "e0ac86", "c98f68", "a56c48", "7c4d33", "5f3b27")
HAIRS = ("15110f", "2a1c14", "4a2f1d", "6e4726", "a3733f", "d2ad6c", "8d3f1f", "8f8b88", "c9c5c0")
LIPS = ("c4665f", "b9534f", "cf7a72", "a83c48", "94424a")
IRISES = ("3b2417", "4a2d1b", "6b4a2c", "54707f", "5f7350")
CLOTHS = ("1f2a44", "27272b", "7a1f2b", "e8e4dc", "3c5a4a", "8a9db5", "c9a227", "5b3a63", "b5533c", "2f6f7e")
BACKDROPS = ("8fa3b0", "c9c2b6", "3f4a55", "a7b89a", "d8cfc4", "6b5a52", "7c93b8", "2c3038", "b98f74")


@dataclass(frozen=True)
class Look:
    """What one person looks like; everything else follows from it."""

    skin: np.ndarray  # (3,) colours
    hair: np.ndarray
    lips: np.ndarray
    light: np.ndarray  # (3,) unit vector towards the light; x to the right, y down, z to the camera
    turn: float  # yaw of the head: how far the nose shifts sideways, in face units
    jaw: float  # relative width of the jaw
    smile: float  # 0 = serious, 1 = teeth showing
    beard: float  # 0 = none, 1 = dense
    style: str  # bald | short | bob | long
    made_up: bool  # lashes, jewellery

    @classmethod
    def draw(cls, g: np.random.Generator) -> "Look":
        long_haired = g.random() < 0.5
        style = str(g.choice(["long", "long", "bob"] if long_haired else ["short", "short", "short", "short", "bald"]))
        light = np.array([g.uniform(-0.8, 0.8), g.uniform(-0.7, -0.3), 0.85], dtype=np.float32)
        skin = pick(g, *SKINS)
        return cls(
            skin=skin,
            hair=pick(g, *HAIRS[: 3 if skin.mean() < 0.5 else None]),
            lips=mix(skin * (0.86, 0.64, 0.62), pick(g, *LIPS) * (0.5 + 0.6 * skin.mean()),
                     0.8 if long_haired else 0.25),
            light=light / np.linalg.norm(light),
            turn=g.uniform(-0.13, 0.13),
            jaw=g.uniform(0.9, 0.98) if long_haired else g.uniform(0.96, 1.08),
            smile=max(0.0, g.uniform(-0.5, 1.0)),
            beard=0.0 if long_haired else max(0.0, g.uniform(-0.8, 1.0)),
            style=style,
            made_up=long_haired,
        )


def face_scene(size: tuple[int, int], generator: np.random.Generator) -> tuple[Image.Image, np.ndarray]:
    """A portrait and its (H,W) uint8 CelebAMask-HQ ids; size is (width, height), from 16x16 up."""
    g = generator
    noise, look = Noise(g), Look.draw(g)
    origin = (0.5 + g.uniform(-0.03, 0.03), 0.48 + g.uniform(-0.01, 0.03))
    canvas = Canvas(size, min(size) * g.uniform(0.25, 0.285), origin, FACE["background"], roll=g.normal(0, 0.06))
    skin, hair = _skin(look, noise), _hair(look, noise, curl=max(0.0, g.uniform(-0.05, 0.06)),
                                           parting=g.uniform(-0.25, 0.25))

    _backdrop(canvas, g, noise)
    _hair_behind(canvas, look, hair, g)
    _body(canvas, look, noise, g)
    _ears(canvas, look, skin, g)
    _face(canvas, look, skin)
    glasses = _lenses(look, g) if g.random() < 0.2 else []
    for lens in glasses:
        canvas.fill(lens, rgb("3c4654"), FACE["eye_g"], opacity=0.1)
    _eyes_and_brows(canvas, look, noise, g)
    _mouth(canvas, look, noise)
    if look.style != "bald":
        _hair_in_front(canvas, look, hair, g)
    if g.random() < 0.12:
        _hat(canvas, look, noise, g)
    if glasses:
        _frame(canvas, look, glasses, pick(g, "1a1a1c", "4b2e1e", "8c7a55", "5d6066"))
    return canvas.finish(g, grain=0.012)


def _backdrop(canvas: Canvas, g: np.random.Generator, noise: Noise) -> None:
    """An out-of-focus room or garden: two colours, large soft shapes, and now and then lights."""
    near, far = pick(g, *BACKDROPS), pick(g, *BACKDROPS)
    angle = g.uniform(0, np.pi)
    canvas.wash(lambda x, y: mix(near, far, ramp(-2, 2, x * np.cos(angle) + y * np.sin(angle)))
                * (0.75 + 0.5 * noise(x * 0.9 + 9, y * 0.9, 2))[..., None])
    for _ in range(g.integers(0, 4)):
        x = g.uniform(-2, 2)
        canvas.fill(np.array([(x, -3), (x + g.uniform(0.2, 0.9), -3), (x + g.uniform(0.2, 0.9), 3), (x, 3)]),
                    pick(g, *BACKDROPS), opacity=0.45, blur=0.09)
    for _ in range(g.integers(0, 14)):
        radius = g.uniform(0.06, 0.17)
        canvas.fill(ellipse(*g.uniform(-2, 2, 2), radius, radius), pick(g, "ffe9c4", "fff6e6", "d7ecff"),
                    opacity=g.uniform(0.1, 0.35), blur=0.025)


def _skin(look: Look, noise: Noise) -> Material:
    """The face as a height field under one light: wrapped Lambert, a soft highlight, and shadows that redden."""

    def material(x, y):
        nose_x = look.turn * ramp(-0.3, 0.4, y)
        height = 1.15 * np.sqrt(np.clip(1.04 - ((x - 0.3 * look.turn) / 1.03) ** 2 - ((y + 0.05) / 1.6) ** 2, 0.02,
                                        None))
        bridge = np.where(y < 0.36, ramp(-0.45, 0.36, y), ramp(0.56, 0.36, y))
        height += 0.34 * bridge * np.exp(-0.5 * ((x - nose_x) / (0.09 + 0.05 * bridge)) ** 2)
        for side in (-1, 1):
            eye_x = side * 0.42 + 0.65 * look.turn
            height += 0.07 * bump(x, y, side * 0.16 + look.turn, 0.42, 0.085, 0.08)  # wings of the nose
            height -= 0.13 * bump(x, y, eye_x - side * 0.06, -0.15, 0.2, 0.12)  # eye sockets
            height += 0.05 * bump(x, y, eye_x, -0.12, 0.17, 0.09)  # eyeballs
            height += 0.05 * bump(x, y, eye_x, -0.38, 0.3, 0.09)  # brow ridge
            cheek_x = side * 0.54 + 0.5 * look.turn
            height += (0.06 + 0.07 * look.smile) * bump(x, y, cheek_x, 0.27, 0.2, 0.18)
        height += 0.08 * bump(x, y, 0.6 * look.turn, 1.1, 0.22, 0.14)  # chin
        height += 0.07 * bump(x, y, 0.8 * look.turn, 0.76, 0.3, 0.16)  # the teeth behind the lips
        height -= 0.05 * bump(x, y, 0.7 * look.turn, 0.95, 0.2, 0.04)
        height += 0.01 * noise(x * 9, y * 9, 3)
        step = np.hypot(x[0, 1] - x[0, 0], y[0, 1] - y[0, 0]) if x.shape[1] > 1 else 1.0
        down, across = (np.gradient(height, step, axis=axis) if height.shape[axis] > 1 else 0 * x for axis in (0, 1))
        length = np.sqrt(1 + down**2 + across**2)
        facing = (look.light[2] - across * look.light[0] - down * look.light[1]) / length
        half = look.light + (0, 0, 1)
        half = half / np.linalg.norm(half)
        gloss = np.clip((half[2] - across * half[0] - down * half[1]) / length, 0, 1) ** 24

        tone = look.skin * (0.93 + 0.12 * noise(x * 3, y * 3, 4))[..., None]
        blush = bump(np.abs(x), y, 0.56, 0.3, 0.24, 0.18) + bump(x, y, look.turn, 0.42, 0.15, 0.1)
        tone = mix(tone, tone * (1.04, 0.82, 0.8), 0.55 * np.clip(blush, 0, 1))
        if look.beard:
            stubble = ramp(0.42, 0.8, y + 0.32 * np.abs(x)) * (1 - 0.9 * bump(x, y, 0.8 * look.turn, 0.76, 0.24, 0.08))
            tone = mix(tone, look.hair * 0.8, look.beard * stubble * (0.35 + 0.5 * noise(x * 45, y * 22, 2)))
        lit = 0.38 + 0.72 * np.clip((facing + 0.25) / 1.25, 0, 1)
        shaded = tone * lit[..., None] ** np.array([0.8, 1.05, 1.15], dtype=np.float32)
        return shaded + 0.13 * gloss[..., None]

    return material


def _hair(look: Look, noise: Noise, curl: float, parting: float) -> Material:
    """Strands that run like meridians from the parting over the skull, then straight down, with a band of gloss."""

    def material(x, y):
        spread = np.sqrt(np.clip(1 - (np.minimum(y - 0.2, 0) / 1.75) ** 2, 0.03, 1))
        strand = (x - parting * (1 - spread)) / spread + curl * np.sin(9 * y + 6 * noise(x * 2, y * 0.7))
        streaks = 0.6 * noise(strand * 34, y * 1.3, 2) + 0.4 * noise(strand * 9, y * 0.8, 2)
        band = bump(strand - 0.9 * look.light[0], y, 0, -0.75, 0.5, 0.22) + 0.35 * bump(strand, y, 0, 0.6, 1.4, 0.2)
        volume = 0.55 + 0.45 * np.sqrt(np.clip(1 - (x / 1.6) ** 2, 0, 1)) + 0.2 * x * look.light[0]
        tone = look.hair * (volume * (0.45 + 1.05 * streaks))[..., None]
        return tone + (0.05 + 0.35 * look.hair) * (band * streaks**2)[..., None]

    return material


def _hair_behind(canvas: Canvas, look: Look, hair: Material, g: np.random.Generator) -> None:
    if look.style not in ("bob", "long"):
        return
    end = g.uniform(1.0, 1.3) if look.style == "bob" else g.uniform(1.9, 3.2)
    wide = g.uniform(1.12, 1.3)
    right = [(0, -1.5), (0.6, -1.46), (1.02, -1.0), (wide, -0.1), (wide + 0.06, 0.7), (wide, end - 0.15), (0.8, end),
             (0, end)]

    def shadowed(x, y):
        return hair(x, y) * (0.85 - 0.4 * bump(x, y, 0, 0.9, 0.9, 0.7))[..., None]

    canvas.fill(smooth(mirrored(right)), shadowed, FACE["hair"])


def _body(canvas: Canvas, look: Look, noise: Noise, g: np.random.Generator) -> None:
    """Neck, perhaps a necklace, and a garment with folds, a neckline and sometimes a pattern."""
    thick = 0.5 if look.made_up else 0.6

    def throat(x, y):
        lit = look.skin * (0.86 + 0.16 * x * look.light[0])[..., None]
        return mix(lit, look.skin * (0.5, 0.38, 0.34), 0.85 * ramp(1.95, 1.1, y + 0.25 * x * look.light[0]))

    right = [(thick, 0.6), (thick, 1.5), (thick + 0.12, 1.78), (1.3, 2.1), (1.3, 2.9)]
    canvas.fill(smooth(mirrored(right)), throat, FACE["neck"])
    if look.made_up and g.random() < 0.5:
        drop = g.uniform(1.95, 2.15)
        chain = smooth(mirrored([(0.0, drop), (0.3, drop - 0.1), (thick + 0.04, 1.6)])[[2, 1, 0, 4, 3]],
                       closed=False)
        canvas.stroke(chain + (0.015, 0.03), 0.05, look.skin * 0.5, opacity=0.5, blur=0.015)
        canvas.stroke(chain, 0.045, pick(g, "d9b45b", "e9e6df", "b9bcc2"), FACE["neck_l"])

    cloth, trim = pick(g, *CLOTHS), pick(g, *CLOTHS)
    neckline, stripes = g.uniform(1.75, 2.45) if look.made_up else g.uniform(1.62, 1.9), g.random() < 0.25
    shoulder = g.uniform(1.85, 2.1)

    def fabric(x, y):
        folds = noise(x * 1.6 + 0.8 * y, y * 0.7 + 50, 3) - 0.5
        tone = mix(cloth, trim, ramp(0.1, 0.3, np.sin(14 * y + 3 * folds))) if stripes else cloth
        weave = 0.95 + 0.1 * noise(x * 40, y * 40)
        round_off = 1 - 0.25 * ramp(0.6, 2.4, np.abs(x)) + 0.14 * x * look.light[0]
        return tone * (weave * round_off * (1 + 0.8 * folds))[..., None]

    right = [(0, neckline), (0.3, neckline - 0.1), (thick + 0.06, 1.52), (1.2, shoulder - 0.12), (2.0, shoulder + 0.2),
             (2.5, 2.9), (2.7, 12), (0, 12)]
    garment = smooth(mirrored(right))
    canvas.fill(garment + (0, -0.04), rgb("000000"), opacity=0.25, blur=0.05)
    canvas.fill(garment, fabric, FACE["cloth"])
    if not look.made_up and g.random() < 0.5:  # a shirt's collar
        for side in (-1, 1):
            flap = np.array([(0.04, neckline + 0.02), (thick + 0.1, 1.46), (thick + 0.22, 1.75),
                             (0.42, neckline + 0.34)])
            canvas.fill(flap * (side, 1) + (0.03, 0.04), rgb("000000"), opacity=0.35, blur=0.03)
            canvas.fill(flap * (side, 1), lambda x, y: mix(fabric(x, y), rgb("ffffff"), 0.2), FACE["cloth"])


def _ears(canvas: Canvas, look: Look, skin: Material, g: np.random.Generator) -> None:
    jewel = pick(g, "d9b45b", "e9e6df", "2f8f83") if look.made_up and g.random() < 0.6 else None
    for side, name in ((-1, "l_ear"), (1, "r_ear")):
        shift = np.array([-0.35 * look.turn, 0])
        ear = smooth(np.array([(0.86, -0.2), (1.0, -0.3), (1.1, -0.16), (1.06, 0.12), (0.97, 0.36), (0.86, 0.34)])
                     * (side, 1))
        inner = smooth(np.array([(0.93, -0.14), (1.02, -0.17), (1.03, -0.02), (0.96, 0.16)]) * (side, 1))
        shade = 0.86 + 0.22 * side * look.light[0]
        canvas.fill(ear + shift, look.skin * (1.0, 0.88, 0.84) * shade, FACE[name])
        canvas.fill(inner + shift, look.skin * (0.62, 0.42, 0.38) * shade, opacity=0.7, blur=0.03)
        if jewel is not None:
            length = g.uniform(0.05, 0.2)
            canvas.fill(ellipse(side * 0.97 - 0.35 * look.turn, 0.4 + length, 0.06, length), jewel, FACE["ear_r"])
            canvas.fill(ellipse(side * 0.955 - 0.35 * look.turn, 0.36 + length, 0.02, length / 3), rgb("ffffff"),
                        opacity=0.8)


def _face(canvas: Canvas, look: Look, skin: Material) -> None:
    chin = [(0.78 * look.jaw, 0.78), (0.5 * look.jaw, 1.13), (0.2, 1.31), (0, 1.32)]
    head = smooth(mirrored([(0, -1.24), (0.5, -1.18), (0.86, -0.78), (0.94, -0.15), (0.9, 0.32), *chin]))
    canvas.fill(head, skin, FACE["skin"])
    right = [(0.09, -0.16), (0.1, 0.15), (0.26, 0.36), (0.22, 0.48), (0.08, 0.54)]
    nose = mirrored(right)
    canvas.fill(smooth(nose + np.stack([look.turn * ramp(-0.3, 0.4, nose[:, 1]), 0 * nose[:, 1]], 1)), None,
                FACE["nose"])
    for side in (-1, 1):
        canvas.fill(ellipse(0.105 * side + look.turn, 0.462, 0.06, 0.026), look.skin * (0.3, 0.18, 0.16), opacity=0.8,
                    blur=0.014)
        if look.smile > 0.1:  # the fold from nose to mouth
            fold = smooth([(0.3 * side + look.turn, 0.38), (0.45 * side + 0.8 * look.turn, 0.6),
                           (0.47 * side + 0.8 * look.turn, 0.74)], closed=False)
            canvas.stroke(fold, 0.03, look.skin * (0.55, 0.4, 0.36), opacity=0.6 * look.smile, blur=0.025)


def _eyes_and_brows(canvas: Canvas, look: Look, noise: Noise, g: np.random.Generator) -> None:
    iris = pick(g, *IRISES[: 2 if look.skin.mean() < 0.5 else None])
    opening, arch = g.uniform(0.085, 0.12) - 0.02 * look.smile, g.uniform(0.03, 0.1)
    gaze, thickness, lift = g.uniform(-0.04, 0.04) + 0.3 * look.turn, g.uniform(0.032, 0.05), g.uniform(-0.02, 0.05)
    thickness += 0.0 if look.made_up else 0.02
    brow_tone = mix(look.hair * 0.75, look.skin * 0.6, 0.25)
    for side, eye, brow in ((-1, "l_eye", "l_brow"), (1, "r_eye", "r_brow")):
        at = np.array([side * 0.42 + 0.65 * look.turn, -0.12])
        lid = smooth(np.array([(-0.2, 0.035), (-0.1, -0.8 * opening), (0.05, -opening), (0.16, -0.5 * opening),
                               (0.215, -0.005)]) * (side, 1), closed=False) + at
        lower = smooth(np.array([(0.215, -0.005), (0.1, 0.75 * opening), (-0.06, 0.8 * opening), (-0.2, 0.035)])
                       * (side, 1),
                       closed=False) + at
        canvas.stroke(lid + (0, -0.055), 0.035, look.skin * (0.5, 0.36, 0.32), opacity=0.65, blur=0.016)  # crease
        if look.made_up:
            canvas.fill(lid + (0, -0.04), look.skin * (0.45, 0.32, 0.34), opacity=0.5, blur=0.04)

        def white(x, y, at=at):
            dim = 1 - 0.35 * ramp(0.02, -0.1, y - at[1]) - 0.3 * ramp(0.08, 0.22, np.abs(x - at[0]))
            return rgb("ede8e3") * dim[..., None]

        canvas.fill(np.concatenate([lid, lower]), white, FACE[eye])
        _iris(canvas, lid, lower, at + (gaze, -0.012), iris, noise)
        canvas.stroke(lid, 0.03 + 0.012 * look.made_up, look.hair * 0.25, opacity=0.9, blur=0.007)
        canvas.stroke(lower, 0.015, look.skin * (0.55, 0.36, 0.33), opacity=0.6, blur=0.008)
        if look.made_up:
            canvas.stroke(np.array([lid[-1], lid[-1] + (0.05 * side, -0.035)]), 0.02, look.hair * 0.25, opacity=0.8)

        inner, outer = (-0.21, -0.28 - 0.5 * lift), (0.29, -0.22 - 0.5 * lift)
        arc = [inner, (-0.1, -0.31 - 0.6 * arch), (0.1, -0.3 - arch), outer]
        back = [(0.1, -0.3 - arch + 1.1 * thickness), (-0.1, -0.31 - 0.6 * arch + 1.5 * thickness),
                (-0.22, -0.28 + 1.3 * thickness)]

        def bristles(x, y, side=side):
            return brow_tone * (0.6 + 0.9 * noise(x * 60 + side * 26 * y, y * 18, 2))[..., None]

        shape = smooth(np.array(arc + back) * (side, 1)) + at + (0, 0.02)
        canvas.fill(shape, bristles, FACE[brow], opacity=0.85, blur=0.012)


def _iris(canvas: Canvas, lid: np.ndarray, lower: np.ndarray, at: np.ndarray, tone: np.ndarray, noise: Noise) -> None:
    """Iris, pupil and catch light, cut off by the lids."""
    radius = 0.1

    def ring(x, y):
        r = np.hypot(x - at[0], y - at[1]) / radius
        fibres = 0.75 + 0.5 * noise(np.arctan2(y - at[1], x - at[0]) * 7 + 40, r * 1.5)
        colour = tone * (fibres * (1.15 - 0.75 * ramp(0.7, 1.0, r))
                         * (1 - 0.3 * ramp(0, -1, (y - at[1]) / radius)))[..., None]
        colour = mix(colour, rgb("0a0808"), ramp(0.47, 0.4, r))
        return mix(colour, rgb("ffffff"),
                   0.95 * ramp(0.24, 0.14, np.hypot(x - at[0] - 0.035, y - at[1] + 0.04) / radius))

    disc = ellipse(*at, radius, radius)
    edges = [np.interp(disc[:, 0], *edge[np.argsort(edge[:, 0])].T) for edge in (lid, lower)]
    canvas.fill(np.column_stack([disc[:, 0], np.clip(disc[:, 1], *edges)]), ring)


def _mouth(canvas: Canvas, look: Look, noise: Noise) -> None:
    """Two lips and, between them when smiling, the teeth (class "mouth")."""
    at = np.array([0.8 * look.turn, 0.77])
    half, gap, lift = 0.3 + 0.1 * look.smile, 0.1 * max(0.0, look.smile - 0.35), 0.07 * look.smile
    full = 0.085 if look.made_up else 0.06
    corner = (half, -lift)

    def lip(brightness):
        def material(x, y):
            across = 1 - 0.35 * ((x - at[0]) / half) ** 2
            return look.lips * (brightness * across * (0.85 + 0.3 * noise(x * 26, y * 5)))[..., None] \
                + 0.1 * bump(x, y, at[0] + 0.08 * look.light[0], at[1] + gap + 0.5 * full, 0.12, 0.02)[..., None]
        return material

    upper = mirrored([(0.0, -0.75 * full), (0.07, -full), (0.2, -0.6 * full - 0.4 * lift), corner,
                      (0.15, 0.01 - 0.2 * lift), (0, 0.015)])
    lower = mirrored([(0.0, 0.015 + gap), (0.15, 0.01 + gap - 0.2 * lift), corner, (0.22, gap + 0.7 * full),
                      (0.08, gap + 1.35 * full), (0, gap + 1.4 * full)])
    inside = mirrored([(0, 0), (0.16, -0.01), corner, (0.16, gap + 0.02), (0, gap + 0.03)])
    canvas.fill(smooth(lower) + at + (0, 0.05), look.skin * (0.5, 0.36, 0.32), opacity=0.4, blur=0.04)
    if gap > 0:
        canvas.fill(smooth(inside) + at, lambda x, y: np.array([0.94, 0.92, 0.88], dtype=np.float32)
                    * (ramp(half, half * 0.5, np.abs(x - at[0]))
                       * (1 - 0.25 * np.abs(np.sin((x - at[0]) * 42)) ** 12))[..., None],
                    FACE["mouth"])
    canvas.fill(smooth(lower) + at, lip(1.05), FACE["l_lip"], blur=0.008)
    canvas.fill(smooth(upper) + at, lip(0.8), FACE["u_lip"], blur=0.008)
    if gap == 0:
        line = np.array([(-half, -lift), (-0.15, 0.012), (0, 0.022), (0.15, 0.012), (half, -lift)]) + at
        canvas.stroke(smooth(line, closed=False), 0.022, look.lips * 0.35, opacity=0.8, blur=0.008)


def _hair_in_front(canvas: Canvas, look: Look, hair: Material, g: np.random.Generator) -> None:
    """The skull cap of hair down to the hairline: a fringe, a side parting, a centre parting, or brushed back."""
    high = g.uniform(-0.95, -0.8)
    right_lock = left_lock = []
    if look.style == "short":
        temple, puff = 0.06, g.uniform(0.0, 0.16)
        outer = [(0.99, -0.1), (1.03, -0.5), (0.97, -0.98), (0.62, -1.38 - puff), (0, -1.46 - puff)]
    else:
        temple = g.uniform(0.5, 0.9)
        outer = [(1.08, temple), (1.14, 0.0), (1.1, -0.6), (0.98, -1.08), (0.6, -1.46), (0, -1.56)]
        right_lock, left_lock = [(0.9, 0.2 * temple)], [(-0.9, 0.2 * temple)]
    hairline = {
        "back": [(0.88, -0.3), (0.8, -0.66), (0.45, high), (0, high - 0.06), (-0.45, high), (-0.8, -0.66),
                 (-0.88, -0.3)],
        "fringe": [(0.86, -0.2), (0.8, -0.5), (0.4, -0.52), (0, -0.55), (-0.4, -0.52), (-0.8, -0.5), (-0.86, -0.2)],
        "side": [(0.88, -0.25), (0.82, -0.5), (0.3, -0.72), (-0.3, high - 0.08), (-0.5, high), (-0.8, -0.6),
                 (-0.88, -0.25)],
        "centre": [(0.89, -0.1), (0.76, -0.55), (0.35, -0.88), (0, -1.15), (-0.35, -0.88), (-0.76, -0.55),
                   (-0.89, -0.1)],
    }[str(g.choice(["back", "fringe", "side"] if look.style == "short" else ["centre", "side", "fringe", "centre"]))]
    mirror = 1 - 2 * int(g.integers(2))
    outer_left = [(-x, y) for x, y in outer]
    cap = np.array([*outer_left, *outer[-2::-1], *right_lock, *hairline, *left_lock], dtype=np.float32) * (mirror, 1)
    canvas.fill(smooth(cap) + (0, 0.035), rgb("140a06"), opacity=0.4, blur=0.05)
    canvas.fill(smooth(cap), hair, FACE["hair"], blur=0.012)


def _hat(canvas: Canvas, look: Look, noise: Noise, g: np.random.Generator) -> None:
    """A knitted cap or a brimmed hat."""
    tone, band = pick(g, *CLOTHS), g.uniform(-0.72, -0.6)

    def felt(x, y):
        volume = 0.6 + 0.45 * np.sqrt(np.clip(1 - (x / 1.25) ** 2, 0, 1)) + 0.2 * x * look.light[0]
        return tone * (volume * (0.8 + 0.3 * noise(x * 30, y * 30)))[..., None]

    def ribbed(x, y):
        return felt(x, y) * (0.75 + 0.35 * np.abs(np.sin(22 * np.arcsin(np.clip(x / 1.3, -1, 1)))))[..., None]

    def brim(x, y):
        return felt(x, y) * (1 - 0.5 * ramp(band - 0.1, band + 0.14, y))[..., None]

    dome = [(0, -1.85), (0.6, -1.76), (1.05, -1.3), (1.12, band), (0.9, band + 0.06), (0, band - 0.06)]
    canvas.fill(smooth(mirrored(dome)) + (0, 0.06), rgb("000000"), opacity=0.35, blur=0.05)
    canvas.fill(smooth(mirrored(dome)), felt, FACE["hat"])
    if g.random() < 0.6:
        edge, material = [(0, band - 0.36), (0.7, band - 0.32), (1.13, band - 0.24), (1.15, band), (0.8, band + 0.1),
                          (0, band + 0.02)], ribbed
    else:
        edge, material = [(0, band - 0.16), (1.0, band - 0.2), (1.6, band - 0.12), (1.5, band + 0.02),
                          (0.8, band + 0.14), (0, band + 0.1)], brim
    canvas.fill(smooth(mirrored(edge)), material, FACE["hat"])


def _lenses(look: Look, g: np.random.Generator) -> list[np.ndarray]:
    tall, boxy = g.uniform(0.2, 0.28), g.uniform(0.75, 1.0)
    right = smooth([(0.34, 0), (0.3 * boxy, tall), (-0.25 * boxy, tall), (-0.31, 0), (-0.28 * boxy, -tall),
                    (0.32 * boxy, -tall)])
    return [right * (side, 1) + (side * 0.42 + 0.7 * look.turn, -0.08) for side in (-1, 1)]


def _frame(canvas: Canvas, look: Look, lenses: list[np.ndarray], tone: np.ndarray) -> None:
    middle = 0.7 * look.turn
    lines = [np.concatenate([lens, lens[:1]]) for lens in lenses]
    lines.append(smooth([(middle - 0.12, -0.1), (middle, -0.17), (middle + 0.12, -0.1)], closed=False))
    lines += [np.array([(side * 0.74 + middle, -0.12), (side * 0.94, -0.16)]) for side in (-1, 1)]
    for line in lines:
        canvas.stroke(line + (0, 0.03), 0.04, rgb("000000"), opacity=0.25, blur=0.02)
        canvas.stroke(line, 0.042, tone, FACE["eye_g"])


# ----------------------------------------------------------------------------------------------------------- streets
# World units are metres: X to the right, Y up from the road, Z away from the camera. Scene units are picture heights.

FACADES = ("b9a48c", "a8674f", "c8bda8", "8d8478", "d6c7a1", "9c5b47", "7f8a93", "b7b2a8", "c99a78", "6f6a66")
PAINTS = ("a31621", "1f2d4d", "c9ccd0", "1d1f22", "e9e9e6", "5b6670", "2f5d50", "8a8f96", "b5762f", "3d6fa5")
CLOTHES = ("1f2937", "7a2e2e", "2f4858", "c9b79c", "3b3b3f", "8c5a2b", "4f6d7a", "d7d3cb", "b03a2e", "3f5f3a")
LEAVES = ("4d6b2f", "3f5d2c", "6b7f35", "56702f", "7a7a34", "8a6f2c")
WEATHERS = (  # zenith, horizon, sunlight (may exceed 1), shade, cloudiness
    ("4b83c4", "cfe0ee", (1.08, 1.02, 0.92), (0.62, 0.66, 0.74), 0.45),
    ("8e9aa6", "dfe3e6", (0.86, 0.88, 0.9), (0.74, 0.76, 0.79), 0.9),
    ("5a6fa3", "f3c79a", (1.12, 0.96, 0.8), (0.52, 0.52, 0.6), 0.5),
    ("6fa6d8", "e9f1f6", (1.12, 1.08, 1.0), (0.66, 0.7, 0.76), 0.2),
)


class Street:
    """Camera, weather and the canvas they are painted on: what every object of the scene needs to draw itself."""

    def __init__(self, size: tuple[int, int], g: np.random.Generator):
        self.noise, self.focal, self.camera_height = Noise(g), g.uniform(0.85, 1.05), g.uniform(1.45, 1.9)
        zenith, horizon, sun, shade, self.cloudiness = WEATHERS[g.integers(len(WEATHERS))]
        self.zenith, self.haze = pick(g, zenith), pick(g, horizon)
        self.sun, self.shade = np.array(sun, dtype=np.float32), np.array(shade, dtype=np.float32)
        self.sunny_side = 1 - 2 * int(g.integers(2))  # the side of the street whose facades are lit
        self.road = g.uniform(3.6, 6.0)  # half widths: carriageway, then kerb to building line
        self.building_line = self.road + g.uniform(2.2, 4.0)
        self.canvas = Canvas(size, size[1], (0.5 + g.uniform(-0.1, 0.1), g.uniform(0.44, 0.52)), STREET["sky"])

    def project(self, points: list | np.ndarray) -> np.ndarray:
        """(N,3) metres -> (N,2) scene units. Z must be positive."""
        points = np.asarray(points, dtype=np.float32)
        return np.stack([points[:, 0], self.camera_height - points[:, 1]], axis=1) * self.focal / points[:, 2:]

    def fog(self, colour: np.ndarray, distance: np.ndarray | float) -> np.ndarray:
        return mix(colour, self.haze, 0.75 * (1 - np.exp(-np.asarray(distance, dtype=np.float32) / 110)))

    def side_wall(self, wall_x: float, texture: Callable) -> Material:
        """A wall along the street at X = wall_x, coloured by texture(Z, Y)."""

        def material(x, y):
            depth = np.clip(self.focal * wall_x / np.where(np.abs(x) < 1e-4, 1e-4, x), 0.5, 400)
            return self.fog(texture(depth, self.camera_height - y * depth / self.focal), depth)

        return material

    def facing(self, z: float, texture: Callable) -> Material:
        """A surface across the street at Z = z, coloured by texture(X, Y)."""
        metres = float(z / self.focal)
        return lambda x, y: self.fog(texture(x * metres, self.camera_height - y * metres), z)

    def ground(self, texture: Callable) -> Material:
        """The ground, coloured by texture(X, Z), with the shadow that the unlit side's houses throw on it."""

        def material(x, y):
            depth = self.focal * self.camera_height / np.clip(y, 2e-3, None)
            across = x * depth / self.focal
            reach = -self.building_line + 2.2 + 3.2 * self.noise.cell(np.floor(depth / 9), np.floor(0 * depth))
            light = mix(self.shade, self.sun, ramp(reach - 0.1, reach + 0.1, -across * self.sunny_side * -1))
            return self.fog(texture(across, depth) * light, depth)

        return material

    def upright(self, outline: list | np.ndarray, at: tuple[float, float]) -> np.ndarray:
        """A flat shape (N,2) in metres (X, Y), standing at (X, Z) across the street, in scene units."""
        outline = np.asarray(outline, dtype=np.float32)
        return self.project(np.column_stack([outline[:, 0] + at[0], outline[:, 1], np.full(len(outline), at[1])]))

    def contact_shadow(self, x0: float, x1: float, z0: float, z1: float) -> None:
        """The soft dark patch that makes things stand on the ground."""
        self.canvas.fill(self.project([(x0, 0, z0), (x1, 0, z0), (x1, 0, z1), (x0, 0, z1)]), rgb("08090c"),
                         opacity=0.55,
                         blur=0.12 * self.focal / z0)


def street_scene(size: tuple[int, int], generator: np.random.Generator) -> tuple[Image.Image, np.ndarray]:
    """A street and its (H,W) uint8 Cityscapes train ids; size is (width, height), from 16x16 up."""
    g, street = generator, Street(size, generator)
    _sky(street, g)
    _ground(street, g)
    for side in (-1, 1):
        _frontage(street, side, g)
    for _, draw in sorted(_furniture(street, g) + _traffic(street, g), key=lambda item: -item[0]):
        draw()
    return street.canvas.finish(g, grain=0.012)


def _sky(street: Street, g: np.random.Generator) -> None:
    """Sky with perspective clouds, and a far line of trees or roofs on the horizon."""
    cover, drift = street.cloudiness, g.uniform(0, 99)

    def sky(x, y):
        up = np.clip(-y, 0.0, 1)
        base = mix(street.haze, street.zenith, ramp(0, 0.55, up) ** 0.8)
        clouds = street.noise(x * 1.6 / (up + 0.25) + drift, 1.4 / (up + 0.2), 5)
        density = ramp(0.72 - 0.4 * cover, 0.95 - 0.4 * cover, clouds)
        lit = mix(street.haze * 0.82, np.minimum(street.haze * 1.25, 1), ramp(0.4, 0.8, clouds))
        glow = bump(x, y, 0.5 * street.sunny_side * -1, -0.1, 0.5, 0.25)
        return mix(base, lit, 0.85 * density * ramp(0.0, 0.15, up)) + 0.12 * street.sun * glow[..., None]

    street.canvas.wash(sky)
    far = np.linspace(-3, 3, 120)
    ridge = -0.012 - 0.06 * street.noise(far[None] * 6 + drift, 0 * far[None], 4)[0]
    outline = np.concatenate([np.column_stack([far, ridge]), [(3, 0.03), (-3, 0.03)]])
    street.canvas.fill(outline, street.fog(pick(g, *LEAVES) * street.shade, 120), STREET["vegetation"])


def _ground(street: Street, g: np.random.Generator) -> None:
    noise, road, line = street.noise, street.road, street.building_line
    asphalt, paving = pick(g, "6a6b6e", "5c5d60", "777470"), pick(g, "a9a39a", "b5aca0", "94928f")
    grass = pick(g, *LEAVES)
    verge = max(0.0, g.uniform(-2.0, 1.6))
    tile, dashes, zebra = g.uniform(0.5, 1.0), g.uniform(0, 9), g.uniform(9, 40) if g.random() < 0.3 else -1.0

    def tarmac(x, z):
        tone = asphalt * (0.86 + 0.2 * noise(x * 3, z * 0.7, 4) + 0.06 * noise(x * 25, z * 25))[..., None]
        tone = tone * (1 - 0.1 * bump(np.abs(np.abs(x) - road / 2), 0 * x, 0.8, 0, 0.25, 1))[..., None]  # wheel tracks
        paint = ((np.abs(x) < 0.08) & (np.mod(z + dashes, 7) < 3.2)) | (np.abs(np.abs(x) - road + 0.35) < 0.06)
        paint |= (np.abs(z - zebra) < 1.6) & (np.mod(x, 1.0) < 0.5)
        return mix(tone, rgb("e6e3da"), 0.8 * paint * (0.65 + 0.35 * noise(x * 9, z * 9)))

    def pavement(x, z):
        joints = (np.mod(x, tile) < 0.04) | (np.mod(z, tile) < 0.04)
        slab = noise.cell(np.floor(x / tile), np.floor(z / tile))
        kerb = np.abs(np.abs(x) - road) < 0.18
        tone = paving * ((0.86 + 0.14 * slab + 0.12 * noise(x * 4, z * 4, 3))
                         * (1 - 0.22 * joints * ramp(40, 10, z)))[..., None]
        return mix(tone, rgb("c6c3bd"), 0.7 * kerb)

    def lawn(x, z):
        return grass * (0.85 + 0.7 * noise(x * 2, z * 2, 4))[..., None]

    def strip(x0, x1):
        return street.project([(x0, 0, 0.3), (x1, 0, 0.3), (x1, 0, 900), (x0, 0, 900)])

    street.canvas.fill(np.array([(-9, 0), (9, 0), (9, 9), (-9, 9)]), street.ground(lawn), STREET["terrain"])
    street.canvas.fill(strip(-line, line), street.ground(pavement), STREET["sidewalk"])
    for side in (-1, 1):
        if verge > 0.4:  # a strip of grass between kerb and pavement
            street.canvas.fill(strip(side * road, side * (road + verge)), street.ground(lawn), STREET["terrain"])
    street.canvas.fill(strip(-road, road), street.ground(tarmac), STREET["road"])


def _frontage(street: Street, side: int, g: np.random.Generator) -> None:
    """One side of the street, from far to near: houses, and gaps with trees behind a wall, a fence or a lawn."""
    edges = [g.uniform(-8, 4)]
    while edges[-1] < 110:
        edges.append(edges[-1] + g.uniform(8, 20))
    for near, far in reversed(list(zip(edges[:-1], edges[1:], strict=True))):
        if far < 2.5:
            continue
        near = max(near, 1.2)
        if g.random() < 0.78:
            _house(street, side, near, far, g)
        else:
            for z in np.linspace(far, near + 1.5, 3).tolist():
                _tree(street, side * (street.building_line + g.uniform(2, 6)), z, g.uniform(5, 9), g)
            kind = str(g.choice(["wall", "fence", "open"]))
            if kind != "open":
                _barrier(street, side, near, far, kind, g)


def _house(street: Street, side: int, near: float, far: float, g: np.random.Generator) -> None:
    noise, canvas = street.noise, street.canvas
    wall_x, storey = side * (street.building_line + g.uniform(0.0, 0.8)), g.uniform(2.9, 3.6)
    height, bay, seed = storey * int(g.integers(2, 7)) + 1.0, g.uniform(2.0, 3.6), int(g.integers(200))
    tone, trim, shop = pick(g, *FACADES), pick(g, "efe9dc", "5a4a40", "d8d2c6"), g.random() < 0.5
    shop_tone, wide, tall = pick(g, *PAINTS), g.uniform(0.2, 0.38), g.uniform(0.24, 0.36)
    glass_tone = mix(rgb("25303a"), street.haze, 0.3)

    def facade(light):
        def texture(u, v):
            column, row = np.floor(u / bay), np.floor(v / storey)
            across, up = np.abs(u / bay - column - 0.5), np.abs(v / storey - row - 0.52)
            stone = tone * (0.84 + 0.22 * noise(u * 1.2, v * 1.2, 4) - 0.05 * (np.mod(v, 0.35) < 0.05))[..., None]
            stone = mix(stone, trim, 0.7 * ((np.mod(v, storey) < 0.16) & (v > 1)) + 0.8 * (v > height - 0.45))
            lot = noise.cell(column + seed, row + seed)
            glass = glass_tone * (0.55 + 0.8 * lot + 0.35 * (0.5 - up))[..., None]
            glass = glass + 0.14 * street.haze * (lot > 0.7)[..., None]
            glass = mix(glass, trim * 0.9, (across < 0.015) | (np.abs(up - 0.08) < 0.012))
            framed = (across < wide + 0.05) & (up < tall + 0.05) & (v < height - 0.6)
            open_ = (across < wide) & (up < tall)
            surface = mix(mix(stone, trim, 0.9 * framed), glass, framed & open_)
            if shop:
                front = mix(shop_tone * (0.8 + 0.2 * noise(u, v, 2))[..., None], glass,
                            (v > 0.5) & (v < 2.3) & (across < 0.43))
                front = mix(front, mix(shop_tone, rgb("ffffff"), 0.75),
                            (np.abs(v - 2.65) < 0.1) & (noise(u * 5 + seed, v * 0) > 0.45) & (across < 0.35))
                surface = mix(surface, front, v < min(3.0, storey))
            return surface * light * (0.68 + 0.32 * ramp(-0.3, 2.5, v))[..., None]
        return texture

    lit = street.sun if side == street.sunny_side else street.shade
    canvas.fill(street.project([(wall_x, 0, near), (wall_x, height, near), (wall_x, height, far), (wall_x, 0, far)]),
                street.side_wall(wall_x, facade(lit)), STREET["building"])
    end = wall_x + side * 30
    canvas.fill(street.project([(wall_x, 0, near), (wall_x, height, near), (end, height, near), (end, 0, near)]),
                street.facing(near, facade(0.5 * street.sun + 0.42 * street.shade)), STREET["building"])


def _barrier(street: Street, side: int, near: float, far: float, kind: str, g: np.random.Generator) -> None:
    """A garden wall or a fence of pickets along the building line."""
    x, height, tone = side * street.building_line, g.uniform(0.9, 1.7), pick(g, *FACADES)
    light = street.sun if side == street.sunny_side else street.shade

    def texture(z, y):
        if kind == "wall":
            courses = np.floor(y / 0.2)
            joint = (np.mod(y, 0.2) < 0.025) | (np.mod(z + 0.25 * courses, 0.5) < 0.03)
            grey = (0.75 + 0.3 * street.noise.cell(np.floor((z + 0.25 * courses) * 2), courses)) * (1 - 0.3 * joint)
        else:
            grey = np.where(np.mod(z, 0.24) < 0.13, 1.0, 0.35) + 0.4 * (np.abs(y - 0.8 * height) < 0.06)
        return tone * light * grey[..., None]

    street.canvas.fill(street.project([(x, 0, near), (x, height, near), (x, height, far), (x, 0, far)]),
                       street.side_wall(x, texture), STREET[kind])


def _tree(street: Street, x: float, z: float, height: float, g: np.random.Generator) -> None:
    """A trunk and a crown of leaf clusters, dark ones first, lighter ones towards the sky."""
    canvas, noise, label = street.canvas, street.noise, STREET["vegetation"]
    if z < 2.0:
        return
    trunk, leaf, wide = 0.02 * height + 0.06, pick(g, *LEAVES), 0.26 * height
    street.contact_shadow(x - 0.5, x + 0.5, z, z + 0.5)
    bark_tone = rgb("5b4a3a") * street.shade
    bark = street.facing(z, lambda u, v: bark_tone * (0.6 + 0.8 * noise(u * 14, v * 3, 2))[..., None])
    canvas.fill(street.upright([(-trunk, 0), (-0.6 * trunk, 0.6 * height), (0.6 * trunk, 0.6 * height), (trunk, 0)],
                               (x, z)), bark,
                label)
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    for layer in range(7):
        up = 0.45 * height + (0.5 * height) * (layer + 0.5 * g.random()) / 7
        radius = wide * (0.62 - 0.045 * layer) * g.uniform(0.85, 1.15)
        at = g.uniform(-0.55, 0.55) * wide * (1 - layer / 9)
        rough = radius * (0.8 + 0.45 * g.random(48))
        light = mix(street.shade * 0.62, street.sun * 1.05, layer / 6)

        def leaves(u, v, light=light, up=up, radius=radius):
            depth = 0.5 + 0.8 * noise(u * 5, v * 5, 3) + 0.25 * (v - up) / radius
            return leaf * light * depth[..., None]

        blob = np.column_stack([at + rough * np.cos(angle), up + 0.8 * rough * np.sin(angle)])
        canvas.fill(street.upright(blob, (x, z)), street.facing(z, leaves), label)


def _furniture(street: Street, g: np.random.Generator) -> list[tuple[float, Callable]]:
    """Trees, lamps, lights, signs, people and parked bicycles on the pavements, each with its distance."""
    items = []
    kerb, depth = street.road + 0.45, street.building_line - street.road
    for side in (-1, 1):
        lined = g.random() < 0.4
        for z in np.arange(g.uniform(5, 12), 55, g.uniform(9, 15)).tolist():
            if lined:
                items.append((z, lambda z=z, side=side: _tree(street, side * (kerb + 0.3), z, g.uniform(5, 8), g)))
            elif g.random() < 0.75:
                items.append((z, lambda z=z, side=side: _lamp(street, side * kerb, z, side, g)))
        for draw, chance in ((_traffic_light, 0.6), (_sign, 0.85), (_sign, 0.5)):
            if g.random() < chance:
                z = g.uniform(4, 22)
                items.append((z, lambda z=z, side=side, draw=draw: draw(street, side * (kerb + 0.1), z, g)))
        for _ in range(g.integers(0, 6)):
            x, z = side * (street.road + g.uniform(0.25, 0.9) * depth), g.uniform(4.5, 30)
            items.append((z, lambda x=x, z=z: _person(street, x, z, STREET["person"], g)))
        if g.random() < 0.3:
            z = g.uniform(5, 14)
            items.append((z, lambda z=z, side=side: _cycle(street, side * (kerb + 0.6), z, "bicycle", False, g)))
    return items


def _pole(street: Street, x: float, z: float, height: float, radius: float, tone: np.ndarray) -> None:
    material = street.facing(z, lambda u,
                             v: tone * street.shade * (1.25 - 0.6 * ramp(-radius, radius, u - x))[..., None])
    street.canvas.fill(street.upright([(-radius, 0), (-radius, height), (radius, height), (radius, 0)], (x, z)),
                       material,
                       STREET["pole"])


def _lamp(street: Street, x: float, z: float, side: int, g: np.random.Generator) -> None:
    tone, arm = pick(g, "5a5f63", "3c4144", "7d8286"), -side * 1.3
    _pole(street, x, z, 6.2, 0.09, tone)
    line = street.upright(smooth([(0, 6.1), (0.1 * arm, 6.6), (arm, 6.7)], closed=False), (x, z))
    street.canvas.stroke(line, 0.09 * street.focal / z, street.fog(tone * street.shade, z), STREET["pole"])
    head = [(0.8 * arm, 6.62), (0.8 * arm, 6.78), (1.35 * arm, 6.75), (1.35 * arm, 6.62)]
    street.canvas.fill(street.upright(head, (x, z)), street.fog(rgb("dcdcd2") * street.shade, z), STREET["pole"])


def _traffic_light(street: Street, x: float, z: float, g: np.random.Generator) -> None:
    _pole(street, x, z, 3.4, 0.07, rgb("55595c"))
    street.canvas.fill(street.upright([(-0.26, 2.3), (-0.26, 3.45), (0.26, 3.45), (0.26, 2.3)], (x, z)),
                       street.fog(rgb("1c1f20"), z), STREET["traffic light"])
    lit = g.integers(3)
    for index, (bright, dark) in enumerate((("2fd67a", "123a24"), ("ffb52e", "40300f"), ("ff4034", "42130f"))):
        lamp = street.upright(ellipse(0, 2.52 + 0.35 * index, 0.14, 0.14), (x, z))
        street.canvas.fill(lamp, rgb(bright if index == lit else dark), opacity=0.95)
        if index == lit:
            street.canvas.fill(lamp, rgb(bright), opacity=0.5, blur=0.12 * street.focal / z)


def _sign(street: Street, x: float, z: float, g: np.random.Generator) -> None:
    _pole(street, x, z, 2.6, 0.045, rgb("8c9195"))
    rim, face, corners = [("c8202a", "f1efe8", 32), ("c8202a", "f1efe8", 3), ("1f5fb0", "1f5fb0", 32),
                          ("1f5fb0", "2a6cc0", 4),
                          ("f0c419", "f0c419", 4)][g.integers(5)]
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False) + (np.pi / 2 if corners == 3 else np.pi / 4)
    shape = np.column_stack([np.cos(angle), np.sin(angle)])
    for radius, tone in ((0.42, rim), (0.31, face)):
        street.canvas.fill(street.upright(radius * shape + (0, 2.5), (x, z)),
                           street.fog(rgb(tone) * (street.sun + street.shade) / 2, z),
                           STREET["traffic sign"])
    street.canvas.fill(street.upright(np.array([(-0.06, -0.16), (-0.06, 0.1), (0.06, 0.1), (0.06, -0.16)]) + (0, 2.5),
                                      (x, z)),
                       rgb("20242a") if face == "f1efe8" else rgb("f4f2ec"), opacity=0.85)


def _person(street: Street, x: float, z: float, label: int, g: np.random.Generator, seat: float = 0.0) -> None:
    """Someone walking, or, with a `seat` above 0 (metres a rider sits higher), leaning over a bicycle."""
    tall, stride, lean = g.uniform(0.92, 1.05), g.uniform(0.04, 0.24), 0.0 if seat == 0 else 0.35
    light = (street.sun + street.shade) / 2
    coat, trousers = pick(g, *CLOTHES), pick(g, "20242c", "2c3446", "4a4038", "6b6257")
    skin, hair = pick(g, *SKINS), pick(g, *HAIRS)
    if seat == 0:
        street.contact_shadow(x - 0.3, x + 0.3, z - 0.1, z + 0.25)

    def part(outline, tone, rounded=True):
        outline = np.asarray(outline, dtype=np.float32) * tall + (0, seat)
        outline[:, 0] += lean * np.clip(outline[:, 1] - seat - 0.8, 0, None)

        def shaded(u, v):
            return tone * light * (1.1 - 0.45 * ramp(-0.22, 0.26, (x - u) * street.sunny_side))[..., None]

        shape = street.upright(smooth(outline) if rounded else outline, (x, z))
        street.canvas.fill(shape, street.facing(z, shaded), label)

    for foot, shade in ((-stride, 0.75), (stride, 1.0)) if seat == 0 else ():
        part([(foot - 0.07, 0.02), (-0.13 + 0.3 * foot, 0.85), (0.13 + 0.3 * foot, 0.85), (foot + 0.07, 0.02)],
             trousers * shade, False)
        part([(foot - 0.08, 0.0), (foot - 0.08, 0.09), (foot + 0.13, 0.09), (foot + 0.13, 0.0)], rgb("1c1a19"), False)
    if seat:
        for shift, shade in ((-0.1, 0.75), (0.02, 1.0)):
            leg = np.array([(-0.16, 0.72), (-0.1, 0.9), (0.14, 0.86), (0.36, 0.5), (0.26, 0.0), (0.12, 0.0),
                            (0.2, 0.46)])
            part(leg + (shift, 0), trousers * shade)
    for arm in (-1, 1):
        part([(arm * 0.2, 1.42), (arm * 0.3, 1.3), (arm * 0.28 + 0.4 * stride, 0.82),
              (arm * 0.2 + 0.4 * stride, 0.82)], coat * 0.82)
    part([(-0.13, 1.46), (0.13, 1.46), (0.25, 1.38), (0.19, 0.8), (-0.19, 0.8), (-0.25, 1.38)], coat)
    part([(-0.05, 1.4), (-0.05, 1.55), (0.05, 1.55), (0.05, 1.4)], skin * 0.85, False)
    part(ellipse(0, 1.62, 0.1, 0.13), skin)
    part([(-0.11, 1.6), (-0.12, 1.72), (0, 1.79), (0.12, 1.72), (0.11, 1.6), (0.06, 1.69), (-0.06, 1.69)], hair)


def _cycle(street: Street, x: float, z: float, kind: str, ridden: bool, g: np.random.Generator) -> None:
    """A bicycle or motorcycle seen from the side, with or without its rider."""
    canvas, label, heavy = street.canvas, STREET[kind], kind == "motorcycle"
    tone, metre = street.fog(pick(g, *PAINTS) * street.shade, z), street.focal / z
    street.contact_shadow(x - 0.9, x + 0.9, z - 0.1, z + 0.2)
    for hub in (-0.52, 0.52):
        rim = street.upright(ellipse(hub, 0.34, 0.32, 0.32), (x, z))
        canvas.stroke(np.concatenate([rim, rim[:1]]), (0.13 if heavy else 0.055) * metre, street.fog(rgb("17181a"), z),
                      label)
    if heavy:
        canvas.fill(street.upright(smooth([(-0.6, 0.5), (-0.5, 0.85), (0.1, 0.85), (0.35, 1.0), (0.5, 0.75),
                                           (0.3, 0.35), (-0.3, 0.35)]),
                                   (x, z)), tone, label)
    tubes = [[(-0.52, 0.34), (-0.15, 0.8), (0.38, 0.82), (0.52, 0.34)], [(-0.52, 0.34), (0.02, 0.32), (0.38, 0.82)],
             [(0.02, 0.32), (-0.17, 0.92)], [(0.38, 0.82), (0.36, 1.02), (0.48, 1.04)], [(-0.28, 0.93), (-0.06, 0.93)]]
    for line in tubes:
        canvas.stroke(street.upright(line, (x, z)), (0.07 if heavy else 0.045) * metre, tone, label)
    if ridden:
        _person(street, x - 0.08, z, STREET["rider"], g, seat=0.2)


def _traffic(street: Street, g: np.random.Generator) -> list[tuple[float, Callable]]:
    """Vehicles on the carriageway: parked along the kerb, driving ahead, coming towards us."""
    items, lane = [], street.road / 2
    for side in (-1, 1):
        z = g.uniform(4.5, 20)
        while z < 45 and street.road > 4.2:  # parked
            if g.random() < 0.55:
                items.append((z, lambda z=z, side=side: _car(street, side * (street.road - 1.0), z, side > 0, g)))
            z += g.uniform(5.5, 11)
        if g.random() < 0.75:  # moving, one or two a lane
            z = g.uniform(9, 26)
            kind = str(g.choice(["car", "car", "car", "truck", "bus", "train"]))
            x = side * (lane - (0.9 if street.road > 4.2 else 0.0))
            draw = _car if kind == "car" else _box_vehicle
            extra = () if kind == "car" else (kind,)
            items.append((z, lambda z=z, x=x, side=side, draw=draw,
                          extra=extra: draw(street, x, z, side > 0, g, *extra)))
    if g.random() < 0.4:
        kind = str(g.choice(["bicycle", "bicycle", "motorcycle"]))
        x, z = g.uniform(-0.8, 0.8) * street.road, g.uniform(6, 16)
        items.append((z, lambda: _cycle(street, x, z, kind, True, g)))
    return items


def _solid(street: Street, label: int, faces: list) -> None:
    """Paints 3-D polygons (points, colour) one after the other; points are (X, Y, Z) in metres."""
    for points, colour in faces:
        points = np.asarray(points, dtype=np.float32)
        street.canvas.fill(street.project(points), street.fog(colour, float(points[:, 2].min())), label)


def _wheel(x: float, z: float, radius: float) -> list:
    circle = ellipse(z, radius, radius, radius)
    hub = ellipse(z, radius, 0.55 * radius, 0.55 * radius)
    return [([(x, v, u) for u, v in circle], rgb("121315")), ([(x, v, u) for u, v in hub], rgb("85898d"))]


def _car(street: Street, x: float, z: float, ahead: bool, g: np.random.Generator) -> None:
    """A saloon: its visible flank, the sloping window, and the tail (driving ahead) or the nose (oncoming)."""
    paint, light = pick(g, *PAINTS), (street.sun + street.shade) / 2
    inner = -1 if x > 0 else 1  # the flank that faces the middle of the street, and so the camera
    flank, roof, glass = x + inner * 0.88, g.uniform(1.38, 1.6), mix(rgb("1a2026"), street.haze, 0.25)
    sky = mix(paint, street.haze, 0.35)
    street.contact_shadow(x - 1.05, x + 1.05, z - 0.15, z + 4.3)
    side = paint * (street.sun if -inner != street.sunny_side else street.shade) * 0.85
    profile = [(0.3, 0), (0.9, 0), (0.98, 0.25), (roof, 0.95), (roof, 2.6), (0.98, 3.3), (0.86, 4.2), (0.3, 4.25)]
    pane = [(0.98, 0.55), (roof - 0.1, 1.05), (roof - 0.1, 2.5), (0.98, 3.1)]

    def flank_at(pairs):  # (height, depth) on the flank, which leans inwards above the waist to meet the roof
        return [(flank - inner * 0.22 * np.clip((y - 0.98) / (roof - 0.98), 0, 1), y, z + d) for y, d in pairs]

    _solid(street, STREET["car"], [
        (flank_at(profile), side),
        (flank_at([(0.3, 0), (0.55, 0), (0.55, 4.2), (0.3, 4.25)]), side * 0.7),
        (flank_at(pane), glass * 0.8),
        (flank_at([(0.98, 1.72), (roof, 1.72), (roof, 1.82), (0.98, 1.82)]), side),
        *_wheel(flank, z + 0.8, 0.33), *_wheel(flank, z + 3.4, 0.33),
    ])

    def front(pairs):
        return [(x + a, y, z) for a, y in pairs]

    body = smooth(mirrored([(0.75, 0.98), (0.92, 0.8), (0.9, 0.3), (0.8, 0.22)]))
    _solid(street, STREET["car"], [
        ([(x - 0.88, 0.9, z), (x - 0.66, roof, z + 0.95), (x + 0.66, roof, z + 0.95), (x + 0.88, 0.9, z)],
         paint * light),
        ([(x - 0.72, 1.0, z + 0.25), (x - 0.58, roof - 0.08, z + 0.88), (x + 0.58, roof - 0.08, z + 0.88),
          (x + 0.72, 1.0, z + 0.25)], glass),
        ([(x - 0.1, 1.02, z + 0.27), (x + 0.2, roof - 0.1, z + 0.86), (x + 0.45, roof - 0.1, z + 0.86),
          (x + 0.2, 1.02, z + 0.27)],
         mix(glass, street.haze, 0.35)),
    ])
    material = street.facing(z, lambda u, v: mix(paint * 0.62, sky, ramp(0.3, 1.0, v) ** 1.5) * light)
    street.canvas.fill(street.project(front(body)), material, STREET["car"])
    lamp = rgb("b3121d") if ahead else rgb("f4f1de")
    details = [(front([(-0.8, 0.24), (-0.8, 0.4), (0.8, 0.4), (0.8, 0.24)]), rgb("1b1c1f")),
               (front([(-0.26, 0.44), (-0.26, 0.56), (0.26, 0.56), (0.26, 0.44)]), rgb("e4e2d6"))]
    if not ahead:
        details.append((front([(-0.5, 0.6), (-0.45, 0.74), (0.45, 0.74), (0.5, 0.6)]), rgb("222428")))
    for s in (-1, 1):
        details.append((front([(s * 0.58, 0.64), (s * 0.56, 0.8), (s * 0.85, 0.84), (s * 0.87, 0.66)]), lamp))
        details.append((front([(s * 0.66, 0.0), (s * 0.66, 0.24), (s * 0.86, 0.24), (s * 0.86, 0.0)]), rgb("101113")))
    _solid(street, STREET["car"], details)


def _box_vehicle(street: Street, x: float, z: float, ahead: bool, g: np.random.Generator, kind: str) -> None:
    """A truck, a bus or a tram: a long box with the windows, lamps and wheels of its kind."""
    paint, light = pick(g, *PAINTS), (street.sun + street.shade) / 2
    half, height, length = {"truck": (1.2, 3.3, 8.0), "bus": (1.25, 3.1, 11.0), "train": (1.3, 3.4, 24.0)}[kind]
    inner = -1 if x > 0 else 1
    flank, glass = x + inner * half, mix(rgb("1a2026"), street.haze, 0.25)
    side = paint * (street.sun if -inner != street.sunny_side else street.shade) * 0.9
    street.contact_shadow(x - half - 0.15, x + half + 0.15, z - 0.2, z + length)

    def panel(d0, d1, y0, y1, tone):
        return [(flank, y0, z + d0), (flank, y1, z + d0), (flank, y1, z + d1), (flank, y0, z + d1)], tone

    def front(a0, a1, y0, y1, tone):
        return [(x + a0, y0, z), (x + a0, y1, z), (x + a1, y1, z),
                (x + a1, y0, z)], tone * (1 if tone is glass else light)

    faces = [panel(0, length, 0.35, height, side), panel(0, length, 0.35, 0.6, side * 0.55)]
    if kind != "truck":
        faces += [panel(d, d + 1.5, 1.35, 2.5, glass * 0.85) for d in np.arange(0.4, length - 1.6, 1.8)[::-1]]
    for d in (1.6, length - 1.8):
        faces += _wheel(flank, z + d, 0.46 if kind != "train" else 0.35)
    faces += [front(-half, half, 0.35, height, paint), front(-half, half, 0.35, 0.62, paint * 0.5)]
    if kind == "truck" and ahead:  # loading doors
        faces += [front(-0.03, 0.03, 0.7, height - 0.15, paint * 0.6),
                  front(-half, half, height - 0.12, height, paint * 0.75)]
    else:
        faces += [front(-half + 0.15, half - 0.15, 1.3, 2.45, glass), front(-0.7, 0.7, 2.6, 2.9, rgb("17181a")),
                  front(-0.55, 0.5, 2.68, 2.82, rgb("f2a83b"))]
    for s in (-1, 1):
        faces.append(front(s * (half - 0.1), s * (half - 0.42), 0.7, 0.92, rgb("c01a24") if ahead else rgb("fff8e0")))
        faces.append(front(s * (half - 0.08), s * (half - 0.42), 0.0, 0.35, rgb("101113")))
    _solid(street, STREET[kind], faces)


# ------------------------------------------------------------------------------------------------------- data folder

SCENES = {"celebamask-hq": face_scene, "cityscapes": street_scene}


def write_scenes(folder: str | Path, label_space: str, count: int, size: tuple[int, int], seed: int) -> None:
    """Writes a plain data folder: images/NNNN.png and, with the same name, labels/NNNN.png (palette images of ids).

    size is (width, height); scene number i depends on (seed, i) alone, so a longer folder begins with a shorter one.
    Raises InputError for an unknown label space.
    """
    space = get_label_space(label_space)
    for name in ("images", "labels"):
        (Path(folder) / name).mkdir(parents=True, exist_ok=True)
    for index in range(count):
        image, ids = SCENES[space.name](size, np.random.default_rng([seed, index]))
        image.save(Path(folder) / "images" / f"{index:04d}.png")
        space.to_palette_image(ids).save(Path(folder) / "labels" / f"{index:04d}.png")
