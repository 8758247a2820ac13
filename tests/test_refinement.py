"""Details of large photos: only holes are repainted, tiles cover them, nothing is laid out before somebody looks."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from fbinpaint import FeedbackInpaintPipeline
from fbinpaint.evaluation.methods import fill_with_pipeline
from fbinpaint.evaluation.photos import Sample
from fbinpaint.loop import Forbidden, feedback_rounds
from fbinpaint.pipeline.refinement import OVERLAP, TILE, refine, tiles

from .conftest import make_tiny_networks, quiet_pipeline


def photo(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def pipe() -> FeedbackInpaintPipeline:
    """Works at 64 pixels, so that photos of a few hundred are large."""
    return quiet_pipeline(make_tiny_networks(), sample_size=64)


def test_tiles_cover_every_hole():
    generator = np.random.default_rng(0)
    for _ in range(100):
        height, width = 16 * generator.integers(1, 60, 2)
        mask = torch.zeros(height, width)
        for top, left in generator.integers(0, (height, width), (3, 2)):
            mask[top : top + generator.integers(1, 400), left : left + generator.integers(1, 400)] = 1
        covered = torch.zeros(height, width)
        for rows, columns in tiles(mask):
            assert 0 <= rows.start < rows.stop <= height and 0 <= columns.start < columns.stop <= width
            assert (rows.stop - rows.start) % 16 == (columns.stop - columns.start) % 16 == 0
            assert rows.start % 4 == columns.start % 4 == 0
            covered[rows, columns] += 1
        assert covered[mask > 0].all()
    assert len(tiles(torch.ones(TILE, TILE))) == 1
    small = torch.zeros(800, 800)
    small[400:500, 400:500] = 1
    assert len(tiles(small)) == 1  # time grows with the hole, not with the photo


@torch.no_grad()
@pytest.mark.parametrize("size", [(96, 128), (301, 330)])
def test_refine_repaints_the_hole_alone_and_without_seams(size):
    networks = make_tiny_networks().eval()
    image = torch.rand(1, 3, *size) * 2 - 1
    mask = torch.zeros(1, 1, *size)
    mask[..., 20:-20, 20:-20] = 1
    small = torch.nn.functional.interpolate(image, size=(48, 64), mode="area")
    hole = torch.zeros(1, 1, 48, 64)
    hole[..., 8:-8, 8:-8] = 1
    last = list(feedback_rounds(networks, small, hole, 1))[-1]
    finer = refine(networks, image, mask, last.image, last.probabilities, (48, 64), last.styles)
    known = mask.expand_as(image) == 0
    assert finer.shape == image.shape and torch.equal(finer[known], image[known])
    enlarged = torch.nn.functional.interpolate(last.image, size=size, mode="bicubic")
    assert not torch.allclose(finer[~known], enlarged[~known], atol=0.01)
    # What lies under the mask is never read.
    other = torch.where(known, image, torch.zeros_like(image))
    assert torch.equal(finer, refine(networks, other, mask, last.image, last.probabilities, (48, 64), last.styles))
    # A network that adds nothing leaves the enlarged fill as it is.
    torch.nn.init.zeros_(networks.guided_inpainter.details.to_rgb.weight)
    torch.nn.init.zeros_(networks.guided_inpainter.details.to_rgb.bias)
    plain = refine(networks, image, mask, last.image, last.probabilities, (48, 64), last.styles)
    assert torch.allclose(plain[~known], enlarged.clamp(-1, 1)[~known], atol=1e-5)


@torch.no_grad()
def test_tiles_fade_into_each_other():
    """Of a network that paints every other tile light, the others dark: no step is seen where tiles meet."""
    networks, painted = make_tiny_networks().eval(), itertools.count()

    def paint(module, inputs, output):
        return replace(output, image=torch.stack([torch.full_like(x, next(painted) % 2 - 0.5) for x in output.image]))

    networks.guided_inpainter.register_forward_hook(paint)
    mask = torch.zeros(1, 1, 400, 640)
    mask[..., 8:-8, 8:-8] = 1
    assert len(tiles(mask[0, 0])) == 6
    arguments = torch.zeros(1, 3, 400, 640), mask, torch.zeros(1, 3, 200, 320), torch.rand(1, 19, 52, 80).softmax(1)
    result = refine(networks, *arguments, (200, 320), torch.zeros(1, 19, 32))[0, 0, 8:-8, 8:-8]
    assert result.min() == pytest.approx(-0.5) and result.max() == pytest.approx(0.5)
    steps = max(result.diff(dim=axis).abs().max().item() for axis in (0, 1))
    assert steps <= 1.5 / OVERLAP
    painted = itertools.repeat(1)  # all alike: where tiles overlap, too
    result = refine(networks, *arguments, (200, 320), torch.zeros(1, 19, 32))[0, 0, 8:-8, 8:-8]
    torch.testing.assert_close(result, torch.full_like(result, 0.5))


@torch.no_grad()
def test_the_fill_is_context_like_any_other():
    """The first network is shown what was filled, and no hole: deep inside a large one it would see nothing."""
    networks, shown = make_tiny_networks().eval(), []
    networks.initial_inpainter.register_forward_pre_hook(lambda _, inputs: shown.append(inputs))
    mask = torch.zeros(1, 1, 96, 128)
    mask[..., 20:-20, 20:-20] = 1
    image, fill = torch.full((1, 3, 96, 128), -0.5), torch.full((1, 3, 48, 64), 0.7)
    refine(networks, image, mask, fill, torch.rand(1, 19, 12, 16).softmax(1), (48, 64), torch.zeros(1, 19, 32))
    ((picture, hole),) = shown
    torch.testing.assert_close(picture, torch.where(mask > 0, 0.7, -0.5).expand(1, 3, 96, 128))
    assert hole.shape == mask.shape and not hole.any()


@torch.no_grad()
@pytest.mark.parametrize("made_at", [(48, 64), (40, 60), (96, 128)])
def test_the_map_stays_in_place(made_at):
    """Whatever the size of the fill: each quarter is of a class of its own, and so every tile is told."""
    networks, told = make_tiny_networks().eval(), torch.full((400, 512), -1)
    probabilities = torch.zeros(1, 19, -(-made_at[0] // 16) * 4, -(-made_at[1] // 16) * 4)
    left, top = made_at[1] // 8, made_at[0] // 8  # cells
    probabilities[:, 0, :top, :left], probabilities[:, 1, :top, left:] = 1, 1
    probabilities[:, 2, top:, :left], probabilities[:, 3, top:, left:] = 1, 1
    mask = torch.ones(1, 1, 400, 512)
    places = tiles(mask[0, 0])
    assert len(places) == 6
    order = iter(places)

    def listen(_, inputs):
        for map_ in inputs[0]:
            told[next(order)] = map_.argmax(0).repeat_interleave(4, 0).repeat_interleave(4, 1)

    networks.guided_inpainter.register_forward_pre_hook(listen)
    fill = torch.rand(1, 3, 200, 256) * 2 - 1
    refine(networks, torch.zeros(1, 3, 400, 512), mask, fill, probabilities, made_at, torch.zeros(1, 19, 32))
    assert (told >= 0).all()
    assert ((told % 2 == 0).float().mean(1) - 4 * left / made_at[1]).abs().max() < 0.02
    assert ((told < 2).float().mean(0) - 4 * top / made_at[0]).abs().max() < 0.02


@torch.no_grad()
@pytest.mark.parametrize("size", [(48, 64), (40, 56)])  # the other is padded, and padded less when it is enlarged
def test_no_forbidden_class_reaches_into_the_hole(size):
    """The small map has it all around the hole; between its cells and those of the hole, enlarging would blend."""
    height, width = (2 * side for side in size)
    networks, told = make_tiny_networks().eval(), torch.full((height, width), torch.nan)
    probabilities = torch.zeros(1, 19, 12, 16)
    probabilities[:, 13] = 1
    probabilities[:, 13, 3:9, 4:12], probabilities[:, 5, 3:9, 4:12] = 0, 1
    mask = torch.zeros(1, 1, height, width)
    mask[..., 25:63, 33:95] = 1
    order = iter(tiles(mask[0, 0]))

    def listen(_, inputs):
        for map_ in inputs[0]:
            told[next(order)] = map_[13].repeat_interleave(4, 0).repeat_interleave(4, 1)

    networks.guided_inpainter.register_forward_pre_hook(listen)
    fill, classes = torch.zeros(1, 3, *size), torch.arange(19) == 13
    arguments = (networks, torch.zeros(1, 3, height, width), mask, fill, probabilities, size, torch.zeros(1, 19, 32))
    refine(*arguments, Forbidden(classes, mask))
    assert (told[mask[0, 0] > 0] == 0).all() and (told[mask[0, 0] == 0] > 0.5).any()
    order = iter(tiles(mask[0, 0]))
    refine(*arguments)
    assert told[mask[0, 0] > 0].max() > 0.2


def test_only_the_last_round_of_a_large_photo_gets_details(pipe):
    pixels, hole = photo(260, 300), np.zeros((260, 300), bool)
    hole[60:200, 80:240] = True
    sizes = []
    handle = pipe.guided_inpainter.register_forward_hook(lambda _, inputs, __: sizes.append(tuple(inputs[0].shape)))
    out = pipe(pixels, hole, num_feedback_rounds=1)
    handle.remove()
    assert [shape[-2:] for shape in sizes[:2]] == [(16, 20)] * 2 and max(shape[-2] for shape in sizes) > 32  # cells
    result = np.asarray(out.images[0])
    assert (result[~hole] == pixels[~hole]).all() and (result == np.asarray(out.rounds[0][1].image)).all()

    def roughness(image) -> float:
        return np.abs(np.diff(np.asarray(image, float)[65:195, 85:235], axis=1)).mean()

    assert roughness(out.rounds[0][1].image) > 1.2 * roughness(out.rounds[0][0].image)  # the first is only enlarged
    # A photo at the working size, or little larger, needs none.
    sizes.clear()
    handle = pipe.guided_inpainter.register_forward_hook(lambda _, inputs, __: sizes.append(tuple(inputs[0].shape)))
    pipe(photo(80, 90), hole[50:130, 70:160], num_feedback_rounds=1)
    handle.remove()
    assert len(sizes) == 2


@pytest.mark.parametrize("size", [(130, 150), (50, 1000)], ids=["large", "panorama"])
def test_every_round_of_an_evaluation_is_what_a_user_would_get(pipe, size):
    hole = np.zeros(size, bool)
    hole[10:-10, 20:-20] = True
    sample = Sample("photo", photo(*size), hole, None)
    fills = fill_with_pipeline(pipe, [sample], rounds=(0, 1), seed=0)
    for k, (fill,) in fills.items():
        assert (fill.image == pipe(sample.photo, hole, num_feedback_rounds=k).images[0]).all()
    assert set(fills) == {0, 1}


def test_a_round_holds_little_until_it_is_looked_at(pipe):
    pixels, hole = photo(1000, 1200), np.zeros((1000, 1200), bool)
    hole[300:700, 300:800] = True
    round_ = pipe(pixels, hole, num_feedback_rounds=2, output_type="np").rounds[0][0]
    held = sum(
        array.nbytes for patch in round_.patches for array in (patch.fill, patch.labels, *patch.diagnostics.values())
    )
    assert held < pixels.nbytes / 20
    assert round_.image.shape == pixels.shape and round_.semantic_map.shape == hole.shape
    assert round_.doubt.shape == pixels.shape and round_.trust.shape == round_.exemplar.shape == hole.shape
