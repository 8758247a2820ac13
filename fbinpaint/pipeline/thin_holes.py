"""Thin holes in photos that are worked on smaller: lines, grids, text.

The networks work on a small copy of a large photo, of which a pixel is known only if all that it covers is. There a
thin hole would grow, dense ones would leave nothing known between them. But what lies in a thin hole is told by its
neighbours, so it is filled at the photo's own size (Bertalmio, Bertozzi, Sapiro, "Navier-Stokes, Fluid Dynamics, and
Image and Video Inpainting", CVPR 2001), and what is filled is known from then on.
"""

import cv2
import numpy as np

from fbinpaint.images.crops import bounding_box, working_size

THIN = 12  # pixels from the nearest known one: lines of 16 cross, slanted ones too, without getting deeper
RADIUS = 3  # pixels, of the neighbourhood that Navier-Stokes looks at


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
    pixels: np.ndarray, hole: np.ndarray, spared: np.ndarray, depth: float
) -> tuple[np.ndarray, np.ndarray]:
    """pixels (H,W,3) uint8; hole (H,W) bool; spared (H,W) bool, what stays a hole; depth as `thin_depth` gives it.

    A pixel of the hole is wide if it, or one within twice the depth, is farther than `depth` from all known pixels:
    so a wide hole keeps its corners, and a line that leads into it is thin from a little way off.

    Returns the photo with its thin holes filled (H,W,3), a copy unless it has none, and what remains of the hole (H,W).
    """
    if depth < 1 or not hole.any():
        return pixels, hole
    place = bounding_box(hole, margin=RADIUS + 1).slices
    inside = hole[place]
    core = distance(inside) > depth
    wide = inside & (distance(~core) <= 2 * depth) if core.any() else core
    thin = inside & ~wide & ~spared[place]
    if not thin.any():
        return pixels, hole
    # Navier-Stokes marches inwards from known pixels. Into the wide holes it marches just as far as they might say
    # something to the thin ones: what lies in them is arbitrary.
    marched = inside & (distance(~thin) <= depth + 2 * RADIUS)
    # Blank, for along the photo's border OpenCV lets what lies in a hole shine through by a level or two.
    blank = np.where(inside[..., None], np.uint8(128), pixels[place])
    filled = cv2.inpaint(blank, marched.astype(np.uint8), RADIUS, cv2.INPAINT_NS)
    pixels, remaining = pixels.copy(), hole.copy()
    np.copyto(pixels[place], filled, where=thin[..., None])
    remaining[place] &= ~thin
    return pixels, remaining


def distance(inside: np.ndarray) -> np.ndarray:
    """(H,W) bool -> (H,W) float, how far each pixel inside is from the nearest one outside; 0 outside."""
    return cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, 5)
