"""What is reported of rounds, photo by photo, and how maps get from one size to another: against values by hand."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from fbinpaint import FeedbackInpaintPipeline
from fbinpaint.images.crops import Crop, divide_hole
from fbinpaint.labels import CITYSCAPES
from fbinpaint.pipeline.crop_jobs import make_job
from fbinpaint.pipeline.inputs import read_forbidden, read_photo
from fbinpaint.pipeline.outputs import Patch, Photo, make_round
from fbinpaint.pipeline.runner import settled

from .conftest import make_tiny_networks, quiet_pipeline


def photo(seed: int, height: int = 48, width: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def pipe() -> FeedbackInpaintPipeline:
    """Whose maps change from round to round, and are of many classes."""
    networks = make_tiny_networks()
    with torch.no_grad():
        networks.segmenter.classify.weight.mul_(20)
        networks.recorrector.gates.bias.copy_(torch.tensor([0.0, 2.0, 2.0, 0.0]))
    return quiet_pipeline(networks)


@pytest.fixture(scope="module")
def two() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Photos with holes of other places and sizes, which the networks work on together."""
    holes = np.zeros((2, 48, 64), bool)
    holes[0, 8:40, 12:60] = holes[1, 20:36, 4:20] = True
    return [photo(1), photo(2)], list(holes)


def test_change_is_counted_from_the_round_before_in_each_photos_hole(pipe, two):
    rounds = pipe(*two, num_feedback_rounds=3, output_type="np").rounds
    differ = 0
    for of_photo, hole in zip(rounds, two[1], strict=True):
        maps = [round_.semantic_map for round_ in of_photo]
        assert of_photo[0].changed == 0
        for k in range(1, 4):
            assert of_photo[k].changed == pytest.approx((maps[k] != maps[k - 1])[hole].mean(), abs=1e-5)
            differ += of_photo[k].changed != pytest.approx((maps[k] != maps[0])[hole].mean(), abs=1e-3)
    assert differ and rounds[0][1].changed > 0.01


def test_each_photo_of_a_batch_has_its_own_map_and_confidence(pipe, two):
    together = pipe(*two, num_feedback_rounds=1, output_type="np")
    for i, (pixels, hole) in enumerate(zip(*two, strict=True)):
        alone = pipe(pixels, hole, num_feedback_rounds=1, output_type="np")
        for a, b in zip(together.rounds[i], alone.rounds[0], strict=True):
            assert a.confidence == pytest.approx(b.confidence, abs=1e-3)
            assert (a.semantic_map == b.semantic_map).mean() > 0.99
            assert np.abs(a.doubt.astype(int) - b.doubt).max() <= 3
    first, second = together.semantic_after
    assert (first != second).mean() > 0.3


def test_trust_is_what_the_first_map_does_not_have(pipe, two):
    gates = []
    handle = pipe.recorrector.register_forward_hook(lambda _, __, output: gates.append(output.gates))
    rounds = pipe(*two, num_feedback_rounds=2).rounds
    handle.remove()
    assert len(gates) == 2
    for k, of_round in enumerate(gates, start=1):
        others = F.interpolate(1 - of_round[:, :1].float(), size=(48, 64), mode="bilinear")[:, 0].numpy()
        for i, hole in enumerate(two[1]):
            assert np.abs(rounds[i][k].trust[hole] / 255 - others[i][hole]).max() < 0.01
            assert 0.1 < others[i][hole].mean() < 0.95


def test_a_photo_that_has_settled_stays_as_it_is_beside_one_that_has_not(pipe, two):
    """A map that is drawn everywhere never changes: as after an early stop, all rounds to come are that one."""
    photos, holes = two
    drawn = np.full((2, 48, 64), 255, np.uint8)
    drawn[0], drawn[1, 0, 0] = 3, 3
    together = pipe(photos, holes, semantic_map=list(drawn), num_feedback_rounds=3, output_type="np").rounds
    for i, of_photo in enumerate(together):
        alone = pipe(photos[i], holes[i], semantic_map=drawn[i], num_feedback_rounds=3, output_type="np").rounds[0]
        for a, b in zip(of_photo, alone, strict=True):
            assert a.changed == pytest.approx(b.changed, abs=1e-3)
            assert np.abs(a.doubt.astype(int) - b.doubt).max() <= 3
    quiet, lively = together
    assert all(np.array_equal(later.doubt, quiet[1].doubt) for later in quiet[2:])
    assert lively[1].changed > 0.01 and not np.array_equal(quiet[1].doubt, quiet[0].doubt)


def test_a_round_is_settled_for_the_photos_that_do_not_move():
    """By half a grey level on average, in the holes alone, and no class."""
    image, labels = torch.zeros(2, 3, 16, 16), torch.zeros(2, 16, 16, dtype=torch.int64)
    mask = torch.zeros(2, 1, 16, 16)
    mask[:, :, 4:12, 4:12] = 1
    level = 1 / 127.5
    assert settled(image, image, labels, labels, mask).tolist() == [True, True]
    assert settled(image + 0.4 * level, image, labels, labels, mask).tolist() == [True, True]
    one_moves = image.clone()
    one_moves[1] += 0.6 * level
    assert settled(one_moves, image, labels, labels, mask).tolist() == [True, False]
    assert settled(one_moves.flip(0), image, labels, labels, mask).tolist() == [False, True]
    around = image + 9 * level * (1 - mask)
    assert settled(around, image, labels, labels, mask).tolist() == [True, True]
    other = labels.clone()
    other[1, 5, 5] = 3
    assert settled(image, image, other, labels, mask).tolist() == [True, False]


