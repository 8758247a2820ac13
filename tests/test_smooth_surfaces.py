"""Holes in plain surroundings: continued by a smooth surface; whatever is not plain is left to the networks.

The networks are untrained, so what is right comes from the known pixels alone.
"""

import cv2
import numpy as np
import pytest

from benchmarks.holes import error, plain_photos
from fbinpaint.data.scenes import face_scene, street_scene
from fbinpaint.labels import IGNORE
from fbinpaint.pipeline.smooth_surfaces import continue_surfaces

PLAIN = plain_photos()


def disc(size: tuple[int, int], x: int, y: int, radius: int) -> np.ndarray:
    return cv2.circle(np.zeros(size[::-1], np.uint8), (x, y), radius, 1, -1) > 0


def blanked(photo: np.ndarray, hole: np.ndarray) -> np.ndarray:
    return np.where(hole[..., None], np.uint8([255, 0, 255]), photo)


def noisy(photo: np.ndarray, sigma: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, sigma, photo.shape)
    return np.clip(np.rint(photo + noise), 0, 255).astype(np.uint8)


def restore(pipe, photo: np.ndarray, hole: np.ndarray, **options) -> np.ndarray:
    return np.asarray(pipe(photo, hole, num_feedback_rounds=1, **options).images[0])


def left_alone(photo: np.ndarray, hole: np.ndarray) -> bool:
    pixels, rest = continue_surfaces(blanked(photo, hole), hole, np.zeros_like(hole), 0)
    return bool((rest == hole).all() and (pixels[hole] == [255, 0, 255]).all())


@pytest.mark.parametrize("name", PLAIN)
def test_plain_surroundings_are_continued(tiny_pipeline, name):
    photo, hole = PLAIN[name], disc((640, 480), 320, 240, 100)
    result = restore(tiny_pipeline, blanked(photo, hole), hole)
    off = error(result, photo, hole)
    assert off.mean() <= 1.5 and off.max() <= 6
    assert (result[~hole] == photo[~hole]).all()


@pytest.mark.parametrize("name", ["white", "slanted gradient"])
def test_also_in_a_photo_worked_on_at_its_own_size(tiny_pipeline, name):
    photo, hole = PLAIN[name][::5, ::7].copy(), disc((92, 96), 40, 45, 15)
    off = error(restore(tiny_pipeline, blanked(photo, hole), hole), photo, hole)
    assert off.mean() <= 1.5 and off.max() <= 6


def test_a_large_hole_is_looked_at_in_fewer_pixels():
    y, x = np.mgrid[:1500, :2000]
    photo = np.stack([x / 10, y / 10, 100 + (x + y) / 40], axis=2).astype(np.uint8)
    hole = disc((2000, 1500), 900, 700, 500)
    pixels, rest = continue_surfaces(blanked(photo, hole), hole, np.zeros_like(hole), None)
    assert not rest.any() and error(pixels, photo, hole).max() <= 2


@pytest.mark.parametrize("radius", [80, 14])
def test_a_noisy_wall_is_continued_with_its_grain(tiny_pipeline, radius):
    clean, hole = PLAIN["linear gradient"], disc((640, 480), 320, 240, radius)
    photo = noisy(clean, 3)
    smooth, grainy = (restore(tiny_pipeline, blanked(photo, hole), hole, grain=grain) for grain in (False, True))
    assert error(smooth, clean, hole).max() <= 2
    assert (grainy[hole].astype(float) - clean[hole]).std() == pytest.approx(3, rel=0.2)
    assert (grainy[~hole] == photo[~hole]).all()


def test_real_surroundings_are_left_to_the_networks():
    """Scenes, an edge, a wire, a weave, strong noise, and shades that end all around."""
    grey, hole = np.full((192, 256, 3), 128, np.uint8), disc((256, 192), 120, 100, 30)
    edge, wire, weave = grey.copy(), grey.copy(), grey.copy()
    edge[:, 155:] = 160
    wire[60:62] = 60
    weave[np.indices((192, 256)).sum(0) % 8 < 4] = 150
    street, face = (np.asarray(scene((256, 192), np.random.default_rng(2))[0]) for scene in (street_scene, face_scene))
    for photo in (street, face, edge, wire, weave, noisy(grey, 20)):
        assert left_alone(photo, hole)
    assert not left_alone(grey, hole)


def test_only_pieces_that_lie_in_plain_surroundings_are_filled():
    photo = np.full((192, 256, 3), 200, np.uint8)
    photo[:, 128:] = np.random.default_rng(0).integers(0, 256, (192, 128, 3))
    plain, rough = disc((256, 192), 50, 100, 20), disc((256, 192), 200, 100, 20)
    hole = plain | rough
    pixels, rest = continue_surfaces(blanked(photo, hole), hole, np.zeros_like(hole), 0)
    assert (rest == rough).all() and (pixels[plain] == 200).all() and (pixels[rough] == [255, 0, 255]).all()


def test_what_lies_at_the_border_is_not_surrounded():
    photo = np.full((192, 256, 3), 200, np.uint8)
    strip, most, everything, box = (np.zeros((192, 256), bool) for _ in range(4))
    strip[50:90, :10] = True  # known above, below and on its right, but a third of its contour and more is border
    most[:, 40:] = True
    everything[:] = True
    box[50:90, :60] = True
    assert left_alone(photo, strip) and left_alone(photo, most) and left_alone(photo, everything)
    assert not left_alone(photo, box)


def test_without_a_hole_the_photo_is_handed_back():
    photo, hole = np.full((96, 96, 3), 200, np.uint8), np.zeros((96, 96), bool)
    pixels, rest = continue_surfaces(photo, hole, hole, 0)
    assert pixels is photo and rest is hole


def test_a_plain_hole_with_a_drawn_map_is_left_to_the_networks(tiny_pipeline):
    photo, hole = np.full((96, 96, 3), 200, np.uint8), disc((96, 96), 45, 45, 15)
    drawn = np.full((96, 96), IGNORE, np.uint8)
    drawn[45, 45] = 3
    out = tiny_pipeline(photo, hole, num_feedback_rounds=1, semantic_map=drawn)
    assert out.rounds[0][0].patches and (np.asarray(out.images[0])[hole] != 200).any()
    assert np.asarray(out.semantic_after[0])[45, 45] == 3
    assert (restore(tiny_pipeline, blanked(photo, hole), hole) == 200).all()
