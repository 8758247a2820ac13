"""Holes in plain surroundings: a wall, a clear sky, a studio's backdrop are continued by the surface that fits them.

Networks that learned from streets or faces paint something of these into flat colour, and are a few levels off its
shade. Where everything around a hole is a smooth surface of brightness, that surface is the best fill there is: a
polynomial in x and y (a trend surface), or one in the distance from a centre for round and elliptic gradients. What is
merely nearly smooth is left to the networks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.optimize import least_squares

from fbinpaint.images.crops import Crop, bounding_box
from fbinpaint.pipeline.grain import add_grain

MAX_PIECES = 64  # of a hole, the largest: bounds the time a speckled mask can take
JOINED = 4  # pixels; pieces closer than twice this count as one
CELL = 8  # pixels; means of cells hold little noise, but all shape
LONGEST = 512  # pixels; a longer piece with its surroundings is looked at in every second pixel, or every third, ...
NARROWEST = 16  # pixels, of the surroundings
MAX_NOISE = 5  # grey levels; what is rougher may be texture
MAX_PIXELS = 20_000  # of the surroundings; more say nothing new about their noise
MAX_OUTLIERS = 0.002  # share of the pixels around that may lie far off the surface: dust
MAX_UNCERTAINTY = 1.5  # grey levels, standard error of the surface in the hole
MAX_DEGREE = 4


@dataclass
class Cells:
    """Means over cells of the known pixels around a hole: places (N,2), x and y in pixels; colours (N,3); weights (N,),
    the share of each cell that is known and near."""

    places: np.ndarray
    colours: np.ndarray
    weights: np.ndarray


@dataclass
class Surface:
    """Colours as a function of place: coefficients (P,3) of the terms of a polynomial in x and y or, where `centre`
    (x, y, logarithm of the aspect) is given, in the distance from there. origin (2,) and scale, pixels, bring the
    places that it is fitted to into [-1, 1]; covariance (P,P) of the coefficients, for residuals of 1."""

    degree: int
    centre: np.ndarray | None
    origin: np.ndarray
    scale: float
    coefficients: np.ndarray | None = None
    covariance: np.ndarray | None = None
    misfit: float = np.inf  # root mean square of the cells' residuals, of the channel that is fitted worst

    def terms(self, places: np.ndarray) -> np.ndarray:
        """(N,2) places -> (N,P)."""
        x, y = (places - self.origin).T / self.scale
        if self.centre is not None:
            r = radius(np.stack([x, y], axis=1), self.centre)
            return np.stack([r**power for power in range(self.degree + 1)], axis=1)
        powers = [(i, total - i) for total in range(self.degree + 1) for i in range(total + 1)]
        return np.stack([x**i * y**j for i, j in powers], axis=1)

    def __call__(self, places: np.ndarray) -> np.ndarray:
        """(N,2) places -> (N,3) colours."""
        return self.terms(places) @ self.coefficients

    def fit(self, cells: Cells) -> "Surface":
        """Itself, by weighted least squares; its misfit stays infinite where the cells are too few to tell."""
        terms, roots = self.terms(cells.places), np.sqrt(cells.weights)[:, None]
        if len(terms) < 2 * terms.shape[1]:
            return self
        self.coefficients = np.linalg.lstsq(roots * terms, roots * cells.colours, rcond=None)[0]
        self.covariance = np.linalg.pinv((roots * terms).T @ (roots * terms))
        residuals = roots * (terms @ self.coefficients - cells.colours)
        freedom = cells.weights.sum() * (1 - terms.shape[1] / len(terms))  # more terms always leave less
        self.misfit = float(np.sqrt((residuals**2).sum(0).max() / freedom))
        return self


def continue_surfaces(
    pixels: np.ndarray, hole: np.ndarray, spared: np.ndarray, seed: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Fill the pieces of a hole that lie in plain surroundings.

    pixels (H,W,3) uint8; hole (H,W) bool; spared (H,W) bool, pieces with any of it stay holes; seed of the grain that a
    fill gets where its surroundings are noisy, None = no grain.

    Returns the photo with these pieces filled (H,W,3), a copy unless there are none, and what remains of the hole.
    """
    if not hole.any():
        return pixels, hole
    holes = bounding_box(hole, margin=JOINED)
    joined = cv2.dilate(hole[holes.slices].astype(np.uint8), np.ones((2 * JOINED + 1,) * 2, np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(joined, connectivity=8)
    largest = 1 + np.argsort(-stats[1:, cv2.CC_STAT_AREA], kind="stable")[:MAX_PIECES]
    photo, remaining = pixels, hole
    for number in largest:
        left, top, width, height, _ = map(int, stats[number])
        label = labels[top : top + height, left : left + width]
        left, top = left + holes.left, top + holes.top
        box = Crop(left, top, left + width, top + height)
        piece = (label == number) & hole[box.slices]
        if (spared[box.slices] & piece).any() or at_the_border(piece, box, hole.shape) > 1 / 3:
            continue
        surface = fit_surroundings(photo, hole, piece, box)
        if surface is None:
            continue
        if remaining is hole:
            pixels, remaining = photo.copy(), hole.copy()
        rows, columns = np.nonzero(piece)
        colours = surface(np.stack([columns + left, rows + top], axis=1))
        pixels[box.slices][piece] = np.rint(colours.clip(0, 255)).astype(np.uint8)
        remaining[box.slices][piece] = False
        if seed is not None:
            around = surroundings(box, max(64, max(width, height) // 4), hole.shape)
            inside = np.zeros((around.height, around.width), bool)
            inside[top - around.top :, left - around.left :][:height, :width] = piece
            fill, seen, unknown = (x[around.slices] for x in (pixels, photo, hole))
            grainy = add_grain(fill, seen, unknown, [seed, left, top], noiseless=True)
            np.copyto(pixels[around.slices], grainy, where=inside[..., None])
    return pixels, remaining


def fit_surroundings(photo: np.ndarray, hole: np.ndarray, piece: np.ndarray, box: Crop) -> Surface | None:
    """The surface that the known pixels around a piece of the hole (h,w) in its box lie on; None if on no smooth one.

    What is nearest to the piece must lie on one; then the widest surroundings that still do tell the most of it.
    """
    extent, found = max(box.width, box.height), None
    for width in sorted({max(NARROWEST, extent // share) for share in (8, 4, 2)}):
        around = surroundings(box, width, hole.shape)
        stride = -(-max(around.width, around.height) // LONGEST)
        pixels, unknown = photo[around.slices][::stride, ::stride], hole[around.slices][::stride, ::stride]
        own = np.zeros((around.height, around.width), bool)
        own[box.top - around.top :, box.left - around.left :][: box.height, : box.width] = piece
        own = own[::stride, ::stride]
        if not own.any():
            return found
        reach = cv2.distanceTransform((~own).astype(np.uint8), cv2.DIST_L2, 5) * stride
        near = (reach <= width) & ~unknown
        offset = np.array([around.left, around.top])
        cells = mean_cells(pixels, near, stride, offset)
        if cells is None:
            return found
        surface = best_surface(cells)
        if not is_smooth(surface, cells, pixels, near, stride, offset):
            return found
        if is_certain(surface, cells, offset + stride * np.argwhere(own)[:, ::-1]):
            found = surface
    return found


def mean_cells(pixels: np.ndarray, near: np.ndarray, stride: int, offset: np.ndarray) -> Cells | None:
    """Those of the near pixels (h,w) of a picture (h,w,3) of which one lies at offset + stride * (column, row) in the
    photo; None where they are too few. Cells of which less than a quarter is near do not count."""
    height, width = (-(-side // CELL) * CELL for side in near.shape)
    known = np.zeros((height, width), np.float32)
    known[: near.shape[0], : near.shape[1]] = near
    planes = np.zeros((height, width, 3), np.float32)
    planes[: near.shape[0], : near.shape[1]] = pixels
    y, x = np.mgrid[:height, :width].astype(np.float32)
    places = np.stack([x, y], axis=2)

    def mean(plane: np.ndarray) -> np.ndarray:
        return cv2.resize(plane, (width // CELL, height // CELL), interpolation=cv2.INTER_AREA)

    weights = mean(known)
    counted = weights >= 0.25
    if counted.sum() < 8:
        return None
    weights = weights[counted].astype(np.float64)
    places, colours = (mean(plane * known[..., None])[counted] / weights[:, None] for plane in (places, planes))
    return Cells(offset + stride * places, colours, weights)


def best_surface(cells: Cells) -> Surface:
    """The simplest surface among those that fit nearly as well as the best one."""
    low, high = cells.places.min(0), cells.places.max(0)
    origin, scale = (low + high) / 2, max(1.0, float((high - low).max()) / 2)
    candidates = [Surface(degree, None, origin, scale).fit(cells) for degree in range(MAX_DEGREE + 1)]
    smallest = min(surface.misfit for surface in candidates)
    if 0.1 < smallest < 3:
        candidates.insert(3, fit_radial(candidates[2], cells))
        smallest = min(surface.misfit for surface in candidates)
    return next(surface for surface in candidates if surface.misfit <= 1.05 * smallest + 0.02)


def fit_radial(quadratic: Surface, cells: Cells) -> Surface:
    """A surface in the distance from a centre, which is sought from the quadratic one's vertex on."""
    radial = Surface(2, np.zeros(3), quadratic.origin, quadratic.scale)
    if quadratic.coefficients is None:
        return radial
    # Terms 1, y, x, y^2, xy, x^2 of the channel that changes most.
    _, b, a, bb, ab, aa = quadratic.coefficients[:, np.ptp(cells.colours, axis=0).argmax()]
    vertex = np.linalg.lstsq(np.array([[2 * aa, ab], [ab, 2 * bb]]), -np.array([a, b]), rcond=1e-3)[0]
    some = slice(None, None, -(-len(cells.places) // 400))
    fewer = Cells(cells.places[some], cells.colours[some], cells.weights[some])
    roots = np.sqrt(fewer.weights)[:, None]

    def residuals(centre: Sequence[float]) -> np.ndarray:
        radial.centre = np.asarray(centre)
        terms = roots * radial.terms(fewer.places)
        solution = np.linalg.lstsq(terms, roots * fewer.colours, rcond=None)[0]
        return (terms @ solution - roots * fewer.colours).ravel()

    start = np.append(vertex.clip(-2, 2), 0.0)
    radial.centre = least_squares(residuals, start, bounds=([-3, -3, -1.5], [3, 3, 1.5]), max_nfev=40).x
    return radial.fit(cells)


def radius(places: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """(N,2) places, centre (x, y, logarithm of the aspect) -> (N,), distances in circles or upright ellipses."""
    x, y = (places - centre[:2]).T
    stretch = np.exp(centre[2] / 2)
    return np.hypot(x * stretch, y / stretch)


def is_smooth(
    surface: Surface, cells: Cells, pixels: np.ndarray, near: np.ndarray, stride: int, offset: np.ndarray
) -> bool:
    """Whether the pixels near a hole (h,w) lie on the surface but for weak noise, without shape of its own."""
    if surface.misfit > 0.5 + 0.25 * MAX_NOISE:
        return False
    rows, columns = np.nonzero(near)
    some = slice(None, None, -(-len(rows) // MAX_PIXELS))
    rows, columns = rows[some], columns[some]
    off = np.abs(pixels[rows, columns] - surface(offset + stride * np.stack([columns, rows], axis=1)))  # (N, 3)
    noise = 1.4826 * np.median(off, axis=0).max()
    of_cells = np.abs(cells.colours - surface(cells.places)).max()
    return bool(
        noise <= MAX_NOISE
        and surface.misfit <= 0.5 + 0.25 * noise
        and of_cells <= 2 + noise
        and (off.max(1) > 4 + 5 * noise).mean() <= MAX_OUTLIERS
    )


def is_certain(surface: Surface, cells: Cells, places: np.ndarray) -> bool:
    """Whether the surface is told by its cells in the hole too, places (N,2), and does not shoot up or down there."""
    assert surface.covariance is not None, "it was fitted"
    terms = surface.terms(places[:: -(-len(places) // 2000)])
    error = np.sqrt(np.einsum("np,pq,nq->n", terms, surface.covariance, terms).max()) * max(surface.misfit, 0.15)
    colours, known = terms @ surface.coefficients, surface(cells.places)
    low, high = known.min(0), known.max(0)
    room = high - low + 2
    inside = (colours >= low - room).all() and (colours <= high + room).all()
    return bool(error <= MAX_UNCERTAINTY and inside)


def at_the_border(piece: np.ndarray, box: Crop, shape: tuple[int, int]) -> float:
    """The share of the contour of a piece (h,w) in its box that is the border of the photo (H,W)."""
    within = np.pad(piece, 1)
    contour = piece & (cv2.erode(within.astype(np.uint8), np.ones((3, 3), np.uint8))[1:-1, 1:-1] == 0)
    sides = (piece[0], box.top == 0), (piece[-1], box.bottom == shape[0])
    sides += (piece[:, 0], box.left == 0), (piece[:, -1], box.right == shape[1])
    return sum(int(side.sum()) for side, is_border in sides if is_border) / max(1, int(contour.sum()))


def surroundings(box: Crop, width: int, shape: tuple[int, int]) -> Crop:
    """A box, wider by so many pixels on each side as far as the photo (H,W) goes."""
    return Crop(
        max(0, box.left - width), max(0, box.top - width),
        min(shape[1], box.right + width), min(shape[0], box.bottom + width),
    )  # fmt: skip
