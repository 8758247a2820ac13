"""Thin holes in photos larger than the working size: filled at full size, known pixels used, wide holes untouched."""

import cv2
import numpy as np
import pytest
import torch

from benchmarks.holes import error, thin_mask
from fbinpaint import FeedbackInpaintPipeline
from fbinpaint.data.scenes import street_scene
from fbinpaint.images.crops import resize_image
from fbinpaint.labels import IGNORE
from fbinpaint.masks import free_form_mask
from fbinpaint.pipeline.outputs import Photo
from fbinpaint.pipeline.plain_holes import fill_plain_holes
from fbinpaint.pipeline.thin_holes import fill_thin_holes, navier_stokes, thin_depth, thin_part

from .conftest import make_tiny_networks, quiet_pipeline

SIZE = (640, 480)  # width, height
SAMPLE_SIZE = 128  # pixels that the pipelines work at


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    scene, _ = street_scene((240, 180), np.random.default_rng(0))
    return resize_image(np.asarray(scene), SIZE)


@pytest.fixture(scope="module")
def random_pipeline() -> FeedbackInpaintPipeline:
    return quiet_pipeline(make_tiny_networks(), SAMPLE_SIZE)


@pytest.fixture(scope="module")
def smooth_pipeline() -> FeedbackInpaintPipeline:
    """Whose initial inpainter adds nothing to the smooth continuation of the known pixels, like one that starts to
    learn."""
    networks = make_tiny_networks()
    for parameter in networks.initial_inpainter.details.to_rgb.parameters():
        torch.nn.init.zeros_(parameter)
    return quiet_pipeline(networks, SAMPLE_SIZE)


def disc(x: int, y: int, radius: int) -> np.ndarray:
    return cv2.circle(np.zeros(SIZE[::-1], np.uint8), (x, y), radius, 1, -1) > 0


def blanked(photo: np.ndarray, hole: np.ndarray, colour: tuple[int, ...] = (255, 0, 255)) -> np.ndarray:
    return np.where(hole[..., None], np.uint8(colour), photo)


def restore(pipe, photo: np.ndarray, hole: np.ndarray, grain: bool = False) -> np.ndarray:
    return np.asarray(pipe(photo, hole, num_feedback_rounds=1, grain=grain).images[0])


@pytest.mark.parametrize(
    "pattern, thickness",
    [(name, thickness) for name in ("lines", "grid", "scan lines", "text") for thickness in (1, 4)]
    + [("grid", 16), ("scan lines", 16)],
)
def test_thin_holes_are_filled_as_well_as_by_classical_methods(smooth_pipeline, photo, pattern, thickness):
    hole = thin_mask(pattern, thickness, SIZE)
    result = restore(smooth_pipeline, blanked(photo, hole), hole)
    ours = error(result, photo, hole).mean()
    for method in (cv2.INPAINT_TELEA, cv2.INPAINT_NS):
        theirs = cv2.inpaint(photo, hole.astype(np.uint8), 3, method)
        assert ours <= 1.25 * error(theirs, photo, hole).mean()
    assert (result[~hole] == photo[~hole]).all()


def test_a_grid_over_a_wide_hole_is_filled_and_then_known(smooth_pipeline, photo):
    wide, grid = disc(250, 260, 70), thin_mask("grid", 4, SIZE)
    hole = wide | grid
    result = restore(smooth_pipeline, blanked(photo, hole), hole)
    apart = grid & ~disc(250, 260, 110)
    theirs = error(navier_stokes(photo, grid)[0], photo, apart).mean()
    assert error(result, photo, apart).mean() <= 1.2 * theirs
    assert (result[~hole] == photo[~hole]).all()
    assert (result == restore(smooth_pipeline, blanked(photo, hole, (0, 255, 0)), hole)).all()
    # The loop paints the rest as in a photo that has no grid.
    rest = hole & ~thin_part(hole, thin_depth(*SIZE, SAMPLE_SIZE))
    assert wide[rest].mean() > 0.8 and rest[wide].all()
    assert (result == restore(smooth_pipeline, blanked(result, rest), rest)).all()


