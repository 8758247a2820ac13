"""Thin holes in photos that are worked on smaller: lines, grids, text.

The networks decide on a small copy of a large photo, of which a pixel is known only if all that it covers is. There a
thin hole would grow, dense ones would leave nothing known between them. But what lies in a thin hole is told by its
neighbours, no map is needed for it: it is filled at the photo's own size, by the initial inpainter alone or, where that
would take long, by `navier_stokes`, and what is filled is known from then on. Where all around is flat or slopes evenly
no details are painted: no network continues that to the level.
"""

from collections.abc import Callable
from itertools import product

import cv2
import numpy as np

from fbinpaint.images.crops import bounding_box, working_size

THIN = 12  # pixels from the nearest known one: lines of 16 cross, slanted ones too, without getting deeper
STEP, MARGIN = 192, 32  # pixels: the side of what is painted at once, and how far around it that looks
MAX_TILES = 100  # that a network paints: ten seconds on two cores

RADIUS = 3  # pixels, of the neighbourhood that Navier-Stokes looks at
FINEST = 2  # pixels, standard deviation of the blur that takes texture away
NEIGHBOURHOOD = 16  # pixels, likewise, of that by which the roughness of what lies around is told
SMOOTH, ROUGH = 1, 3  # grey levels: where the texture around is fainter no details are painted, from the other on all

# A part of a photo (h,w,3) uint8 and its hole (h,w) bool -> its smooth continuation into the hole and what an inpainter
# makes of it, (h,w,3) uint8 each; what lies in the hole is not read.
FirstFill = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def thin_depth(width: int, height: int, sample_size: int) -> float:
    """How far from the nearest known pixel a thin hole's may be, pixels, in a photo of this size; 0 = nothing is thin.

    A photo that is worked on at its own size keeps its holes as they are. The more it is made smaller the more is thin,
    up to `THIN` pixels where it is halved about; and always what shrinks to less than 1.5 pixels on either side of its
    middle.
    """
    # Of the longer side: a very narrow photo is only made shorter.
    shrinking = max(width, height) / max(working_size(width, height, sample_size)) - 1
    return max(min(THIN, 16 * shrinking), 1.5 * shrinking)


def fill_thin_holes(
    pixels: np.ndarray, hole: np.ndarray, spared: np.ndarray, depth: float, first_fill: FirstFill
) -> tuple[np.ndarray, np.ndarray]:
    """pixels (H,W,3) uint8; hole (H,W) bool; spared (H,W) bool, what stays a hole; depth as `thin_depth` gives it.

    Tile by tile, of which the next one knows what was filled before: so no seams show, and memory does not grow with
    the photo. Returns the photo with its thin holes filled (H,W,3), a copy unless it has none, and what remains of the
    hole (H,W).
    """
    thin = thin_part(hole, depth) & ~spared if depth >= 1 and hole.any() else np.zeros_like(hole)
    if not thin.any():
        return pixels, hole
    pixels, remaining = pixels.copy(), hole.copy()
    corners = product(*(range(0, side, STEP) for side in hole.shape))
    tiles = [(top, left) for top, left in corners if thin[top : top + STEP, left : left + STEP].any()]
    fill = first_fill if len(tiles) <= MAX_TILES else navier_stokes
    for top, left in tiles:
        inner = slice(top, top + STEP), slice(left, left + STEP)
        above, before = max(0, top - MARGIN), max(0, left - MARGIN)
        tile = slice(above, top + STEP + MARGIN), slice(before, left + STEP + MARGIN)
        smooth, detailed = fill(pixels[tile], remaining[tile])
        filled = smooth
        if detailed is not smooth:
            filled = mix(smooth, detailed, share_of_details(pixels[tile], remaining[tile]))
        np.copyto(pixels[inner], filled[top - above :, left - before :][:STEP, :STEP], where=thin[inner][..., None])
        remaining[inner] &= ~thin[inner]
    return pixels, remaining


def thin_part(hole: np.ndarray, depth: float) -> np.ndarray:
    """What of a hole (H,W) bool is thin, (H,W) bool.

    A pixel of it is wide if it, or one within twice the depth, is farther than `depth` from all known pixels: so a wide
    hole keeps its corners, and a line that leads into it is thin from a little way off.
    """
    place = bounding_box(hole, margin=1).slices
    inside = hole[place]
    core = distance(inside) > depth
    wide = inside & (distance(~core) <= 2 * depth) if core.any() else core
    thin = np.zeros_like(hole)
    thin[place] = inside & ~wide
    return thin


def navier_stokes(pixels: np.ndarray, hole: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A `FirstFill` without details (Bertalmio, Bertozzi, Sapiro, "Navier-Stokes, Fluid Dynamics, and Image and Video
    Inpainting", CVPR 2001)."""
    # Blank, for along the photo's border OpenCV lets what lies in a hole shine through by a level or two.
    blank = np.where(hole[..., None], np.uint8(128), pixels)
    filled = cv2.inpaint(blank, hole.astype(np.uint8), RADIUS, cv2.INPAINT_NS)
    return filled, filled


def share_of_details(pixels: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """How much of its details a fill is to have: (H,W) in [0,1], by the texture of what is known around.

    pixels (H,W,3) uint8, hole (H,W) bool.
    """
    known = (~hole).astype(np.float32)

    def mean(plane: np.ndarray, reach: int) -> np.ndarray:  # of the known pixels around each one
        return cv2.GaussianBlur(plane * known, (0, 0), reach) / cv2.GaussianBlur(known, (0, 0), reach).clip(1e-6)

    grey = pixels.mean(2, dtype=np.float32)
    roughness = np.sqrt(mean((grey - mean(grey, FINEST)) ** 2, NEIGHBOURHOOD))
    return ((roughness - SMOOTH) / (ROUGH - SMOOTH)).clip(0, 1)


def mix(one: np.ndarray, other: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Of two pictures (H,W,3) uint8, the other one by its share, (H,W) in [0,1]."""
    return np.rint(one + share[..., None] * (other.astype(np.float32) - one)).astype(np.uint8)


def distance(inside: np.ndarray) -> np.ndarray:
    """(H,W) bool -> (H,W) float, how far each pixel inside is from the nearest one outside; 0 outside."""
    return cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, 5)
