"""One training step: all networks run the loop on a batch; every map is supervised, the first and the last fill."""

from dataclasses import dataclass, replace
from functools import reduce
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fbinpaint.data.photos import Batch
from fbinpaint.labels import IGNORE
from fbinpaint.loop import Networks, Round, composite, feedback_rounds
from fbinpaint.models.layers import downsample_labels, one_hot, upsample_labels
from fbinpaint.training.losses import colour_loss, recognition_loss, reconstruction_loss, semantic_loss, weighted_mean

from .distillation import seen_by, taught
from .distribution_alignment import DistributionAlignment
from .edits import Edits, class_colour_targets
from .semi_supervised import Strategy, partners, recolour

# Known cells are easy and many: in the map losses they weigh this much of a hole cell.
KNOWN_WEIGHT = 0.25
# So many photos of a batch, the best labelled, are also segmented intact: more cost time, and teach little where fills
# teach as well.
MAX_INTACT = 4
# Of photos of which less is labelled there is a strong view.
LITTLE_LABELLED = 0.5
# What the likeliest class of a cell must have to be taken for what the cell shows, by the losses of the fill.
SURE = 0.7


@dataclass
class LossWeights:
    """Image losses act on the last fill of a step, semantic ones on every map."""

    # Of the first fill. High, because its network also feeds the guided inpainter: with less, their gradients leave the
    # first fill no better than a smooth one.
    initial: float = 4.0
    reconstruction: float = 1.0  # 1 * L1(known) + 6 * L1(hole)
    perceptual: float = 1.0
    adversarial: float = 0.05
    feature_matching: float = 0.5
    semantic: float = 0.5  # cross-entropy of each map
    colour: float = 2.0  # L1 with the colours of classes that were drawn where the photo shows others
    recognition: float = 0.1  # cross-entropy of what the teacher sees in the fill, with the classes it should show

    def total(self, losses: dict[str, Tensor]) -> Tensor:
        """The weighted sum of those losses that there are, by their names."""
        return reduce(torch.add, (getattr(self, name) * loss for name, loss in losses.items()))


@dataclass
class Losses:
    initial: Tensor
    reconstruction: Tensor
    semantic: Tensor
    colour: Tensor
    recognition: Tensor


class HasImage(Protocol):
    image: Tensor


@dataclass
class StepOutput:
    """What a step leaves to the perceptual and adversarial losses."""

    last: HasImage  # a round, whose image is their input
    classes: Tensor  # (B,H/4,W/4) int64, of the intact photos: true ones, or such as the teacher is sure of; else 255
    target_classes: Tensor  # likewise, those that the fill should have: as drawn, where something was
    edited_mask: Tensor  # (B,1,H,W) bool, where other classes than the photo's were drawn: nobody knows the fill there
    # (B,3,H,W), what the fill should look like: the intact photos, with the fill itself where nobody knows, or what a
    # distilled model paints.
    target: Tensor


@dataclass
class Target:
    """What the maps of a batch should say, by cells of 4x4 pixels: the label, or where a cell has none, be it of a
    labelled photo, what the strategy makes of the teacher's map."""

    distribution: Tensor  # (B,C,h,w), all zero where nothing is known
    trust: Tensor  # (B,h,w) in [0,1]
    labelled: Tensor  # (B,h,w) bool

    @classmethod
    def given(cls, distribution: Tensor) -> "Target":
        """Of every cell, as if it were a label."""
        everywhere = torch.ones_like(distribution[:, 0])
        return cls(distribution, everywhere, everywhere > 0)

    def select(self, photos: Tensor) -> "Target":
        return Target(self.distribution[photos], self.trust[photos], self.labelled[photos])

    def swap(self, where: Tensor) -> "Target":
        """Where says so, (B,1,h,w) bool, that of the photo's partner."""
        distribution = torch.where(where, partners(self.distribution), self.distribution)
        trust, labelled = (torch.where(where[:, 0], partners(x), x) for x in (self.trust, self.labelled))
        return Target(distribution, trust, labelled)

    @property
    def labels(self) -> Tensor:
        """The likeliest classes, (B,h,w) int64, 255 where nothing is known."""
        return torch.where(self.distribution.sum(1) > 0, self.distribution.argmax(1), 255)

    def loss(self, log_probabilities: Tensor, weight: Tensor) -> Tensor:
        """Of a map, (B,C,h,w); weight (B,h,w)."""
        return semantic_loss(log_probabilities, self.distribution, weight, self.trust, self.labelled)


