"""Between pictures, arrays of bytes, and the tensors that networks take."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def pad_to_multiple(x: Tensor, multiple: int, mode: str = "replicate") -> Tensor:
    """Pads a float (B, C, H, W) on the right and the bottom until both sides are multiples; `mode` as in F.pad."""
    height, width = x.shape[-2:]
    return F.pad(x, (0, -width % multiple, 0, -height % multiple), mode=mode)


def to_tensor(array: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 to (1, 3, H, W) float in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(array)).permute(2, 0, 1)[None].float() / 127.5 - 1


def to_uint8(tensor: Tensor) -> np.ndarray:
    """(B, 3, H, W) float in [-1, 1] to (B, H, W, 3) uint8, rounded and clamped; the exact inverse of `to_tensor`."""
    levels = ((tensor.detach().float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return levels.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def mask_to_tensor(mask: np.ndarray) -> Tensor:
    """(H, W) bool to (1, 1, H, W) float in {0, 1}."""
    return torch.from_numpy(np.ascontiguousarray(mask))[None, None].float()
