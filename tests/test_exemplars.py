"""Exemplars: the closed-form discriminant, whose statistics they are, and the layouts of photos that look alike."""

import copy
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from fbinpaint import FeedbackInpaintPipeline
from fbinpaint.cli import main
from fbinpaint.errors import InputError
from fbinpaint.evaluation.controls import control_pipelines
from fbinpaint.images.tensors import pad_to_multiple, to_tensor
from fbinpaint.labels import IGNORE, get_label_space
from fbinpaint.loop import feedback_rounds
from fbinpaint.masks import free_form_mask
from fbinpaint.models import Recorrector
from fbinpaint.models.exemplar_bank import (
    BLOCK,
    FLOOR,
    MAP_SIDE,
    SHRINKAGE,
    Exemplars,
    Statistics,
    adapted_map,
    agreement,
    discriminate,
    from_moments,
    labelled_cells,
    mirrored,
    no_exemplars,
    retrieve_layout,
)
from fbinpaint.models.harmonic_fill import harmonic_fill
from fbinpaint.models.layers import one_hot
from fbinpaint.pipeline.exemplars import (
    SCALES,
    WEIGHTS,
    Fold,
    SeenPhoto,
    look_at,
    make_exemplars,
    own_exemplars,
    resized,
    shown_by,
)
from fbinpaint.pipeline.segmentation import class_probabilities

from .conftest import labelled_scenes, make_tiny_networks

CLASSES, CHANNELS = 4, (7, 5)  # of a pyramid of two levels
NO_MAPS = torch.full((1, MAP_SIDE, MAP_SIDE), IGNORE, dtype=torch.uint8)
AS_IS = torch.arange(CLASSES, dtype=torch.uint8)
FACES = get_label_space("celebamask-hq")
L_EYE, R_EYE = FACES.classes.index("l_eye"), FACES.classes.index("r_eye")


class Gaussians:
    """Classes whose features are Gaussian with one covariance, wide in two directions and narrow in the others.

    The means are apart by some deviations in every direction, so that it is the narrow ones that tell the classes
    apart, and the wide ones that distances are made of.
    """

    def __init__(self, seed: int = 0):
        self.generator = torch.Generator().manual_seed(seed)
        size = sum(CHANNELS)
        rotation = torch.linalg.qr(torch.randn(size, size, generator=self.generator)).Q
        deviations = torch.tensor([6.0, 6.0] + [1.0] * (size - 2))
        self.spread = rotation * deviations
        self.means = torch.randn(CLASSES, size, generator=self.generator) @ self.spread.T

    def draw(self, number: int, sides: int = 24) -> tuple[list[Tensor], Tensor]:
        """A pyramid, strides 4 and 8, of photos of random classes in blocks of 2x2 cells, and their labels."""
        blocks = torch.randint(0, CLASSES, (number, sides, sides), generator=self.generator)
        noise = torch.randn(number, sides, sides, sum(CHANNELS), generator=self.generator)
        features = (self.means[blocks] + noise @ self.spread.T).movedim(-1, 1)
        fine, coarse = features.split(CHANNELS, 1)
        return [in_blocks(fine), coarse], in_blocks(blocks)


def in_blocks(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, -1).repeat_interleave(2, -2)


def cells_of(pyramid: list[Tensor]) -> Tensor:
    """(n,D), one for each block."""
    return torch.cat([pyramid[0][..., ::2, ::2], pyramid[1]], 1).movedim(1, -1).flatten(0, 2)


def statistics_of(*photos: tuple[list[Tensor], Tensor]) -> Statistics:
    statistics = Statistics(CLASSES, sum(CHANNELS))
    for pyramid, labels in photos:
        statistics.add(*labelled_cells(pyramid, labels)[:2])
    return statistics


def exemplars_of(*photos: tuple[list[Tensor], Tensor]) -> Exemplars:
    return statistics_of(*photos).exemplars(NO_MAPS, AS_IS)


def votes_of(pyramid: list[Tensor], exemplars: Exemplars, own: Tensor | None = None) -> Tensor:
    """At the size of the blocks; `own`, the photo's map, is even by default."""
    number, _, height, width = pyramid[1].shape
    own = torch.full((number, CLASSES, height, width), 1 / CLASSES) if own is None else own
    return discriminate(pyramid, own, exemplars)


# ------------------------------------------------------------------------------------------------- the discriminant


def test_the_discriminant_is_that_of_the_textbook():
    world = Gaussians()
    pyramid, labels = world.draw(3)
    x, y = cells_of(pyramid).double(), labels[:, ::2, ::2].flatten()
    means = torch.stack([x[y == c].mean(0) for c in range(CLASSES)])
    scatter = (x - means[y]).T @ (x - means[y]) / len(x)
    inverse = ((1 - SHRINKAGE) * scatter + SHRINKAGE * scatter.diagonal().diag()).inverse()
    prior = torch.bincount(y) / len(y)
    scores = prior.log() + x @ inverse @ means.T - ((means @ inverse) * means).sum(1) / 2
    votes = votes_of(pyramid, exemplars_of((pyramid, labels))).movedim(1, -1).flatten(0, 2)
    torch.testing.assert_close(votes.double(), scores.softmax(1), atol=2e-3, rtol=0)


def test_the_covariance_is_that_of_all_features():
    """Of more than are summed together."""
    generator = torch.Generator().manual_seed(0)
    width = 2 * BLOCK + 5
    cells = torch.randn(700, width, generator=generator) @ torch.randn(width, width, generator=generator) / width**0.5
    classes = torch.arange(700) % 2
    statistics = Statistics(2, width)
    for part in range(2):
        statistics.add(cells[part::2], classes[part::2])
    covariance = statistics.exemplars(NO_MAPS, AS_IS).moments()[2]
    means = torch.stack([cells[classes == number].mean(0) for number in (0, 1)])[classes]
    torch.testing.assert_close(covariance.float(), (cells - means).T @ (cells - means) / 700, atol=1e-3, rtol=1e-3)


