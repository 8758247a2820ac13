"""One training step: all networks run the loop on a batch, every round is supervised."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.photos import Batch
from ..loop import Networks, Round, feedback_rounds
from ..losses import class_colours, colour_loss, consistency_loss, reconstruction_loss, semantic_loss
from ..models.exemplar_bank import Exemplars, consistency_maps
from ..models.layers import one_hot
from .semi_supervised import Strategy

# Known cells are easy and many: in the map losses they weigh this much of a hole cell.
KNOWN_WEIGHT = 0.25
# So many labelled photos of a batch are also segmented intact and serve as exemplars: more cost time, teach little.
MAX_EXEMPLARS = 4
# So often a user has drawn into a part of the hole, with equal odds: the right classes, the layout that another photo
# of the batch has there, or one class of that photo. Right edits make maps worth following. Right ones alone are soon
# followed in texture only, as colour can be told from around the hole: wrong ones teach that a drawn sky is bright.
EDIT_ODDS = 0.5
RIGHT, LAYOUT, ONE_CLASS = range(3)
# A class looks like itself in the same photo where so many known cells show it, else like that in the other photo.
MIN_CELLS = 16


@dataclass
class LossWeights:
    """Image losses act on the last fill of a step (the reconstruction on every fill), semantic ones on every map."""

    # Of the first fill. High, because its network also feeds the guided inpainter: with less, their gradients leave the
    # first fill no better than a smooth one.
    initial: float = 4.0
    reconstruction: float = 1.0  # 1 * L1(known) + 6 * L1(hole)
    perceptual: float = 1.0
    adversarial: float = 0.05
    feature_matching: float = 0.5
    semantic: float = 0.5  # cross-entropy of each map
    consistency: float = 0.2  # BCE of the consistency maps
    colour: float = 2.0  # L1 with the colours of classes that were drawn where the photo shows others


@dataclass
class Losses:
    initial: Tensor
    reconstruction: Tensor
    semantic: Tensor
    consistency: Tensor
    colour: Tensor

    def total(self, weights: LossWeights) -> Tensor:
        return sum(getattr(weights, field.name) * getattr(self, field.name) for field in fields(self))


@dataclass
class Edits:
    """What users draw."""

    where: Tensor  # (B,H,W) bool
    kinds: Tensor  # (B,) int64, RIGHT, LAYOUT or ONE_CLASS

    def draw(self, truth: Tensor) -> Tensor:
        """The drawn maps, 255 where nothing is drawn. truth (B,H,W) int64, 255 = unknown; the others' are the next
        photo's of the batch."""
        drawn = truth.clone()
        for photo, place, kind, other in zip(drawn, self.where, self.kinds.tolist(), truth.roll(1, 0), strict=True):
            if kind == LAYOUT:
                photo.copy_(other)
            elif kind == ONE_CLASS and place.any():
                there = other[place]
                photo.fill_(there[len(there) // 2])
        return torch.where(self.where, drawn, 255)


@dataclass
class Outcome:
    """What a step leaves to the perceptual and adversarial losses."""

    last: Round  # its image is their input
    classes: Tensor  # (B,H/4,W/4) int64, of the intact photos: true ones, or such as the teacher is sure of; else 255
    told: Tensor  # likewise, those that the fill should have: as drawn, where something was
    astray: Tensor  # (B,1,H,W) bool, where other classes than the photo's were drawn: there is no truth for the fill

    def wanted(self, image: Tensor) -> Tensor:
        """The intact photos (B,3,H,W), with the fill itself where nobody knows what it should look like."""
        return torch.where(self.astray, self.last.image.detach(), image)


class Learner(nn.Module):
    """The student: its forward is the whole differentiable part of a step, so that DDP sees one module.

    Args:
        networks: trained jointly.
        strategy: what the teacher's maps of unlabelled photos are worth.
        class_weights: (C,), of the corrected maps' loss. The segmenter keeps the plain one: its map is the calibrated
            first opinion, the recorrector is to bring back what that one lost.
    """

    def __init__(self, networks: Networks, strategy: Strategy, class_weights: Tensor):
        super().__init__()
        self.networks, self.strategy = networks, strategy
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(
        self, batch: Batch, edits: Edits, teacher: Networks, num_rounds: int | None
    ) -> tuple[Outcome | None, Losses]:
        """Run the loop with the batch's labelled photos as exemplars.

        num_rounds None = the initial inpainter alone, which leaves no Outcome.
        """
        if num_rounds is None:
            fill = self.networks.initial_inpainter(batch.image, batch.mask).image
            nothing = fill.new_zeros(())
            initial = reconstruction_loss(fill, batch.image, batch.mask)
            return None, Losses(initial, nothing, nothing, nothing, nothing)
        networks, feedback = self.networks, self.networks.variant == "feedback"
        chosen = batch.labelled.nonzero()[:MAX_EXEMPLARS, 0]
        labels = batch.labels[:, 2::4, 2::4]  # the centres of the map's 4x4-pixel cells
        photos, photo_labels = batch.image[chosen], labels[chosen]
        no_hole = torch.zeros_like(photos[:, :1])
        intact = networks.segmenter(photos, no_hole)
        exemplars = networks.recorrector.make_exemplars(intact.features, photo_labels)
        allowed = torch.arange(len(labels), device=chosen.device)[:, None] != chosen[None]  # (B, N): not its own

        target, trust = one_hot(labels, len(self.class_weights)), torch.ones_like(batch.mask[:, 0, 2::4, 2::4])
        labelled = batch.labelled[:, None, None].expand_as(trust)
        if not batch.labelled.all():
            pseudo, pseudo_trust = self.strategy.pseudo_labels(teacher, batch, detached(exemplars))
            target = torch.where(labelled[:, None], target, pseudo)
            trust = torch.where(labelled, trust, pseudo_trust)
            labels = torch.where(target.sum(1) > 0, target.argmax(1), 255)
        classes = torch.where(trust > 0, labels, 255)
        truth = torch.where(batch.labelled[:, None, None], batch.labels, in_pixels(classes))
        drawn = edits.draw(truth) if networks.variant != "unguided" else torch.full_like(truth, 255)
        astray = ((drawn != 255) & (drawn != truth))[:, None]
        told = torch.where(drawn != 255, drawn, truth)[:, 2::4, 2::4]

        reconstruction, semantic, consistency, colour = [], [], [], []
        hole = F.max_pool2d(batch.mask, 4)[:, 0]  # (B, h, w)
        balance = self.class_weights[labels.clamp_max(len(self.class_weights) - 1)]
        everywhere = KNOWN_WEIGHT + (1 - KNOWN_WEIGHT) * hole
        open_hole = hole * (1 - F.max_pool2d(astray.float(), 4)[:, 0])  # where the map may still tell the truth
        wish = one_hot(told, len(self.class_weights)) * astray[:, :, 2::4, 2::4]  # (B, C, h, w)
        colours, certain = self.colours_to_wish(batch.image, classes, hole)
        wish = wish * certain[:, :, None, None]
        for round_ in feedback_rounds(
            networks, batch.image, batch.mask, num_rounds, semantic_map=drawn, exemplars=exemplars, allowed=allowed
        ):
            goal = torch.where(astray, round_.prediction.detach(), batch.image)
            reconstruction.append(reconstruction_loss(round_.prediction, goal, batch.mask))
            colour.append(colour_loss(F.avg_pool2d(round_.prediction, 4), wish, colours))
            if round_.index == 0:
                initial = reconstruction_loss(round_.initial, batch.image, batch.mask)
                if feedback:
                    semantic.append(semantic_loss(round_.logits.log_softmax(1), target, everywhere, trust, labelled))
            elif feedback:
                # Later rounds can only change the hole.
                log_p = (round_.probabilities + 1e-6).log()
                semantic.append(semantic_loss(log_p, target, open_hole * balance, trust, labelled))
                consistency.append(
                    consistency_loss(round_.consistency, labels[:, 1::2, 1::2], round_.shared, trust[:, 1::2, 1::2])
                )
        if len(chosen):
            ones = torch.ones_like(trust[chosen])
            semantic.append(semantic_loss(intact.logits.log_softmax(1), target[chosen], ones, ones, labelled[chosen]))
            if feedback:
                advice = networks.recorrector.consult(
                    intact.features, intact.logits.softmax(1), no_hole, exemplars, allowed[chosen]
                )
                features = networks.recorrector.exemplar_features(intact.features)
                maps = consistency_maps(features, advice.prototypes, advice.shared)
                consistency.append(consistency_loss(maps, photo_labels, advice.shared, ones))
        if self.strategy.strong_view:
            mixed = torch.where(batch.mask > 0, batch.image.roll(1, 0), batch.image)
            seen = networks.segmenter(mixed, torch.zeros_like(batch.mask))
            swap = batch.mask[:, :, 2::4, 2::4] > 0
            mixed_target = torch.where(swap, target.roll(1, 0), target)
            mixed_trust, mixed_labelled = (torch.where(swap[:, 0], x.roll(1, 0), x) for x in (trust, labelled))
            ones = torch.ones_like(trust)
            log_p = seen.logits.log_softmax(1)
            semantic.append(semantic_loss(log_p, mixed_target, ones, mixed_trust, mixed_labelled))
        losses = Losses(
            initial=initial,
            reconstruction=mean_of(reconstruction, batch.image),
            semantic=mean_of(semantic, batch.image),
            consistency=mean_of(consistency, batch.image),
            colour=mean_of(colour, batch.image),
        )
        return Outcome(round_, classes, told, astray), losses

    def colours_to_wish(self, image: Tensor, classes: Tensor, hole: Tensor) -> tuple[Tensor, Tensor]:
        """What each class should look like where it is drawn, (B,C,3), and whether anything says so, (B,C) bool.

        image (B,3,H,W); classes, hole (B,H/4,W/4). A class that the photo's known part does not show looks as in the
        other photo, but in this one's light: as bright as the classes are that both show.
        """
        cells, found = F.avg_pool2d(image, 4), one_hot(classes, len(self.class_weights))
        own, count = class_colours(cells, found * (1 - hole[:, None]))
        others, others_count = (x.roll(1, 0) for x in class_colours(cells, found))
        seen = count >= MIN_CELLS
        both = seen & (others_count >= MIN_CELLS)
        bright, others_bright = ((1 + x).mean(-1).mul(both).sum(1) for x in (own, others))  # (B,)
        light = torch.where(both.any(1), bright / others_bright.clamp_min(1e-3), 1).clamp(0.5, 2)[:, None, None]
        others = ((1 + others) * light - 1).clamp_max(1)
        return torch.where(seen[..., None], own, others), seen | (others_count > 0)


def in_pixels(cells: Tensor) -> Tensor:
    """(B,h,w), one value for each cell of 4x4 pixels -> (B,4h,4w)."""
    return cells.repeat_interleave(4, 1).repeat_interleave(4, 2)


def mean_of(losses: list[Tensor], like: Tensor) -> Tensor:
    return sum(losses) / len(losses) if losses else like.new_zeros(())


def detached(exemplars: Exemplars) -> Exemplars:
    return Exemplars(exemplars.prototypes.detach(), exemplars.present.detach(), exemplars.keys.detach())


def draw_edits(mask: Tensor, generator: torch.Generator) -> Edits:
    """Edits of some photos: in a box of the hole, a fifth to four fifths of the photo high and wide. mask (B,1,H,W)."""
    height, width = mask.shape[-2:]
    where = torch.zeros_like(mask[:, 0], dtype=torch.bool)
    for photo, hole in zip(where, mask[:, 0] > 0.5, strict=True):
        odds, tall, wide, top, left = torch.rand(5, generator=generator).tolist()
        if odds < EDIT_ODDS:
            rows, columns = int((0.2 + 0.6 * tall) * height), int((0.2 + 0.6 * wide) * width)
            top, left = int(top * (height - rows + 1)), int(left * (width - columns + 1))
            box = slice(top, top + rows), slice(left, left + columns)
            photo[box] = hole[box]
    return Edits(where, torch.randint(3, (len(mask),), generator=generator))


def hole_windows(a: Tensor, b: Tensor, mask: Tensor, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The same size x size window of each pair of photos, around a random pixel of its hole: elsewhere nothing differs.

    a, b (B,3,H,W), mask (B,1,H,W), no photo without a hole -> (B,3,size,size) each.
    """
    height, width = a.shape[-2:]
    windows = []
    for photo, hole in enumerate(mask[:, 0].cpu()):
        pixels = hole.nonzero()
        row, column = pixels[torch.randint(len(pixels), (), generator=generator)].tolist()
        top = min(max(row - size // 2, 0), height - size)
        left = min(max(column - size // 2, 0), width - size)
        windows.append((photo, slice(None), slice(top, top + size), slice(left, left + size)))
    return torch.stack([a[window] for window in windows]), torch.stack([b[window] for window in windows])
