"""The smooth start of the initial inpainter: exact where known, harmonic where not."""

import pytest
import torch

from fbinpaint.models import InitialInpainter
from fbinpaint.models.harmonic_fill import harmonic_fill


def box(height: int, width: int) -> torch.Tensor:
    known = torch.ones(1, 1, height, width)
    known[..., height // 4 : height // 2, width // 4 : width // 2] = 0
    return known


@pytest.mark.parametrize("size", [(64, 64), (48, 80), (17, 23), (1, 9), (1, 1)])
def test_known_pixels_stay_and_constants_continue(size):
    image, known = torch.rand(1, 3, *size), box(*size)
    fill = harmonic_fill(image, known)
    assert torch.equal(fill * known, image * known)
    torch.testing.assert_close(harmonic_fill(torch.full((1, 3, *size), 0.3), known), torch.full((1, 3, *size), 0.3))


def test_a_ramp_continues_through_the_hole():
    """Linear functions are harmonic; plain interpolation from the coarser level misses by far more than this."""
    ramp = torch.linspace(-1, 1, 64).expand(1, 3, 64, 64)
    fill = harmonic_fill(ramp, box(64, 64))
    assert (fill - ramp).abs().max() < 0.06


def test_what_is_unknown_is_never_read():
    image, known = torch.rand(1, 3, 32, 32), box(32, 32)
    other = torch.where(known > 0, image, torch.rand_like(image))
    assert torch.equal(harmonic_fill(image, known), harmonic_fill(other, known))
    assert not harmonic_fill(image, torch.zeros_like(known)).any()


@pytest.mark.parametrize("size", [(64, 64), (48, 80), (17, 23)])
def test_relaxing_only_around_the_hole_changes_nothing(size):
    height, width = size
    image, known = torch.rand(2, 3, *size), box(*size).repeat(2, 1, 1, 1)
    known[1, :, : height // 3, width // 2 :] = 0  # a hole that the picture's border cuts
    window = (slice(0, height // 2), slice(width // 4, width))
    torch.testing.assert_close(harmonic_fill(image, known, window), harmonic_fill(image, known))


def test_an_untrained_initial_inpainter_returns_it():
    image, known = torch.rand(1, 3, 64, 64), box(64, 64)
    fill = InitialInpainter()(image, 1 - known).image
    torch.testing.assert_close(fill, harmonic_fill(image, known))
