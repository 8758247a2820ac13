"""The feedback loop: the paper's figure in one screen, shared by training, evaluation, command line and demo.

    photo + mask -> initial inpainter -> segmenter -> guided inpainter
                 -> [ segmenter, exemplars -> recorrector -> guided inpainter ] x K

Round 0 is the usual one-way pipeline: the segmenter's own map guides one pass over the first fill. Each further round
segments what the last pass painted, corrects the map by that and by labelled exemplars, and paints over the first fill
again: only the map has changed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fbinpaint.models.exemplar_bank import Layout
from fbinpaint.models.layers import Window, downsample_mask, hole_window, one_hot
from fbinpaint.models.recorrector import RecorrectorOutput

from .errors import InputError
from .models import GuidedInpainter, InitialInpainter, Recorrector, Segmenter

# What guides the passes: no map, the segmenter's own map (never corrected), or the map that feedback corrects.
VARIANTS = ("unguided", "unidirectional", "feedback")
# Controls, which need no training of their own: the simplest corrections there are. Each round is guided by what the
# segmenter makes of the newest fill, or by the mean of that and of its first map.
RESEGMENTED_VARIANTS = ("resegmented", "resegmented-mean")
TINY = 1e-30  # above zero in single precision, below any share that matters


class Networks(nn.Module):
    """The four networks of the loop, in the order in which a photo meets them.

    `variant` is one of VARIANTS or RESEGMENTED_VARIANTS. All have the same parameters and paint as often; "feedback" is
    the method, the others are what it is measured against.
    """

    def __init__(
        self,
        initial_inpainter: InitialInpainter,
        segmenter: Segmenter,
        recorrector: Recorrector,
        guided_inpainter: GuidedInpainter,
        variant: str = "feedback",
    ):
        super().__init__()
        if variant not in VARIANTS + RESEGMENTED_VARIANTS:
            raise InputError(f"variant {variant!r}: must be one of {', '.join(VARIANTS + RESEGMENTED_VARIANTS)}")
        self.variant = variant
        self.initial_inpainter = initial_inpainter
        self.segmenter = segmenter
        self.recorrector = recorrector
        self.guided_inpainter = guided_inpainter

    @property
    def paint_learns(self) -> bool:
        """Whether an inpainter is trained: if none is, the maps learn from labels alone, which is fast."""
        return is_trained(self.initial_inpainter, self.guided_inpainter)

    def window(self, mask: Tensor) -> Window | None:
        """Where the holes of a batch are (`hole_window`), as details are painted there alone; None = everywhere.

        A graph that is exported cannot ask for the mask's values, and one that is compiled would be another one for
        each window.
        """
        compiled = torch.compiler.is_compiling() or self.guided_inpainter._compiled_call_impl is not None
        return None if compiled else hole_window(mask)

    @property
    def maps_learn(self) -> bool:
        """Whether segmenter or recorrector is trained: if not, no loss of their maps is worth its time."""
        return is_trained(self.segmenter, self.recorrector)

    @property
    def segmenter_alone(self) -> bool:
        """Whether the segmenter alone is trained, for which first fills are enough: nothing has to be painted."""
        corrections_learn = self.variant == "feedback" and is_trained(self.recorrector)
        return is_trained(self.segmenter) and not self.paint_learns and not corrections_learn


def is_trained(*networks: nn.Module) -> bool:
    return any(parameter.requires_grad for network in networks for parameter in network.parameters())


@dataclass
class Round:
    """What one round leaves behind. Maps are at a quarter of the photo's size, (B,·,H/4,W/4)."""

    index: int
    initial: Tensor  # (B,3,H,W), the first fill, composited
    image: Tensor  # (B,3,H,W), this round's fill, composited
    prediction: Tensor  # (B,3,H,W), the same before compositing; without gradients, painted around the holes only
    probabilities: Tensor  # (B,C,h,w), the map that guided it (nothing did, if unguided)
    logits: Tensor  # (B,C,h,w), the segmenter's own, before any feedback
    styles: Tensor  # (B,C,S), what each class looks like in the known part
    doubt: Tensor  # (B,3,h,w): disagreement of the last two fills, depth into the hole, 1 - confidence
    # Of the correction before this round; None where there was none, as in round 0.
    newest: Tensor | None = None  # (B,C,h,w), the segmenter's map of the last round's fill
    correction: RecorrectorOutput | None = None
    consistency: Tensor | None = None  # (B,C,h,w), S_c
    layout: Layout | None = None
    forbidden: "Forbidden | None" = None

    def labels(self) -> Tensor:
        """The map's classes at the photo's size, (B,H,W) int64."""
        probabilities = F.interpolate(self.probabilities, size=self.image.shape[-2:], mode="bilinear")
        # Again: what surrounds the area reaches into it.
        shown = probabilities if self.forbidden is None else self.forbidden.leave_out(probabilities)
        return shown.max(1).indices  # argmax takes three times as long on a CPU


