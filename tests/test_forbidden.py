"""What is forbidden comes back in no map of any round, whichever way a hole is filled; what the user drew wins.

The segmenter of these networks sees cars everywhere: wherever nothing forbids them, they fill the holes.
"""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from fbinpaint import FeedbackInpaintPipeline, InputError
from fbinpaint.labels import IGNORE, LabelSpace
from fbinpaint.loop import RESEGMENTED_VARIANTS, VARIANTS

from .conftest import make_tiny_networks, quiet_pipeline

CAR, SKY = 13, 10


def pipeline_that_sees_cars(variant: str = "feedback") -> FeedbackInpaintPipeline:
    """Works at 64 pixels, so that photos of a few hundred are large."""
    networks = make_tiny_networks()
    with torch.no_grad():
        networks.segmenter.classify.bias[CAR] += 20
    networks.variant = variant
    return quiet_pipeline(networks, sample_size=64)


@pytest.fixture(scope="module")
def pipe() -> FeedbackInpaintPipeline:
    return pipeline_that_sees_cars()


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def holes(height: int, width: int, *boxes: tuple[int, int, int, int]) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    for top, bottom, left, right in boxes:
        mask[top:bottom, left:right] = True
    return mask


def maps_of(out, index: int = 0) -> list[np.ndarray]:
    """All maps of one photo of an output."""
    maps = [out.semantic_before[index], *(round_.semantic_map for round_ in out.rounds[index])]
    return [np.asarray(map_) for map_ in (*maps, out.semantic_after[index])]


SMALL = photo(48, 64), holes(48, 64, (10, 31, 19, 50))
SEVERAL_CROPS = photo(300, 400), holes(300, 400, (21, 70, 30, 80), (220, 283, 301, 370))
CASES = {
    "small": SMALL,
    "at the corner": (photo(50, 70), holes(50, 70, (31, 50, 43, 70))),
    "one pixel": (photo(33, 41), holes(33, 41, (17, 18, 22, 23))),
    "nearly all": (photo(40, 40), ~holes(40, 40, (0, 8, 0, 8))),
    "large": (photo(260, 300), holes(260, 300, (60, 201, 83, 240))),
    "several crops and a global map": SEVERAL_CROPS,
    "panorama": (photo(40, 600), holes(40, 600, (7, 33, 100, 129), (3, 30, 500, 600))),
    "thin lines": (photo(240, 320), holes(240, 320, (100, 103, 20, 300), (20, 230, 151, 155))),
    "thin and wide": (photo(240, 320), holes(240, 320, (100, 103, 20, 300), (140, 230, 151, 251))),
    "plain surroundings": (np.full((200, 300, 3), (90, 140, 200), np.uint8), holes(200, 300, (60, 130, 91, 170))),
    "plain and small": (np.full((48, 64, 3), 120, np.uint8), holes(48, 64, (12, 25, 17, 30))),
}


@pytest.mark.parametrize("case", CASES)
def test_no_map_shows_a_forbidden_class_in_the_hole(pipe, case):
    pixels, mask = CASES[case]
    free = pipe(pixels, mask)
    assert all((map_[mask] == CAR).all() for map_ in maps_of(free))
    out = pipe(pixels, mask, forbidden="car")
    maps = maps_of(out)
    assert len(maps) == 5
    for map_ in maps:
        assert not np.isin(map_[mask], (CAR, IGNORE)).any()
        assert (map_[~mask] == CAR).mean() > 0.8  # where it is not forbidden, it is still there
    assert (np.asarray(out.images[0])[~mask] == pixels[~mask]).all()
    without_networks = case.startswith(("thin lines", "plain"))
    assert (not out.rounds[0][0].patches) == without_networks
    if case != "one pixel":  # which may be of the same colour by chance
        assert np.array_equal(out.images[0], free.images[0]) == without_networks


def test_whatever_is_forbidden_beside_it(pipe):
    """All but one class: that one fills the hole."""
    pixels, mask = SMALL
    out = pipe(pixels, mask, forbidden=[i for i in range(19) if i != SKY])
    assert all((map_[mask] == SKY).all() for map_ in maps_of(out))


@pytest.mark.parametrize("variant", VARIANTS + RESEGMENTED_VARIANTS)
@pytest.mark.parametrize("num_rounds", range(4))
def test_no_round_of_any_variant_shows_it(variant, num_rounds):
    pixels, mask = SMALL
    out = pipeline_that_sees_cars(variant)(pixels, mask, num_rounds, forbidden="car")
    assert len(out.rounds[0]) == num_rounds + 1
    assert not any((map_[mask] == CAR).any() for map_ in maps_of(out))


