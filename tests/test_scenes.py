"""The procedural scenes: repeatable, inside their label space, varied, and with labels that fit the picture."""

import numpy as np
import pytest
from PIL import Image

from fbinpaint.data.scenes import SCENES, face_scene, street_scene, write_scenes
from fbinpaint.errors import InputError
from fbinpaint.labels import LABEL_SPACES

FACE = {name: index for index, name in enumerate(LABEL_SPACES["celebamask-hq"].classes)}
STREET = {name: index for index, name in enumerate(LABEL_SPACES["cityscapes"].classes)}


@pytest.fixture(params=sorted(SCENES))
def name(request):
    return request.param


def draw(name: str, seed: int, size: tuple[int, int] = (64, 48)) -> tuple[np.ndarray, np.ndarray]:
    image, ids = SCENES[name](size, np.random.default_rng(seed))
    return np.asarray(image), ids


def mean_colour(pixels: np.ndarray, ids: np.ndarray, label: int) -> np.ndarray:
    return pixels[ids == label].mean(axis=0)


def test_every_label_space_has_scenes():
    assert set(SCENES) == set(LABEL_SPACES)


@pytest.mark.parametrize("size", [(16, 16), (97, 33), (20, 120), (128, 128)])
def test_size_types_and_ids(name, size):
    image, ids = SCENES[name](size, np.random.default_rng(1))
    assert (image.mode, image.size) == ("RGB", size)
    assert ids.shape == size[::-1] and ids.dtype == np.uint8
    assert ids.max() < LABEL_SPACES[name].num_classes


def test_same_seed_same_scene(name):
    first, again, other = draw(name, 3), draw(name, 3), draw(name, 4)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0]) and not np.array_equal(first[1], other[1])


def test_same_seed_same_layout_at_another_size(name):
    small, large = draw(name, 5, (64, 48))[1], draw(name, 5, (128, 96))[1]
    assert (small == large[::2, ::2]).mean() > 0.95


@pytest.mark.parametrize("name, always", [
    ("celebamask-hq", "background skin nose l_eye r_eye l_brow r_brow u_lip l_lip neck".split()),
    ("cityscapes", "road sidewalk building sky".split()),
])
def test_classes_are_diverse(name, always):
    seen = [set(np.unique(draw(name, seed, (100, 96))[1]).tolist()) for seed in range(25)]
    classes = LABEL_SPACES[name].classes
    assert {classes.index(label) for label in always} <= set.intersection(*seen)
    assert len(set.union(*seen)) == len(classes)


def test_pictures_have_contrast_and_no_large_clipping(name):
    for seed in range(4):
        pixels, _ = draw(name, seed)
        assert pixels.std() > 20
        assert ((pixels == 0) | (pixels == 255)).all(axis=2).mean() < 0.1


def test_picture_edges_lie_on_label_edges(name):
    """Shifting the labels makes every class less uniform in colour than it is where it was drawn."""
    inside = np.s_[3:-3, 3:-3]  # what a shift wraps around does not count

    def spread(pixels: np.ndarray, ids: np.ndarray) -> float:
        return sum(((pixels[ids == label] - mean_colour(pixels, ids, label)) ** 2).sum() for label in np.unique(ids))

    def total(shift: int, axis: int) -> float:
        return sum(spread(pixels[inside], np.roll(ids, shift, axis=axis)[inside]) for pixels, ids in scenes)

    scenes = [draw(name, seed, (96, 96)) for seed in range(6)]
    assert all(total(shift, axis) > 1.05 * total(0, axis) for shift in (-2, 2) for axis in (0, 1))


def test_street_sky_is_above_and_bluer_than_the_road():
    for seed in range(6):
        pixels, ids = draw("cityscapes", seed, (96, 72))
        sky, road = (mean_colour(pixels, ids, STREET[label]) for label in ("sky", "road"))
        assert sky[2] > road[2] and sky[2] - sky[0] > road[2] - road[0]
        rows = {label: np.nonzero(ids == STREET[label])[0].mean() for label in ("sky", "road")}
        assert rows["sky"] < 36 < rows["road"]


def test_face_parts_are_where_they_belong():
    for seed in range(6):
        pixels, ids = draw("celebamask-hq", seed, (96, 96))
        parts = ("l_eye", "r_eye", "nose", "l_lip", "neck")
        centre = {part: np.argwhere(ids == FACE[part]).mean(axis=0) for part in parts}
        # The person's own sides: their right is on the picture's left.
        assert centre["r_eye"][1] < centre["nose"][1] < centre["l_eye"][1]
        assert centre["l_eye"][0] < centre["nose"][0] < centre["l_lip"][0] < centre["neck"][0]
        skin, eye = (mean_colour(pixels, ids, FACE[part]) for part in ("skin", "l_eye"))
        assert skin[0] / skin[2] > eye[0] / eye[2] > 0.8


def test_write_scenes_makes_a_plain_data_folder(name, tmp_path):
    write_scenes(tmp_path, name, count=3, size=(32, 24), seed=7)
    stems = [f"{index:04d}.png" for index in range(3)]
    for folder in ("images", "labels"):
        assert sorted(path.name for path in (tmp_path / folder).iterdir()) == stems
    for stem in stems:
        with Image.open(tmp_path / "images" / stem) as image, Image.open(tmp_path / "labels" / stem) as labels:
            assert (image.mode, labels.mode) == ("RGB", "P") and image.size == labels.size == (32, 24)
            assert np.asarray(labels).max() < LABEL_SPACES[name].num_classes
    _, ids = SCENES[name]((32, 24), np.random.default_rng([7, 2]))
    with Image.open(tmp_path / "labels" / "0002.png") as labels:
        assert np.array_equal(np.asarray(labels), ids)


def test_write_scenes_shows_how_far_it_is(tmp_path, capsys):
    write_scenes(tmp_path, "cityscapes", count=3, size=(32, 24), seed=0)
    assert "scenes: 100%" in (said := capsys.readouterr().err) and "3/3" in said


def test_write_scenes_rejects_an_unknown_label_space(tmp_path):
    with pytest.raises(InputError, match="unknown label space"):
        write_scenes(tmp_path / "new", "ade20k", count=1, size=(16, 16), seed=0)
    assert not (tmp_path / "new").exists()


def test_scenes_are_named_functions():
    assert SCENES == {"celebamask-hq": face_scene, "cityscapes": street_scene}
