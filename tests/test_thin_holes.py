"""Thin holes in photos larger than the working size: filled at full size, known pixels used, wide holes untouched.

The networks are untrained, so what is right comes from the known pixels alone.
"""

import cv2
import numpy as np
import pytest

from benchmarks.holes import error, thin_mask
from fbinpaint.data.scenes import street_scene
from fbinpaint.images.crops import resize_image
from fbinpaint.labels import IGNORE
from fbinpaint.masks import free_form_mask
from fbinpaint.pipeline.outputs import Photo
from fbinpaint.pipeline.plain_holes import fill_plain_holes
from fbinpaint.pipeline.thin_holes import fill_thin_holes, thin_depth

SIZE = (640, 480)  # width, height; the pipeline works at 96


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    scene, _ = street_scene((240, 180), np.random.default_rng(0))
    return resize_image(np.asarray(scene), SIZE)


def disc(x: int, y: int, radius: int) -> np.ndarray:
    return cv2.circle(np.zeros(SIZE[::-1], np.uint8), (x, y), radius, 1, -1) > 0


def blanked(photo: np.ndarray, hole: np.ndarray, colour: tuple[int, ...] = (255, 0, 255)) -> np.ndarray:
    return np.where(hole[..., None], np.uint8(colour), photo)


def restore(pipe, photo: np.ndarray, hole: np.ndarray, **options) -> np.ndarray:
    return np.asarray(pipe(photo, hole, num_feedback_rounds=1, **options).images[0])


def navier_stokes(photo: np.ndarray, hole: np.ndarray) -> np.ndarray:
    return cv2.inpaint(blanked(photo, hole, (128, 128, 128)), hole.astype(np.uint8), 3, cv2.INPAINT_NS)


@pytest.mark.parametrize(
    "pattern, thickness",
    [(name, thickness) for name in ("lines", "grid", "scan lines", "text") for thickness in (1, 4)]
    + [("grid", 16), ("scan lines", 16)],
)
def test_thin_holes_are_filled_as_well_as_by_classical_methods(tiny_pipeline, photo, pattern, thickness):
    hole = thin_mask(pattern, thickness, SIZE)
    result = restore(tiny_pipeline, blanked(photo, hole), hole)
    ours = error(result, photo, hole).mean()
    for method in (cv2.INPAINT_TELEA, cv2.INPAINT_NS):
        theirs = cv2.inpaint(photo, hole.astype(np.uint8), 3, method)
        assert ours <= 1.2 * error(theirs, photo, hole).mean()
    assert (result[~hole] == photo[~hole]).all()


def test_a_grid_over_a_wide_hole_is_filled_and_then_known(tiny_pipeline, photo):
    wide, grid = disc(250, 260, 70), thin_mask("grid", 4, SIZE)
    hole = wide | grid
    result = restore(tiny_pipeline, blanked(photo, hole), hole)
    apart = grid & ~disc(250, 260, 110)
    theirs = error(navier_stokes(photo, grid), photo, apart).mean()
    assert error(result, photo, apart).mean() <= 1.05 * theirs
    assert (result[~hole] == photo[~hole]).all()
    assert (result == restore(tiny_pipeline, blanked(photo, hole, (0, 255, 0)), hole)).all()
    # The networks paint the rest as in a photo that has no grid.
    filled, rest = fill_thin_holes(blanked(photo, hole), hole, np.zeros_like(hole), thin_depth(*SIZE, 96))
    assert wide[rest].mean() > 0.8 and rest[wide].all()
    assert (result == restore(tiny_pipeline, filled, rest)).all()


