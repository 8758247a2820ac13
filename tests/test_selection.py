"""Masks from maps: which things, where they end, what belongs to them, and their shadows."""

import time

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from fbinpaint import FeedbackInpaintPipeline, InputError
from fbinpaint.labels import IGNORE
from fbinpaint.masks import grow_mask
from fbinpaint.pipeline.selection import close_enclosed, select_things, shadows, usual_grow

from .conftest import make_tiny_networks

ROAD, BUILDING, TERRAIN, SKY, PERSON, CAR = 0, 2, 9, 10, 11, 13


def disc(height: int, width: int, x: int, y: int, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


@pytest.fixture(scope="module")
def street() -> np.ndarray:
    """(120,160): sky over road, two cars, a person, a speck of car, and a corner that nobody labelled."""
    labels = np.full((120, 160), ROAD, np.uint8)
    labels[:40] = SKY
    labels[60:80, 20:60] = CAR
    labels[90:110, 100:150] = CAR
    labels[50:90, 80:90] = PERSON
    labels[10:12, 120:122] = CAR
    labels[110:, :10] = IGNORE
    return labels


FIRST, SECOND, SPECK, WALKER = (slice(60, 80), slice(20, 60)), (slice(90, 110), slice(100, 150)), (11, 121), (70, 85)


# --------------------------------------------------------------------------------------------------------- which things


def test_all_things_of_some_classes_without_specks(tiny_pipeline, street):
    mask = tiny_pipeline.select(street, ["car"], grow=0)
    assert mask.dtype == bool and mask[FIRST].all() and mask[SECOND].all()
    assert mask.sum() == 20 * 40 + 20 * 50  # without the speck, the person, and what is not labelled
    both = tiny_pipeline.select(street, ["car", "person"], grow=0)
    assert both[50:90, 80:90].all() and both.sum() == mask.sum() + 40 * 10
    for same in ("13", 13, np.int64(13), ("car", 13)):
        assert np.array_equal(tiny_pipeline.select(street, same, grow=0), mask)
    assert not tiny_pipeline.select(street, "train").any()  # grown by the usual, too
    assert not tiny_pipeline.select(street, "train", grow=500).any()


def test_a_point_selects_the_one_thing_there(tiny_pipeline, street):
    for classes in ("car", ["person", "car"], None):
        mask = tiny_pipeline.select(street, classes, point=(30, 70), grow=0)
        assert mask[FIRST].all() and mask.sum() == 20 * 40
    speck = tiny_pipeline.select(street, None, point=(121, 11), grow=0)
    assert speck[SPECK] and speck.sum() == 4  # who points at it, means it
    corners = (0, 0), (159, 119)
    for x, y in corners:
        assert tiny_pipeline.select(street, None, point=(x, y), grow=0)[y, x]
    for point in ((30.0, 70.0), np.array([30, 70]), [np.int32(30), np.float64(70)], torch.tensor([30, 70])):
        assert np.array_equal(
            tiny_pipeline.select(street, "car", point=point), tiny_pipeline.select(street, "car", point=(30, 70))
        )


def test_things_that_touch_are_one_and_a_pointed_one_may_be_of_several_classes(tiny_pipeline):
    labels = np.zeros((60, 80), np.uint8)
    labels[20:40, 10:30], labels[40:50, 30:50] = CAR, PERSON  # corner to corner
    assert tiny_pipeline.select(labels, "car", point=(15, 30), grow=0).sum() == 400
    assert tiny_pipeline.select(labels, ["car", "person"], point=(15, 30), grow=0).sum() == 600


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"classes": None}, "no class is named"),
        ({"classes": []}, "no class is named"),
        ({"classes": [], "point": (30, 70)}, "no class is named"),
        ({"classes": "cra"}, "'cra' is no class of cityscapes"),
        ({"classes": True}, "'True' is no class"),
        ({"point": (160, 5)}, "whole pixels, of the map's 160x120"),
        ({"point": (5, 120)}, "160x120"),
        ({"point": (-1, 5)}, "160x120"),
        ({"point": (30.5, 70)}, "160x120"),
        ({"point": (np.nan, 70)}, "160x120"),
        ({"point": (np.inf, 70)}, "160x120"),
        ({"point": 30}, "160x120"),
        ({"point": (1, 2, 3)}, "160x120"),
        ({"point": "30,70"}, "160x120"),
        ({"point": np.zeros((2, 2))}, "160x120"),
        ({"point": (30, 5)}, "shows sky there, not car"),
        ({"point": (5, 115)}, "shows nothing there, not car"),
        ({"classes": None, "point": (5, 115)}, "shows nothing there, not any class"),
        ({"grow": -1}, "grow -1: must be a whole number"),
        ({"grow": 2.5}, "grow 2.5"),
        ({"grow": True}, "grow True"),
        ({"grow": "3"}, "grow '3'"),
        ({"shadows_in": np.zeros((60, 160, 3), np.uint8)}, "shadows_in is 160x60, the map 160x120"),
        ({"shadows_in": "photo.jpg"}, "image is a str"),
        ({"semantic_map": np.zeros((2, 20, 30), np.uint8)}, "2 semantic maps: give one"),
        ({"semantic_map": []}, "0 semantic maps"),
        ({"semantic_map": None}, "semantic map is a NoneType"),
        ({"semantic_map": np.zeros(30, np.uint8)}, "semantic map is a uint8 array of shape"),
        ({"semantic_map": np.zeros((0, 30), np.uint8)}, "semantic map is a uint8 array of shape"),
        ({"semantic_map": np.zeros((20, 30))}, "semantic map is a float64 array"),
        ({"semantic_map": np.full((20, 30), 19)}, "class id 19"),
        ({"semantic_map": Image.new("RGB", (30, 20))}, "mode RGB"),
    ],
)
def test_bad_arguments_are_one_clear_line(tiny_pipeline, street, arguments, words):
    with pytest.raises(InputError, match=words) as error:
        tiny_pipeline.select(**({"semantic_map": street, "classes": "car"} | arguments))
    assert "\n" not in str(error.value)


