"""Which of several models a photo is for: the one whose labelled exemplars it is most like, as its segmenter sees it.

    photo -> segmenter -> deepest features, class of each cell -> distance from that class in the exemplars

How sure a segmenter is does not tell: it is sure of photos that it was never made for, too (docs/experiments.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fbinpaint.images.convert import to_mask, to_rgb, upright
from fbinpaint.images.crops import resize_image
from fbinpaint.images.tensors import mask_to_tensor, pad_to_multiple, to_tensor
from fbinpaint.models.exemplar_bank import SHRINKAGE, Exemplars, at_least_float32
from fbinpaint.models.harmonic_fill import harmonic_fill

if TYPE_CHECKING:
    from fbinpaint.pipeline import FeedbackInpaintPipeline

PIXELS = 192 * 256  # every photo is looked at this large, whatever its own size: the choice must not depend on that
SHARPNESS = 2.0  # of scores: one model suits e times as well as another that is 1 / SHARPNESS farther away
FARTHEST = 1e4  # of a model without exemplars: it is chosen only where no other is there
# A distance beyond which a photo is of no kind that a model's exemplars show (docs/experiments.md).
UNLIKE = 1.9


@dataclass(frozen=True)
class Choice:
    """name: of the model that suits best; scores: how well each suits, by name: shares, which sum to 1."""

    name: str
    scores: dict[str, float]

    def __str__(self) -> str:
        others = sorted(self.scores, key=self.scores.__getitem__, reverse=True)
        return ", ".join(f"{name} {100 * self.scores[name]:.0f} %" for name in others)


@torch.no_grad()
def choose_model(pipes: "Mapping[str, FeedbackInpaintPipeline]", photo: Any, mask: Any = None) -> Choice:
    """The model for a photo, among pipelines by name, of any label spaces.

    Args:
        photo: a PIL image of any mode or a uint8 array, as `images.to_rgb` takes it.
        mask: what is to be filled, which says nothing of the photo; as `images.to_mask` takes it. None = nothing is.

    Raises:
        InputError: photo or mask is not of this form, or they do not fit each other.
    """
    image, hole = looked_at(photo, mask)
    distances = {name: distance(pipe, image, hole) for name, pipe in pipes.items()}
    shares = (-SHARPNESS * torch.tensor(list(distances.values()), device="cpu")).softmax(0).tolist()
    return Choice(min(distances, key=distances.__getitem__), dict(zip(distances, shares, strict=True)))


@torch.no_grad()
def is_unlike(pipe: "FeedbackInpaintPipeline", photo: Any, mask: Any = None) -> bool:
    """Whether a photo is unlike all exemplars of a model, which may then take things in it for what they are not.

    Arguments and errors as of `choose_model`. Of a model without exemplars nobody can tell: False.
    """
    return bool(pipe.recorrector.bank.counts.any()) and distance(pipe, *looked_at(photo, mask)) > UNLIKE


def looked_at(photo: Any, mask: Any) -> tuple[Tensor, Tensor]:
    """A photo of PIXELS pixels, (1,3,H,W) in [-1,1], its hole filled smoothly, and the hole, (1,1,H,W) in {0,1}.

    Arguments and errors as of `choose_model`.
    """
    hole = None
    if mask is not None:
        is_array = isinstance(photo, np.ndarray) and photo.ndim > 1
        size = photo.shape[1::-1] if is_array else upright(photo, "image").size
        hole = to_mask(mask, size, photo, lambda line: None)  # whoever fills it warns of what is odd
    pixels = to_rgb(photo, hole)
    height, width = pixels.shape[:2]
    if hole is None:
        hole = np.zeros((height, width), bool)
    elif not hole.all():  # what is there must not be seen in its neighbours, when these are resized
        pixels[hole] = cv2.mean(pixels, mask=(~hole).astype(np.uint8))[:3]
    scale = (PIXELS / (width * height)) ** 0.5
    size = max(1, round(width * scale)), max(1, round(height * scale))
    covered = resize_image(hole[..., None].repeat(3, 2).astype(np.uint8) * 255, size)[..., 0] > 0
    if covered.all():  # then what is there must do
        covered[:] = False
    cells = mask_to_tensor(covered)
    return harmonic_fill(to_tensor(resize_image(pixels, size)), 1 - cells), cells


def distance(pipe: "FeedbackInpaintPipeline", image: Tensor, hole: Tensor) -> float:
    """How far a photo is from a model's exemplars; 1 = as far as one of their own cells is on average.

    image (1,3,H,W) in [-1,1], its hole filled somehow; hole (1,1,H,W) in {0,1}
    """
    bank: Exemplars = pipe.recorrector.bank
    if not bank.counts.any():
        return FARTHEST
    height, width = (-(-side // 8) for side in image.shape[-2:])
    image, hole = (pad_to_multiple(x, 16).to(pipe.segmenter.device, pipe.segmenter.dtype) for x in (image, hole))
    seen = pipe.segmenter(image, hole)
    # The deepest of the encoder's: they tell what a scene is of, shallow ones what its light and its camera are like.
    *shallow, features, _ = seen.pyramid
    cells = tuple(-(-side // 8) for side in image.shape[-2:])  # so large were they when statistics were gathered

    def known_cells(x: Tensor) -> Tensor:
        """(1,D,h,w) -> (n,D), without what was padded."""
        x = F.interpolate(at_least_float32(x), size=cells, mode="bilinear")
        return x[0, :, :height, :width].flatten(1).T

    weight = 1 - known_cells(hole)[:, 0]
    likeliest = known_cells(seen.logits).masked_fill(bank.counts.to(image.device) == 0, -torch.inf).argmax(1)
    first = sum(level.shape[1] for level in shallow)
    far = mahalanobis(known_cells(features), likeliest, bank.to(image.device), first)
    return ((far * weight).sum() / weight.sum().clamp_min(1e-6)).item()


def mahalanobis(features: Tensor, classes: Tensor, bank: Exemplars, first: int) -> Tensor:
    """(n,): squared Mahalanobis distances of cells from the exemplars' mean of their class, over the number of
    channels (Lee et al., NeurIPS 2018).

    features (n,D), of which the bank's statistics begin at `first`; classes (n,)
    """
    channels = slice(first, first + features.shape[1])
    centre, deviation, means, correlation = (
        at_least_float32(x)[..., channels] for x in (bank.centre, bank.deviation, bank.means, bank.correlation)
    )
    correlation = correlation[channels]
    identity = torch.eye(len(correlation), dtype=correlation.dtype, device=correlation.device)
    factor = torch.linalg.cholesky(torch.lerp(correlation, identity, SHRINKAGE))
    residuals = (features - centre) / deviation - means[classes]
    return torch.linalg.solve_triangular(factor, residuals.T, upper=False).square().mean(0)
