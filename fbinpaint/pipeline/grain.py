"""Grain: a fill that was enlarged is smoother than the photo around it, and gets the noise that it lacks.

Noise is described by its power spectrum, for each frequency a 3x3 matrix over the colour channels: that holds its
level, its colour and how coarse it is (noise of resized or JPEG photos is not white). It is measured in cells of
CELL x CELL pixels around the hole, those with edges or texture left out; what the fill has of its own, measured
likewise, is taken off; and Gaussian noise of what remains is added (random phase noise: Galerne, Gousseau, Morel,
"Random Phase Textures: Theory and Synthesis", IEEE Transactions on Image Processing 2011).
"""

from collections.abc import Sequence

import numpy as np

CELL = 16  # pixels
MIN_CELLS, MAX_CELLS = 8, 1024  # fewer say too little, more say nothing new
FAINT = 0.25  # squared grey levels: weaker noise is hardly more than that of rounding to whole levels
TILE = 256  # pixels; noise of neighbouring tiles is independent, which shows as little as that of neighbouring grains


def add_grain(
    fill: np.ndarray,
    photo: np.ndarray,
    hole: np.ndarray,
    seed: Sequence[int],
    noiseless: bool = False,
    unfilled: np.ndarray | None = None,
) -> np.ndarray:
    """fill (H,W,3) uint8, a restored photo that was enlarged to its size; photo (H,W,3) uint8; hole (H,W) bool; seed,
    whole numbers from 0 up. noiseless: the fill was computed without any noise, so there is none to be measured, for
    which a small hole has too few cells. unfilled (H,W) bool, what of the hole is one still; None = nothing.

    Returns (H,W,3) uint8, the fill with grain; only what was filled is meant.
    """
    inside = np.any(in_cells(hole), (2, 3))
    of_photo = noise_spectrum(photo, ~inside)
    filled = inside if unfilled is None else inside & ~np.any(in_cells(unfilled), (2, 3))
    of_fill = 0.0 if noiseless else noise_spectrum(fill, filled)
    if of_photo is None or of_fill is None:
        return fill
    down, across = (tile_side(side) for side in hole.shape)
    gain = transfer(of_photo - of_fill, (down, across))
    variance = (np.abs(gain) ** 2).sum(3).mean((0, 1))  # of each channel's grain
    gain[:, :, variance < FAINT] = 0
    generator, result = np.random.default_rng(seed), fill.copy()
    for top in range(0, hole.shape[0], down):
        for left in range(0, hole.shape[1], across):
            place = slice(top, top + down), slice(left, left + across)
            if not hole[place].any():
                continue
            waves = np.fft.rfft2(generator.standard_normal((down, across, 3)), axes=(0, 1))
            waves = np.einsum("yxab,yxb->yxa", gain, waves)
            tile = fill[place].astype(np.float32)
            grain = np.fft.irfft2(waves, s=(down, across), axes=(0, 1))[: tile.shape[0], : tile.shape[1]]
            # As far up as down, so that no shade shifts, and what is white or black stays so.
            room = np.minimum(tile, 255 - tile)
            result[place] = np.rint(tile + np.clip(grain, -room, room))
    return result


def noise_spectrum(picture: np.ndarray, chosen: np.ndarray) -> np.ndarray | None:
    """What the smoothest of the chosen cells hold besides a slope of brightness; None where there are too few.

    picture (H,W,3) uint8; chosen (H//CELL,W//CELL) bool. Returns (CELL,CELL//2+1,3,3), for each frequency of
    `np.fft.rfft2` the covariance of the channels; white noise has its variance, in squared grey levels, at each.
    """
    rows, columns = np.nonzero(chosen)
    some = np.linspace(0, len(rows) - 1, min(len(rows), MAX_CELLS)).astype(int)
    cells = in_cells(picture)[rows[some], columns[some]].astype(np.float64)
    clipped = (cells == 0) | (cells == 255)  # there noise does not show
    cells = cells[clipped.mean((1, 2, 3)) < 0.1]
    if len(cells) < MIN_CELLS:
        return None
    pixels = cells.reshape(-1, CELL * CELL, 3)
    cells = (pixels - PLANES @ (PLANES.T @ pixels)).reshape(cells.shape) * WINDOW
    energy = (cells**2).mean((1, 2, 3))
    # Those that are hardly rougher than the smoothest tenth. Of nothing but noise that is nearly all, and taking the
    # smoothest alone would underrate it.
    cells = cells[energy <= 2 * np.quantile(energy, 0.1)]
    waves = np.fft.rfft2(cells, axes=(1, 2))
    return np.einsum("nyxa,nyxb->yxab", waves, waves.conj()) / (len(cells) * CELL**2)


def tile_side(side: int) -> int:
    """Of the tiles along a side of the photo: less than TILE in a narrow photo, where most of the noise would be thrown
    away. Longer than the side by a cell, as noise continues at the other end of its tile."""
    tile = TILE
    while tile >= 2 * (side + CELL):
        tile //= 2
    return tile


def transfer(spectrum: np.ndarray, shape: tuple[int, int] = (TILE, TILE)) -> np.ndarray:
    """(h,w//2+1,3,3), what turns waves of white noise (h,w) of variance 1 into those of the positive part of a spectrum
    (CELL,CELL//2+1,3,3). shape (h,w): not less than CELL each."""
    values, vectors = np.linalg.eigh(spectrum)
    root = (vectors * np.sqrt(values.clip(0))[..., None, :]) @ vectors.conj().swapaxes(-1, -2)
    kernel = np.zeros((*shape, 3, 3))
    around = np.fft.fftfreq(CELL, 1 / CELL).astype(int)  # from the end where negative
    kernel[np.ix_(around, around)] = np.fft.irfft2(root, s=(CELL, CELL), axes=(0, 1))
    return np.fft.rfft2(kernel, axes=(0, 1))


def in_cells(picture: np.ndarray) -> np.ndarray:
    """(H,W,...) -> (H//CELL,W//CELL,CELL,CELL,...), a view; rows and columns that fill no cell are left out."""
    height, width = picture.shape[0] // CELL, picture.shape[1] // CELL
    cut = picture[: height * CELL, : width * CELL]
    return cut.reshape(height, CELL, width, CELL, *picture.shape[2:]).swapaxes(1, 2)


def _planes() -> np.ndarray:
    """(CELL*CELL,3), an orthonormal basis of all slopes of brightness across a cell."""
    y, x = np.mgrid[:CELL, :CELL].reshape(2, -1)
    return np.linalg.qr(np.stack([np.ones(CELL * CELL), x, y], axis=1).astype(np.float64))[0]


def _window() -> np.ndarray:
    """(CELL,CELL,1), fades to the edges of a cell, which are no edges of the photo; its mean square is 1."""
    fade = np.sin(np.pi * (np.arange(CELL) + 0.5) / CELL) ** 2
    window = fade[:, None] * fade
    return (window / np.sqrt((window**2).mean()))[..., None]


PLANES, WINDOW = _planes(), _window()