def test_several_photos_of_different_sizes_in_one_call(pipe):
    cases = [CASES[case] for case in ("small", "large", "several crops and a global map", "thin lines")]
    photos, masks = [pixels for pixels, _ in cases], [mask for _, mask in cases]
    out = pipe(photos, masks, num_feedback_rounds=1, forbidden=["car", "truck"])
    for i, mask in enumerate(masks):
        assert not any(np.isin(map_[mask], (CAR, 14)).any() for map_ in maps_of(out, i))
        assert (np.asarray(out.images[i])[~mask] == photos[i][~mask]).all()


def test_no_step_of_a_stream_shows_it(pipe):
    pixels, mask = SEVERAL_CROPS
    steps = list(pipe.stream(pixels, mask, num_feedback_rounds=2, forbidden="car"))
    assert len(steps) == 3
    for out in steps:
        assert not any((map_[mask] == CAR).any() for map_ in maps_of(out))
    called = pipe(pixels, mask, num_feedback_rounds=2, forbidden="car")
    assert np.array_equal(steps[-1].images[0], called.images[0])
    assert np.array_equal(steps[-1].semantic_after[0], called.semantic_after[0])


def insist(pipe, step, timestep, tensors):
    """A callback: nothing but cars, everywhere."""
    probabilities = torch.zeros_like(tensors["probabilities"])
    probabilities[:, CAR] = 1
    return {"probabilities": probabilities}


@pytest.mark.parametrize("case", ["small", "large", "several crops and a global map"])
def test_a_callback_cannot_bring_it_back(pipe, case):
    pixels, mask = CASES[case]
    out = pipe(pixels, mask, forbidden="car", callback_on_step_end=insist)
    assert not any((map_[mask] == CAR).any() for map_ in maps_of(out))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_networks_keep_to_it(dtype):
    """To them, nothing but a car is possible."""
    pipe = pipeline_that_sees_cars().to(dtype)
    for pixels, mask in (SMALL, SEVERAL_CROPS):
        out = pipe(pixels, mask, num_feedback_rounds=1, forbidden="car")
        assert not any((map_[mask] == CAR).any() for map_ in maps_of(out))
        assert (np.asarray(out.images[0])[~mask] == pixels[~mask]).all()


@pytest.mark.parametrize("case", ["small", "large", "several crops and a global map", "thin lines", "plain and small"])
def test_what_the_user_draws_wins_and_nothing_else(pipe, case):
    """A drawing that ends within cells and, in large photos, within pixels of the working size."""
    pixels, mask = CASES[case]
    drawn = np.full(mask.shape, IGNORE, np.uint8)
    rows, columns = np.nonzero(mask)
    middle = (columns.min() + columns.max()) // 2
    drawn[rows.min() : rows.max() - 3, columns.min() + 5 : middle] = CAR
    drawn[rows.min() : rows.max() - 3, middle : middle + 6] = SKY
    maps = maps_of(pipe(pixels, mask, forbidden=["car", "sky"], semantic_map=drawn))
    for map_ in maps:
        assert (map_[drawn == CAR] == CAR).all() and (map_[drawn == SKY] == SKY).all()
        assert not np.isin(map_[mask & (drawn == IGNORE)], (CAR, SKY)).any()


@pytest.mark.parametrize("callback", [None, insist])
@pytest.mark.parametrize("case", ["large", "thin and wide"])
def test_every_pass_is_guided_by_a_map_without_it(pipe, case, callback):
    """Those that add details, too; for the borders of holes see tests/test_refinement.py."""
    pixels, mask = CASES[case]
    passes = []

    def listen(_, inputs):
        probabilities, conditioning = inputs
        inside = -F.max_pool2d(F.pad(-conditioning.hole8, (1, 1, 1, 1)), 3, stride=1)  # whole cells of the hole
        passes.append((probabilities[:, CAR], F.interpolate(inside, scale_factor=2)[:, 0] > 0))

    handle = pipe.guided_inpainter.register_forward_pre_hook(listen)
    pipe(pixels, mask, num_feedback_rounds=1, forbidden="car", callback_on_step_end=callback)
    handle.remove()
    assert max(cars.shape[-1] for cars, _ in passes) > 24  # cells; the loop works on fewer
    for cars, inside in passes:
        assert inside.any() and not cars[inside].any() and (cars > 0.5).any()


