"""Masks are seeded, of the asked area, and of the asked shape."""

from collections import Counter

import cv2
import numpy as np
import pytest

from fbinpaint.masks import (
    RATIO_BINS,
    border_mask,
    box_mask,
    centre_mask,
    feather_weights,
    free_form_mask,
    grow_mask,
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


def test_the_centre_is_a_box_of_half_the_sides():
    mask = centre_mask(40, 60)
    assert mask.sum() == 20 * 30 and mask[10:30, 15:45].all()


def test_borders_are_one_to_four_strips_of_a_tenth_to_three_tenths():
    numbers = Counter()
    for seed in range(60):
        mask = border_mask(40, 60, rng(seed))
        known = np.argwhere(~mask)
        (top, left), (bottom, right) = known.min(0), known.max(0) + 1
        assert not mask[top:bottom, left:right].any() and mask.sum() == mask.size - (bottom - top) * (right - left)
        strips = [depth for depth in (top / 40, (40 - bottom) / 40, left / 60, (60 - right) / 60) if depth]
        assert all(0.1 <= depth <= 0.3 for depth in strips)
        numbers[len(strips)] += 1
    assert set(numbers) == {1, 2, 3, 4} and min(numbers.values()) > 5


def test_boxes_are_one_to_three_rectangles_of_a_fifth_to_three_fifths():
    numbers, largest = Counter(), 0.0
    for seed in range(120):
        mask = box_mask(50, 80, rng(seed))
        pieces, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
        numbers[pieces - 1] += 1  # the background is one
        for _, _, width, height, area in stats[1:]:
            # Of what overlaps, each row is still in some box, and each column.
            assert width >= 0.2 * 80 and height >= 0.2 * 50 and area >= 0.04 * mask.size
            if area == width * height:  # a box by itself
                assert width <= 0.6 * 80 and height <= 0.6 * 50
        largest = max(largest, mask.mean())
    assert set(numbers) == {1, 2} and min(numbers.values()) > 10
    assert 0.5 < largest < 0.9  # no single box has more than 0.36


def test_growing_is_by_distance_and_shrinking_undoes_it():
    mask = np.zeros((21, 30), bool)
    mask[8:12, 10:20] = True
    grown = grow_mask(mask, 3)
    assert grown[10].nonzero()[0].tolist() == list(range(7, 23))
    assert grown[:, 15].nonzero()[0].tolist() == list(range(5, 15))
    assert not grown[5, 7] and grown[6, 8]  # its corners are round
    assert np.array_equal(grow_mask(grown, -3), mask) and np.array_equal(grow_mask(mask, 0), mask)
    assert grow_mask(np.ones((4, 4), bool), -2).all()  # the picture's edge is no border


@pytest.mark.parametrize("pixels", [0, 1, 4])
def test_a_feathered_fill_fades_over_so_many_pixels(pixels):
    mask = np.zeros((9, 24), bool)
    mask[:, :10] = True
    weights = feather_weights(mask, pixels)
    assert weights.dtype == np.float32 and weights.shape == mask.shape and (weights[mask] == 1).all()
    steps = [1 - step / (pixels + 1) for step in range(1, pixels + 1)]
    assert weights[4, 10:] == pytest.approx([*steps, *[0] * (14 - pixels)], abs=1e-6)


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


def test_objects_are_grown_and_neither_specks_nor_most_of_the_picture():
    labels = np.zeros((100, 100), np.uint8)  # 78 % of the picture is class 0
    labels[:40, :50], labels[60:80, 60:70], labels[90:92, 90:92] = 3, 5, 7
    grown = {3: np.s_[:42, :52], 5: np.s_[58:82, 58:72]}
    seen = set()
    for seed in range(40):
        mask = object_mask(labels, rng(seed))
        (chosen,) = {3, 5} & set(np.unique(labels[mask]).tolist())
        expected = np.zeros_like(mask)
        expected[grown[chosen]] = True
        assert np.array_equal(mask, expected)  # by a fiftieth of the side
        seen.add(chosen)
    assert seen == {3, 5}


def test_training_masks_are_varied_seeded_and_never_empty():
    labels = np.zeros((64, 64), np.uint8)
    labels[20:40, 20:40] = 3
    masks = [training_mask(64, 64, rng(seed), labels) for seed in range(60)]
    assert all(mask.any() and not mask.all() for mask in masks)
    assert len({mask.tobytes() for mask in masks}) > 50
    assert np.array_equal(masks[7], training_mask(64, 64, rng(7), labels))
