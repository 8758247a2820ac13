"""What holds of every photo and every mask."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from fbinpaint import FeedbackInpaintPipeline
from fbinpaint.images.crops import divide_hole, plan_crops

from .conftest import make_tiny_networks

# derandomize: the same examples in every run, none kept on disk.
EXAMPLES = {"derandomize": True, "deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
SIDES = st.integers(16, 300)


@st.composite
def photos_and_masks(draw) -> tuple[np.ndarray, np.ndarray]:
    """A noisy gradient, and rectangles, specks, nothing or all but a pixel as its hole."""
    width, height = draw(SIDES), draw(SIDES)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    y, x = np.mgrid[:height, :width]
    photo = np.stack([x % 256, y % 256, rng.integers(0, 256, (height, width))], axis=-1).astype(np.uint8)
    kind = draw(st.sampled_from(["rectangles", "rectangles", "specks", "pixel", "none", "all"]))
    hole = np.full((height, width), kind == "all")
    if kind == "specks":
        hole = rng.random((height, width)) < draw(st.floats(0, 1))
    if kind == "pixel":
        row, column = draw(st.sampled_from([0, height // 2, height - 1])), draw(st.sampled_from([0, width - 1]))
        hole[row, column] = True
    for _ in range(draw(st.integers(1, 4)) if kind == "rectangles" else 0):
        left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
        hole[top : top + draw(st.integers(1, height)), left : left + draw(st.integers(1, width))] = True
    hole[-1, -1] = False  # a hole of the whole photo is refused
    return photo, hole


@pytest.fixture(scope="module")
def precise() -> FeedbackInpaintPipeline:
    """In double precision, where the size of a batch cannot show in a rounded pixel."""
    pipe = FeedbackInpaintPipeline.from_networks(make_tiny_networks(), "cityscapes", sample_size=96).to(torch.float64)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def counted(tell):
    """How many examples each property saw, told at the end."""
    counts = {}
    yield counts
    for name, count in counts.items():
        tell(f"property, {name}: {count} examples")


def test_any_photo_any_mask(tiny_pipeline, counted):
    name = "same size, known pixels, finite, deterministic"

    @settings(max_examples=16, **EXAMPLES)
    @given(photos_and_masks(), st.integers(0, 3))
    def check(photo_and_mask, rounds):
        counted[name] = counted.get(name, 0) + 1
        photo, hole = photo_and_mask
        height, width = hole.shape

        def restore():
            generator = torch.Generator().manual_seed(7)
            return tiny_pipeline(photo, hole, num_feedback_rounds=rounds, generator=generator, output_type="pt")

        first, second = restore(), restore()
        (result,) = first.images
        assert result.shape == (3, height, width) and 0 <= result.min() <= result.max() <= 1
        levels = (result * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        assert np.array_equal(levels[~hole], photo[~hole])
        assert not hole.any() or (levels != photo)[hole].any()
        assert torch.equal(result, second.images[0])
        for k, (one, other) in enumerate(zip(first.rounds[0], second.rounds[0], strict=True)):
            assert torch.equal(one.image, other.image) and torch.equal(one.semantic_map, other.semantic_map), k
            assert np.isfinite([one.changed, one.confidence]).all() and 0 <= one.changed <= 1 + 1e-6
            assert one.semantic_map.shape == (height, width) and int(one.semantic_map.max()) < 19
        assert len(first.rounds[0]) == rounds + 1

    check()


def test_a_batch_equals_its_photos_alone(precise, counted):
    name = "batch equals singles"

    @settings(max_examples=8, **EXAMPLES)
    @given(st.lists(photos_and_masks(), min_size=1, max_size=2), st.integers(0, 2))
    def check(batch, rounds):
        counted[name] = counted.get(name, 0) + 1
        batch = batch + [(photo[::-1], hole[::-1]) for photo, hole in batch]  # so that sizes meet, and run together
        photos, holes = zip(*batch, strict=True)
        together = precise([Image.fromarray(photo) for photo in photos], list(holes), num_feedback_rounds=rounds)
        for i, (photo, hole) in enumerate(batch):
            alone = precise(Image.fromarray(photo), hole, num_feedback_rounds=rounds)
            assert together.images[i].tobytes() == alone.images[0].tobytes()
            assert together.semantic_before[i].tobytes() == alone.semantic_before[0].tobytes()
            assert together.semantic_after[i].tobytes() == alone.semantic_after[0].tobytes()

    check()


def overlapping_crops() -> np.ndarray:
    """Holes whose crops, of 96 pixels and more, overlap, at borders and corners, too."""
    hole = np.zeros((300, 400), bool)
    for top, left in ((0, 0), (10, 70), (60, 10), (150, 150), (150, 215), (215, 170), (280, 380), (290, 310)):
        hole[top : top + 20, left : left + 20] = True
    return hole


@st.composite
def scattered_holes(draw) -> np.ndarray:
    """Several small boxes in a photo larger than the networks work at, far from each other or near, at borders, too."""
    width, height = draw(st.integers(100, 420)), draw(st.integers(100, 420))
    hole = np.zeros((height, width), bool)
    for _ in range(draw(st.integers(1, 8))):
        left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
        hole[top : top + draw(st.integers(1, 60)), left : left + draw(st.integers(1, 60))] = True
    return hole


def test_divided_holes_are_the_hole(counted):
    name = "crops divide the hole among them"

    @settings(max_examples=60, **EXAMPLES)
    @example(overlapping_crops())
    @given(scattered_holes())
    def check(hole):
        counted[name] = counted.get(name, 0) + 1
        crops = plan_crops(hole, min_size=96, context=0.5)
        parts, times = divide_hole(hole, crops), np.zeros(hole.shape, int)
        for crop, part in zip(crops, parts, strict=True):
            times[crop.slices] += part
        assert np.array_equal(times, hole)

    check()


def test_confidence_and_change_are_means_over_the_hole(tiny_pipeline, counted):
    """Of crops that overlap, were made smaller, or padded; a callback makes every class of the map equally sure."""
    name = "confidence and change are means"

    def equally_sure(pipe, index, timestep, tensors):
        likeliest = tensors["probabilities"].argmax(1, keepdim=True)
        return {"probabilities": torch.full_like(tensors["probabilities"], 0.4 / 18).scatter(1, likeliest, 0.6)}

    @settings(max_examples=16, **EXAMPLES)
    @example(overlapping_crops())
    @given(scattered_holes())
    def check(hole):
        counted[name] = counted.get(name, 0) + 1
        photo = np.random.default_rng(0).integers(0, 256, (*hole.shape, 3), dtype=np.uint8)
        usual = tiny_pipeline(photo, hole, num_feedback_rounds=2, output_type="np").rounds[0]
        for last, this in zip([usual[0], *usual], usual, strict=False):
            assert 0 <= this.changed <= 1 and 0 < this.confidence <= 1
            moved = last.semantic_map != this.semantic_map
            # Up to what small pixels only half in the hole make of it: they lie along its border.
            networks_hole = this.photo.hole
            seen = moved[networks_hole].mean() if networks_hole.any() else 0
            assert this.changed == pytest.approx(seen, abs=0.02 + hole.sum() ** -0.5)
        if not usual[0].photo.hole.any():  # thin: no network, hence no callback
            return
        rounds = tiny_pipeline(photo, hole, 2, output_type="np", callback_on_step_end=equally_sure).rounds[0]
        assert [round_.confidence for round_ in rounds] == pytest.approx([0.6] * 3, abs=1e-5)

    check()
