"""The smooth fill that the initial inpainter starts from: no parameters, next to no cost."""

import torch
from torch import Tensor
from torch.nn import functional as F

# Jacobi sweeps a level. None loses half a decibel; more than these hardly gain.
SWEEPS = 4


def harmonic_fill(image: Tensor, known: Tensor) -> Tensor:
    """Continue the known pixels into the hole as smoothly as possible (Laplace's equation), by multigrid.

    Known pixels are averaged down a pyramid until no hole is left, then each level's hole starts from the coarser one
    and is relaxed towards the mean of its four neighbours: pull-push (Gortler et al., SIGGRAPH 1996) with smoothing.

    image (B,3,H,W), known (B,1,H,W) in {0,1} -> (B,3,H,W), the known pixels unchanged; 0 where nothing is known at all.
    """
    if max(image.shape[-2:]) == 1:
        return image * known
    image, share = image * known, F.avg_pool2d(known, 2, ceil_mode=True)
    mean = F.avg_pool2d(image, 2, ceil_mode=True) / share.clamp_min(1e-6)
    coarse = harmonic_fill(mean, (share > 0).to(image.dtype))
    hole = 1 - known
    fill = torch.addcmul(image, F.interpolate(coarse, size=image.shape[-2:], mode="bilinear"), hole)
    quarter = hole / 4
    for _ in range(SWEEPS):
        padded = F.pad(fill, (1, 1, 1, 1), mode="replicate")
        rows, columns = padded[..., 1:-1], padded[..., 1:-1, :]
        neighbours = rows[..., :-2, :] + rows[..., 2:, :] + columns[..., :-2] + columns[..., 2:]
        fill = torch.addcmul(image, neighbours, quarter)
    return fill