def test_the_discriminant_sees_what_the_nearest_mean_does_not():
    """In photos that it was not made of."""
    world = Gaussians()
    exemplars, (pyramid, labels) = exemplars_of(world.draw(6)), world.draw(2)
    truth = labels[:, ::2, ::2].flatten()
    by_discriminant = votes_of(pyramid, exemplars).argmax(1).flatten()
    by_mean = torch.cdist(cells_of(pyramid), exemplars.moments()[1].float()).argmin(1)
    right = [(found == truth).float().mean() for found in (by_discriminant, by_mean)]
    assert right[0] > 0.8 and right[0] > right[1] + 0.2


def test_votes_are_probabilities_at_the_size_of_the_map():
    world = Gaussians()
    exemplars, (pyramid, _) = exemplars_of(world.draw(2)), world.draw(2)
    own = torch.rand(2, CLASSES, 48, 48).softmax(1)  # the finer level's size
    votes = votes_of(pyramid, exemplars, own)
    assert votes.shape == own.shape and votes.amin() >= 0
    torch.testing.assert_close(votes.sum(1), torch.ones(2, 48, 48))
    blocks = votes_of(pyramid, exemplars, own[..., ::2, ::2])
    assert (votes[..., ::2, ::2].argmax(1) == blocks.argmax(1)).float().mean() > 0.5  # between cells they are blended


def test_a_class_that_nobody_shows_keeps_the_maps_share():
    world = Gaussians()
    pyramid, labels = world.draw(2)
    hidden = torch.where(labels == 2, IGNORE, labels)
    own = torch.rand(2, CLASSES, 24, 24).softmax(1)
    votes = votes_of(pyramid, exemplars_of((pyramid, hidden)), own)
    assert torch.equal(votes[:, 2], own[:, 2])
    torch.testing.assert_close(votes.sum(1), torch.ones(2, 24, 24))
    # What it leaves is divided among the others as they are without it.
    known = [c for c in range(CLASSES) if c != 2]
    shares = votes[:, known] / votes[:, known].sum(1, keepdim=True)
    torch.testing.assert_close(shares, votes_of(pyramid, exemplars_of((pyramid, hidden)))[:, known] / 0.75)
    assert torch.equal(shares.argmax(1), votes[:, known].argmax(1))


def test_statistics_of_photo_by_photo_are_those_of_all():
    pyramid, labels = Gaussians().draw(4)
    labels[0, :20] = IGNORE
    one_by_one = exemplars_of(*(([level[i : i + 1] for level in pyramid], labels[i : i + 1]) for i in range(4)))
    at_once = exemplars_of((pyramid, labels))
    assert at_once.counts.sum() == (labels[:, ::2, ::2] != IGNORE).sum()
    for field in fields(Exemplars):
        a, b = (getattr(exemplars, field.name) for exemplars in (one_by_one, at_once))
        assert torch.equal(a, b) if not a.is_floating_point() else torch.allclose(a, b, atol=1e-3, rtol=1e-3)


def test_a_feature_that_never_changes_is_no_evidence():
    world = Gaussians()
    photos = [world.draw(2) for _ in range(2)]
    for pyramid, _ in photos:
        pyramid[0][:, 3] = 5.0
    exemplars = exemplars_of(photos[0])
    assert all(getattr(exemplars, field.name).isfinite().all() for field in fields(Exemplars))
    votes = votes_of(photos[1][0], exemplars)
    assert votes.isfinite().all() and (votes.argmax(1) == photos[1][1][:, ::2, ::2]).float().mean() > 0.8


def segmented_scenes(networks) -> list[tuple[list[Tensor], Tensor]]:
    with torch.no_grad():
        photos = [to_tensor(photo) for photo, _ in labelled_scenes("cityscapes", 8)[5:]]
        outputs = [networks.segmenter(photo, torch.zeros_like(photo[:, :1])) for photo in photos]
    return [(output.pyramid, output.logits.softmax(1)) for output in outputs]


def test_half_precision_hardly_changes_the_votes():
    networks = make_tiny_networks().eval()
    halved = copy.deepcopy(networks.recorrector).half()
    back = copy.deepcopy(halved).float()
    for bank in (halved.bank, back.bank):
        assert all(getattr(bank, field.name).isfinite().all() for field in fields(Exemplars))
        assert torch.equal(bank.counts, networks.recorrector.bank.counts)  # whole numbers stay what they are
    assert halved.bank.weight.dtype == torch.float16 and back.bank.weight.dtype == torch.float32
    for pyramid, own in segmented_scenes(networks):
        votes = votes_of(pyramid, networks.recorrector.bank, own)
        for bank in (halved.bank, back.bank):
            torch.testing.assert_close(votes_of(pyramid, bank, own), votes, atol=0.03, rtol=0)
        of_half = votes_of([level.half() for level in pyramid], halved.bank, own.half())
        assert of_half.dtype == torch.float32  # half would overflow in the sums
        torch.testing.assert_close(of_half, votes, atol=0.03, rtol=0)


@pytest.mark.parametrize("scale", [1e-2, 1e2])
def test_the_units_of_features_do_not_matter(scale):
    """Even in half precision, which could not hold their squares."""
    world = Gaussians()
    pyramid, labels = world.draw(3)
    exemplars = exemplars_of((pyramid, labels))
    scaled = [pyramid[0] * scale, pyramid[1]]
    of_scaled = exemplars_of((scaled, labels))
    votes = votes_of(pyramid, exemplars)
    torch.testing.assert_close(votes_of(scaled, of_scaled), votes, atol=0.01, rtol=0)
    recorrector = make_recorrector(of_scaled).half()
    torch.testing.assert_close(votes_of(scaled, recorrector.bank), votes, atol=0.03, rtol=0)


def make_recorrector(exemplars: Exemplars) -> Recorrector:
    recorrector = Recorrector(num_classes=CLASSES, channels=8, feature_channels=sum(CHANNELS), top_k=4)
    recorrector.set_bank(exemplars)
    return recorrector


# ------------------------------------------------------------------------------------------- somebody else's photos