class TrainingModule(nn.Module):
    """The student: its forward is the whole differentiable part of a step, so that DDP sees one module.

    Args:
        networks: trained jointly.
        strategy: what the teacher's maps of unlabelled photos are worth.
        class_weights: (C,), of the corrected maps' loss. The segmenter keeps the plain one: its map is the calibrated
            first opinion, the recorrector is to bring back what that one lost.
        kept: (C,) bool, the classes that `DistributionAlignment` keeps in pseudo-labels.
    """

    networks: Networks
    class_weights: Tensor

    def __init__(self, networks: Networks, strategy: Strategy, class_weights: Tensor, kept: Tensor):
        super().__init__()
        self.networks, self.strategy = networks, strategy
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.floor = DistributionAlignment(kept)
        # Of the photos that the bank was made of, in its order; nobody's until it is made.
        self.exemplar_names = [""] * len(networks.recorrector.bank)

    def forward(
        self,
        batch: Batch,
        edits: Edits,
        teacher: Networks,
        num_rounds: int | None,
        refine: bool = False,
        distilled: Networks | None = None,
        recolouring: Tensor | None = None,
    ) -> tuple[StepOutput | None, Losses]:
        """Run the loop with the exemplars of the bank.

        num_rounds None = the initial inpainter alone, which leaves no StepOutput, as a step of the segmenter alone does
        (`Networks.segmenter_alone`); refine = the last fill is halved, and what is judged is the pass that sharpens it
        again (`fbinpaint.pipeline.refinement`); distilled = the fill should look as this model paints it, or a
        segmenter that learns alone see in fills what this model sees (`fbinpaint.training.distillation`); recolouring =
        of strong views, as of `draw_recolouring`.
        """
        if num_rounds is None:
            fill = self.networks.initial_inpainter(batch.image, batch.mask).image
            nothing = fill.new_zeros(())
            initial = reconstruction_loss(fill, batch.image, batch.mask)
            return None, Losses(initial, nothing, nothing, nothing, nothing)
        networks = self.networks
        target = self.target(batch, teacher)
        if networks.segmenter_alone:
            return None, self.losses_of_segmenter(batch, target, distilled, recolouring)
        sure = (target.trust > 0) & (target.distribution.amax(1) >= SURE)
        classes = torch.where(sure, target.labels, IGNORE)
        truth = torch.where(batch.labels != IGNORE, batch.labels, upsample_labels(classes))
        drawn = edits.draw(truth) if networks.variant != "unguided" else torch.full_like(truth, IGNORE)
        edited_mask = ((drawn != IGNORE) & (drawn != truth))[:, None]
        target_classes = downsample_labels(torch.where(drawn != IGNORE, drawn, truth))

        own = [[name == other for other in self.exemplar_names] for name in batch.names]
        allowed = ~torch.tensor(own, device=batch.image.device)  # (B, N): a photo is not its own exemplar
        rounds = list(feedback_rounds(networks, batch.image, batch.mask, num_rounds, drawn, allowed=allowed))
        last = self.refined(rounds[-1], batch) if refine else rounds[-1]
        if distilled is None:
            goal = torch.where(edited_mask, last.prediction.detach(), batch.image)
        else:
            goal = taught(distilled, batch.image, batch.mask, drawn)
        hole = F.max_pool2d(batch.mask, 4)[:, 0]  # (B, h, w)
        semantic = []
        if networks.maps_learn:
            of_rounds = self.losses_of_maps(rounds, target, hole, edited_mask)
            semantic = of_rounds + self.losses_of_intact(batch, target, recolouring)
        colours, certain = class_colour_targets(batch.image, self.one_hot(classes), hole)
        edited_classes = self.one_hot(target_classes) * downsample_labels(edited_mask)  # (B, C, h, w)
        edited_classes = edited_classes * certain[:, :, None, None]
        losses = Losses(
            initial=reconstruction_loss(last.initial, batch.image, batch.mask),
            reconstruction=reconstruction_loss(last.prediction, goal, batch.mask),
            semantic=mean_of(semantic, batch.image),
            colour=colour_loss(F.avg_pool2d(last.prediction, 4), edited_classes, colours),
            recognition=recognition_loss(teacher.segmenter, last.image, target_classes, hole),
        )
        return StepOutput(last, classes, target_classes, edited_mask, composite(goal, batch.image, batch.mask)), losses

    def losses_of_segmenter(
        self, batch: Batch, target: Target, distilled: Networks | None, recolouring: Tensor | None
    ) -> Losses:
        """Where nothing else learns: of its maps of first fills, and of photos without holes.

        What a distilled model sees in these fills is all that they should show: a painter that has learnt to follow
        those maps paints less sharply with better ones (docs/experiments.md).
        """
        networks, hole = self.networks, F.max_pool2d(batch.mask, 4)[:, 0]
        semantic = self.losses_of_intact(batch, target, recolouring)
        if networks.variant == "feedback":
            with torch.no_grad():
                painted = networks.initial_inpainter(batch.image * (1 - batch.mask), batch.mask).image
                fill = composite(painted, batch.image, batch.mask)
            of_fill = target if distilled is None else Target.given(seen_by(distilled, fill, batch.mask))
            seen = networks.segmenter(fill, batch.mask)
            semantic.append(of_fill.loss(seen.logits.log_softmax(1), everywhere(hole)))
        nothing = batch.image.new_zeros(())
        return Losses(nothing, nothing, mean_of(semantic, batch.image), nothing, nothing)

    def losses_of_maps(self, rounds: list[Round], target: Target, hole: Tensor, edited_mask: Tensor) -> list[Tensor]:
        """Of the segmenter's own maps everywhere, of the corrected ones where they can change, in the hole; but not
        where something else was drawn, as fill and map are to show that. hole (B,h,w), edited_mask (B,1,H,W)."""
        if self.networks.variant != "feedback":
            return []
        balance = self.class_weights[target.labels.clamp_max(len(self.class_weights) - 1)]
        true = 1 - F.max_pool2d(edited_mask.float(), 4)[:, 0]
        first, *corrected = rounds
        losses = [target.loss(first.logits.log_softmax(1), everywhere(hole))]
        for round_ in corrected:
            assert round_.newest is not None, "each round after the first has one"
            losses.append(target.loss((round_.newest + 1e-6).log(), everywhere(hole) * true))
            losses.append(target.loss((round_.probabilities + 1e-6).log(), hole * true * balance))
        return losses

    def losses_of_intact(self, batch: Batch, target: Target, recolouring: Tensor | None) -> list[Tensor]:
        """Of the maps of photos without holes."""
        most = MAX_INTACT if self.networks.variant == "feedback" else len(batch.labels)
        chosen = best_labelled(batch.labelled_share, most).to(batch.labels.device)
        segmented = self.networks.segmenter(batch.image[chosen], torch.zeros_like(batch.mask[chosen]))
        own = target.select(chosen)
        losses = [own.loss(segmented.logits.log_softmax(1), torch.ones_like(own.trust))]
        little_labelled = (batch.labelled_share < LITTLE_LABELLED).nonzero()[:, 0]
        if self.strategy.strong_view and len(little_labelled):
            losses.append(self.loss_of_mixture(batch, target, little_labelled, recolouring))
        return losses

    def refined(self, last: Round, batch: Batch) -> Round:
        """One more pass, over the last fill as it would be had it been made at half the size."""
        networks, size = self.networks, batch.image.shape[-2:]
        with torch.no_grad():
            halved = F.avg_pool2d(last.image, 2)
            enlarged = F.interpolate(halved, size=size, mode="bicubic").clamp(-1, 1)
            fill = composite(enlarged, batch.image, batch.mask)
        map_, styles = last.probabilities.detach(), last.styles.detach()
        context = networks.initial_inpainter(fill, torch.zeros_like(batch.mask))
        conditioning = networks.guided_inpainter.prepare(
            fill, batch.mask, context.context4, context.context8, map_, styles=styles
        )
        prediction = networks.guided_inpainter(map_, conditioning).image
        # Nothing of the pass before is handed on: DDP would wait for gradients of it that no loss asks for.
        image = composite(prediction, batch.image, batch.mask)
        return replace(last, image=image, prediction=prediction, probabilities=map_, styles=styles)

    def one_hot(self, classes: Tensor) -> Tensor:
        return one_hot(classes, len(self.class_weights))

    def target(self, batch: Batch, teacher: Networks) -> Target:
        labels = downsample_labels(batch.labels)  # (B, h, w)
        distribution, labelled = self.one_hot(labels), labels != IGNORE
        trust = torch.ones_like(distribution[:, 0])
        if batch.labelled_share.min() < 1:
            pseudo, pseudo_trust = self.strategy.pseudo_labels(teacher, batch, self.floor)
            distribution = torch.where(labelled[:, None], distribution, pseudo)
            trust = torch.where(labelled, trust, pseudo_trust)
        self.floor.move()
        return Target(distribution, trust, labelled)

    def loss_of_mixture(self, batch: Batch, target: Target, chosen: Tensor, recolouring: Tensor | None) -> Tensor:
        """Of the segmenter's map of the strong view of some photos (see `Strategy`): chosen (N,), on the host.

        All cells that it shows, labelled or not, count alike: with labelled ones averaged apart, maps of another kind
        of photos were worse (docs/experiments.md).
        """
        photos = chosen.to(batch.image.device, non_blocking=True)
        mixed = torch.where(batch.mask > 0, partners(batch.image), batch.image)[photos]
        if recolouring is not None:
            mixed = recolour(mixed, recolouring[chosen])
        seen = self.networks.segmenter(mixed, torch.zeros_like(batch.mask[photos]))
        said = target.swap(downsample_labels(batch.mask) > 0).select(photos)
        loss = -(said.distribution * seen.logits.log_softmax(1)).sum(1)
        return weighted_mean(said.trust * loss, said.distribution.sum(1))


