"""The label spaces: which ids a semantic map may hold, what they are called and how they are drawn.

A semantic map is an array of class ids; `IGNORE` (255) marks pixels without a label (in a map edited by the user: "let
the model decide").

Two label spaces are built in; any other is a JSON object with the attributes of `LabelSpace`, in a file of the user or
in the configuration of a saved segmenter:

    {"name": "rooms", "classes": ["wall", "left door", "right door"],
     "palette": [[120, 120, 120], [8, 255, 51], [255, 51, 7]], "flip_pairs": [[1, 2]], "ignored_ids": [254]}
"""

import json
import operator
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from fbinpaint.errors import InputError
from fbinpaint.system.files import read_json

if TYPE_CHECKING:  # saved models are checked without torch
    import torch

IGNORE = 255
IGNORE_COLOUR = (128, 128, 128)  # mid-grey: no class of any label space has it, so colours can be read back
MAX_CLASSES = 254
MAX_ID = 2**16 - 1  # in a label file of 16 bits


@dataclass(frozen=True)
class LabelSpace:
    """An ordered set of classes; a class's id is its position.

    name:          the key in `LABEL_SPACES`; of others, letters, digits, - and _
    classes:       class names, by id, as the data set's owners write them: in Python, on the command line, in reports
    palette:       RGB colours in 0..255, by id, all different
    flip_pairs:    ids that trade places when a picture is mirrored (a left eye becomes a right one)
    display_names: what people are shown instead of `classes`, by id; empty = the same
    ignored_ids:   ids that label files hold where nothing is known, beside 255; a class among them is never learnt
    """

    name: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    flip_pairs: tuple[tuple[int, int], ...] = ()
    display_names: tuple[str, ...] = ()
    ignored_ids: tuple[int, ...] = ()

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def shown_names(self) -> tuple[str, ...]:
        """What the classes are called where people read it, by id."""
        return self.display_names or self.classes

    def class_ids(self, classes: str | int | Iterable[str | int] | None) -> list[int]:
        """The ids of one class, several or none, each given by its name, the name that is shown, or its id (3 or "3").

        Raises InputError, listing the classes, for one that is none of them.
        """
        if classes is None:
            return []
        try:
            wanted: list[Any] = [classes] if isinstance(classes, str | bytes | int) else list(classes)
        except TypeError:  # no iterable, or an array without axes, which says it were one
            wanted = [classes]
        names = {name: i for i, name in reversed(list(enumerate(self.shown_names)))}
        names |= {name: i for i, name in enumerate(self.classes)} | {str(i): i for i in range(self.num_classes)}
        ids = []
        for given in wanted:
            name = given
            if not isinstance(given, str | bool):
                with suppress(TypeError):
                    name = str(operator.index(given))  # of numpy and torch, too
            if not isinstance(name, str) or name not in names:
                raise InputError(
                    f"{str(given)!r:.80} is no class of {self.name}; name some of these, or their ids, which count "
                    f"from 0: {', '.join(self.classes)}"
                )
            ids.append(names[name])
        return list(dict.fromkeys(ids))

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

    def flip(self, index_map: "np.ndarray | torch.Tensor") -> "np.ndarray | torch.Tensor":
        """Swaps the ids of `flip_pairs` in a map of any shape and type; mirroring the pixels is the caller's."""
        flipped = index_map.copy() if isinstance(index_map, np.ndarray) else index_map.clone()
        for left, right in self.flip_pairs:
            flipped[index_map == left] = right
            flipped[index_map == right] = left
        return flipped

    def to_config(self) -> str | dict[str, Any]:
        """What a configuration names it by: a built-in one by its name, any other by all there is to it."""
        if LABEL_SPACES.get(self.name) == self:
            return self.name
        return json.loads(json.dumps(asdict(self), default=operator.index))  # numbers of a palette may be numpy's

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


def spaces_that_know(spaces: Mapping[str, LabelSpace], classes: Sequence[str]) -> dict[str, list[int]]:
    """Of label spaces by name, those that know all of these classes, and their ids there.

    Raises InputError where none does, where these are all classes of one, or where an id is another class in each of
    several.
    """
    ids = {}
    for name, space in spaces.items():
        try:
            ids[name] = space.class_ids(classes)
        except InputError as error:
            unknown = error
    if not ids and len(spaces) == 1:
        raise unknown
    if not ids:
        known = "; ".join(f"{name}: {', '.join(space.classes)}" for name, space in spaces.items())
        all_of = "all of " if len(classes) > 1 else ""
        raise InputError(f"no model knows {all_of}{', '.join(classes)}; name some of one of these; {known}")
    for name, found in ids.items():
        if len(found) == spaces[name].num_classes:
            raise InputError(f"these are all classes of {spaces[name].name}; leave at least one to fill with")
    for given in filter(str.isdecimal, classes):
        meant = {name: spaces[name].classes[int(given)] for name in ids}
        if len(set(meant.values())) > 1:
            each = ", ".join(f"{what} in {name}" for name, what in meant.items())
            raise InputError(f"{given} is {each}; name the class, or a model")
    return ids


def get_label_space(name: str) -> LabelSpace:
    """The built-in label space of that name. Raises InputError, naming the known ones, if there is none."""
    if not isinstance(name, str) or name not in LABEL_SPACES:
        raise InputError(f"unknown label space {str(name)!r:.80}: use one of {', '.join(LABEL_SPACES)}")
    return LABEL_SPACES[name]


