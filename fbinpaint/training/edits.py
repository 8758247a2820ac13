"""What users draw into the holes of training photos, and what it should look like there."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fbinpaint.labels import IGNORE
from fbinpaint.training.losses import class_colours

# For so many photos the map of the whole hole is the true one: a painter that only ever sees guessed maps learns not to
# rely on them.
TRUE_MAP_ODDS = 0.5
# Of the others, so many have something drawn into a part of the hole, with equal odds: the right classes, the layout
# that another photo of the batch has there, or one class of that photo. Right edits make maps worth following. Right
# ones alone are soon followed in texture only, as colour can be told from around the hole: wrong ones teach that a
# drawn sky is bright.
EDIT_ODDS = 0.5
RIGHT, LAYOUT, ONE_CLASS = range(3)
# A class looks like itself in the same photo where so many known cells show it, else like that in the other photo.
MIN_CELLS = 16


@dataclass
class Edits:
    where: Tensor  # (B,H,W) bool
    kinds: Tensor  # (B,) int64, RIGHT, LAYOUT or ONE_CLASS; on the host

    @property
    def wrong(self) -> Tensor:
        """The photos into which other classes may be drawn than they show, (N,) int64."""
        return (self.kinds != RIGHT).nonzero()[:, 0].to(self.where.device)

    def draw(self, truth: Tensor) -> Tensor:
        """The drawn maps, 255 where nothing is drawn. truth (B,H,W) int64, 255 = unknown; the others' are the next
        photo's of the batch."""
        other, kinds = truth.roll(1, 0), self.kinds.to(truth.device)[:, None, None]
        # The first pixel of the lower half of what is drawn: near its middle.
        rank = self.where.flatten(1).cumsum(1)  # (B, HW)
        middle = (rank > rank[:, -1:] // 2).int().argmax(1, keepdim=True)
        one_class = other.flatten(1).gather(1, middle)[..., None]  # (B, 1, 1)
        drawn = torch.where(kinds == RIGHT, truth, torch.where(kinds == LAYOUT, other, one_class))
        return torch.where(self.where, drawn, IGNORE)


def draw_edits(mask: Tensor, generator: torch.Generator) -> Edits:
    """True maps of some photos' holes; of others, edits in a box of the hole, a fifth to four fifths of the photo high
    and wide. mask (B,1,H,W)."""
    odds, *box = torch.rand(5, len(mask), generator=generator)
    kinds = torch.randint(3, (len(mask),), generator=generator)
    rows, columns = (
        inside(share, place, side) for share, place, side in zip(box[:2], box[2:], mask.shape[-2:], strict=True)
    )
    whole, part = odds < TRUE_MAP_ODDS, odds < TRUE_MAP_ODDS + (1 - TRUE_MAP_ODDS) * EDIT_ODDS
    where = whole[:, None, None] | (part[:, None, None] & rows[:, :, None] & columns[:, None])
    return Edits(where.to(mask.device) & (mask[:, 0] > 0.5), kinds.masked_fill(whole | ~part, RIGHT))


def inside(share: Tensor, place: Tensor, side: int) -> Tensor:
    """(B,side) bool: a stretch of a fifth to four fifths of the side; share and place (B,) in [0,1], of its length and
    of where it starts."""
    length = ((0.2 + 0.6 * share) * side).long()
    start = (place * (side - length + 1)).long()
    pixels = torch.arange(side, device=share.device)
    return (pixels >= start[:, None]) & (pixels < (start + length)[:, None])


def class_colour_targets(image: Tensor, classes: Tensor, hole: Tensor) -> tuple[Tensor, Tensor]:
    """What each class should look like where it is drawn, (B,C,3), and whether anything says so, (B,C) bool.

    image (B,3,H,W); classes (B,C,H/4,W/4) in {0,1}; hole (B,H/4,W/4). A class that the photo's known part does not show
    looks as in the other photo, but in this one's light: as bright as the classes are that both show.
    """
    cells = F.avg_pool2d(image, 4)
    own, count = class_colours(cells, classes * (1 - hole[:, None]))
    others, others_count = (x.roll(1, 0) for x in class_colours(cells, classes))
    seen = count >= MIN_CELLS
    both = seen & (others_count >= MIN_CELLS)
    bright, others_bright = ((1 + x).mean(-1).mul(both).sum(1) for x in (own, others))  # (B,)
    light = torch.where(both.any(1), bright / others_bright.clamp_min(1e-3), 1).clamp(0.5, 2)[:, None, None]
    others = ((1 + others) * light - 1).clamp_max(1)
    return torch.where(seen[..., None], own, others), seen | (others_count > 0)