def test_wide_holes_stay_as_they_are():
    pixels = np.random.default_rng(1).integers(0, 256, (600, 800, 3), dtype=np.uint8)
    box = np.zeros((600, 800), bool)
    box[300:500, 200:250] = True
    filled, rest = fill_thin_holes(pixels, box, np.zeros_like(box), 12)
    assert filled is pixels and rest is box
    strokes = free_form_mask(600, 800, np.random.default_rng(0), (0.2, 0.3), thickness=(0.08, 0.12))
    _, rest = fill_thin_holes(pixels, strokes, np.zeros_like(box), 12)
    assert not rest[~strokes].any() and (strokes & ~rest).sum() < 1e-3 * strokes.sum()  # but for sharp tips


def test_nothing_is_thin_in_a_photo_worked_on_at_its_own_size(tiny_pipeline):
    assert thin_depth(256, 256, 256) == thin_depth(300, 200, 256) == 0
    assert 0 < thin_depth(300, 300, 256) < 4 and thin_depth(640, 480, 256) == 12 < thin_depth(4000, 3000, 256) < 24
    assert thin_depth(4000, 500, 256) > 0  # a panorama is made smaller although it is low
    pixels, hole = np.zeros((96, 96, 3), np.uint8), thin_mask("grid", 1, (96, 96))
    filled, rest = fill_thin_holes(pixels, hole, np.zeros_like(hole), thin_depth(96, 96, 96))
    assert filled is pixels and rest is hole


def test_maps_of_every_round_cover_holes_that_no_network_painted(tiny_pipeline, photo):
    hole = thin_mask("scan lines", 4, SIZE)
    out = tiny_pipeline(blanked(photo, hole), hole, num_feedback_rounds=2)
    assert len(out.rounds[0]) == 3 and not out.rounds[0][0].patches
    for map_ in (out.semantic_before[0], out.semantic_after[0], *(round_.semantic_map for round_ in out.rounds[0])):
        assert (np.asarray(map_)[hole] != IGNORE).all()
    for round_ in out.rounds[0]:
        assert 0 < round_.confidence <= 1 and round_.changed == 0 and not round_.doubt.any()
    *_, last = tiny_pipeline.stream(blanked(photo, hole), hole, num_feedback_rounds=2)
    assert len(last.rounds[0]) == 3 and last.images[0] == out.images[0]


def test_the_drawn_part_of_a_thin_hole_is_left_to_the_networks(tiny_pipeline, photo):
    hole, drawn = np.zeros(SIZE[::-1], bool), np.full(SIZE[::-1], IGNORE, np.uint8)
    hole[100:104, 50:300] = hole[300:304, 50:300] = True
    drawn[100:104, 150:200] = 3
    out = tiny_pipeline(blanked(photo, hole), hole, num_feedback_rounds=1, semantic_map=drawn)
    result, theirs = np.asarray(out.images[0]), navier_stokes(photo, hole)
    assert (result[300:304] == theirs[300:304]).all() and (result[100:104, 150:200] != theirs[100:104, 150:200]).any()
    assert (result[100:104, 50:140] == theirs[100:104, 50:140]).all()  # of the same line
    assert (np.asarray(out.semantic_after[0])[100:104, 150:200] == 3).all() and out.rounds[0][0].patches


def test_what_lies_in_a_thin_hole_at_the_border_is_never_read(photo):
    hole = np.zeros(SIZE[::-1], bool)
    hole[:3], hole[:, -4:], hole[200:203] = True, True, True
    one, other = (
        fill_thin_holes(blanked(photo, hole, colour), hole, np.zeros_like(hole), 12)
        for colour in ((0, 0, 0), (255, 9, 255))
    )
    assert not one[1].any() and np.array_equal(one[0], other[0])


def test_a_float_photo_keeps_its_known_pixels(photo):
    hole = thin_mask("grid", 4, SIZE)
    original = np.float32(1 / 255) * photo + np.float32(0.001)
    one = Photo(photo, hole, None, original.copy(), [[]])
    fill_plain_holes(one, 96, None)
    assert (one.original[~hole] == original[~hole]).all() and not one.hole.any()
    assert (one.original[hole] == np.float32(1 / 255) * navier_stokes(photo, hole)[hole]).all()