def load_label_space(name_or_file: str) -> LabelSpace:
    """The built-in label space of that name, or that of a JSON file. Raises InputError where it is neither."""
    if name_or_file in LABEL_SPACES:
        return LABEL_SPACES[name_or_file]
    if not name_or_file.endswith(".json") and not os.path.exists(name_or_file):
        raise InputError(
            f"unknown label space {name_or_file!r}: use one of {', '.join(LABEL_SPACES)}, or a JSON file of classes"
        )
    return parse_label_space(read_object(Path(name_or_file)), name_or_file)


def label_space_of(config: Any, origin: str | Path) -> LabelSpace:
    """The inverse of `LabelSpace.to_config`. Raises InputError, opening with `origin`, for what that never gives."""
    if isinstance(config, str) and config in LABEL_SPACES:
        return LABEL_SPACES[config]
    return parse_label_space(config, origin)


def parse_label_space(content: Any, origin: str | Path) -> LabelSpace:
    """The label space that a JSON object describes.

    Raises InputError, opening with `origin`, for keys that are missing or unknown, fewer than two or more than
    MAX_CLASSES classes, names or colours that occur twice, and ids that are no class's.
    """

    def require(condition: bool, problem: str) -> None:
        if not condition:
            raise InputError(f"{origin}: {problem}")

    known = [field.name for field in fields(LabelSpace)]
    require(isinstance(content, dict), f"is not an object of {', '.join(known)}; see docs/training.md")
    for key in content:
        require(key in known, f"has the key {key!r:.80}, which means nothing; the keys are {', '.join(known)}")
    for key in ("name", "classes", "palette"):
        require(key in content, f"{key} is missing; add it")
    name = content["name"]
    # It becomes a tag on the Hub.
    require(
        isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name) is not None,
        f"name {name!r:.80}: must be letters, digits, - and _, at most 64",
    )
    require(name not in LABEL_SPACES, f"name {name!r}: is that of a built-in label space; choose another")
    lists = {key: content.get(key, []) for key in known[1:]}
    for key, items in lists.items():
        require(isinstance(items, list), f"{key} is not a list; correct it")
    classes, palette, number = lists["classes"], lists["palette"], len(lists["classes"])
    require(2 <= number <= MAX_CLASSES, f"classes: there are {number}; give 2 to {MAX_CLASSES}")
    for key in ("classes", "display_names"):
        for item in lists[key]:
            require(
                isinstance(item, str) and item.isprintable() and item == item.strip() != "",
                f"{key}: {item!r:.80} is not a name; give text of one line, without blanks around it",
            )
        require((twice := _twice(lists[key])) is None, f"{key}: {twice!r:.80} occurs twice; rename one")
    for item in classes:  # so that commands can list names, and tell them from ids
        clear = "," not in item and not item.isdecimal()
        require(clear, f"classes: {item!r:.80} has a comma, or is a number; rename it")
    require(len(palette) == number, f"palette: {len(palette)} colours for {number} classes; give one each")
    for colour in palette:
        require(
            isinstance(colour, list) and len(colour) == 3 and all(_is_id(x, 255) for x in colour),
            f"palette: {colour!r:.80} is not a colour; give [red, green, blue], each 0 to 255",
        )
        require(tuple(colour) != IGNORE_COLOUR, f"palette: {colour} is the colour of unknown pixels; choose another")
    require((twice := _twice(palette)) is None, f"palette: {twice} occurs twice; change one")
    for pair in lists["flip_pairs"]:
        require(
            isinstance(pair, list) and len(pair) == 2 and all(_is_id(x, number - 1) for x in pair),
            f"flip_pairs: {pair!r:.80} is not a pair of ids from 0 to {number - 1}; correct it",
        )
    twice = _twice([label for pair in lists["flip_pairs"] for label in pair])
    require(twice is None, f"flip_pairs: the id {twice} occurs twice; a class trades places with one other")
    for label in lists["ignored_ids"]:
        require(_is_id(label, MAX_ID), f"ignored_ids: {label!r:.80} is not an id from 0 to {MAX_ID}; correct it")
    shown = lists["display_names"]
    require(len(shown) in (0, number), f"display_names: {len(shown)} for {number} classes; give one each, or none")
    return LabelSpace(
        name=name,
        classes=tuple(classes),
        palette=tuple(map(tuple, palette)),
        flip_pairs=tuple(map(tuple, lists["flip_pairs"])),
        display_names=tuple(shown),
        ignored_ids=tuple(lists["ignored_ids"]),
    )


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object of a file that somebody wrote by hand. Raises InputError, naming it, if there is none, or if it
    has a key twice, of which JSON would keep the last."""

    def without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if (twice := _twice([key for key, _ in pairs])) is not None:
            raise ValueError(f"the key {twice!r:.80} occurs twice")
        return dict(pairs)

    return read_json(
        path, "name a JSON file", "correct it", encoding="utf-8-sig", object_pairs_hook=without_doubles
    )


def _is_id(x: Any, largest: int) -> bool:
    return type(x) is int and 0 <= x <= largest


def _twice(items: Sequence[Any]) -> Any:
    """The first that occurs a second time, else None."""
    return next((item for place, item in enumerate(items) if item in items[:place]), None)
