"""Procedural streets, seen through a pinhole camera: facades, road and cars are textured in metres and foreshorten."""

from collections.abc import Callable
from functools import partial

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
from fbinpaint.labels import CITYSCAPES

STREET = {name: index for index, name in enumerate(CITYSCAPES.classes)}

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
    items: list[tuple[float, Callable]] = []
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
                items.append((z, partial(draw, street, side * (kerb + 0.1), z, g)))
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
    items: list[tuple[float, Callable]] = []
    lane = street.road / 2
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
            draw: Callable = _car if kind == "car" else _box_vehicle
            extra = () if kind == "car" else (kind,)
            items.append((z, partial(draw, street, x, z, side > 0, g, *extra)))
    if g.random() < 0.4:
        kind = str(g.choice(["bicycle", "bicycle", "motorcycle"]))
        x, z = g.uniform(-0.8, 0.8) * street.road, g.uniform(6, 16)
        items.append((z, partial(_cycle, street, x, z, kind, True, g)))
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
