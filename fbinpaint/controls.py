"""Controls of the evaluation: what the picture owes to its map, and the correction to its exemplars.

    oracle            the true classes in the hole: the ceiling of any correction
    shuffled-map      the map of a random other photo in the hole: if it does as well, guidance is not used
    random-exemplar   exemplars drawn at random instead of retrieved: if they do as well, retrieval is not used
"""

import copy
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from fbinpaint.errors import InputError
from fbinpaint.labels import IGNORE
from fbinpaint.models.exemplar_bank import Exemplars

if TYPE_CHECKING:
    from fbinpaint.evaluation import Sample
    from fbinpaint.pipeline import FeedbackInpaintPipeline

CONTROLS = ("oracle", "shuffled-map", "random-exemplar")


def true_maps(samples: list["Sample"]) -> list[np.ndarray]:
    """The true classes in the holes, (H,W) uint8, 255 = let the model decide. All samples have labels."""
    return [np.where(sample.hole, sample.truth, IGNORE).astype(np.uint8) for sample in samples]


def shuffled_maps(samples: list["Sample"], maps: list[np.ndarray], spare: np.ndarray | None) -> list[np.ndarray]:
    """In each hole what the photo before it in the batch shows there; the first gets `spare`, else the last one's.

    maps: the predicted map of each sample, (H,W) ids. Raises InputError where there is no other photo at all.
    """
    if spare is None and len(samples) == 1:
        raise InputError(f"{samples[0].stem}: is the only photo, but the control shuffled-map needs another one's map")
    first = maps[-1] if spare is None else spare
    others = [first, *maps[:-1]]
    size = samples[0].hole.shape[::-1]
    return [
        np.where(sample.hole, cv2.resize(other, size, interpolation=cv2.INTER_NEAREST_EXACT), IGNORE).astype(np.uint8)
        for sample, other in zip(samples, others, strict=True)
    ]


def with_random_exemplars(pipe: "FeedbackInpaintPipeline", seed: int) -> "FeedbackInpaintPipeline":
    """A copy whose bank answers to another exemplar's key. Raises InputError for a bank of one."""
    bank = pipe.recorrector.bank
    if len(bank) < 2:
        raise InputError("the model's bank holds one exemplar, so the control random-exemplar cannot take another")
    order = torch.randperm(len(bank), generator=torch.Generator().manual_seed(seed)).to(bank.keys.device)
    control = copy.deepcopy(pipe)
    control.recorrector.set_bank(Exemplars(bank.prototypes, bank.present, bank.keys[order]))
    return control
