"""Procedural faces: a face is lit as a small height field."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from fbinpaint.data.scenes.canvas import (
    HAIRS,
    SKINS,
    Canvas,
    Material,
    Noise,
    bump,
    ellipse,
    mirrored,
    mix,
    pick,
    ramp,
    rgb,
    smooth,
)
from fbinpaint.labels import CELEBAMASK_HQ

FACE = {name: index for index, name in enumerate(CELEBAMASK_HQ.classes)}

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
        x, y = g.uniform(-2, 2, 2)
        canvas.fill(ellipse(x, y, radius, radius), pick(g, "ffe9c4", "fff6e6", "d7ecff"),
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
    for side, name in ((-1, "r_ear"), (1, "l_ear")):
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
    for side, eye, brow in ((-1, "r_eye", "r_brow"), (1, "l_eye", "l_brow")):
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

    disc = ellipse(at[0], at[1], radius, radius)
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
