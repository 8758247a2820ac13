"""Strokes as the browser sends them, drawn again at the photo's full size."""

import time

import numpy as np
import pytest

from fbinpaint.demo.strokes import MAX_POINTS, marked, painted_classes
from fbinpaint.errors import InputError
from fbinpaint.labels import IGNORE

SIZE = (60, 40)


def no_mask(name: str) -> np.ndarray:
    raise AssertionError("there is no mask in these strokes")


def line(*points: tuple[float, float], size: float = 6, **more) -> dict:
    return {"kind": "line", "points": [list(point) for point in points], "size": size} | more


def box(left: float, top: float, right: float, bottom: float, **more) -> dict:
    return {"kind": "area", "points": [[left, top], [right, top], [right, bottom], [left, bottom]]} | more


def test_a_line_is_as_wide_as_its_brush_and_round_at_its_ends():
    drawn = marked([line((20, 20), (40, 20), size=10)], SIZE, 1, no_mask)
    assert drawn[:, 30].sum() == pytest.approx(10, abs=1) and drawn[20, 15:45].all()
    assert not drawn[20, :14].any() and not drawn[20, 46:].any() and not drawn[15, 15]


def test_a_dot_is_a_disc_and_the_thinnest_line_has_no_gaps():
    dot = marked([line((30, 20), size=8)], SIZE, 1, no_mask)
    assert np.pi * 4**2 * 0.9 < dot.sum() < np.pi * 4.5**2 * 1.1  # OpenCV adds what a pixel's half covers
    thin = marked([line((3, 3), (55, 35), size=1)], SIZE, 1, no_mask)
    assert thin[:, 4:54].any(axis=0).all()


def test_a_box_covers_the_pixels_that_it_was_drawn_around():
    drawn = marked([box(10, 5, 30, 25)], SIZE, 1, no_mask)
    expected = np.zeros(SIZE[::-1], bool)
    expected[5:25, 10:30] = True
    assert (drawn != expected).sum() <= 2 * (20 + 20)  # its border, at most
    assert drawn[6:24, 11:29].all()


def test_a_lasso_that_goes_round_a_thing_again_means_all_of_it():
    """Twice round, or past its beginning: what is surrounded twice is no hole in it."""
    around = [[10, 5], [40, 5], [40, 30], [10, 30]]
    wider = [[8, 3], [42, 3], [42, 32], [8, 32]]
    once = marked([box(8, 3, 42, 32)], SIZE, 1, no_mask)
    for points in (around + wider, wider + wider, wider + [[8, 3], [30, 3], [30, 20]]):
        drawn = marked([{"kind": "area", "points": points}], SIZE, 1, no_mask)
        assert drawn[6:29, 11:39].all() and not (drawn & ~once).any()
    beyond = {"kind": "area", "points": [[-20, -20], [30, -20], [30, 20], [-20, 20]]}
    drawn = marked([beyond], SIZE, 1, no_mask)
    assert drawn[:20, :30].all() and not drawn[22:].any() and not drawn[:, 32:].any()
    assert not marked([box(-30, 3, -10, 20)], SIZE, 1, no_mask).any()


def test_a_line_is_the_same_share_of_a_larger_photo():
    small = marked([line((20, 20), (40, 20))], SIZE, 1, no_mask)
    large = marked([line((20, 20), (40, 20))], (600, 400), 10, no_mask)
    assert large.mean() == pytest.approx(small.mean(), rel=0.2)
    assert (large[5::10, 5::10] != small).mean() < 0.02


def test_later_strokes_erase_and_cover_earlier_ones():
    drawn = marked([box(10, 10, 50, 30), line((10, 20), (50, 20), erase=True)], SIZE, 1, no_mask)
    assert drawn[12, 30] and not drawn[20, 30]
    again = marked([box(10, 10, 50, 30, erase=True), line((30, 20))], SIZE, 1, no_mask)
    assert again[20, 30] and not again[12, 12]