def test_details_are_painted_of_what_the_user_drew(pipe):
    """Also where that is forbidden: the photo is 400 pixels wide and worked on at 64, and all of the hole is drawn."""
    pixels, mask = photo(300, 400), holes(300, 400, (60, 240, 83, 320))
    drawn = np.where(mask, CAR, IGNORE).astype(np.uint8)
    passes = []

    def listen(_, inputs):
        probabilities, conditioning = inputs
        inside = -F.max_pool2d(F.pad(-conditioning.hole8, (1, 1, 1, 1)), 3, stride=1)
        passes.append(probabilities[:, CAR][F.interpolate(inside, scale_factor=2)[:, 0] > 0])

    handle = pipe.guided_inpainter.register_forward_pre_hook(listen)
    pipe(pixels, mask, num_feedback_rounds=0, forbidden="car", semantic_map=drawn)
    handle.remove()
    assert len(passes) > 1 and all(len(cars) and (cars > 0.99).all() for cars in passes)


def test_known_pixels_keep_their_own_mode(pipe):
    values = np.random.default_rng(0).integers(0, 2**16, (48, 64), dtype=np.uint16)
    _, mask = SMALL
    out = pipe(Image.fromarray(values), mask, forbidden="car")
    assert out.images[0].mode == "I;16" and (np.asarray(out.images[0])[~mask] == values[~mask]).all()
    floats = np.random.default_rng(0).random((48, 64, 3), np.float32)
    images = pipe(floats, mask, forbidden="car", output_type="np").images
    assert (images[0][~mask] == floats[~mask]).all()


@pytest.mark.parametrize("nothing", [None, [], ()])
def test_nothing_forbidden_changes_nothing(tiny_pipeline, nothing):
    pixels, mask = CASES["large"]
    plain, out = tiny_pipeline(pixels, mask), tiny_pipeline(pixels, mask, forbidden=nothing)
    assert np.array_equal(plain.images[0], out.images[0])
    for one, other in zip(maps_of(plain), maps_of(out), strict=True):
        assert np.array_equal(one, other)
    assert [r.confidence for r in plain.rounds[0]] == [r.confidence for r in out.rounds[0]]


@pytest.mark.parametrize(
    ("forbidden", "words"),
    [
        ("cars", "'cars' is no class of cityscapes"),
        (["car", "glasses"], "'glasses' is no class"),
        ("", "'' is no class"),
        ("car,person", "'car,person' is no class"),
        (19, "'19' is no class"),
        (-1, "'-1' is no class"),
        (IGNORE, "'255' is no class"),
        ("013", "'013' is no class"),
        (True, "'True' is no class"),
        ([np.True_], "'True' is no class"),
        (13.0, r"'13.0' is no class"),
        ([["car"]], "is no class"),
        ([None], "'None' is no class"),
        (b"\x0d", "is no class"),
        (np.full((2, 2), 13), "is no class"),
        (torch.tensor(13.0), "is no class"),
        (range(19), "these are all classes of cityscapes"),
    ],
)
def test_bad_classes_are_one_clear_line(pipe, forbidden, words):
    for call in (pipe, lambda *args, **options: next(pipe.stream(*args, **options))):
        with pytest.raises(InputError, match=words) as error:
            call(*SMALL, forbidden=forbidden)
        assert "\n" not in str(error.value) and ("cityscapes" in str(error.value))


@pytest.mark.parametrize(
    "forbidden",
    ["car", 13, "13", np.int64(13), np.array(13), np.array([13, 13]), torch.tensor(13), torch.tensor([13]),
     ("car", "13"), {"car"}, iter(["car"])],
)  # fmt: skip
def test_a_class_is_named_in_any_of_its_ways(pipe, forbidden):
    expected = pipe(*SMALL, num_feedback_rounds=0, forbidden=["car"])
    out = pipe(*SMALL, num_feedback_rounds=0, forbidden=forbidden)
    assert np.array_equal(out.semantic_after[0], expected.semantic_after[0])
    assert np.array_equal(out.images[0], expected.images[0])


def test_names_that_are_shown_name_classes_too():
    faces = FeedbackInpaintPipeline.from_networks(make_tiny_networks("celebamask-hq"), "celebamask-hq").label_space
    assert faces.class_ids("glasses") == faces.class_ids("eye_g") == [3]
    assert faces.class_ids(["earring", "hat", "ear_r", 14]) == [15, 14]


def test_the_owners_name_wins_over_one_that_is_shown():
    space = LabelSpace(
        "rooms", ("wall", "floor", "door"), ((1, 1, 1), (2, 2, 2), (3, 3, 3)), display_names=("door", "carpet", "wall")
    )
    assert space.class_ids(["door"]) == [2] and space.class_ids("wall") == [0] and space.class_ids("carpet") == [1]
    assert LabelSpace("ids", ("a", "b"), ((1, 1, 1), (2, 2, 2)), display_names=("1", "c")).class_ids("1") == [1]
