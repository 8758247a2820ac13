"""The label spaces: which ids a semantic map may hold, what they are called and how they are drawn.

A semantic map is an array of class ids; `IGNORE` (255) marks pixels without a label (in a map edited by the user: "let
the model decide").
"""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from fbinpaint.errors import InputError

IGNORE = 255
IGNORE_COLOUR = (128, 128, 128)  # mid-grey: no class of either label space has it, so colours can be read back


@dataclass(frozen=True)
class LabelSpace:
    """An ordered set of classes; a class's id is its position.

    name:          the key in `LABEL_SPACES`
    classes:       class names, by id, as the data set's owners write them: in Python, on the command line, in reports
    palette:       RGB colours in 0..255, by id, all different
    flip_pairs:    ids that trade places when a picture is mirrored (a left eye becomes a right one)
    display_names: what people are shown instead of `classes`, by id; empty = the same
    """

    name: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    flip_pairs: tuple[tuple[int, int], ...] = ()
    display_names: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def shown_names(self) -> tuple[str, ...]:
        """What the classes are called where people read it, by id."""
        return self.display_names or self.classes

    def colorize(self, index_map: np.ndarray) -> np.ndarray:
        """(H,W) ids in 0..255 -> (H,W,3) uint8 RGB. Ids that are no class, `IGNORE` among them, get `IGNORE_COLOUR`."""
        return self._palette_table()[np.asarray(index_map).astype(np.uint8)]

    def to_palette_image(self, index_map: np.ndarray) -> Image.Image:
        """(H,W) ids -> mode "P" image whose pixel VALUES are the ids and whose palette shows them in colour.

        Read it back with `np.asarray(image)`; `image.convert("L")` would turn the ids into the grey of their colours.
        """
        image = Image.fromarray(np.ascontiguousarray(index_map, dtype=np.uint8))
        image.putpalette(self._palette_table().tobytes())  # turns "L" into "P", values untouched
        return image

    def flip(self, index_map: np.ndarray | torch.Tensor) -> np.ndarray | torch.Tensor:
        """Swaps the ids of `flip_pairs` in a map of any shape and type; mirroring the pixels is the caller's."""
        flipped = index_map.clone() if isinstance(index_map, torch.Tensor) else index_map.copy()
        for left, right in self.flip_pairs:
            flipped[index_map == left] = right
            flipped[index_map == right] = left
        return flipped

    def _palette_table(self) -> np.ndarray:
        table = np.full((256, 3), IGNORE_COLOUR, dtype=np.uint8)
        table[: self.num_classes] = self.palette
        return table


# Names, order and colours as the owners draw them: github.com/switchablenorms/CelebAMask-HQ,
# face_parsing/Data_preprocessing/g_mask.py (order) and g_color.py (colours). `l_` is the person's own left, which lies
# on the RIGHT of the picture of a face (but in `l_lip`, which is the lower lip, as `u_lip` is the upper one).
CELEBAMASK_HQ = LabelSpace(
    name="celebamask-hq",
    classes=(
        "background", "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear",
        "mouth", "u_lip", "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth",
    ),
    palette=(
        (0, 0, 0), (204, 0, 0), (76, 153, 0), (204, 204, 0), (51, 51, 255), (204, 0, 204), (0, 255, 255),
        (255, 204, 204), (102, 51, 0), (255, 0, 0), (102, 204, 0), (255, 255, 0), (0, 0, 153), (0, 0, 204),
        (255, 51, 153), (0, 204, 204), (0, 51, 0), (255, 153, 51), (0, 204, 0),
    ),
    flip_pairs=((4, 5), (6, 7), (8, 9)),
    display_names=(
        "background", "skin", "nose", "glasses", "left eye (theirs)", "right eye (theirs)", "left brow (theirs)",
        "right brow (theirs)", "left ear (theirs)", "right ear (theirs)", "mouth", "upper lip", "lower lip", "hair",
        "hat", "earring", "necklace", "neck", "clothes",
    ),
)

# The 19 train ids: github.com/mcordts/cityscapesScripts, cityscapesscripts/helpers/labels.py.
CITYSCAPES = LabelSpace(
    name="cityscapes",
    classes=(
        "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation",
        "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
    ),
    palette=(
        (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153),
        (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60), (255, 0, 0),
        (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
    ),
)

LABEL_SPACES = {space.name: space for space in (CELEBAMASK_HQ, CITYSCAPES)}


def get_label_space(name: str) -> LabelSpace:
    """The label space of that name. Raises InputError, naming the known ones, if there is none."""
    if name not in LABEL_SPACES:
        raise InputError(f"unknown label space {name!r}: use one of {', '.join(LABEL_SPACES)}")
    return LABEL_SPACES[name]
