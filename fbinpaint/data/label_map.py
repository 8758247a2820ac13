"""Label maps: which classes the ids stand for in the index images of a data set that has a numbering of its own.

    {"0": "wall", "3": "left door", "7": 2}

Keys are ids in the data set's images, values names or ids of classes; what has no key is unknown.
"""

from pathlib import Path

import numpy as np

from fbinpaint.errors import InputError
from fbinpaint.labels import IGNORE, MAX_ID, LabelSpace, read_object


def read_label_map(path: str | Path, label_space: LabelSpace) -> np.ndarray:
    """(N,) uint8: the class of each id of the data set, 255 = none; N is above the largest of them.

    Raises InputError, naming the file, for what is no label map, and for classes that the label space does not have.
    """
    content = read_object(Path(path))
    classes = {name: label for label, name in enumerate(label_space.classes)}
    found = {}
    for key, value in content.items():
        if not (key.isascii() and key.isdecimal() and len(key) < 10 and int(key) <= MAX_ID):
            raise InputError(f'{path}: the key {key!r:.80} is not an id from "0" to "{MAX_ID}"; correct it')
        label = classes.get(value) if isinstance(value, str) else value
        if type(label) is not int or not 0 <= label < label_space.num_classes:
            raise InputError(
                f"{path}: {key} stands for {value!r:.80}, which is no class of {label_space.name}; give a name of its "
                f"classes or an id from 0 to {label_space.num_classes - 1}"
            )
        if int(key) in found:
            raise InputError(f"{path}: the id {int(key)} has two keys; remove one")
        found[int(key)] = label
    if not found:
        raise InputError(f"{path}: maps no id; all labels would be unknown")
    table = np.full(max(found) + 1, IGNORE, np.uint8)
    table[list(found)] = list(found.values())
    return table


def map_ids(ids: np.ndarray, label_map: np.ndarray) -> np.ndarray:
    """The classes, uint8, of ids of any shape and any integers, by a table as of `read_label_map`."""
    known = (ids >= 0) & (ids < len(label_map))
    return np.where(known, label_map[np.where(known, ids, 0)], IGNORE).astype(np.uint8)
