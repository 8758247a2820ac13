"""Grain: what an enlarged fill lacks of the noise around it, no more, and the same in every call."""

import cv2
import numpy as np
import pytest
import torch

from benchmarks.texture import high_frequencies, noisy_gradient
from fbinpaint import FeedbackInpaintPipeline, InputError
from fbinpaint.pipeline.grain import add_grain

from .conftest import make_tiny_networks

SIZE = (600, 480)  # width, height


@pytest.fixture(scope="module")
def pipe() -> FeedbackInpaintPipeline:
    """Works at 64 pixels and paints smoothly, as trained networks do where the photo is smooth."""
    networks = make_tiny_networks()
    for layer in (networks.initial_inpainter.details.to_rgb, networks.guided_inpainter.details.to_rgb):
        torch.nn.init.zeros_(layer.weight), torch.nn.init.zeros_(layer.bias)
    pipe = FeedbackInpaintPipeline.from_networks(networks, "cityscapes", sample_size=64)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def restore(pipe: FeedbackInpaintPipeline, photo: np.ndarray, hole: np.ndarray, **options) -> np.ndarray:
    return np.asarray(pipe(photo, hole, num_feedback_rounds=1, **options).images[0])


@pytest.mark.parametrize("sigma", [4, 9, 16])
def test_a_fill_is_as_noisy_as_its_surroundings(pipe, sigma):
    photo, hole = noisy_gradient(SIZE, 160, sigma)
    smooth, grainy = (restore(pipe, photo, hole, grain=grain) for grain in (False, True))
    inside, around = high_frequencies(smooth, hole)
    assert (inside < 0.5 * around).all()
    inside, around = high_frequencies(grainy, hole)
    assert inside == pytest.approx(around, rel=0.2)
    assert (grainy[~hole] == photo[~hole]).all()
    shade = cv2.erode(hole.astype(np.uint8), np.ones((9, 9))) > 0
    assert grainy[shade].mean(0) == pytest.approx(smooth[shade].mean(0), abs=0.5)


def test_a_clean_photo_gets_none(pipe):
    photo, hole = noisy_gradient(SIZE, 160, 0)
    assert (restore(pipe, photo, hole) == restore(pipe, photo, hole, grain=False)).all()


def test_the_same_call_gives_the_same_grain(pipe):
    photo, hole = noisy_gradient(SIZE, 160, 9)
    usual = restore(pipe, photo, hole)
    assert (usual == restore(pipe, photo, hole)).all()
    one, again, other = (restore(pipe, photo, hole, generator=torch.Generator().manual_seed(k)) for k in (1, 1, 2))
    assert (one == again).all() and (one != other)[hole].mean() > 0.5 and (one == other)[~hole].all()
    *_, last = pipe.stream(photo, hole, num_feedback_rounds=1)
    assert (np.asarray(last.images[0]) == usual).all()
    *_, last = pipe.stream(photo, hole, num_feedback_rounds=1, grain=False)
    assert (np.asarray(last.images[0]) == restore(pipe, photo, hole, grain=False)).all()


def test_another_generator_is_refused(pipe):
    photo, hole = noisy_gradient(SIZE, 160, 9)
    with pytest.raises(InputError, match="generator is a int; give one torch.Generator"):
        restore(pipe, photo, hole, generator=7)


def test_a_fill_painted_at_its_own_size_gets_none(pipe):
    photo, hole = noisy_gradient((90, 64), 30, 9)
    assert (restore(pipe, photo, hole) == restore(pipe, photo, hole, grain=False)).all()


def grain_of(noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a smooth fill in a grey photo with this noise (H,W,3) gets, and the noise that was there, as (N,3) each."""
    grey, hole = np.full(noise.shape, 128, np.uint8), np.zeros(noise.shape[:2], bool)
    hole[80:-80, 80:-80] = True
    photo = np.rint(128 + noise).astype(np.uint8)
    return tuple(x[hole].astype(float) - 128 for x in (add_grain(grey, photo, hole, [0]), photo))


def test_grain_has_the_colour_of_the_noise():
    noise = np.random.default_rng(0).normal(0, 8, (320, 320, 1))
    grain, _ = grain_of(noise * [1, 0, 0])
    assert grain[:, 0].std() == pytest.approx(8, rel=0.1) and not grain[:, 1:].any()
    grain, _ = grain_of(noise.repeat(3, 2))
    assert np.corrcoef(grain.T).min() > 0.95


def test_grain_is_as_coarse_as_the_noise():
    fine = np.random.default_rng(0).normal(0, 20, (320, 320, 3))
    for blur in (0.6, 1.0):
        grain, noise = (x.reshape(160, 160, 3) for x in grain_of(cv2.GaussianBlur(fine, (0, 0), blur)))
        steps = [np.diff(x, axis=1).std() / x.std() for x in (grain, noise)]
        assert steps[0] == pytest.approx(steps[1], rel=0.1) and grain.std() == pytest.approx(noise.std(), rel=0.1)


def test_texture_is_not_taken_for_noise():
    """A third of the surroundings is a weave, some are edges."""
    noise = np.random.default_rng(0).normal(0, 4, (320, 320, 3))
    noise[:, :100] += 30 * np.indices((320, 100)).sum(0)[..., None] % 60
    noise[40:44] += 80
    grain, _ = grain_of(noise)
    assert grain.std() == pytest.approx(4, rel=0.1)


def test_white_stays_white_and_a_fill_that_is_rough_stays_as_it_is():
    generator = np.random.default_rng(0)
    photo = np.rint(128 + generator.normal(0, 9, (320, 320, 3))).astype(np.uint8)
    hole = np.zeros((320, 320), bool)
    hole[80:-80, 80:-80] = True
    fill = np.full_like(photo, 128)
    fill[:160] = 255
    grainy = add_grain(fill, photo, hole, [0])
    assert (grainy[:160] == 255).all() and (grainy[160:240, 80:240] != 128).any()
    rough = np.rint(128 + generator.normal(0, 20, photo.shape)).astype(np.uint8)
    assert (add_grain(rough, photo, hole, [0]) == rough).all()


def test_without_surroundings_there_is_none():
    photo, _ = noisy_gradient((128, 128), 30, 9)
    hole = np.ones((128, 128), bool)
    hole[:5] = False
    assert (add_grain(photo // 2, photo, hole, [0]) == photo // 2).all()