@dataclass
class Forbidden:
    """Classes that a part of the photos must not show: classes (C,) bool; area (B,1,H,W) in {0,1}."""

    classes: Tensor
    area: Tensor

    def leave_out(self, probabilities: Tensor) -> Tensor:
        """A map (B,C,h,w) in which the others share what these classes had, in every cell that the area touches."""
        inside = F.adaptive_max_pool2d(self.area, probabilities.shape[-2:]) > 0
        # Where half precision knows of the forbidden ones alone, the others share alike.
        allowed = (probabilities.float() + TINY).masked_fill(self.classes[:, None, None], 0)
        allowed = allowed / allowed.sum(1, keepdim=True)
        return torch.where(inside, allowed.to(probabilities.dtype), probabilities)


def composite(fill: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """The fill inside the hole, the photo's very own values outside."""
    return torch.where(mask > 0.5, fill, image)


def hole_depth(hole: Tensor) -> Tensor:
    """(B,1,h,w) in {0,1}, in cells of 4 pixels -> in [0,1]: 0 in the known part, rising with the distance to it up to
    32 pixels."""
    depth, eroded = hole, hole
    for _ in range(7):
        eroded = -F.max_pool2d(-eroded, 3, stride=1, padding=1)
        depth = depth + eroded
    return depth / 8


def as_the_user_wants(
    probabilities: Tensor, semantic_map: Tensor | None, forbidden: Forbidden | None = None
) -> Tensor:
    """The map without what is forbidden, overruled where the user drew: semantic_map (B,H,W) int64, 255 = let the model
    decide."""
    if forbidden is not None:
        probabilities = forbidden.leave_out(probabilities)
    if semantic_map is None:
        return probabilities
    drawn = one_hot(semantic_map, probabilities.shape[1]).to(probabilities.dtype)
    height, width = probabilities.shape[-2:]
    drawn = F.adaptive_avg_pool2d(drawn, (height, width))
    return drawn + (1 - drawn.sum(1, keepdim=True)) * probabilities


def correct(
    networks: Networks,
    fill: Tensor,
    mask: Tensor,
    first_map: Tensor,
    layout: Layout | None,
    doubt: Tensor,
    hole: Tensor,
) -> tuple[Tensor, dict[str, Any]]:
    """The map of a fill, held against the first one: the corrected map (B,C,h,w), and what a `Round` keeps of how it
    came about. Arguments as there; hole (B,1,h,w) in {0,1}. Without a layout (controls) it is the new map, or the mean
    of both."""
    again = networks.segmenter(fill, mask)
    newest = networks.recorrector.adapt(again.pyramid, again.logits.softmax(1), mask)
    if layout is None:
        return (first_map + newest) / 2 if networks.variant == "resegmented-mean" else newest, {"newest": newest}
    consistency = networks.recorrector.recognise(again.pyramid, newest)
    correction = networks.recorrector(
        first=first_map, newest=newest, consistency=consistency, layout=layout.probabilities, doubt=doubt, hole=hole
    )
    evidence = {"newest": newest, "correction": correction, "consistency": consistency, "layout": layout}
    return correction.probabilities, evidence


def feedback_rounds(
    networks: Networks,
    image: Tensor,
    mask: Tensor,
    num_rounds: int,
    semantic_map: Tensor | None = None,
    allowed: Tensor | None = None,
    forbidden: Forbidden | None = None,
) -> Iterator[Round]:
    """Yield rounds 0..num_rounds, each as soon as it is done.

    Who takes a round may replace its `image` and `probabilities`: the next one segments that fill, and corrects that
    map instead of the first.

    Args:
        image: (B,3,H,W) in [-1,1], H and W multiples of 16; what lies under the mask is never read.
        mask: (B,1,H,W) in {0,1}, 1 = hole.
        num_rounds: K, the number of corrections; 0 = one-way.
        semantic_map: (B,H,W) int64, classes the user insists on, 255 elsewhere.
        allowed: (B,N) bool, whose layouts of the recorrector's bank each photo may consult; None = all.
        forbidden: what no map may show where, unless `semantic_map` does.

    Fills are detached between networks: each learns to improve the fill it is given, not to shape its input. Gradients
    of the image losses still reach segmenter and recorrector through the soft map, in the feedback variant. All passes
    are the same function of the first fill, so only the last one, `num_rounds`, is recorded for gradients; and none
    where the inpainters are frozen.
    """
    feedback = networks.variant == "feedback"
    image = image * (1 - mask)
    # In training the known part is painted too: it is supervised as well.
    window = None if torch.is_grad_enabled() else networks.window(mask)
    initial = networks.initial_inpainter(image, mask, window)
    first = composite(initial.image, image, mask)
    last, fill = first.detach(), first.detach()
    with torch.set_grad_enabled(feedback and torch.is_grad_enabled()):  # one-way: the inpainter teaches it nothing
        segmented = networks.segmenter(fill, mask)
        probabilities = networks.recorrector.adapt(segmented.pyramid, segmented.logits.softmax(1), mask)
    probabilities = as_the_user_wants(probabilities, semantic_map, forbidden)
    guide = first_map = probabilities
    if networks.variant == "unguided":
        guide = torch.full_like(probabilities, 1 / probabilities.shape[1])
    conditioning = networks.guided_inpainter.prepare(
        fill, mask, initial.context4, initial.context8, guide, window
    )
    layout = networks.recorrector.lay_out(probabilities, mask, allowed) if feedback and num_rounds else None
    hole = downsample_mask(mask, 4)
    depth = hole_depth(hole)
    evidence: dict[str, Any] = {}

    for index in range(num_rounds + 1):
        disagreement = F.avg_pool2d((fill - last).abs().mean(1, keepdim=True), 4)
        uncertainty = 1 - probabilities.detach().amax(1, keepdim=True)
        doubt = torch.cat([disagreement, depth, uncertainty], dim=1)
        if index > 0 and (feedback or networks.variant in RESEGMENTED_VARIANTS):
            corrected, evidence = correct(networks, fill, mask, first_map, layout, doubt, hole)
            guide = probabilities = as_the_user_wants(corrected, semantic_map, forbidden)
        recorded = torch.is_grad_enabled() and index == num_rounds and networks.paint_learns
        if recorded and num_rounds and torch.is_autocast_enabled(image.device.type):
            # Older autocast hands the last pass the weights that it cast for those before, without gradients.
            torch.clear_autocast_cache()
        with torch.set_grad_enabled(recorded):
            painted = networks.guided_inpainter(guide, conditioning)
        result = composite(painted.image, image, mask)
        round_ = Round(
            index=index,
            initial=first,
            image=result,
            prediction=painted.image,
            probabilities=probabilities,
            logits=segmented.logits,
            styles=conditioning.styles,
            doubt=doubt,
            forbidden=forbidden,
            **evidence,
        )
        yield round_
        last, fill = fill, round_.image.detach()
        if round_.probabilities is not probabilities:
            probabilities = as_the_user_wants(round_.probabilities, semantic_map, forbidden)
            first_map = probabilities
            guide = guide if networks.variant == "unguided" else probabilities