def test_masks_are_asked_for_by_their_name_and_can_be_erased():
    mask = np.zeros(SIZE[::-1], bool)
    mask[:10] = True
    strokes = [{"kind": "mask", "mask": "17", "url": "x", "tag": 3}, box(0, 0, 20, 40, erase=True)]
    drawn = marked(strokes, SIZE, 1, {"17": mask}.__getitem__)
    assert drawn[:9, 22:].all() and not drawn[:, :19].any() and not drawn[11:].any()


def test_strokes_on_a_map_are_class_ids_and_255_where_nothing_is_painted():
    strokes = [box(10, 10, 50, 30, label=8), line((30, 20), size=8, label=0), box(10, 10, 15, 30, erase=True)]
    labels = painted_classes(strokes, SIZE, 1, 19)
    assert labels.dtype == np.uint8 and set(np.unique(labels)) == {0, 8, IGNORE}
    assert labels[12, 20] == 8 and labels[20, 30] == 0 and labels[20, 12] == IGNORE == labels[2, 2]
    assert (painted_classes([], SIZE, 1, 19) == IGNORE).all()


@pytest.mark.parametrize("label", [19, -1, None, "road", 2.5, [1], 300])
def test_a_class_that_the_model_does_not_have_is_refused(label):
    with pytest.raises(InputError, match="not of this model's classes"):
        painted_classes([box(1, 1, 9, 9, label=label)], SIZE, 1, 19)


@pytest.mark.parametrize(
    "stroke",
    [
        {}, None, 7, "line", {"kind": "line"}, {"kind": "circle", "points": [[1, 1]], "size": 3},
        {"kind": "line", "points": [], "size": 3}, {"kind": "line", "points": [[1, 2, 3]], "size": 3},
        {"kind": "line", "points": [[1, None]], "size": 3}, {"kind": "line", "points": [[1, float("nan")]], "size": 3},
        {"kind": "line", "points": [[1, 1e9]], "size": 3}, {"kind": "line", "points": [[1, 1]], "size": 0},
        {"kind": "line", "points": [[1, 1]], "size": "3"}, {"kind": "line", "points": [[1, 1]], "size": 1e9},
        {"kind": "area", "points": "here"}, {"kind": "mask", "mask": 7}, {"kind": "mask"},
        {"kind": "line", "points": [[1, 1]] * (MAX_POINTS + 1), "size": 3},
        {"kind": "line", "points": [[10**400, 1]], "size": 3}, {"kind": ["line"], "points": [[1, 1]], "size": 3},
    ],
)  # fmt: skip
def test_what_no_page_sends_is_refused_in_a_line(stroke):
    with pytest.raises(InputError, match="did not arrive as it was sent"):
        marked([stroke], SIZE, 1, no_mask)


@pytest.mark.parametrize(
    "strokes",
    [
        [line(*[(k % 1600, k % 7) for k in range(20000)], size=600)], [{"kind": "mask", "mask": "1"}] * 500,
        [{"kind": "area", "points": [[k % 1600, 1200 * (k % 2)] for k in range(9000)]}], [box(0, 0, 9, 9)] * 9000,
    ],
)  # fmt: skip
def test_what_would_take_long_to_draw_is_refused_at_once(strokes):
    start = time.process_time()  # of this process's own work: others may keep the machine busy
    with pytest.raises(InputError, match="takes too long"):
        marked(strokes, (4000, 3000), 2.5, no_mask)
    assert time.process_time() - start < 2


def test_scribbling_over_a_whole_large_photo_is_drawn():
    """With a middling brush, line by line, as a hand would."""
    rows = [line(*[(x, y) for x in range(0, 1600, 2)], size=60) for y in range(0, 1201, 50)]
    assert marked(rows, (4000, 3000), 2.5, no_mask).all()


def test_strokes_that_are_no_list_are_refused():
    for strokes in (None, 7, {"kind": "line"}):
        with pytest.raises(InputError, match="did not arrive as it was sent"):
            marked(strokes, SIZE, 1, no_mask)


def test_strokes_far_outside_the_photo_mark_nothing():
    assert not marked([line((-500, -500), (-300, 20)), box(900, 900, 1000, 1000)], SIZE, 1, no_mask).any()