# ------------------------------------------------------------------------------------------------------- where they end


def brute_force(mask: np.ndarray, pixels: int) -> np.ndarray:
    """Grown: whatever is no farther from a pixel of the mask; shrunk: whatever of it is farther from all others."""
    places = np.argwhere(mask if pixels > 0 else ~mask)
    everywhere = np.indices(mask.shape).reshape(2, -1).T
    squares = ((everywhere[:, None] - places[None]) ** 2).sum(-1).min(1, initial=2**40).reshape(mask.shape)
    return squares <= pixels**2 if pixels > 0 else mask & (squares > pixels**2)


@pytest.mark.parametrize("pixels", [-60, -7, -2, -1, 0, 1, 2, 3, 5, 13, 60])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.98, 1.0])
def test_growing_and_shrinking_are_by_distance(pixels, share):
    generator = np.random.default_rng(0)
    for shape in ((31, 43), (1, 20), (17, 1)):
        mask = generator.random(shape) < share
        before = mask.copy()
        changed = grow_mask(mask, pixels)
        assert changed.dtype == bool and np.array_equal(mask, before)
        assert np.array_equal(changed, brute_force(mask, pixels) if pixels else mask)


def test_growing_is_exact_to_the_pixel(tiny_pipeline):
    for radius, grow in ((20, 1), (20, 10), (7, 40)):
        labels = np.where(disc(200, 220, 100, 90, radius), CAR, ROAD).astype(np.uint8)
        mask = tiny_pipeline.select(labels, "car", grow=grow)
        assert not (disc(200, 220, 100, 90, radius + grow - 1) & ~mask).any()
        assert not (mask & ~disc(200, 220, 100, 90, radius + grow + 1)).any()
    box = np.zeros((200, 220), np.uint8)
    box[50:90, 60:120] = CAR
    mask = tiny_pipeline.select(box, "car", grow=10)
    assert mask[70].nonzero()[0].tolist() == list(range(50, 130))
    assert mask[:, 90].nonzero()[0].tolist() == list(range(40, 100))
    assert not mask[40, 50] and mask[43, 53]  # its corners are round


