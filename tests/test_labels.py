"""The label spaces: sizes, colours that can be read back, palette images, id swaps."""

import numpy as np
import pytest
import torch
from PIL import Image

from fbinpaint.errors import InputError
from fbinpaint.labels import IGNORE, IGNORE_COLOUR, LABEL_SPACES, get_label_space

SPACES = list(LABEL_SPACES.values())


@pytest.fixture(params=SPACES, ids=lambda space: space.name)
def space(request):
    return request.param


def every_id(space) -> np.ndarray:
    return np.array([*range(space.num_classes), IGNORE], dtype=np.uint8).reshape(4, 5)


def test_every_class_has_its_own_name_and_colour(space):
    assert space.num_classes == len(space.classes) == len(space.palette) == 19
    assert len(set(space.classes)) == 19
    assert len({*space.palette, IGNORE_COLOUR}) == 20


def test_known_ids_and_colours():
    faces, streets = get_label_space("celebamask-hq"), get_label_space("cityscapes")
    assert (faces.classes[13], faces.palette[13]) == ("hair", (0, 0, 204))
    assert (streets.classes[10], streets.palette[10]) == ("sky", (70, 130, 180))


def test_colorize_can_be_read_back(space):
    ids = every_id(space)
    colours = space.colorize(ids)
    assert colours.shape == (4, 5, 3) and colours.dtype == np.uint8
    id_of = {colour: index for index, colour in enumerate(space.palette)} | {IGNORE_COLOUR: IGNORE}
    assert [id_of[tuple(colour)] for colour in colours.reshape(-1, 3).tolist()] == ids.ravel().tolist()


def test_palette_image_keeps_ids_and_shows_colours(space, tmp_path):
    ids = every_id(space).astype(np.int64)
    space.to_palette_image(ids).save(tmp_path / "map.png")
    with Image.open(tmp_path / "map.png") as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image), ids)
        assert np.array_equal(np.asarray(image.convert("RGB")), space.colorize(ids))


def test_flip_swaps_the_pairs_and_nothing_else(space):
    ids = every_id(space)
    flipped = space.flip(ids)
    swapped = dict(space.flip_pairs) | {right: left for left, right in space.flip_pairs}
    assert flipped.ravel().tolist() == [swapped.get(index, index) for index in ids.ravel().tolist()]
    assert np.array_equal(space.flip(flipped), ids)
    assert np.array_equal(space.flip(torch.from_numpy(ids).long()).numpy(), flipped)


def test_flip_pairs_trade_left_for_right():
    faces = get_label_space("celebamask-hq")
    names = [(faces.classes[left], faces.classes[right]) for left, right in faces.flip_pairs]
    assert names == [("l_eye", "r_eye"), ("l_brow", "r_brow"), ("l_ear", "r_ear")]


def test_people_are_told_whose_left_is_meant(space):
    assert len(space.shown_names) == len(set(space.shown_names)) == space.num_classes
    for name, shown in zip(space.classes, space.shown_names, strict=True):
        sided = name[:2] in ("l_", "r_") and name != "l_lip"
        assert ("(theirs)" in shown) == sided
        if sided:
            assert shown.startswith("left" if name[0] == "l" else "right")


def test_unknown_label_space_names_the_known_ones():
    with pytest.raises(InputError, match="'ade20k'.*celebamask-hq, cityscapes"):
        get_label_space("ade20k")
