"""What users draw into the holes of training photos, and what it should look like there."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..losses import class_colours

# So often a user has drawn into a part of the hole, with equal odds: the right classes, the layout that another photo
# of the batch has there, or one class of that photo. Right edits make maps worth following. Right ones alone are soon
# followed in texture only, as colour can be told from around the hole: wrong ones teach that a drawn sky is bright.
EDIT_ODDS = 0.5
RIGHT, LAYOUT, ONE_CLASS = range(3)
# A class looks like itself in the same photo where so many known cells show it, else like that in the other photo.
MIN_CELLS = 16


@dataclass
class Edits:
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


def colours_to_wish(image: Tensor, classes: Tensor, hole: Tensor) -> tuple[Tensor, Tensor]:
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