def test_the_usual_growth_is_in_proportion_to_the_photo(tiny_pipeline):
    assert usual_grow(256, 400) == usual_grow(400, 256) == 8 and usual_grow(1024, 2000) == 32
    assert usual_grow(16, 4000) == 2  # but no less
    labels = np.zeros((512, 600), np.uint8)
    labels[200:300, 200:300] = CAR
    assert np.array_equal(tiny_pipeline.select(labels, "car"), tiny_pipeline.select(labels, "car", grow=16))


def test_a_thing_at_the_edge_of_the_picture_is_taken_to_the_edge(tiny_pipeline):
    labels = np.zeros((60, 80), np.uint8)
    labels[:20, 60:] = CAR
    mask = tiny_pipeline.select(labels, "car", grow=5)
    assert mask[:20, 60:].all() and mask[0].nonzero()[0].tolist() == list(range(55, 80))
    assert mask[:, 79].nonzero()[0].tolist() == list(range(25))
    assert tiny_pipeline.select(np.full((30, 30), CAR), "car").all()


def test_what_is_a_speck_grows_with_the_photo(tiny_pipeline):
    """Less than a cell of 4x4 pixels of the finest map, which is four times as large as the working size of 96."""
    for side, cell in ((64, 4), (96, 4), (384, 4), (1536, 16)):
        labels = np.zeros((side, side), np.uint8)
        labels[8 : 8 + cell, 8 : 8 + cell] = labels[30 : 30 + cell, 40 : 39 + cell] = CAR
        mask = tiny_pipeline.select(labels, "car", grow=0)
        assert mask.sum() == cell**2 and mask[8, 8]


# ------------------------------------------------------------------------------------------------- what belongs to them


def test_what_a_thing_encloses_is_closed_but_no_courtyard(tiny_pipeline):
    labels = np.full((120, 200), ROAD, np.uint8)
    labels[20:100, 20:100] = CAR
    labels[30:60, 30:90] = BUILDING  # mirrored in its windscreen
    labels[80:90, 40:50] = IGNORE
    labels[20:100, 120:190] = CAR  # parked around a courtyard
    labels[26:94, 126:184] = ROAD
    labels[40:60, 140:160] = CAR  # and one within
    mask = tiny_pipeline.select(labels, "car", grow=0)
    assert mask[20:100, 20:100].all()
    assert mask[40:60, 140:160].all() and not mask[26:94, 126:139].any() and not mask[61:94, 126:184].any()
    assert np.array_equal(mask[:, 120:190], labels[:, 120:190] == CAR)


def test_eyes_behind_glasses_belong_to_them(tiny_pipeline):
    lenses = disc(60, 100, 30, 30, 15) | disc(60, 100, 70, 30, 15)
    frames = (disc(60, 100, 30, 30, 18) | disc(60, 100, 70, 30, 18)) & ~lenses
    frames[28:31, 45:56] = True  # the bridge
    assert np.array_equal(close_enclosed(frames), frames | lenses)


def test_what_is_open_or_at_the_edge_is_not_enclosed():
    cup = np.zeros((60, 60), bool)
    cup[10:50, 10:50] = True
    cup[10:35, 25:35] = False
    assert np.array_equal(close_enclosed(cup), cup)
    gate = np.zeros((60, 60), bool)
    gate[20:, 10:50] = True
    gate[40:, 20:40] = False
    assert np.array_equal(close_enclosed(gate), gate)
    for nothing in (np.zeros((20, 20), bool), np.ones((20, 20), bool)):
        assert np.array_equal(close_enclosed(nothing), nothing)


def test_a_map_of_12_megapixels_takes_less_than_two_seconds():
    generator, labels = np.random.default_rng(0), np.zeros((3000, 4000), np.uint8)
    for _ in range(200):
        centre, radius = generator.integers(0, (4000, 3000)), generator.integers(5, 250)
        cv2.circle(labels, tuple(map(int, centre)), int(radius), CAR, -1)
    labels[500:1500:50, 500:1500:50] = SKY
    start = time.process_time()
    mask = select_things(labels, [CAR], smallest=100, grow=100)
    assert time.process_time() - start < 2 and 0.2 < mask.mean() < 1


# ----------------------------------------------------------------------------------------------------- what is returned


