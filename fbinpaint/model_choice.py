"""Which of several models a photo is for: the one whose labelled exemplars it is most like, as its segmenter sees it.

A segmenter is sure of itself on photos that it was never made for, too, so how sure it is does not tell. The exemplars
in the recorrector's bank do, by the two things they say: what each class looks like, and what lies where.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .images import resize_image, to_mask, to_rgb
from .models.exemplar_bank import MATCHING_SIDE, SHRINKAGE, Exemplars, at_least_float32, mirrored
from .models.harmonic_fill import harmonic_fill
from .tensors import mask_to_tensor, pad_to_multiple, to_tensor

if TYPE_CHECKING:
    from .pipeline import FeedbackInpaintPipeline

PIXELS = 192 * 256  # every photo is looked at so large, whatever its own size: the choice must not depend on that
# What is said of how well a model suits counts e times as much for each 1 / LAYOUT of the logarithm of the agreement of
# layouts, and for each 1 / LOOK of distance; measured on training photos (docs/experiments.md).
LAYOUT, LOOK = 4.0, 1.2


@dataclass(frozen=True)
class Choice:
    """name: of the model that suits best; scores: how well each suits beside the others, by name, shares of 1."""

    name: str
    scores: dict[str, float]

    def __str__(self) -> str:
        return ", ".join(f"{name} {100 * score:.0f} %" for name, score in self.scores.items())


@torch.no_grad()
def choose_model(pipes: "Mapping[str, FeedbackInpaintPipeline]", photo: Any, mask: Any = None) -> Choice:
    """The model for a photo, among pipelines by name, of any label spaces.

    Args:
        photo: a PIL image of any mode or a uint8 array, as `images.to_rgb` takes it.
        mask: what is to be filled, which says nothing of the photo; as `images.to_mask` takes it. None = nothing is.

    Raises:
        InputError: photo or mask is not of this form, or they do not fit each other.
    """
    pixels = to_rgb(photo)
    height, width = pixels.shape[:2]
    hole = np.zeros((height, width), bool)
    if mask is not None:
        hole = to_mask(mask, (width, height), photo, lambda line: None)  # whoever fills it warns of what is odd
    if hole.all():  # nothing is known: any model will do
        hole = np.zeros_like(hole)
    scale = (PIXELS / (width * height)) ** 0.5
    size = max(1, round(width * scale)), max(1, round(height * scale))
    covered = resize_image(np.repeat(hole[..., None].astype(np.uint8) * 255, 3, 2), size)[..., 0] > 0
    covered &= not covered.all()
    image = harmonic_fill(to_tensor(resize_image(pixels, size)), mask_to_tensor(~covered))
    suits = {name: suitability(pipe, image, mask_to_tensor(covered)) for name, pipe in pipes.items()}
    shares = torch.tensor(list(suits.values())).softmax(0).tolist()
    return Choice(max(suits, key=suits.get), dict(zip(suits, shares, strict=True)))


def suitability(pipe: "FeedbackInpaintPipeline", image: Tensor, hole: Tensor) -> float:
    """How well a model suits a photo, as a logarithm; image (1,3,H,W) in [-1,1], hole (1,1,H,W) in {0,1}."""
    height, width = (-(-side // 4) for side in image.shape[-2:])
    image, hole = (pad_to_multiple(x, 16).to(pipe.segmenter.device, pipe.segmenter.dtype) for x in (image, hole))
    seen = pipe.segmenter(image, hole)
    # Without what was added at the right and the bottom.
    probabilities = at_least_float32(seen.logits).softmax(1)[..., :height, :width]
    known = 1 - F.interpolate(at_least_float32(hole), scale_factor=0.25, mode="area")[..., :height, :width]
    bank = pipe.recorrector.bank.to(image.device)
    # The deepest features of the encoder, the last but one of the pyramid: they tell scenes apart, not textures.
    first = sum(level.shape[1] for level in seen.pyramid[:-2])
    features = F.interpolate(at_least_float32(seen.pyramid[-2]), size=seen.logits.shape[-2:], mode="bilinear")
    distance = distance_of_features(features[..., :height, :width], probabilities, known, bank, first)
    return LAYOUT * np.log(agreement_of_layout(probabilities, known, bank) + 1e-6) - LOOK * distance


def agreement_of_layout(probabilities: Tensor, known: Tensor, bank: Exemplars) -> float:
    """What share of the photo shows what an exemplar shows at the same place, on average over exemplars and their
    mirror images. probabilities (1,C,h,w); known (1,1,h,w), 1 = not to be filled."""
    size = (MATCHING_SIDE, MATCHING_SIDE)
    step = bank.maps.shape[-1] // MATCHING_SIDE
    maps = torch.cat([bank.maps, mirrored(bank)])[:, step // 2 :: step, step // 2 :: step]
    counts = torch.stack([(maps == i).sum(0) for i in range(probabilities.shape[1])]).float()  # (C, S, S)
    at_place = counts / counts.sum(0).clamp_min(1)
    weight = F.interpolate(known, size=size, mode="area")
    shown = F.interpolate(probabilities * known, size=size, mode="area")
    return ((shown * at_place).sum() / weight.sum().clamp_min(1e-6)).item()


def distance_of_features(features: Tensor, probabilities: Tensor, known: Tensor, bank: Exemplars, first: int) -> float:
    """How far the features of the photo's cells lie from the mean of their class in the exemplars: the squared
    Mahalanobis distance of Lee et al. (NeurIPS 2018), in units of what it is for the exemplars' own cells.

    features (1,D,h,w), of which the bank's statistics begin at `first`; probabilities (1,C,h,w); known (1,1,h,w)
    """
    channels = slice(first, first + features.shape[1])
    correlation = at_least_float32(bank.correlation)[channels, channels]
    identity = torch.eye(len(correlation), device=correlation.device)
    factor = torch.linalg.cholesky(torch.lerp(correlation, identity, SHRINKAGE))
    # Every fourth cell, as when the statistics were gathered.
    cells = features[0, :, ::2, ::2].flatten(1).T  # (n, D)
    classes, weight = probabilities[0, :, ::2, ::2].argmax(0).flatten(), known[0, 0, ::2, ::2].flatten()
    centre, deviation, means = (at_least_float32(x)[..., channels] for x in (bank.centre, bank.deviation, bank.means))
    residuals = (cells - centre) / deviation - means[classes]
    distances = torch.linalg.solve_triangular(factor, residuals.T, upper=False).square().sum(0) / len(correlation)
    return ((distances * weight).sum() / weight.sum().clamp_min(1e-6)).item()