def test_wide_holes_stay_as_they_are():
    pixels = np.random.default_rng(1).integers(0, 256, (600, 800, 3), dtype=np.uint8)
    box = np.zeros((600, 800), bool)
    box[300:500, 200:250] = True
    filled, rest = fill_thin_holes(pixels, box, np.zeros_like(box), 12, navier_stokes)
    assert filled is pixels and rest is box
    strokes = free_form_mask(600, 800, np.random.default_rng(0), (0.2, 0.3), thickness=(0.08, 0.12))
    _, rest = fill_thin_holes(pixels, strokes, np.zeros_like(box), 12, navier_stokes)
    assert not rest[~strokes].any() and (strokes & ~rest).sum() < 1e-3 * strokes.sum()  # but for sharp tips


def test_nothing_is_thin_in_a_photo_worked_on_at_its_own_size(random_pipeline):
    assert thin_depth(256, 256, 256) == thin_depth(300, 200, 256) == 0
    assert 0 < thin_depth(300, 300, 256) < 4 and thin_depth(640, 480, 256) == 12 < thin_depth(4000, 3000, 256) < 24
    assert thin_depth(4000, 500, 256) > 0  # a panorama is made smaller although it is low
    pixels, hole = np.zeros((96, 96, 3), np.uint8), thin_mask("grid", 1, (96, 96))
    filled, rest = fill_thin_holes(pixels, hole, np.zeros_like(hole), thin_depth(96, 96, 96), navier_stokes)
    assert filled is pixels and rest is hole


def test_maps_of_every_round_cover_holes_that_no_network_painted(random_pipeline, photo):
    hole = thin_mask("scan lines", 4, SIZE)
    out = random_pipeline(blanked(photo, hole), hole, num_feedback_rounds=2)
    assert len(out.rounds[0]) == 3 and not out.rounds[0][0].patches
    for map_ in (out.semantic_before[0], out.semantic_after[0], *(round_.semantic_map for round_ in out.rounds[0])):
        assert (np.asarray(map_)[hole] != IGNORE).all()
    for round_ in out.rounds[0]:
        assert 0 < round_.confidence <= 1 and round_.changed == 0 and not round_.doubt.any()
    *_, last = random_pipeline.stream(blanked(photo, hole), hole, num_feedback_rounds=2)
    assert len(last.rounds[0]) == 3 and last.images[0] == out.images[0]


def test_the_drawn_part_of_a_thin_hole_is_left_to_the_networks(random_pipeline, photo):
    hole, drawn = np.zeros(SIZE[::-1], bool), np.full(SIZE[::-1], IGNORE, np.uint8)
    hole[100:104, 50:300] = hole[300:304, 50:300] = True
    drawn[100:104, 150:200] = 3
    undrawn = restore(random_pipeline, blanked(photo, hole), hole)
    out = random_pipeline(blanked(photo, hole), hole, num_feedback_rounds=1, semantic_map=drawn, grain=False)
    result = np.asarray(out.images[0])
    assert (result[300:304] == undrawn[300:304]).all() and (result[100:104, 150:200] != undrawn[100:104, 150:200]).any()
    assert (result[100:104, 50:140] == undrawn[100:104, 50:140]).all()  # of the same line
    assert (np.asarray(out.semantic_after[0])[100:104, 150:200] == 3).all() and out.rounds[0][0].patches


def test_what_lies_in_a_thin_hole_is_never_read(random_pipeline, photo):
    hole = np.zeros(SIZE[::-1], bool)
    hole[:3] = hole[200:203] = hole[:, -4:] = hole[:, 188:196] = True  # along borders of the photo and of tiles, too
    one, other = (restore(random_pipeline, blanked(photo, hole, colour), hole) for colour in ((0, 0, 0), (255, 9, 255)))
    assert (one == other).all()
    filled, rest = fill_thin_holes(blanked(photo, hole), hole, np.zeros_like(hole), 12, navier_stokes)
    assert not rest.any() and (filled[~hole] == photo[~hole]).all()