def test_the_mask_is_of_the_kind_that_the_map_is(tiny_pipeline, street):
    expected = tiny_pipeline.select(street, "car")
    palette = tiny_pipeline.label_space.to_palette_image(street)
    for image in (palette, Image.fromarray(street)):
        mask = tiny_pipeline.select(image, "car")
        assert isinstance(mask, Image.Image) and mask.mode == "L" and np.array_equal(np.asarray(mask), expected * 255)
    for tensor in (torch.from_numpy(street), torch.from_numpy(street)[None].long()):
        mask = tiny_pipeline.select(tensor, "car")
        assert mask.dtype == torch.bool and np.array_equal(mask.numpy(), expected)
    for array in (street.astype(np.int64), np.asfortranarray(street), street[None]):
        mask = tiny_pipeline.select(array, "car")
        assert isinstance(mask, np.ndarray) and mask.dtype == bool and np.array_equal(mask, expected)
    # As maps stand in outputs: in a list.
    assert tiny_pipeline.select([palette], "car").mode == "L"
    assert isinstance(tiny_pipeline.select([street], "car"), np.ndarray)
    assert isinstance(tiny_pipeline.select([torch.from_numpy(street)], "car"), torch.Tensor)


@pytest.mark.parametrize("kind", ["pil", "np", "pt"])
def test_what_segment_finds_is_selected_and_filled(tiny_pipeline, kind):
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    found = tiny_pipeline.segment(pixels, output_type=kind)
    labels = tiny_pipeline.segment(pixels, output_type="np")
    rarest = min(np.unique(labels), key=lambda label: (labels == label).sum())
    y, x = np.argwhere(labels == rarest)[0]
    mask = tiny_pipeline.select(found, None, point=(x, y), grow=1)
    out = tiny_pipeline(pixels, mask, num_feedback_rounds=1, forbidden=rarest)
    hole = np.asarray(mask) > 0
    assert hole[y, x] and (np.asarray(out.images[0])[~hole] == pixels[~hole]).all()
    assert not (np.asarray(out.semantic_after[0])[hole] == rarest).any()


def test_a_map_with_an_exif_turn_is_selected_upright(tiny_pipeline, street):
    turned = Image.fromarray(street).transpose(Image.Transpose.ROTATE_90)
    turned.getexif()[0x0112] = 6
    mask = tiny_pipeline.select(turned, "car", grow=0)
    assert np.array_equal(np.asarray(mask) > 0, tiny_pipeline.select(street, "car", grow=0))


# -------------------------------------------------------------------------------------------------------------- shadows


