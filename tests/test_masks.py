"""Masks are seeded, of the asked area, and of the asked shape."""

import numpy as np
import pytest

from fbinpaint.masks import (
    RATIO_BINS,
    border_mask,
    box_mask,
    centre_mask,
    free_form_mask,
    object_mask,
    protocol_mask,
    training_mask,
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("index", range(15))
@pytest.mark.parametrize(("height", "width"), [(128, 171), (64, 64)])
def test_protocol_masks_cycle_through_the_bins(index, height, width):
    low, high = RATIO_BINS[index % 5]
    mask = protocol_mask(height, width, index)
    assert mask.shape == (height, width) and mask.dtype == bool
    assert low <= mask.mean() <= high
    assert np.array_equal(mask, protocol_mask(height, width, index))
    assert not np.array_equal(mask, protocol_mask(height, width, index, seed=1))


def test_protocol_masks_never_change():
    """Regenerated bit-identically, on any machine: the reports of two versions stay comparable."""
    areas = [int(protocol_mask(128, 128, index).sum()) for index in range(5)]
    assert areas == [2823, 4541, 5193, 8177, 9168]


def test_brush_sets_the_thickness():
    def mean_depth(thickness):
        masks = [free_form_mask(96, 96, rng(s), (0.2, 0.4), thickness) for s in range(8)]
        border = [np.count_nonzero(m[:, 1:] != m[:, :-1]) / m.sum() for m in masks]
        return np.mean(border)

    assert mean_depth((0.02, 0.05)) > mean_depth((0.12, 0.25))


def test_centre_and_border():
    mask = centre_mask(40, 60)
    assert mask.mean() == 0.25 and mask[20, 30] and not mask[5, 5]
    for seed in range(8):
        mask = border_mask(40, 60, rng(seed))
        assert not mask[20, 30] and mask.any()
        assert mask[0].all() or mask[-1].all() or mask[:, 0].all() or mask[:, -1].all()


def test_boxes_are_filled_rectangles():
    mask = box_mask(50, 50, rng(1))
    assert 0.03 < mask.mean() < 0.9


def test_object_mask_covers_one_object():
    labels = np.zeros((60, 60), np.uint8)
    labels[:, 30:] = 255
    labels[20:30, 5:20] = 7
    seen = set()
    for seed in range(12):
        mask = object_mask(labels, rng(seed))
        chosen = [label for label in (0, 7) if mask[labels == label].all()]
        assert chosen and mask.any() and not mask.all()
        seen.update(chosen)
    assert 7 in seen
    assert not object_mask(np.full((30, 30), 255, np.uint8), rng()).any()


def test_training_masks_are_varied_seeded_and_never_empty():
    labels = np.zeros((64, 64), np.uint8)
    labels[20:40, 20:40] = 3
    masks = [training_mask(64, 64, rng(seed), labels) for seed in range(60)]
    assert all(mask.any() and not mask.all() for mask in masks)
    assert len({mask.tobytes() for mask in masks}) > 50
    assert np.array_equal(masks[7], training_mask(64, 64, rng(7), labels))