def as_many(exemplars: Exemplars, cells: float) -> Exemplars:
    """The same statistics, of so many cells."""
    counts, means, covariance = exemplars.moments()
    return from_moments(exemplars.maps, exemplars.mirror, counts * cells / counts.sum(), means, covariance)


def far(a: Exemplars, b: Exemplars) -> float:
    """How far the class means and covariances of two are apart, at most."""
    return max((x - y).abs().max().item() for x, y in zip(a.moments()[1:], b.moments()[1:], strict=True))


def test_many_own_cells_count_for_themselves_and_few_for_little():
    bank, own = exemplars_of(Gaussians(0).draw(3)), exemplars_of(Gaussians(1).draw(3))
    own = replace(own, maps=torch.zeros(3, MAP_SIDE, MAP_SIDE, dtype=torch.uint8))
    apart = far(bank, own)
    distances = [[far(bank.adapted(as_many(own, cells)), x) for x in (bank, own)] for cells in (4, 1e3, 1e8)]
    assert distances[0][0] < 0.02 * apart and distances[2][1] < 0.02 * apart
    assert all(0.2 * apart < distance < 0.8 * apart for distance in distances[1])  # as many as the prior: between them
    assert torch.equal(bank.adapted(own).maps, own.maps) and torch.equal(bank.adapted(own).mirror, own.mirror)


