"""Masks from maps: the things of some classes with their soft borders and, where asked, their shadows."""

from collections.abc import Sequence

import cv2
import numpy as np

from fbinpaint.masks import grow_mask

GROW = 1 / 32  # of the photo's shorter side: maps are of cells of 4 pixels, borders are soft (docs/experiments.md)
MIN_GROW = 2  # pixels
MAX_ENCLOSED = 0.5  # of a thing's outline: what it encloses belongs to it up to this share (a windscreen, eyes)
SHADE = 0.7  # of the median lightness of the same ground nearby: what is darker lies in a shadow
SHADOW_REACH = 0.5  # of a thing's longer side: so far a shadow is looked for
BLUR = 5  # pixels, an odd number: no dark grain of the ground is a shadow


def select_things(
    labels: np.ndarray,
    ids: Sequence[int],
    smallest: float,
    grow: int | None = None,
    point: tuple[int, int] | None = None,
    photo: np.ndarray | None = None,
) -> np.ndarray:
    """Where a map (H,W) shows the classes `ids`, as a mask (H,W) bool.

    smallest: what covers fewer pixels is no thing but noise, unless the point lies in it
    grow: by so many pixels all around; None = by `GROW`
    point: (x, y), only the thing there, which is nothing where the map shows another class; things that touch are one
    photo: (H,W,3) uint8, adds the things' shadows in it; None = no shadows
    """
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(np.isin(labels, ids).astype(np.uint8), connectivity=8)
    if point is None:
        kept = stats[:, cv2.CC_STAT_AREA] >= smallest
    else:
        kept = np.arange(count) == pieces[point[1], point[0]]
    kept[0] = False  # the background
    things = kept[pieces]
    if photo is not None:
        things |= shadows(things, labels, photo)
    return close_enclosed(grow_mask(things, usual_grow(*labels.shape) if grow is None else grow))


def usual_grow(height: int, width: int) -> int:
    return max(MIN_GROW, round(GROW * min(height, width)))


def close_enclosed(things: np.ndarray) -> np.ndarray:
    """The (H,W) bool mask with what each piece encloses, unless that is most of what lies within its outline."""
    closed = things.astype(np.uint8)
    outlines, hierarchy = cv2.findContours(closed, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    areas = [cv2.contourArea(outline) for outline in outlines]
    for i, outline in enumerate(outlines):
        parent = hierarchy[0, i, 3]
        if parent >= 0 and areas[i] <= MAX_ENCLOSED * areas[parent]:
            cv2.drawContours(closed, [outline], 0, 1, cv2.FILLED)
    return closed.astype(bool)


def shadows(things: np.ndarray, labels: np.ndarray, photo: np.ndarray) -> np.ndarray:
    """The shadows of things (H,W) bool on the ground that they stand on: what touches them, below or beside their lower
    half, and is darker than the same ground nearby."""
    lightness = cv2.cvtColor(photo, cv2.COLOR_RGB2LAB)[..., 0]
    found = np.zeros_like(things)
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(things.astype(np.uint8), connectivity=8)
    for piece in range(1, count):
        left, top, width, height, _ = map(int, stats[piece])
        reach = max(BLUR, round(SHADOW_REACH * max(width, height)))
        rows = slice(top + height // 2, top + height + reach)
        wide = slice(max(0, left - 2 * reach), left + width + 2 * reach)
        near = slice(max(0, left - reach) - wide.start, left + width + reach - wide.start)
        own, others = pieces[rows, wide] == piece, things[rows, wide]
        ground, light = labels[rows, wide], cv2.medianBlur(lightness[rows, wide].copy(), BLUR)
        below = np.vstack([np.zeros_like(own[:BLUR]), own[:-BLUR]])
        below[-1] |= grow_mask(own[-1:], BLUR)[0]  # cut off by the picture, it stands on what lies beside it
        below &= ~others
        dark = np.zeros_like(own)
        for kind in np.unique(ground[below]):
            same = (ground == kind) & ~others
            dark |= same & (light < SHADE * np.median(light[same]))
        dark[:, : near.start] = dark[:, near.stop :] = False
        # A shadow begins where the thing ends, give or take its soft border.
        joined = cv2.connectedComponents((dark | grow_mask(own, MIN_GROW)).astype(np.uint8), connectivity=8)[1]
        found[rows, wide] |= dark & np.isin(joined, np.unique(joined[own]))
    return found
