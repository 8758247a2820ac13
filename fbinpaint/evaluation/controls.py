"""Controls of the evaluation: what the picture owes to its map, to feedback, and to exemplars.

    frozen-map        as many passes, all guided by the map of round 0: what feedback gains beyond that is feedback's,
                      the rest is repainting
    resegmented       a map in each round from the segmenter alone, on the newest fill ("resegmented"), and the mean of
                      its first map and that one ("resegmented-mean"): the simplest corrections there are
    oracle            the true classes in the hole, on the labelled photos: the ceiling of any correction
    shuffled-map      the map of a random other photo in the hole: if it does as well, guidance is not used
    random-exemplar   layouts of random exemplars, not of retrieved ones: if they do as well, retrieval is not used
    no-exemplars      feedback without exemplars: what remains is the segmenter on the newest fill
"""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from fbinpaint.errors import InputError
from fbinpaint.labels import IGNORE
from fbinpaint.loop import RESEGMENTED_VARIANTS
from fbinpaint.models.exemplar_bank import Exemplars, no_exemplars

if TYPE_CHECKING:
    from fbinpaint.pipeline import FeedbackInpaintPipeline

# control -> the methods it adds to a report
CONTROLS: dict[str, tuple[str, ...]] = {
    "frozen-map": ("frozen-map",),
    "resegmented": RESEGMENTED_VARIANTS,
    "oracle": ("oracle",),
    "shuffled-map": ("shuffled-map",),
    "random-exemplar": ("random-exemplar",),
    "no-exemplars": ("no-exemplars",),
}


def control_pipelines(
    pipe: "FeedbackInpaintPipeline", controls: Sequence[str], seed: int
) -> dict[str, "FeedbackInpaintPipeline"]:
    """The pipeline that each method of `controls` runs with. They share the networks of `pipe`, which they leave alone,
    but for the exemplars.

    Raises InputError for an unknown control, for one of maps where no map guides the model, and for random exemplars of
    a bank of one.
    """
    pipes = {}
    for name in controls:
        if name not in CONTROLS:
            raise InputError(f"unknown control {name!r}: use {', '.join(CONTROLS)}")
        if name in ("frozen-map", "resegmented") and pipe.config.variant == "unguided":
            raise InputError(f"{pipe.name_or_path}: is guided by no map; leave the control {name} out")
        for method in CONTROLS[name]:
            if name == "frozen-map":
                pipes[method] = guided_by(pipe, "unidirectional")
            elif name == "resegmented":
                pipes[method] = guided_by(pipe, method)
            elif name == "random-exemplar":
                pipes[method] = with_random_exemplars(pipe, seed)
            elif name == "no-exemplars":
                pipes[method] = with_exemplars(pipe, no_exemplars(pipe.recorrector.bank))
            else:
                pipes[method] = pipe
    return pipes


def guided_by(pipe: "FeedbackInpaintPipeline", variant: str) -> "FeedbackInpaintPipeline":
    """The same networks, guided otherwise (see `fbinpaint.loop`)."""
    control = copy.copy(pipe)
    control.register_to_config(variant=variant)
    return control


def with_random_exemplars(pipe: "FeedbackInpaintPipeline", seed: int) -> "FeedbackInpaintPipeline":
    """A copy whose layouts are always those of the same random exemplars, each and its mirror image, as many as are
    consulted. Raises InputError for a bank that holds no more than these."""
    bank = pipe.recorrector.bank
    number = max(1, pipe.recorrector.config.top_k // 2)
    if len(bank) <= number:
        raise InputError(
            f"{pipe.name_or_path}: its bank holds {len(bank)} exemplars, so the control random-exemplar has no choice; "
            "leave it out"
        )
    order = torch.randperm(len(bank), generator=torch.Generator().manual_seed(seed)).to(bank.maps.device)
    return with_exemplars(pipe, replace(bank, maps=bank.maps[order[:number]]))


def with_exemplars(pipe: "FeedbackInpaintPipeline", exemplars: Exemplars) -> "FeedbackInpaintPipeline":
    """A copy with another bank, of the same weights in the segmenter's maps."""
    control = copy.deepcopy(pipe)
    config = pipe.recorrector.config
    control.recorrector.set_bank(exemplars, config.exemplar_weights, config.exemplar_classes)
    return control


def true_map(truth: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """The true classes in the hole, 255 = let the model decide; truth (H,W) ids, hole (H,W) bool -> (H,W) uint8."""
    return np.where(hole, truth, IGNORE).astype(np.uint8)


def shuffled_maps(
    stems: Sequence[str], holes: Sequence[np.ndarray], maps: Sequence[np.ndarray], spare: np.ndarray | None
) -> list[np.ndarray]:
    """In each hole what the photo before it in the batch shows there; the first gets `spare`, else the last one's.

    holes (H,W) bool, maps (H,W) ids, those predicted of the photos -> (H,W) uint8, 255 around the holes. Raises
    InputError where there is no other photo at all.
    """
    if spare is None and len(stems) == 1:
        raise InputError(f"{stems[0]}: is the only photo, but the control shuffled-map needs another one's map")
    others = [maps[-1] if spare is None else spare, *maps[:-1]]
    size = holes[0].shape[::-1]
    return [
        np.where(hole, cv2.resize(other, size, interpolation=cv2.INTER_NEAREST_EXACT), IGNORE).astype(np.uint8)
        for hole, other in zip(holes, others, strict=True)
    ]