def test_a_tile_knows_what_was_filled_before():
    """So that a thin hole which crosses from one into the next is filled without a seam."""
    seen = []

    def white(pixels: np.ndarray, hole: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen.append((pixels.copy(), hole.copy()))
        return (np.full_like(pixels, 255),) * 2

    pixels, line = np.zeros((64, 400, 3), np.uint8), np.zeros((64, 400), bool)
    line[30:34] = True
    filled, rest = fill_thin_holes(pixels, line, np.zeros_like(line), 12, white)
    assert not rest.any() and (filled[line] == 255).all() and not filled[~line].any() and not pixels.any()
    assert [hole.shape for _, hole in seen] == [(64, 224), (64, 240), (64, 48)]
    assert seen[0][1][30:34].all()
    for pixels, hole in seen[1:]:
        assert not hole[:, :32].any() and (pixels[30:34, :32] == 255).all() and hole[30:34, 32:].all()


def test_a_float_photo_keeps_its_known_pixels(photo):
    hole = thin_mask("grid", 4, SIZE)
    original = np.float32(1 / 255) * photo + np.float32(0.001)
    one = Photo(photo, hole, None, original.copy(), [[]])
    fill_plain_holes(one, 96, None, navier_stokes)
    assert (one.original[~hole] == original[~hole]).all() and not one.hole.any()
    assert (one.original[hole] == np.float32(1 / 255) * one.pixels[hole]).all()


def test_details_are_painted_where_there_is_texture_around(random_pipeline):
    """Flat colours and even slopes are continued to the level, which no network does."""
    x = np.linspace(40, 200, SIZE[0])
    slope = np.rint(np.broadcast_to(x[None, :, None], (*SIZE[::-1], 3))).astype(np.uint8)
    noise = np.random.default_rng(0).normal(0, 20, slope.shape)
    rough = np.where(np.arange(SIZE[1])[:, None, None] < 240, slope, np.clip(slope + noise, 0, 255)).astype(np.uint8)
    hole = thin_mask("lines", 4, SIZE)
    hole[200:280] = False
    result = restore(random_pipeline, blanked(rough, hole), hole).astype(int)
    smooth, textured = hole.copy(), hole.copy()
    smooth[200:], textured[:280] = False, False
    assert abs(result - slope)[smooth].max() <= 1
    assert abs(result - cv2.blur(slope, (9, 9)))[textured].mean() > 5  # random networks paint anything


def test_thin_holes_get_the_grain_of_the_photo(smooth_pipeline):
    noise = np.random.default_rng(0).normal(0, 9, (*SIZE[::-1], 3))
    noisy, hole = np.clip(128 + noise, 0, 255).astype(np.uint8), np.zeros(SIZE[::-1], bool)
    hole[:, 100:112] = hole[:, 300:312] = True
    hole |= disc(450, 240, 60)  # a wide hole beside, whose pixels say nothing

    def spread(grain: bool) -> float:
        result = restore(smooth_pipeline, blanked(noisy, hole), hole, grain)
        assert (result[~hole] == noisy[~hole]).all()
        return result[:, 102:110].astype(float).std()

    assert spread(grain=False) < 4 < 5.5 < spread(grain=True) < 10


def test_no_network_fills_thin_holes_that_lie_in_too_many_tiles(random_pipeline, photo, monkeypatch):
    hole = thin_mask("lines", 4, SIZE)
    theirs = error(navier_stokes(photo, hole)[0], photo, hole).mean()
    painted = restore(random_pipeline, blanked(photo, hole), hole)
    monkeypatch.setattr("fbinpaint.pipeline.thin_holes.MAX_TILES", 3)
    classical = restore(random_pipeline, blanked(photo, hole), hole)
    assert error(classical, photo, hole).mean() <= 1.05 * theirs < error(painted, photo, hole).mean()
