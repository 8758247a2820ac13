"""The smooth start of the initial inpainter: exact where known, harmonic where not."""

import pytest
import torch
from torch.nn import functional as F

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


def laplace(image: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """The solution itself: each unknown pixel is the mean of its four neighbours; (1,3,H,W), small."""
    height, width = image.shape[-2:]
    number = {tuple(place): n for n, place in enumerate((known[0, 0] == 0).nonzero().tolist())}
    equations, right = torch.eye(len(number)) * 4, torch.zeros(len(number), 3)
    for (y, x), n in number.items():
        for row, column in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            place = min(max(row, 0), height - 1), min(max(column, 0), width - 1)  # beyond the border as at it
            if place in number:
                equations[n, number[place]] -= 1
            else:
                right[n] += image[0, :, place[0], place[1]]
    solution, exact = torch.linalg.solve(equations, right), image.clone()
    for (y, x), n in number.items():
        exact[0, :, y, x] = solution[n]
    return exact


def test_the_fill_is_close_to_the_solution_of_laplaces_equation():
    """In a hole inside and in one that the picture's corner cuts."""
    coarse = torch.rand(1, 3, 4, 5, generator=torch.Generator().manual_seed(0)) * 2 - 1
    image, known = F.interpolate(coarse, size=(32, 40), mode="bicubic").clamp(-1, 1), torch.ones(1, 1, 32, 40)
    known[..., 10:22, 12:30] = known[..., :8, 30:] = 0
    off = (harmonic_fill(image, known) - laplace(image, known)).abs()[(known == 0).expand_as(image)]
    assert off.max() < 0.15 and off.mean() < 0.05  # without relaxation 0.57 and 0.12
    flat = torch.full((1, 3, 32, 40), 0.3)
    torch.testing.assert_close(harmonic_fill(flat, known), flat)


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