def test_an_adapted_mean_is_the_mean_of_prior_and_own_cells():
    bank, own = exemplars_of(Gaussians(0).draw(3)), as_many(exemplars_of(Gaussians(1).draw(3)), 500)
    (counts, means, _), (own_counts, own_means, _) = bank.moments(), own.moments()
    prior = 1000 * counts / counts.sum()
    wanted = (own_counts[:, None] * own_means + prior[:, None] * means) / (own_counts + prior)[:, None]
    adapted = bank.adapted(own)
    torch.testing.assert_close(adapted.moments()[1], wanted, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(adapted.counts.double(), own_counts + prior, atol=0.5, rtol=0)


def test_a_class_that_one_of_both_shows_is_taken_from_there():
    (pyramid, labels), (own_pyramid, own_labels) = Gaussians(0).draw(3), Gaussians(1).draw(3)
    bank = exemplars_of((pyramid, torch.where(labels == 0, IGNORE, labels)))
    own = exemplars_of((own_pyramid, torch.where(own_labels == 1, IGNORE, own_labels)))
    adapted = bank.adapted(own)
    assert (adapted.counts > 0).all()
    torch.testing.assert_close(adapted.moments()[1][0], own.moments()[1][0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(adapted.moments()[1][1], bank.moments()[1][1], atol=1e-4, rtol=1e-4)
    neither = bank.adapted(exemplars_of((own_pyramid, torch.where(own_labels == 0, IGNORE, own_labels))))
    assert neither.counts[0] == 0 and not neither.weight[0].any()


def test_a_class_that_the_owner_lacks_is_still_known_however_rare():
    bank = exemplars_of(Gaussians(0).draw(3))
    _, means, covariance = bank.moments()
    rare = from_moments(NO_MAPS, AS_IS, torch.tensor([99_900, 40, 30, 30]).double(), means, covariance)
    pyramid, labels = Gaussians(1).draw(1)
    adapted = rare.adapted(exemplars_of((pyramid, torch.zeros_like(labels))))
    assert (adapted.counts > 0).all() and adapted.weight.any(1).all()


def test_adapted_exemplars_know_the_owners_photos_better():
    bank, world = exemplars_of(Gaussians(0).draw(6)), Gaussians(1)
    own, (pyramid, labels) = exemplars_of(world.draw(1)), world.draw(2)
    truth = labels[:, ::2, ::2]
    right = [(votes_of(pyramid, x).argmax(1) == truth).float().mean() for x in (bank, bank.adapted(own))]
    assert right[1] > right[0] + 0.1


@pytest.mark.parametrize("weight", [0.1, 0.6])
def test_the_adapted_map_is_the_logarithmic_pool_of_both(weight):
    world = Gaussians()
    exemplars, (pyramid, _) = exemplars_of(world.draw(3)), world.draw(2)
    own = torch.rand(2, CLASSES, 24, 24).softmax(1)
    votes, no_hole = votes_of(pyramid, exemplars, own) + 1e-4, torch.zeros(2, 1, 24, 24)
    product = (own + 1e-4) ** (1 - weight) * votes**weight
    found = adapted_map(pyramid, own, no_hole, exemplars, [weight, 0.3])
    torch.testing.assert_close(found, product / product.sum(1, keepdim=True), atol=1e-5, rtol=1e-4)
    assert adapted_map(pyramid, own.half(), no_hole, exemplars, [weight, 0.3]).dtype == torch.float16
    assert torch.equal(adapted_map(pyramid, own, no_hole, exemplars, [0, 0.3]), own)
    nothing = adapted_map(pyramid, own, no_hole, no_exemplars(exemplars), [weight, weight])
    torch.testing.assert_close(nothing, own, atol=1e-3, rtol=0)
    half = no_hole.clone()
    half[..., 12:] = 1
    assert torch.equal(adapted_map(pyramid, own, half, exemplars, [weight, 0]), torch.where(half > 0, own, found))
    assert torch.equal(adapted_map(pyramid, own, half, exemplars, [0, weight]), torch.where(half > 0, found, own))


def fold_of(world: Gaussians, right: float) -> Fold:
    """Four photos whose own map gives the true class this share, and knows nothing of what is filled: every third cell.
    """
    fold = Fold(CLASSES, sum(CHANNELS))
    for _ in range(4):
        pyramid, labels = world.draw(1)
        features, classes, _ = labelled_cells(pyramid, labels)
        own = torch.full((len(classes), CLASSES), (1 - right) / (CLASSES - 1)).scatter(1, classes[:, None], right)
        filled = torch.arange(len(classes)) % 3 == 0
        fold.add(SeenPhoto(features, torch.where(filled[:, None], 1 / CLASSES, own), classes, filled, NO_MAPS[0]))
    return fold


def test_the_likeliest_weight_is_that_of_what_the_segmenter_lacks():
    """None beside a segmenter that knows the photos, all that it may have beside one that knows nothing of them."""
    world = Gaussians()
    exemplars = exemplars_of(world.draw(6))
    ignorant, (sure, of_holes) = (fold_of(world, right).log_likelihoods(exemplars) for right in (1 / CLASSES, 0.999))
    for likelihood in (*ignorant, of_holes):
        assert likelihood.argmax() == len(WEIGHTS) - 1 and likelihood.diff().min() > 0
    assert sure.argmax() == 0 and sure.diff().max() < 0


@torch.no_grad()
def test_own_exemplars_are_weighed_on_photos_that_they_do_not_hold():
    networks = make_tiny_networks().eval()
    space, bank = get_label_space("cityscapes"), networks.recorrector.bank
    photos = labelled_scenes("cityscapes", 9)[5:]
    own, weights = own_exemplars(bank, networks.segmenter, space, photos)
    seen = list(look_at(networks.segmenter, photos, SCALES, with_hole=True))

    def of(some: list[SeenPhoto]) -> Exemplars:
        statistics = Statistics(19, bank.means.shape[1])
        for photo in some:
            statistics.add(photo.features, photo.classes)
        return statistics.exemplars(own.maps, own.mirror)

    assert far(own, of(seen)) < 1e-3
    likelihoods = torch.zeros(2, len(WEIGHTS))
    for number, photo in enumerate(seen):  # fewer than folds: each is alone in one
        fold = Fold(19, bank.means.shape[1])
        fold.add(photo)
        others = bank.adapted(of(seen[:number] + seen[number + 1 :]))
        likelihoods += fold.log_likelihoods(others.only(shown_by(own)))
    assert weights == [WEIGHTS[best] for best in likelihoods.argmax(1)] and min(weights) > 0
    alone = own_exemplars(bank, networks.segmenter, space, photos[:1])[1]  # the bank alone speaks of it
    assert len(alone) == 2 and set(alone) <= set(WEIGHTS)


@torch.no_grad()
def test_own_exemplars_are_looked_at_in_two_sizes_as_they_are_and_filled():
    networks = make_tiny_networks().eval()
    photo, ids = labelled_scenes("cityscapes", 6)[5]
    seen, same = (next(look_at(networks.segmenter, [(photo, ids)], SCALES, with_hole=True)) for _ in range(2))
    assert torch.equal(seen.features, same.features)  # the hole is no other the next time
    small = resized(photo, ids, 0.5)
    assert small[0].shape == (24, 32, 3) and small[1].shape == (24, 32)
    as_it_is = [next(look_at(networks.segmenter, [one])) for one in ((photo, ids), small)]
    assert not any(one.filled.any() for one in as_it_is)
    for name in ("features", "probabilities", "classes"):
        wanted = torch.cat([getattr(one, name) for one in as_it_is])
        # Both are seen in one batch, where convolutions may add in another order.
        torch.testing.assert_close(getattr(seen, name)[~seen.filled], wanted, rtol=1e-4, atol=1e-4)
    hole = free_form_mask(MAP_SIDE, MAP_SIDE, np.random.default_rng((0, 0)))
    filled = []
    for pixels, labels in ((photo, ids), small):
        image = pad_to_multiple(to_tensor(pixels), 16)
        labels = pad_to_multiple(torch.from_numpy(labels)[None, None].float(), 16)[:, 0]
        mask = F.interpolate(torch.from_numpy(hole)[None, None].float(), size=image.shape[-2:], mode="nearest-exact")
        fill = harmonic_fill(image * (1 - mask), 1 - mask)
        assert torch.equal(fill * (1 - mask), image * (1 - mask)) and not torch.equal(fill, image)
        segmented = networks.segmenter(fill, mask)
        inside = torch.where(mask[:, 0] > 0, labels, IGNORE).long()
        filled.append(labelled_cells(segmented.pyramid, inside[:, 2::4, 2::4])[:2])
    features, classes = (torch.cat(of_all) for of_all in zip(*filled, strict=True))
    torch.testing.assert_close(seen.features[seen.filled], features, rtol=1e-4, atol=1e-4)
    assert torch.equal(seen.classes[seen.filled], classes)
    assert 0 < len(classes) < (~seen.filled).sum()


def test_own_exemplars_teach_the_maps_of_other_photos(tiny_pipeline):
    """Of intact photos and of filled ones, though no network is trained; a network of random weights knows nothing."""
    pipe, scenes = copy.deepcopy(tiny_pipeline), labelled_scenes("cityscapes", 20)
    pipe.recorrector.set_bank(no_exemplars(pipe.recorrector.bank))
    photos, maps = zip(*scenes[12:], strict=True)
    hole = np.zeros(maps[0].shape, bool)
    hole[10:30, 10:40] = True

    def right() -> list[float]:
        out = pipe(list(photos), [hole] * len(photos), num_feedback_rounds=0, output_type="np")
        found = pipe.segment(list(photos), output_type="np"), out.semantic_before
        return [float(np.mean([(a == b).mean() for a, b in zip(of_all, maps, strict=True)])) for of_all in found]

    before = right()
    pipe.set_exemplars(*zip(*scenes[:12], strict=True))
    assert min(pipe.recorrector.config.exemplar_weights) > 0
    after = right()
    assert all(b > a + 0.2 for a, b in zip(before, after, strict=True))
    bare = control_pipelines(pipe, ["no-exemplars", "random-exemplar"], seed=0)
    assert bare["random-exemplar"].recorrector.config.exemplar_weights == pipe.recorrector.config.exemplar_weights
    pipe = bare["no-exemplars"]
    assert right() == pytest.approx(before, abs=0.02)
    pipe.recorrector.set_bank(pipe.recorrector.bank)
    assert list(pipe.recorrector.config.exemplar_weights) == [0, 0]  # of a bank of training photos


@torch.no_grad()
def test_own_exemplars_are_asked_about_every_fill():
    networks, weights = make_tiny_networks().eval(), [0.4, 0.2]
    scenes, space = labelled_scenes("cityscapes", 4), get_label_space("cityscapes")
    own, _ = own_exemplars(networks.recorrector.bank, networks.segmenter, space, scenes)
    bank = networks.recorrector.bank.adapted(own)
    networks.recorrector.set_bank(bank, weights)
    image, mask = to_tensor(labelled_scenes("cityscapes", 1)[0][0]), torch.zeros(1, 1, 48, 64)
    mask[..., 12:36, 16:40] = 1
    first, second = feedback_rounds(networks, image, mask, 1)
    for fill, found in ((first.initial, first.probabilities), (first.image, second.newest)):
        segmented = networks.segmenter(fill, mask)
        own = segmented.logits.softmax(1)
        hole = F.max_pool2d(mask, 4)
        torch.testing.assert_close(found, adapted_map(segmented.pyramid, own, hole, bank, weights))
        assert not torch.allclose(found, own, atol=0.01)
    torch.testing.assert_close(second.consistency, discriminate(segmented.pyramid, second.newest, bank))
    photo = scenes[0][0]
    seen = networks.segmenter(to_tensor(photo), torch.zeros(1, 1, 48, 64))
    known = adapted_map(seen.pyramid, seen.logits.softmax(1), torch.zeros(1, 1, 12, 16), bank, weights)
    arguments = (networks.segmenter, [photo], space, (64, 48), torch.device("cpu"), networks.recorrector)
    twice = [class_probabilities(*arguments), class_probabilities(arguments[0], [photo[:, ::-1]], *arguments[2:])]
    torch.testing.assert_close(twice[0], twice[1].flip(3))  # no class of streets has sides
    mirrored = networks.segmenter(to_tensor(photo).flip(3), torch.zeros(1, 1, 48, 64))
    other = adapted_map(mirrored.pyramid, mirrored.logits.softmax(1), torch.zeros(1, 1, 12, 16), bank, weights)
    torch.testing.assert_close(twice[0], (known + other.flip(3)) / 2)


def test_exemplars_are_made_of_labelled_photos():
    networks, space = make_tiny_networks("celebamask-hq"), FACES
    (photo, ids), (other, other_ids) = labelled_scenes("celebamask-hq", 2)
    unknown = np.full_like(ids, IGNORE)
    large = np.kron(other, np.ones((2, 2, 1), np.uint8)), np.kron(other_ids, np.ones((2, 2), np.uint8))
    made = make_exemplars(networks.segmenter, space, [(photo, ids), (photo, unknown), large])
    assert made.maps.dtype == torch.uint8 and made.maps.shape == (3, MAP_SIDE, MAP_SIDE)
    assert (made.maps[1] == IGNORE).all()  # what knows nothing keeps its number, and says nothing
    assert np.array_equal(np.unique(made.maps[0]), np.unique(ids))
    assert made.counts.sum() == 6 * 8 + 12 * 16  # every fourth cell
    assert made.mirror[[L_EYE, R_EYE, 0]].tolist() == [R_EYE, L_EYE, 0]
    nothing = make_exemplars(networks.segmenter, space, [(photo, unknown)] * 2)
    assert not nothing.counts.any()
    odd = make_exemplars(networks.segmenter, space, [(photo[:41, :50], ids[:41, :50])])
    assert odd.counts.sum() == 6 * 8 and all(getattr(odd, field.name).isfinite().all() for field in fields(Exemplars))
    with torch.no_grad():
        own = torch.rand(1, 19, 12, 16).softmax(1)
        segmented = networks.segmenter(to_tensor(photo), torch.zeros(1, 1, 48, 64))
        assert torch.equal(votes_of(segmented.pyramid, nothing, own), own)


# ---------------------------------------------------------------------------------------------------------- layouts


@pytest.fixture(scope="module")
def faces() -> Exemplars:
    """The maps of six procedural faces, of no features."""
    maps = torch.from_numpy(np.stack([semantic_map for _, semantic_map in labelled_scenes("celebamask-hq", 6)]))
    maps = F.interpolate(maps[:, None].float(), size=(MAP_SIDE, MAP_SIDE), mode="nearest-exact")[:, 0].to(torch.uint8)
    mirror = torch.from_numpy(FACES.flip(np.arange(19, dtype=np.uint8)))
    return Statistics(19, 4).exemplars(maps, mirror)


def photo_of(semantic_map: Tensor) -> tuple[Tensor, Tensor]:
    """A map (1,19,64,64) that is sure of the known part and of nothing in the hole, and the mask of a photo of 256
    pixels a side whose hole covers the upper half of the face, the eyes among it."""
    mask = torch.zeros(1, 1, 256, 256)
    mask[..., 80:150, 60:200] = 1
    hole = F.max_pool2d(mask, 4)
    return torch.where(hole > 0, torch.full((1, 19, 64, 64), 1 / 19), one_hot(semantic_map[None].long(), 19)), mask


def test_a_layout_is_that_of_the_photo_laid_out_alike(faces):
    for number, semantic_map in enumerate(faces.maps):
        probabilities, mask = photo_of(semantic_map)
        layout = retrieve_layout(probabilities, mask, faces, top_k=1)
        assert layout.nearest.tolist() == [[number]] and torch.equal(layout.maps[0, 0], semantic_map)
        assert torch.equal(layout.probabilities.argmax(1)[0], semantic_map.long())
        torch.testing.assert_close(layout.probabilities.sum(1), torch.ones(1, 64, 64))
        # As sure as an exemplar may be: it does not show everything.
        said = layout.probabilities.gather(1, semantic_map[None, None].long())[F.max_pool2d(mask, 4) > 0]
        torch.testing.assert_close(said, torch.full_like(said, 1 - FLOOR + FLOOR / 19))


def test_a_mirrored_photo_is_found_with_its_sides_exchanged(faces):
    for number, semantic_map in enumerate(faces.maps):
        turned = FACES.flip(semantic_map.flip(-1))
        assert torch.equal(mirrored(faces.maps, faces.mirror)[number], turned)
        layout = retrieve_layout(*photo_of(turned), faces, top_k=1)
        assert layout.nearest.tolist() == [[number]] and torch.equal(layout.maps[0, 0], turned)
        # Whatever the way it looks: their right eye is on the left of the picture.
        found = layout.probabilities.argmax(1)[0]
        columns = [(found == eye).nonzero()[:, 1].float().mean() for eye in (R_EYE, L_EYE)]
        assert columns[0] < columns[1]


def test_mirrored_maps_are_compared_in_the_same_cells(faces):
    maps = torch.randint(0, 19, faces.maps.shape, generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    photo = photo_of(faces.maps[0])
    as_they_are = replace(faces, maps=maps)
    turned = replace(faces, maps=mirrored(maps, faces.mirror))
    found, other = (agreement(*photo, exemplars).chunk(2, 1) for exemplars in (as_they_are, turned))
    assert torch.equal(found[1], other[0]) and torch.equal(found[0], other[1]) and not torch.equal(*found)


def test_unknown_stays_unknown_in_the_mirror(faces):
    maps = faces.maps.clone()
    maps[0, :, :10] = IGNORE
    assert (mirrored(maps, faces.mirror)[0, :, -10:] == IGNORE).all()


def test_what_lies_around_the_hole_counts_most():
    """Of two exemplars one agrees around the hole, the other nearly everywhere else."""
    truth = torch.randint(0, 2, (MAP_SIDE // 2, MAP_SIDE // 2), generator=torch.Generator().manual_seed(0))
    truth = in_blocks(truth).to(torch.uint8)
    around = torch.zeros(MAP_SIDE, MAP_SIDE, dtype=torch.bool)
    around[12:52, 12:52] = True
    maps = torch.stack([torch.where(around, truth, 1 - truth), torch.where(around, 1 - truth, truth)])
    exemplars = Statistics(2, 4).exemplars(maps, torch.arange(2, dtype=torch.uint8))
    mask = torch.zeros(1, 1, 256, 256)
    mask[..., 80:176, 80:176] = 1
    layout = retrieve_layout(one_hot(truth[None].long(), 2), mask, exemplars, top_k=1)
    assert layout.nearest.item() == 0 and torch.equal(layout.maps[0, 0], maps[0])


def test_what_an_exemplar_leaves_unknown_is_no_disagreement():
    """One that knows half of what the photo shows, and is right, is nearer than one that is wrong in places."""
    truth = torch.randint(0, 2, (MAP_SIDE // 2, MAP_SIDE // 2), generator=torch.Generator().manual_seed(0))
    truth = in_blocks(truth).to(torch.uint8)
    half, wrong = truth.clone(), truth.clone()
    half[:, MAP_SIDE // 2 :] = IGNORE
    wrong[::4], wrong[1::4] = 1 - truth[::4], 1 - truth[1::4]
    wrong[:, ::8], wrong[:, 1::8] = truth[:, ::8], truth[:, 1::8]
    exemplars = Statistics(2, 4).exemplars(torch.stack([wrong, half]), torch.arange(2, dtype=torch.uint8))
    mask = torch.zeros(1, 1, 256, 256)
    mask[..., 100:156, 100:156] = 1
    layout = retrieve_layout(one_hot(truth[None].long(), 2), mask, exemplars, top_k=1)
    assert layout.nearest.item() == 1 and torch.equal(layout.maps[0, 0], half)


def test_forbidden_exemplars_are_not_looked_at(faces):
    maps = torch.stack([faces.maps[2], FACES.flip(faces.maps[2].flip(-1)), faces.maps[4]])
    photos = [photo_of(semantic_map) for semantic_map in maps]
    probabilities, mask = (torch.cat(x) for x in zip(*photos, strict=True))
    allowed = torch.ones(3, len(faces), dtype=torch.bool)
    allowed[:2, 2] = False
    layout = retrieve_layout(probabilities, mask, faces, top_k=4, allowed=allowed)
    assert not (layout.nearest[:2] == 2).any()  # nor in the mirror
    assert layout.nearest[2, 0] == 4
    everyone = retrieve_layout(probabilities, mask, faces, top_k=4, allowed=torch.ones_like(allowed))
    assert everyone.nearest[:, 0].tolist() == [2, 2, 4]
    assert torch.equal(everyone.probabilities, retrieve_layout(probabilities, mask, faces, top_k=4).probabilities)


def test_where_few_are_allowed_the_others_stay_forbidden(faces):
    """Though there are fewer than a layout is made of."""
    probabilities, mask = photo_of(faces.maps[2])
    allowed = torch.zeros(1, len(faces), dtype=torch.bool)
    allowed[0, [0, 4]] = True
    layout = retrieve_layout(probabilities, mask, faces, top_k=10, allowed=allowed).probabilities
    of_two = retrieve_layout(probabilities, mask, replace(faces, maps=faces.maps[[0, 4]]), top_k=10).probabilities
    torch.testing.assert_close(layout, of_two)
    nobody = retrieve_layout(probabilities, mask, faces, top_k=10, allowed=torch.zeros_like(allowed)).probabilities
    torch.testing.assert_close(nobody, probabilities)


def test_a_layout_is_the_mean_of_its_exemplars(faces):
    probabilities, mask = photo_of(faces.maps[0])
    for top_k in (3, 50):
        layout = retrieve_layout(probabilities, mask, faces, top_k)
        number = min(top_k, 2 * len(faces))  # each and its mirror image
        assert layout.nearest.shape == (1, number) and layout.maps.shape == (1, number, MAP_SIDE, MAP_SIDE)
        mean = one_hot(layout.maps[0].long(), 19).mean(0)
        torch.testing.assert_close(layout.probabilities[0], (1 - FLOOR) * mean + FLOOR * probabilities[0])


def test_where_an_exemplar_is_unknown_the_photos_own_map_stands_in(faces):
    half = faces.maps[:1].clone()
    half[..., 32:] = IGNORE
    own = one_hot(half.long(), 19)
    own[..., 32:] = torch.rand(1, 19, 64, 32).softmax(1)
    mask = torch.zeros(1, 1, 256, 256)
    mask[..., 60:200, 60:200] = 1
    layout = retrieve_layout(own, mask, replace(faces, maps=half), top_k=1)
    assert torch.equal(layout.maps[0], half)
    torch.testing.assert_close(layout.probabilities, own)
    # Where one of two knows the class, half of it is own.
    layout = retrieve_layout(own, mask, replace(faces, maps=half), top_k=2)
    wanted = (1 - FLOOR) * (one_hot(mirrored(half, faces.mirror).long(), 19) + own) / 2 + FLOOR * own
    torch.testing.assert_close(layout.probabilities[..., 32:], wanted[..., 32:])


def test_a_layout_fits_any_size_and_a_photo_that_is_all_hole(faces):
    own = torch.rand(2, 19, 12, 20).softmax(1)
    for mask in (torch.ones(2, 1, 48, 80), torch.zeros(2, 1, 48, 80)):
        layout = retrieve_layout(own, mask, faces, top_k=4)
        assert layout.probabilities.shape == own.shape and layout.nearest.shape == (2, 4)
        torch.testing.assert_close(layout.probabilities.sum(1), torch.ones(2, 12, 20))
        of_half = retrieve_layout(own.half(), mask.half(), faces, top_k=4).probabilities
        assert of_half.dtype == torch.float32 and of_half.isfinite().all()


def test_no_exemplars_say_what_the_photo_says(faces):
    networks = make_tiny_networks()
    nobody = no_exemplars(networks.recorrector.bank)
    assert len(nobody) == 1 and len(networks.recorrector.bank) == 5
    for pyramid, own in segmented_scenes(networks):
        torch.testing.assert_close(votes_of(pyramid, nobody, own), own)
        mask = torch.zeros(1, 1, 48, 64)
        mask[..., 12:36, 16:40] = 1
        layout = retrieve_layout(own, mask, nobody, top_k=4)
        torch.testing.assert_close(layout.probabilities, own)
        assert not layout.nearest.any() and (layout.maps == IGNORE).all()


def test_exemplars_of_ones_own_are_saved_with_the_pipeline(tiny_pipeline, tmp_path):
    pipe = copy.deepcopy(tiny_pipeline)
    photos, maps = zip(*labelled_scenes("cityscapes", 4), strict=True)
    shown = np.unique(maps)[:3]
    maps = [np.where(np.isin(ids, shown), ids, IGNORE).astype(np.uint8) for ids in maps]  # partial labels will do
    before = pipe.recorrector.bank
    counts = before.counts.clone()
    pipe.set_exemplars(list(photos), maps)
    after = pipe.recorrector.bank
    assert len(after) == 4 and set(after.maps.unique().tolist()) == {*shown.tolist(), IGNORE}
    assert torch.equal(after.counts > 0, counts > 0)  # what the owner's do not show is still known
    pipe.save_pretrained(tmp_path / "own")
    loaded = type(pipe).from_pretrained(tmp_path / "own")
    assert all(torch.equal(value, getattr(loaded.recorrector.bank, name)) for name, value in vars(after).items())
    weights = loaded.recorrector.config.exemplar_weights
    assert weights == pipe.recorrector.config.exemplar_weights and len(weights) == 2 and max(weights) > 0
    assert np.array_equal(loaded.segment(photos[0]), pipe.segment(photos[0]))


@contextmanager
def double_by_default() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("surroundings", [torch.inference_mode, double_by_default, lambda: torch.device("meta")])
def test_exemplars_do_not_depend_on_torchs_settings(tiny_pipeline, surroundings):
    """Nor may others be set afterwards, elsewhere."""
    photos, maps = map(list, zip(*labelled_scenes("cityscapes", 4), strict=True))
    usual, pipe = copy.deepcopy(tiny_pipeline), copy.deepcopy(tiny_pipeline)
    usual.set_exemplars(photos, maps)
    with surroundings():
        pipe.set_exemplars(photos, maps)
    for _ in range(2):
        for name, value in usual.recorrector.named_buffers():
            assert torch.equal(pipe.recorrector.get_buffer(name), value)
        usual.set_exemplars(photos, maps), pipe.set_exemplars(photos, maps)


def test_labels_of_some_classes_say_nothing_of_the_others(tiny_pipeline, tmp_path):
    """Of labels of cars alone nobody can tell what is no car: maps are not to become full of them."""
    pipe, scenes = copy.deepcopy(tiny_pipeline), labelled_scenes("cityscapes", 8)
    photos, maps = zip(*scenes[:6], strict=True)
    alone = [np.where(ids == 2, ids, IGNORE).astype(np.uint8) for ids in maps]
    before = pipe.segment(scenes[7][0], output_type="np")
    pipe.set_exemplars(list(photos), alone)
    assert list(pipe.recorrector.config.exemplar_classes) == [2]
    assert np.array_equal(pipe.segment(scenes[7][0], output_type="np"), before)
    pair = [np.where(np.isin(ids, (2, 10)), ids, IGNORE).astype(np.uint8) for ids in maps]
    pipe.set_exemplars(list(photos), pair)
    assert list(pipe.recorrector.config.exemplar_classes) == [2, 10]
    pyramid = [torch.randn(1, 8, 12, 16)]
    own = torch.rand(1, 19, 12, 16, generator=torch.Generator().manual_seed(0)).softmax(1)
    exemplars = from_moments(NO_MAPS, torch.arange(19, dtype=torch.uint8), *moments_of(19, 8)).only([2, 10])
    voted = discriminate(pyramid, own, exemplars)
    others = [number for number in range(19) if number not in (2, 10)]
    torch.testing.assert_close(voted[:, others], own[:, others])
    torch.testing.assert_close(voted[:, [2, 10]].sum(1), own[:, [2, 10]].sum(1))


def moments_of(num_classes: int, channels: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    means = torch.randn(num_classes, channels, generator=generator).double()
    return torch.full((num_classes,), 50.0).double(), means, torch.eye(channels).double()


@pytest.mark.parametrize("classes", ["[19]", "[-1]", '["car"]', "[true]"])
def test_absurd_classes_of_exemplars_are_refused(tiny_pipeline_dir, tmp_path, classes):
    folder = shutil.copytree(tiny_pipeline_dir, tmp_path / "model")
    config = folder / "recorrector/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"exemplar_classes": json.loads(classes)}))
    with pytest.raises(InputError, match="exemplar_classes"):
        FeedbackInpaintPipeline.from_pretrained(folder)


def test_small_photos_are_exemplars_as_they_are(tmp_path):
    """As the loop sees photos of their size, not enlarged to the one that it works at; by command, too."""
    pipe = FeedbackInpaintPipeline.from_networks(make_tiny_networks(), "cityscapes", sample_size=96)
    pipe.recorrector.set_bank(no_exemplars(pipe.recorrector.bank))
    pipe.save_pretrained(tmp_path / "model")
    photo, ids = labelled_scenes("cityscapes", 1)[0]
    pipe.set_exemplars([photo], [ids])
    # Every fourth of 12x16, and of 8x8: 24 rows are padded to 32; and a part of these once more, filled.
    cells = 6 * 8 + 4 * 4
    assert cells < pipe.recorrector.bank.counts.sum() < 2 * cells
    for name, pixels in (("images", photo), ("labels", ids)):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / "data" / name / "0.png")
    arguments = f"exemplars --model {tmp_path}/model --data {tmp_path}/data --output {tmp_path}/own"
    assert main(arguments.split()) == 0
    saved = Recorrector.from_pretrained(tmp_path / "own", subfolder="recorrector").bank
    assert torch.equal(saved.counts, pipe.recorrector.bank.counts)


@pytest.mark.parametrize(
    "weights",
    ["[1.0, 0.0]", "[0.0, -0.1]", "[NaN, 0.0]", "[0.0, 1e300]", '["0.5", "0"]', "[true, 0.0]", "[]", "[0.0]", "0.5"],
)
def test_absurd_weights_of_exemplars_are_refused(tiny_pipeline_dir, tmp_path, weights):
    shutil.copytree(tiny_pipeline_dir / "recorrector", tmp_path / "recorrector")
    config = tmp_path / "recorrector" / "config.json"
    settings = json.loads(config.read_text())
    assert settings["exemplar_weights"] == [0, 0]
    config.write_text(json.dumps(settings | {"exemplar_weights": json.loads(weights)}))
    with pytest.raises(InputError, match="exemplar_weights") as refused:
        Recorrector.from_pretrained(tmp_path / "recorrector")
    assert "\n" not in str(refused.value)


def one_dot(ids: np.ndarray) -> np.ndarray:
    """Of a map all but one pixel unknown."""
    dot = np.full_like(ids, IGNORE)
    dot[20, 21] = 3
    return dot


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda photos, maps: ([], []), "0 exemplars"),
        (lambda photos, maps: (photos, maps[:1]), "2 exemplars, 1 semantic maps"),
        (lambda photos, maps: (photos, [np.full_like(ids, IGNORE) for ids in maps]), "know next to nothing"),
        (lambda photos, maps: (photos, [one_dot(ids) for ids in maps]), "know next to nothing"),  # between the cells
        (lambda photos, maps: (photos, [ids + 200 for ids in maps]), "2"),
        (lambda photos, maps: (photos, [ids.T for ids in maps]), "is 48x64, the photo 64x48"),
    ],
)
def test_exemplars_that_do_not_fit_are_refused(tiny_pipeline, change, said):
    pipe = copy.deepcopy(tiny_pipeline)
    before = pipe.recorrector.bank.maps.clone()
    photos, maps = change(*map(list, zip(*labelled_scenes("cityscapes", 2), strict=True)))
    with pytest.raises(InputError, match=said):
        pipe.set_exemplars(photos, maps)
    assert torch.equal(pipe.recorrector.bank.maps, before)


def test_the_command_makes_a_copy_that_consults_ones_own(tiny_pipeline_dir, street_folder, tmp_path, capsys):
    output = tmp_path / "mine"
    arguments = ["exemplars", "--model", str(tiny_pipeline_dir), "--data", str(street_folder)]
    assert main([*arguments, "--output", str(output)]) == 0
    assert "with 12 exemplars" in capsys.readouterr().out
    mine, theirs = (FeedbackInpaintPipeline.from_pretrained(folder) for folder in (output, tiny_pipeline_dir))
    assert len(mine.recorrector.bank) == 12 != len(theirs.recorrector.bank)
    for name in ("initial_inpainter", "segmenter", "guided_inpainter"):
        file = f"{name}/diffusion_pytorch_model.safetensors"
        assert (output / file).read_bytes() == (tiny_pipeline_dir / file).read_bytes()
    theirs.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    arguments[2] = str(tmp_path / "shards")
    assert main([*arguments, "--output", str(tmp_path / "of-shards")]) == 0
    same = FeedbackInpaintPipeline.from_pretrained(tmp_path / "of-shards").recorrector.bank
    assert torch.equal(same.means, mine.recorrector.bank.means)
    assert main([*arguments, "--output", str(output)]) == 1
    assert "is there already" in capsys.readouterr().err
    assert main([*arguments, "--output", "/proc/mine"]) == 1
    said = capsys.readouterr().err  # and no progress bar
    assert said.startswith("error: /proc: cannot be written to") and said.count("\n") == 1
    bare = tmp_path / "bare"
    shutil.copytree(street_folder / "images", bare / "images")
    other = ["--data", str(bare), "--output", str(tmp_path / "x")]
    assert main(["exemplars", "--model", str(tiny_pipeline_dir), *other]) == 1
    assert "no labelled photo" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
    (bare / "labels").mkdir()
    first = sorted(path.name for path in (bare / "images").iterdir())[0]
    shutil.copy(bare / "images" / first, bare / "labels" / first)
    assert main(["exemplars", "--model", str(tiny_pipeline_dir), *other]) == 1
    last = capsys.readouterr().err.splitlines()[-1]  # below the progress bar
    assert last.startswith(f"error: {bare}/labels/{first}: not an index image")
