"""Scores of an evaluation against values by hand: each photo's own, each on its scale, each pair of the same photo."""

import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from fbinpaint.evaluation import metrics
from fbinpaint.evaluation.controls import guided_by, shuffled_maps, true_map
from fbinpaint.evaluation.photos import Photos, Sample
from fbinpaint.evaluation.scoring import Fill, PhotoScore, Scorer
from fbinpaint.evaluation.summaries import comparison, summaries
from fbinpaint.labels import CITYSCAPES, IGNORE
from fbinpaint.masks import evaluation_mask

from .conftest import make_tiny_networks, quiet_pipeline

CLASSES = 3


@pytest.fixture(scope="module")
def lpips() -> metrics.LPIPS:
    return metrics.LPIPS("alex")


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    """Three photos, of other holes and labels each; some pixels are unknown."""
    generator = np.random.default_rng(0)
    holes = np.zeros((3, 40, 48), bool)
    holes[0, 5:25, 8:30] = holes[1, 15:38, 20:44] = holes[2, :12] = True
    photos = generator.integers(0, 256, (3, 40, 48, 3), dtype=np.uint8)
    truths = generator.choice(np.array([0, 1, 2, IGNORE], np.uint8), (3, 40, 48), p=(0.4, 0.3, 0.2, 0.1))
    return [Sample(name, *parts) for name, *parts in zip("abc", photos, holes, truths, strict=True)]


def fills_of(samples: list[Sample], seed: int, strength: int) -> list[Fill]:
    """The photos with some noise in the hole, more from one to the next, and random maps."""
    generator = np.random.default_rng(seed)
    fills = []
    for number, sample in enumerate(samples):
        noise = generator.integers(-strength * (number + 1), strength * (number + 1) + 1, sample.photo.shape)
        image = np.where(sample.hole[..., None], np.clip(sample.photo + noise, 0, 255), sample.photo).astype(np.uint8)
        fills.append(Fill(image, generator.integers(0, CLASSES, sample.hole.shape).astype(np.uint8)))
    return fills


def as_tensor(image: np.ndarray) -> torch.Tensor:
    """(1,3,H,W) in [-1,1], as the lpips package has it."""
    return torch.from_numpy(image).movedim(-1, 0)[None].float() / 255 * 2 - 1


def test_lpips_of_results_is_that_of_the_package_itself(samples, lpips):
    """lpips' own forward on pictures in [-1,1], photo by photo; also where only some are scored."""
    scorer, fills = Scorer(samples, {"alex": lpips}, CLASSES), fills_of(samples, 1, 40)
    with torch.no_grad():
        by_hand = [
            lpips.model(as_tensor(fill.image), as_tensor(sample.photo)).item()
            for fill, sample in zip(fills, samples, strict=True)
        ]
    assert [score.lpips_alex for score in scorer("x", fills)] == pytest.approx(by_hand, abs=1e-5)
    assert min(abs(a - b) for a, b in itertools.combinations(by_hand, 2)) > 1e-3
    some = scorer("x", [fills[0], fills[2]], only=[0, 2])
    assert [score.lpips_alex for score in some] == pytest.approx([by_hand[0], by_hand[2]], abs=1e-5)
    assert [score.photo for score in some] == ["a", "c"]


def test_maps_are_counted_before_and_after_in_each_photos_hole(samples, lpips):
    scorer = Scorer(samples, {"alex": lpips}, CLASSES)
    before, after = fills_of(samples, 2, 10), fills_of(samples, 3, 10)
    for score, sample, old, new in zip(scorer("x", after, before=before), samples, before, after, strict=True):
        known = sample.hole & (sample.truth != IGNORE)
        for found, fill in ((score.before, old), (score.after, new)):
            by_hand = [
                [(known & (sample.truth == i) & (fill.semantic_map == j)).sum() for j in range(CLASSES)]
                for i in range(CLASSES)
            ]
            assert found.tolist() == by_hand
        was, is_ = (fill.semantic_map == sample.truth for fill in (old, new))
        assert (score.fixed, score.broken) == ((known & ~was & is_).sum(), (known & was & ~is_).sum())
        assert score.fixed != score.broken and score.mask_ratio == sample.hole.mean()


def test_each_photo_has_the_mask_of_its_number(tmp_path):
    """Of all photos, however many are scored together, whatever the order that they are asked for in."""
    (tmp_path / "images").mkdir()
    for number in range(19):
        Image.new("RGB", (40, 32), (10 * number, 90, 90)).save(tmp_path / f"images/{number:02d}.png")
    photos = Photos(tmp_path, resolution=32, seed=5)
    holes = {}
    for pair in reversed(photos.pairs):
        holes[pair.stem] = photos.sample(pair, None, None).hole
    for number in range(19):
        expected = evaluation_mask("irregular", 32, 40, number, seed=5)
        assert np.array_equal(holes[f"{number:02d}"], expected)
    ratios = [holes[f"{number:02d}"].mean() for number in range(10)]
    assert all(0.1 + 0.1 * (number % 5) <= ratio <= 0.2 + 0.1 * (number % 5) for number, ratio in enumerate(ratios))