def test_drawn_maps_are_shrunk_to_classes_that_were_drawn():
    """Also in a photo that is worked on smaller: between road and car lies no bicycle."""
    drawn = np.where(np.indices((300, 410)).sum(0) // 7 % 2, 3, 9).astype(np.uint8)
    drawn[:, 300:] = 255
    whole = Crop(0, 0, 410, 300)
    hole = np.zeros((300, 410), bool)
    hole[50:250, 50:350] = True
    job = make_job(Photo(photo(0, 300, 410), hole, drawn, None, [[]]), whole, hole, 96)
    assert job.size == (131, 96) and set(job.drawn.unique().tolist()) == {3, 9, 255}


def patch_of(side: int, left: int, changed: float, confidence: float, **planes: np.ndarray) -> Patch:
    part = np.ones((side, side), bool)
    fill, labels = np.zeros((side, side, 3), np.uint8), np.zeros((side, side), np.uint8)
    return Patch(Crop(left, 0, left + side, side), part, fill, labels, planes, changed, confidence)


def test_large_crops_count_as_much_as_they_fill():
    small, large = patch_of(10, 0, 0.2, 0.8), patch_of(30, 20, 0.6, 0.4)
    one = Photo(photo(0), np.zeros((48, 64), bool), None, None, [[small, large]])
    round_ = make_round(one, 0, CITYSCAPES, "np")
    assert round_.changed == pytest.approx((0.2 + 9 * 0.6) / 10)
    assert round_.confidence == pytest.approx((0.8 + 9 * 0.4) / 10)


def test_numbers_of_exemplars_are_enlarged_to_themselves():
    numbers = np.array([[-1, 4], [19, -1]], np.int16)
    one = Photo(photo(0), np.zeros((48, 64), bool), None, None, [[patch_of(30, 20, 0.0, 1.0, exemplar=numbers)]])
    plane = make_round(one, 0, CITYSCAPES, "np").exemplar
    assert plane[:30, 20:50].tolist() == np.kron(numbers, np.ones((15, 15), int)).tolist()
    assert (plane[30:] == -1).all() and (plane[:, :20] == -1).all()


def test_floats_are_the_nearest_levels():
    floats = np.linspace(0, 1, 16 * 16 * 3, dtype=np.float32).reshape(16, 16, 3)
    pixels, kept = read_photo(floats, (0, 1))
    assert np.array_equal(pixels, np.floor(floats * 255 + 0.5)) and np.array_equal(kept, floats)
    pixels, _ = read_photo(floats * 2 - 1, (-1, 1))
    assert np.abs(pixels - floats * 255).max() <= 0.5 + 1e-3


def test_named_classes_are_forbidden_and_no_others():
    assert read_forbidden(["car", 11], CITYSCAPES).nonzero()[:, 0].tolist() == [11, 13]
    assert read_forbidden(None, CITYSCAPES) is None


def test_of_overlapping_crops_the_last_one_fills():
    hole = np.zeros((40, 60), bool)
    hole[5:35, 5:55] = True
    crops = [Crop(0, 0, 40, 40), Crop(20, 0, 60, 40)]
    first, second = divide_hole(hole, crops)
    assert np.array_equal(second, hole[:, 20:])
    assert not first[:, 20:].any() and np.array_equal(first[:, :20], hole[:, :20])


def turned(image: Image.Image) -> Image.Image:
    """Stored on its side, as a telephone does."""
    exif = Image.Exif()
    exif[0x0112] = 6
    image.info["exif"] = exif.tobytes()
    return image


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "CMYK", "I;16", "turned L", "turned RGB"])
@pytest.mark.parametrize("change", [Image.Image.close, lambda image: image.paste(image.getpixel((3, 3)), (0, 0, 9, 9))])
def test_rounds_can_be_looked_at_when_the_photo_is_closed_or_drawn_on(pipe, mode, change):
    kind = mode.removeprefix("turned ")
    levels = np.random.default_rng(0).integers(0, 65536, (48, 64), dtype=np.uint16)
    image = Image.fromarray(levels) if kind == "I;16" else Image.fromarray(photo(1)).convert(kind)
    image = turned(image) if mode.startswith("turned") else image
    image.info["dpi"] = (72, 96)
    hole = np.zeros((64, 48) if mode.startswith("turned") else (48, 64), bool)
    hole[10:30, 12:40] = True
    rounds = pipe(image, hole, num_feedback_rounds=1).rounds[0]
    before = [round_.image for round_ in rounds]
    change(image)
    for round_, known in zip(rounds, before, strict=True):
        assert round_.image.mode == known.mode and round_.image.tobytes() == known.tobytes()
        assert round_.image.info == known.info and "dpi" in known.info
