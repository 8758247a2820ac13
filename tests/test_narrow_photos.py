"""Photos of all shapes within the limits take about what a square one of as many pixels takes."""

import time

import cv2
import numpy as np
import pytest
import torch

from fbinpaint import FeedbackInpaintPipeline
from fbinpaint.images.crops import plan_crops, working_size
from fbinpaint.masks import grow_mask
from fbinpaint.pipeline.grain import CELL, TILE, tile_side
from fbinpaint.pipeline.thin_holes import thin_depth

NARROW = [(16, 750_000), (750_000, 16), (17, 700_000), (400_000, 30)]  # width, height: 12 megapixels
SAMPLE_SIZES = (96, 192, 256)


def holes(kind: str, width: int, height: int) -> np.ndarray:
    generator, mask = np.random.default_rng(0), np.zeros((height, width), bool)
    if kind == "specks":
        return generator.random((height, width)) < 0.002
    if kind == "stripes":
        along = np.arange(max(width, height)) // 20 % 2 == 0
        mask[:] = along[None] if width > height else along[:, None]
    elif kind == "one pixel":
        mask[height // 2, width // 2] = True
    else:
        mask[height // 4 : -(height // 4), width // 4 : -(width // 4)] = True
    return mask


@pytest.mark.parametrize("kind", ["specks", "stripes", "one pixel", "box"])
@pytest.mark.parametrize("size", NARROW)
def test_crops_of_narrow_photos_are_planned_at_once(size, kind):
    """By the pixels, not by the squares of the longer side: those of 12 megapixels never ended."""
    mask = holes(kind, *size)
    began = time.process_time()
    crops = plan_crops(mask, min_size=256, context=0.5)
    assert time.process_time() - began < 5
    covered = np.zeros_like(mask)
    for crop in crops:
        covered[crop.slices] = True
    assert covered[mask].all() and len(crops) <= 8


def test_crops_are_those_of_the_maximum_over_each_block():
    """Which a dilation gives as well, in a time that grows with the blocks."""
    mask = np.random.default_rng(0).random((1500, 2100)) < 0.000003
    dilated = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8), anchor=(0, 0))[::3, ::3]
    coarse = cv2.resize(dilated, (2100, 1500), interpolation=cv2.INTER_NEAREST_EXACT).astype(bool)
    assert plan_crops(mask, 64, 0.5) == plan_crops(coarse, 64, 0.5) and len(plan_crops(mask, 64, 0.5)) > 1


@pytest.mark.parametrize("sample_size", SAMPLE_SIZES)
@pytest.mark.parametrize("size", [*NARROW, (16, 16), (16, 3000), (5000, 40), (100, 20_000)])
def test_networks_are_given_a_bounded_area_with_its_padding(size, sample_size):
    width, height = working_size(*size, sample_size)
    padded = (-(-width // 16) * 16) * (-(-height // 16) * 16)
    assert min(width, height) >= 16 and width <= size[0] and height <= size[1]
    assert padded <= 2 * 4 * sample_size**2 + 16 * max(width, height) // 16


def test_a_hole_is_as_thin_in_a_photo_that_lies_as_in_one_that_stands():
    for width, height in [*NARROW, (4000, 3000), (64, 5000)]:
        assert thin_depth(width, height, 96) == thin_depth(height, width, 96) > 0


@pytest.mark.parametrize("side", [16, 40, 100, 128, 255, 256, 4000])
def test_noise_is_not_made_to_be_thrown_away(side):
    tile = tile_side(side)
    assert CELL <= tile <= TILE and (tile == TILE if side >= 256 else side + CELL <= 2 * tile < 4 * (side + CELL))


@pytest.mark.parametrize("size", [(16, 60_000), (60_000, 16)])
def test_masks_grow_in_narrow_photos(size):
    mask = holes("one pixel", *size)
    expected = cv2.dilate(mask.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3)))
    assert np.array_equal(grow_mask(mask, 1), expected.astype(bool))


@pytest.mark.parametrize("kind", ["stripes", "box"])
@pytest.mark.parametrize("size", [(16, 12_000), (12_000, 16)])
def test_narrow_photos_are_restored(size, kind, tiny_pipeline: FeedbackInpaintPipeline):
    """With as many pixels through the networks, give or take, as a square photo; what is known stays."""
    seen = []
    hook = tiny_pipeline.guided_inpainter.register_forward_hook(lambda _, given, out: seen.append(out.image.numel()))
    try:
        counts = []
        for width, height in (size, (438, 438)):
            photo = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
            mask = holes(kind, width, height)
            with torch.random.fork_rng(devices=[]):
                result = np.asarray(tiny_pipeline(photo, mask, num_feedback_rounds=0).images[0])
            assert result.shape == photo.shape and np.array_equal(result[~mask], photo[~mask])
            counts.append(sum(seen))
            seen.clear()
        assert tiny_pipeline.segment(photo).size == (438, 438)
    finally:
        hook.remove()
    assert 0 < counts[0] <= 2.5 * counts[1]
