"""Holes that need no map: thin ones of large photos, and those in plain surroundings."""

import cv2
import numpy as np

from fbinpaint.labels import IGNORE
from fbinpaint.pipeline.grain import add_grain
from fbinpaint.pipeline.outputs import Photo
from fbinpaint.pipeline.smooth_surfaces import continue_surfaces
from fbinpaint.pipeline.thin_holes import FirstFill, fill_thin_holes, thin_depth


def fill_plain_holes(photo: Photo, sample_size: int, grain_seed: int | None, first_fill: FirstFill) -> None:
    """Fill what needs no map, in place: thin holes, and those in plain surroundings; it is known from then on.

    Where the user drew a map, the loop paints what it shows: the drawn part of a thin hole, which may cross all of the
    photo, and a whole piece in plain surroundings.
    """
    drawn = np.zeros_like(photo.hole) if photo.drawn is None else photo.hole & (photo.drawn != IGNORE)
    height, width = photo.hole.shape
    depth = thin_depth(width, height, sample_size)
    pixels, hole = fill_thin_holes(photo.pixels, photo.hole, drawn, depth, first_fill)
    if pixels is not photo.pixels and grain_seed is not None:
        grainy = add_grain(pixels, photo.pixels, photo.hole, [grain_seed], unfilled=hole)
        np.copyto(pixels, grainy, where=(photo.hole & ~hole)[..., None])
    pixels, hole = continue_surfaces(pixels, hole, pieces_with(hole, drawn), grain_seed)
    if pixels is photo.pixels:
        return
    photo.filled = photo.hole & ~hole
    if photo.original is not None:
        photo.original = np.where(photo.filled[..., None], np.float32(1 / 255) * pixels, photo.original)
    photo.pixels, photo.hole = pixels, hole


def pieces_with(hole: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Those connected pieces of a hole that a part of it, `drawn`, touches; all (H,W) bool."""
    if not drawn.any():
        return np.zeros_like(hole)
    labels = cv2.connectedComponents(hole.astype(np.uint8), connectivity=8)[1]
    return hole & np.isin(labels, np.unique(labels[drawn]))


def mean_in(mask: np.ndarray, plane: np.ndarray) -> float:
    """The mean of a plane (h,w) where a mask (H,W) is; 0 if it is nowhere."""
    weights = cv2.resize(mask.astype(np.float32), plane.shape[::-1], interpolation=cv2.INTER_AREA)
    return float((weights * plane).sum() / max(weights.sum(), 1e-6))
