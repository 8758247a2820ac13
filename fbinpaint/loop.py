"""The feedback loop: the paper's figure in one screen, shared by training, evaluation, command line and demo.

    photo + mask -> initial inpainter -> segmenter -> guided inpainter -> [ recorrector -> guided inpainter ] x K

Round 0 is the usual one-way pipeline: the segmenter's own map guides one pass. Each further round corrects the map from
what the last pass painted, and paints again.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .models import GuidedInpainter, InitialInpainter, Recorrector, Segmenter
from .models.exemplar_bank import Exemplars


class Networks(nn.Module):
    """The four networks of the loop, in the order in which a photo meets them."""

    def __init__(
        self,
        initial_inpainter: InitialInpainter,
        segmenter: Segmenter,
        recorrector: Recorrector,
        guided_inpainter: GuidedInpainter,
    ):
        super().__init__()
        self.initial_inpainter = initial_inpainter
        self.segmenter = segmenter
        self.recorrector = recorrector
        self.guided_inpainter = guided_inpainter


@dataclass
class Round:
    """What one round leaves behind. Maps are at a quarter of the photo's size, (B,·,H/4,W/4)."""

    index: int
    initial: Tensor  # (B,3,H,W), the first fill, composited
    image: Tensor  # (B,3,H,W), this round's fill, composited
    prediction: Tensor  # (B,3,H,W), the same before compositing
    probabilities: Tensor  # (B,C,h,w), the map that guided it
    logits: Tensor  # (B,C,h,w), the segmenter's own, before any feedback
    doubt: Tensor  # (B,3,h,w): disagreement of the last two fills, depth into the hole, 1 - confidence
    consistency: Tensor | None  # (B,C,h/2,w/2), S_c; None in round 0
    shared: Tensor | None  # (B,C); None in round 0
    trust: Tensor | None  # (B,1,h,w); None in round 0

    def labels(self) -> Tensor:
        """The map's classes at the photo's size, (B,H,W) int64."""
        return F.interpolate(self.probabilities, size=self.image.shape[-2:], mode="bilinear").argmax(1)


def composite(fill: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """The fill inside the hole, the photo's very own values outside."""
    return torch.where(mask > 0.5, fill, image)


def hole_depth(mask: Tensor) -> Tensor:
    """(B,1,H,W) -> (B,1,H/4,W/4) in [0,1]: 0 in the known part, rising with the distance to it up to 32 pixels."""
    hole = F.max_pool2d(mask, 4)
    depth, eroded = hole, hole
    for _ in range(7):
        eroded = -F.max_pool2d(-eroded, 3, stride=1, padding=1)
        depth = depth + eroded
    return depth / 8


def keep_user_pixels(probabilities: Tensor, semantic_map: Tensor | None) -> Tensor:
    """Overrule the map where the user drew: semantic_map (B,H,W) int64, 255 = let the model decide."""
    if semantic_map is None:
        return probabilities
    num_classes = probabilities.shape[1]
    drawn = F.one_hot(semantic_map.clamp_max(num_classes), num_classes + 1)[..., :num_classes].movedim(-1, 1)
    drawn = F.adaptive_avg_pool2d(drawn.to(probabilities.dtype), probabilities.shape[-2:])
    return drawn + (1 - drawn.sum(1, keepdim=True)) * probabilities


def feedback_rounds(
    networks: Networks,
    image: Tensor,
    mask: Tensor,
    num_rounds: int,
    semantic_map: Tensor | None = None,
    exemplars: Exemplars | None = None,
    allowed: Tensor | None = None,
) -> Iterator[Round]:
    """Yield rounds 0..num_rounds, each as soon as it is done.

    Args:
        image: (B,3,H,W) in [-1,1], H and W multiples of 16; what lies under the mask is never read.
        mask: (B,1,H,W) in {0,1}, 1 = hole.
        num_rounds: K, the number of corrections; 0 = one-way.
        semantic_map: (B,H,W) int64, classes the user insists on, 255 elsewhere.
        exemplars: None = the bank saved with the recorrector.
        allowed: (B,N) bool, which exemplars each photo may consult; None = all.

    Fills are detached between networks: each learns to improve the fill it is given, not to shape its input. Gradients
    of the image losses still reach segmenter and recorrector through the soft map.
    """
    image = image * (1 - mask)
    initial = networks.initial_inpainter(image, mask)
    first = composite(initial.image, image, mask)
    last, fill = first.detach(), first.detach()
    segmented = networks.segmenter(fill, mask)
    probabilities = keep_user_pixels(torch.softmax(segmented.logits, dim=1), semantic_map)
    styles = networks.guided_inpainter.pool_styles(initial.context4, probabilities, mask)
    exemplars = networks.recorrector.bank if exemplars is None else exemplars
    prototypes, shared = networks.recorrector.consult(segmented.features, probabilities, mask, exemplars, allowed)
    depth = hole_depth(mask)

    correction = painted = None
    for index in range(num_rounds + 1):
        disagreement = F.avg_pool2d((fill - last).abs().mean(1, keepdim=True), 4)
        uncertainty = 1 - probabilities.detach().amax(1, keepdim=True)
        doubt = torch.cat([disagreement, depth, uncertainty], dim=1)
        if index > 0:
            correction = networks.recorrector(
                probabilities, segmented.features, painted.features, doubt, mask, prototypes, shared
            )
            probabilities = keep_user_pixels(correction.probabilities, semantic_map)
        painted = networks.guided_inpainter(fill, mask, probabilities, styles, initial.context4, initial.context8)
        result = composite(painted.image, image, mask)
        last, fill = fill, result.detach()
        yield Round(
            index=index,
            initial=first,
            image=result,
            prediction=painted.image,
            probabilities=probabilities,
            logits=segmented.logits,
            doubt=doubt,
            consistency=correction.consistency if correction else None,
            shared=correction.shared if correction else None,
            trust=correction.trust if correction else None,
        )
