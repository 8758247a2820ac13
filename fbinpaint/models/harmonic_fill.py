"""The smooth fill that the initial inpainter starts from: no parameters, next to no cost."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .layers import Window

# Jacobi sweeps a level. None loses half a decibel; more than these hardly gain.
SWEEPS = 4


def harmonic_fill(image: Tensor, known: Tensor, window: Window | None = None) -> Tensor:
    """Continue the known pixels into the hole as smoothly as possible (Laplace's equation), by multigrid.

    Known pixels are averaged down a pyramid until no hole is left, then each level's hole starts from the coarser one
    and is relaxed towards the mean of its four neighbours: pull-push (Gortler et al., SIGGRAPH 1996) with smoothing.

    image (B,3,H,W), known (B,1,H,W) in {0,1} -> (B,3,H,W), the known pixels unchanged; 0 where nothing is known at all.
    window: rows and columns that hold the whole hole, so that no others need be relaxed; None = all of them.
    """
    height, width = image.shape[-2:]
    if max(height, width) == 1:
        return image * known
    window = window or (slice(0, height), slice(0, width))
    image, share = image * known, F.avg_pool2d(known, 2, ceil_mode=True)
    mean = F.avg_pool2d(image, 2, ceil_mode=True) / share.clamp_min(1e-6)
    rows, columns = (slice(side.start // 2, -(-side.stop // 2)) for side in window)
    coarse = harmonic_fill(mean, (share > 0).to(image.dtype), (rows, columns))
    hole = 1 - known
    fill = torch.addcmul(image, F.interpolate(coarse, size=(height, width), mode="bilinear"), hole)
    # A pixel more at each side, known or beyond the picture's border: what the hole's outermost pixels continue.
    rows, columns = (slice(max(0, side.start - 1), side.stop + 1) for side in window)
    inside, painted, quarter = (x[..., rows, columns] for x in (image, fill, hole / 4))
    for _ in range(SWEEPS):
        padded = F.pad(painted, (1, 1, 1, 1), mode="replicate")
        upright, across = padded[..., 1:-1], padded[..., 1:-1, :]
        neighbours = upright[..., :-2, :] + upright[..., 2:, :] + across[..., :-2] + across[..., 2:]
        painted = torch.addcmul(inside, neighbours, quarter)
    fill[..., rows, columns] = painted
    return fill