def scene(
    height: int, width: int, things: list[tuple[int, int, int, int]], ellipses: list[tuple[int, int, int, int]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A grey, grainy road below a light wall, red cars (left, top, right, bottom) on it, and dark ellipses (x, y, half
    axes) -> photo (H,W,3) uint8, labels (H,W), where the ellipses are seen (H,W) bool."""
    light = np.random.default_rng(0).normal(130, 6, (height, width))
    labels = np.full((height, width), ROAD, np.uint8)
    labels[: height // 3] = BUILDING
    light[: height // 3] += 50
    shaded = np.zeros((height, width), np.uint8)
    for x, y, across, down in ellipses:
        cv2.ellipse(shaded, (x, y), (across, down), 0, 0, 360, 1, -1)
    light[shaded > 0] *= 0.5
    photo = np.repeat(light[..., None], 3, axis=2)
    for left, top, right, bottom in things:
        labels[top:bottom, left:right] = CAR
        photo[top:bottom, left:right] = 200, 30, 30
    return photo.clip(0, 255).astype(np.uint8), labels, (shaded > 0) & (labels != CAR)


def found_in(photo: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return shadows(labels == CAR, labels, photo)


@pytest.mark.parametrize(
    ("things", "ellipses"),
    [
        ([(90, 90, 160, 130)], [(140, 128, 60, 12)]),
        ([(40, 90, 100, 130), (140, 90, 200, 130)], [(80, 128, 50, 10), (180, 128, 50, 10)]),
        ([(0, 140, 60, 180)], [(40, 178, 50, 10)]),
        ([(196, 140, 256, 180)], [(205, 178, 40, 10)]),
        ([(90, 140, 160, 192)], [(150, 188, 50, 12)]),
    ],
    ids=["below and beside", "two things", "left edge", "right edge", "cut off below"],
)
def test_shadows_are_found_where_they_are(things, ellipses):
    photo, labels, shaded = scene(192, 256, things, ellipses)
    found = found_in(photo, labels)
    assert (found & shaded).sum() > 0.85 * shaded.sum() > 0
    assert (found & ~shaded).sum() < 0.05 * shaded.sum()


def test_where_there_is_no_shadow_none_is_found():
    for things in ([(90, 90, 160, 130)], [(0, 150, 60, 192)], [(40, 90, 100, 130), (101, 90, 200, 130)]):
        photo, labels, _ = scene(192, 256, things, [])
        assert not found_in(photo, labels).any()


def test_none_is_found_above_a_thing_nor_away_from_it():
    things = [(90, 120, 160, 150)]
    for x, y, across, down in ((125, 112, 60, 12), (220, 170, 25, 10), (30, 145, 20, 10)):
        photo, labels, shaded = scene(192, 256, things, [(x, y, across, down)])
        assert shaded.any() and not found_in(photo, labels).any()


def test_dark_ground_of_another_class_is_no_shadow():
    beside, below = (slice(90, 130), slice(160, 200)), (slice(130, 192), slice(90, 256))
    for ground in (beside, below):
        photo, labels, _ = scene(192, 256, [(90, 90, 160, 130)], [])
        photo[ground] //= 3
        assert found_in(photo, labels).any()  # on the road it would be one
        labels[ground] = TERRAIN
        assert not found_in(photo, labels).any()


def test_selected_shadows_go_with_their_thing_and_are_grown_like_it(tiny_pipeline):
    photo, labels, shaded = scene(192, 256, [(40, 90, 100, 130), (150, 90, 210, 130)], [(80, 128, 50, 10)])
    plain = tiny_pipeline.select(labels, "car", grow=3)
    with_shadows = tiny_pipeline.select(labels, "car", grow=3, shadows_in=photo)
    assert (with_shadows & plain).sum() == plain.sum() and with_shadows[shaded].mean() > 0.95
    other = tiny_pipeline.select(labels, "car", point=(180, 110), grow=3, shadows_in=photo)
    assert np.array_equal(other, tiny_pipeline.select(labels, "car", point=(180, 110), grow=3))
    for same in (Image.fromarray(photo), torch.from_numpy(photo).permute(2, 0, 1).float() / 255):
        assert np.array_equal(tiny_pipeline.select(labels, "car", grow=3, shadows_in=same), with_shadows)
    assert not tiny_pipeline.select(labels, "person", shadows_in=photo).any()


@pytest.mark.parametrize("box", [(4, 6, 10, 11), (0, 0, 16, 3), (0, 13, 16, 16), (15, 15, 16, 16), (0, 0, 16, 16)])
def test_the_smallest_photos_have_shadows_too(box):
    photo, labels, shaded = scene(16, 16, [box], [(8, 11, 5, 2)])
    found = found_in(photo, labels)
    assert not (found & (labels == CAR)).any() and not (found & ~shaded).any()
    assert found.any() == (box == (4, 6, 10, 11))


def test_shadows_in_12_megapixels_take_a_few_seconds():
    things = [(x, y, x + 75, y + 40) for x in range(25, 950, 125) for y in range(300, 700, 75)]
    small = scene(750, 1000, things, [(x + 50, y + 39, 50, 10) for x, y, _, _ in things])
    photo, labels, shaded = (plane.repeat(4, 0).repeat(4, 1) for plane in small)
    start = time.process_time()
    found = found_in(photo, labels)
    assert time.process_time() - start < 4
    assert (found & shaded).sum() > 0.8 * shaded.sum()


def test_a_pipeline_of_any_label_space_selects_by_the_names_that_are_shown(tiny_pipeline):
    faces = FeedbackInpaintPipeline.from_networks(make_tiny_networks("celebamask-hq"), "celebamask-hq")
    labels = np.zeros((40, 40), np.uint8)
    labels[10:20, 10:30] = 3
    assert np.array_equal(faces.select(labels, "glasses"), faces.select(labels, "eye_g"))
    with pytest.raises(InputError, match="'glasses' is no class of cityscapes"):
        tiny_pipeline.select(labels, "glasses")