def score_of(photo: str, ratio: float, lpips_alex: float, after: np.ndarray | None = None) -> PhotoScore:
    return PhotoScore(
        photo, "x", ratio, lpips_alex, None, psnr=20 + lpips_alex, ssim=0.5, psnr_hole=10.0,
        before=after, after=after, fixed=None if after is None else 1, broken=None if after is None else 0,
    )  # fmt: skip


def test_masks_of_a_round_share_are_in_the_bin_above():
    ratios = (0.0, 0.1, 0.15, 0.199, 0.2, 0.6, 1.0)
    scores = {"x": [score_of(str(i), ratio, float(i**2)) for i, ratio in enumerate(ratios)]}
    bins = summaries(scores, CITYSCAPES)["x"]["by_mask_ratio"]
    assert {name: (of_bin["n"], of_bin["lpips_alex"]) for name, of_bin in bins.items()} == {
        "0-10%": (1, 0), "10-20%": (3, 14 / 3), "20-30%": (1, 16), "60-100%": (2, 30.5),
    }  # fmt: skip


def test_methods_are_compared_photo_by_photo():
    """By name, on those that both have scores of; in whatever order these are."""
    generator = np.random.default_rng(0)
    confusions = [generator.integers(0, 50, (2, 2)) for _ in range(8)]
    theirs = [score_of(str(i), 0.2, 1.0 + i, confusions[i]) for i in range(8)]
    ours = [score_of(str(i), 0.2, 0.9 * (1.0 + i), confusions[i]) for i in (5, 0, 7, 2, 3)]
    compared = comparison(ours, theirs, seed=0)
    assert compared["lpips_alex"]["relative"] == pytest.approx(-0.1) and compared["lpips_alex"]["n"] == 5
    assert compared["lpips_alex"]["ci95"] == pytest.approx([-0.1, -0.1])  # of each photo a tenth less
    assert compared["miou_hole_after"] == {"relative": 0, "ci95": [0, 0], "n": 5}  # the same maps of the same photos
    assert compared["lpips_vgg"] is None


def test_photos_without_labelled_pixels_in_their_holes_do_not_count_in_maps():
    """Else a resample may draw these alone, of which there is no mIoU."""
    some, none = np.eye(CLASSES, dtype=int) * 5, np.zeros((CLASSES, CLASSES), int)
    worse = some + 1
    a, b = ([score_of(str(i), 0.1, 0.2, kind if i < 3 else none) for i in range(60)] for kind in (some, worse))
    found = comparison(a, b, 0)
    assert found["miou_hole_after"]["n"] == 3 and np.isfinite(found["miou_hole_after"]["ci95"]).all()
    assert found["lpips_alex"]["n"] == 60


def test_methods_that_share_no_photo_are_not_compared():
    assert set(comparison([score_of("a", 0.1, 0.2)], [], 0).values()) == {None}


def test_the_oracle_tells_the_hole_and_nothing_else(samples):
    for sample in samples:
        told = true_map(sample.truth, sample.hole)
        assert np.array_equal(told[sample.hole], sample.truth[sample.hole]) and (told[~sample.hole] == IGNORE).all()


def test_shuffled_maps_are_those_of_the_photo_before():
    """At another size by nearest neighbours: no class is there that the other map does not show."""
    sizes = [(40, 48), (24, 30), (33, 70)]
    pairs = zip(sizes, (0, 3, 8), (9, 13, 18), strict=True)
    maps = [np.kron([[a, b], [b, a]], np.ones(size)).astype(np.uint8) for size, a, b in pairs]
    holes = [np.zeros((60, 80), bool) for _ in range(3)]
    for number, hole in enumerate(holes):
        hole[10 + number : 50, 5 : 70 - number] = True
    for spare, first in ((None, {8, 18}), (np.full((20, 20), 5, np.uint8), {5})):
        shuffled = shuffled_maps(["a", "b", "c"], holes, maps, spare)
        for told, hole, shown in zip(shuffled, holes, (first, {0, 9}, {3, 13}), strict=True):
            assert set(np.unique(told[hole])) == shown and (told[~hole] == IGNORE).all() and told.shape == hole.shape


def test_a_control_leaves_the_model_alone():
    pipe = quiet_pipeline(make_tiny_networks())
    control = guided_by(pipe, "unidirectional")
    assert control.networks.variant == control.config.variant == "unidirectional"
    assert pipe.networks.variant == pipe.config.variant == "feedback"
    assert control.segmenter is pipe.segmenter
