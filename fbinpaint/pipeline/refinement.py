"""Coarse to fine: details for a fill that was made on a small copy of a large photo.

The networks know how a street or a face is laid out at about the size they were trained at; what a surface looks like
from closer they know at any. So the loop decides on the small copy, and its fill, enlarged again and again, is
repainted by the guided inpainter alone, in tiles: time grows with the hole, memory does not.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from fbinpaint.images.tensors import pad_to_multiple
from fbinpaint.loop import Forbidden, Networks, composite

TILE = 256  # pixels, a multiple of 16
OVERLAP = 32  # of neighbouring tiles at least, over which one fades into the other; also the margin around the hole
TILES_AT_ONCE = 2  # four take 60 MB more and 3 % less time


def refine(
    networks: Networks,
    image: Tensor,
    mask: Tensor,
    fill: Tensor,
    probabilities: Tensor,
    map_size: tuple[int, int],
    styles: Tensor,
    forbidden: Forbidden | None = None,
) -> Tensor:
    """Repaint a fill at a larger size than it was made at.

    image (1,3,H,W) in [-1,1], any size; mask (1,1,H,W), 1 = hole; fill (1,3,·,·), the photo restored at a smaller size;
    probabilities (1,C,h'/4,w'/4), the map of the photo at map_size (h,w), h' and w' being h and w padded to multiples
    of 16; styles (1,C,S) of `GuidedInpainter.pool_styles`; forbidden: what the map must not show where, the area of the
    photo's size, padded to multiples of 16.

    Returns (1,3,H,W), the photo itself outside the hole.
    """
    height, width = image.shape[-2:]
    enlarged = F.interpolate(fill, size=(height, width), mode="bicubic").clamp(-1, 1)
    filled = pad_to_multiple(composite(enlarged, image, mask), 16)
    holes = pad_to_multiple(mask, 16)
    rows = round(probabilities.shape[-2] * height / map_size[0])
    columns = round(probabilities.shape[-1] * width / map_size[1])
    guide = F.interpolate(probabilities, size=(rows, columns), mode="bilinear")
    # The two paddings differ by a few cells.
    missing = max(0, filled.shape[-1] // 4 - columns), max(0, filled.shape[-2] // 4 - rows)
    guide = F.pad(guide, (0, missing[0], 0, missing[1]), mode="replicate")
    guide = guide[..., : filled.shape[-2] // 4, : filled.shape[-1] // 4]
    if forbidden is not None:  # again: what surrounds the area reaches into it
        guide = forbidden.leave_out(guide)

    result, weight = torch.zeros_like(filled), torch.zeros_like(holes)
    places = tiles(holes[0, 0])
    for i in range(0, len(places), TILES_AT_ONCE):
        some = places[i : i + TILES_AT_ONCE]
        tile, hole = (torch.cat([x[..., rows, columns] for rows, columns in some]) for x in (filled, holes))
        cells = [tuple(slice(place.start // 4, place.stop // 4) for place in pair) for pair in some]
        map_ = torch.cat([guide[..., rows, columns] for rows, columns in cells])
        # The fill is context like any other here: deep inside a large hole there would be none without it.
        context = networks.initial_inpainter(tile, torch.zeros_like(hole))
        window, styles_of_tiles = networks.window(hole), styles.expand(len(some), -1, -1)
        conditioning = networks.guided_inpainter.prepare(
            tile, hole, context.context4, context.context8, map_, window, styles_of_tiles
        )
        painted = composite(networks.guided_inpainter(map_, conditioning).image, tile, hole)
        fade = ramp(tile.shape[-2], tile)[:, None] * ramp(tile.shape[-1], tile)
        for (rows, columns), picture in zip(some, painted, strict=True):
            result[0, :, rows, columns] += fade * picture
            weight[0, :, rows, columns] += fade
    result = (result / weight.clamp_min(1e-6))[..., :height, :width]
    return composite(result, image, mask)


def tiles(mask: Tensor) -> list[tuple[slice, slice]]:
    """Rows and columns of equal tiles that cover the hole and a margin; mask (H,W), H and W multiples of 16."""
    rows, columns = (spans(mask.any(axis), side) for axis, side in zip((1, 0), mask.shape, strict=True))
    return [(row, column) for row in rows for column in columns if mask[row, column].any()]


def spans(hole: Tensor, side: int) -> list[slice]:
    """The tiles along one axis; hole (side,) bool, where along it there is any."""
    first, last = (int(hole.nonzero()[i]) for i in (0, -1))
    first = max(0, first - OVERLAP) // 16 * 16
    last = min(side, -(-(last + 1 + OVERLAP) // 16) * 16)
    length = min(TILE, last - first)
    steps = -(-(last - first - length) // (TILE - OVERLAP))
    # At multiples of 4, the map's cells.
    starts = [first + (last - first - length) * step // max(1, steps) // 4 * 4 for step in range(steps + 1)]
    return [slice(start, start + length) for start in starts]


def ramp(side: int, like: Tensor) -> Tensor:
    """(side,) weights of a tile that fade towards both ends."""
    distance = torch.arange(side, device=like.device, dtype=like.dtype)
    return (torch.minimum(distance, distance.flip(0)) + 1).clamp_max(OVERLAP) / OVERLAP