def best_labelled(labelled_share: Tensor, most: int) -> Tensor:
    """The photos with the most labelled pixels: so many at most, and one even where none has a label.

    labelled_share (B,) -> their places in the batch, (N,), in rising order.
    """
    number = int((labelled_share > 0).sum().clamp(1, most))
    return labelled_share.argsort(descending=True, stable=True)[:number].sort().values


def everywhere(hole: Tensor) -> Tensor:
    """The weight of each cell in the loss of a whole map; hole (B,h,w) in {0,1}."""
    return KNOWN_WEIGHT + (1 - KNOWN_WEIGHT) * hole


def mean_of(losses: list[Tensor], like: Tensor) -> Tensor:
    return reduce(torch.add, losses) / len(losses) if losses else like.new_zeros(())


def hole_windows(a: Tensor, b: Tensor, mask: Tensor, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The same size x size window of each pair of photos, around a random pixel of its hole: elsewhere nothing differs.

    a, b (B,3,H,W), mask (B,1,H,W), no photo without a hole -> (B,3,size,size) each.
    """
    height, width = a.shape[-2:]
    rank = mask.flatten(1).cumsum(1)  # (B, HW), of the pixels of each hole
    chosen = torch.rand(len(mask), 1, generator=generator).to(mask.device) * rank[:, -1:]
    pixel = torch.searchsorted(rank, chosen, right=True).clamp_max(height * width - 1)  # (B, 1)
    rows, columns = (
        (place - size // 2).clamp(0, side - size) + torch.arange(size, device=mask.device)  # (B, size)
        for place, side in ((pixel // width, height), (pixel % width, width))
    )
    photos = torch.arange(len(mask), device=mask.device)[:, None, None]
    window_a, window_b = (x[photos, :, rows[:, :, None], columns[:, None]].movedim(-1, 1) for x in (a, b))
    return window_a, window_b
