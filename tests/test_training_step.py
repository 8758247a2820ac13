"""The wiring of a training step: who is teacher, who is taught, what each loss is of."""

import pytest
import torch
from torch.nn import functional as F

from fbinpaint.data.photos import Batch
from fbinpaint.models.layers import one_hot
from fbinpaint.training import step
from fbinpaint.training.distribution_alignment import DistributionAlignment
from fbinpaint.training.edits import RIGHT, Edits
from fbinpaint.training.losses import recognition_loss
from fbinpaint.training.semi_supervised import STRATEGIES, draw_recolouring, recolour
from fbinpaint.training.step import TrainingModule

from .conftest import make_tiny_networks

NO_EDITS = Edits(torch.zeros(4, 64, 64, dtype=torch.bool), torch.full((4,), RIGHT))


def batch_of_four(unlabelled: int = 0) -> Batch:
    """Different photos, labels and holes; the last photos have no label."""
    generator = torch.Generator().manual_seed(0)
    blocks = torch.randint(0, 19, (4, 8, 8), generator=generator)
    labels = blocks.repeat_interleave(8, 1).repeat_interleave(8, 2)
    labels[4 - unlabelled :] = 255
    mask = torch.zeros(4, 1, 64, 64)
    for photo, (top, left) in enumerate(((0, 0), (8, 24), (30, 10), (16, 40))):
        mask[photo, :, top : top + 28, left : left + 24] = 1
    image = torch.rand(4, 3, 64, 64, generator=generator) * 2 - 1
    return Batch(image, mask, labels, torch.arange(4) < 4 - unlabelled, ("0", "1", "2", "3"))


def learner_of(strategy: str, class_weights: torch.Tensor | None = None) -> TrainingModule:
    weights = torch.ones(19) if class_weights is None else class_weights
    return TrainingModule(make_tiny_networks(), STRATEGIES[strategy], weights, torch.zeros(19) > 0)


def sure_teacher():
    teacher = make_tiny_networks(seed=1).eval()
    with torch.no_grad():
        teacher.segmenter.classify.weight.mul_(60)
    return teacher


def cells_of(pixels: torch.Tensor) -> torch.Tensor:
    """(...,64,64) -> (...,16,16), their centres."""
    return pixels[..., 2::4, 2::4]


def test_the_teacher_says_what_it_sees_in_the_fill():
    """Not the student, who would learn to see what it paints."""
    batch, teacher, learner = batch_of_four(), sure_teacher(), learner_of("supervised")
    outcome, losses = learner(batch, NO_EDITS, teacher, 1)
    hole = F.max_pool2d(batch.mask, 4)[:, 0]
    with torch.no_grad():
        expected, own = (
            recognition_loss(networks.segmenter, outcome.last.image, outcome.target_classes, hole)
            for networks in (teacher, learner.networks)
        )
    torch.testing.assert_close(losses.recognition.detach(), expected)
    assert (expected - own).abs() > 0.1


def batch_of_eight() -> Batch:
    """Two labelled photos, one without a label, one of which four tenths are labelled, one of which six are, and three
    without."""
    four = batch_of_four()
    image, mask = (torch.cat([x, x.flip(0).roll(9, -1)]) for x in (four.image, four.mask))
    labels = torch.cat([four.labels, four.labels.flip(0)])
    labels[2] = labels[5:] = 255
    labels[3, 26:] = labels[4, 38:] = 255
    return Batch(image, mask, labels, torch.ones(8) > 0, tuple("01234567"))


def test_a_mixture_is_labelled_as_it_is_mixed():
    """Each hole of a photo with few labels shows the one a quarter of the batch away, with that one's labels,
    pseudo-labels and trust."""
    batch, teacher, learner = batch_of_eight(), sure_teacher(), learner_of("fixmatch")
    target = learner.target(batch, teacher)
    chosen = [2, 3, 5, 6, 7]
    mixed, distribution, trust = ([] for _ in range(3))
    for photo in chosen:
        other, where, cells = photo - 2, batch.mask[photo] > 0, cells_of(batch.mask[photo]) > 0
        mixed.append(torch.where(where, batch.image[other], batch.image[photo]))
        distribution.append(torch.where(cells, target.distribution[other], target.distribution[photo]))
        trust.append(torch.where(cells[0], target.trust[other], target.trust[photo]))
    distribution, trust = torch.stack(distribution), torch.stack(trust)
    assert not trust.bool().all() and target.trust[5:].any()  # of some pseudo-labels the teacher is sure
    with torch.no_grad():
        seen = learner.networks.segmenter(torch.stack(mixed), torch.zeros(5, 1, 64, 64)).logits.log_softmax(1)
        expected, unswapped = (
            (t * -(d * seen).sum(1)).mean()
            for d, t in ((distribution, trust), (target.distribution[chosen], target.trust[chosen]))
        )
        _, found = learner.losses_of_intact(batch, target, None)
        torch.testing.assert_close(found, expected)
    assert (unswapped - expected).abs() > 1e-4


def test_what_is_labelled_teaches_the_same_by_every_strategy():
    """No photo needs a strong view then, and none that is missing counts as one that teaches nothing."""
    batch, teacher = batch_of_four(), sure_teacher()
    losses = [learner_of(name)(batch, NO_EDITS, teacher, 1)[1].semantic for name in STRATEGIES]
    assert all(torch.equal(loss, losses[0]) for loss in losses)


def test_photos_are_recoloured_each_in_its_own_way():
    """Half as bright; of half the contrast; in grey; blurred; as it is; half as colourful."""
    image = 0.7 * torch.cat([batch_of_four().image, batch_of_four().image[:2]])
    image[1] = (image[1] - 0.4).clamp(-1)
    dark, flat, grey, blurred, same, pale = recolour(
        image,
        torch.tensor(
            [[0.5, 1, 1, 0, 0], [1, 0.5, 1, 0, 0], [1, 1, 0, 1, 0], [1, 1, 1, 0, 1], [1, 1, 1, 0, 0], [1, 1, 0.5, 0, 0]]
        ),
    )
    luma = torch.tensor([0.2989, 0.587, 0.114])[:, None, None]
    torch.testing.assert_close(dark + 1, (image[0] + 1) / 2)
    middle = (image[1] * luma).sum(0).mean()
    torch.testing.assert_close(flat, middle + (image[1] - middle) / 2, atol=1e-3, rtol=0)
    torch.testing.assert_close(pale, (image[5] + (image[5] * luma).sum(0)) / 2, atol=1e-3, rtol=0)
    torch.testing.assert_close(grey, grey[:1].expand(3, -1, -1))
    assert blurred.std() < 0.5 * image[3].std() and abs(blurred.mean() - image[3].mean()) < 0.02
    torch.testing.assert_close(same, image[4])


def test_hues_turn_and_greys_stay():
    """A third of the way, what was red is green and what was blue is red."""
    colour = torch.tensor([0.8, -0.2, 0.1])[None, :, None, None].expand(2, 3, 8, 8)
    turned, back = recolour(colour, torch.tensor([[1, 1, 1, 2 * torch.pi / 3, 0], [1, 1, 1, 2 * torch.pi, 0]]))
    torch.testing.assert_close(turned, colour[0, [2, 0, 1]])
    torch.testing.assert_close(back, colour[1])
    grey = torch.rand(1, 1, 8, 8).expand(1, 3, 8, 8)
    recoloured = recolour(grey, torch.tensor([[1, 1, 1.4, 0.5, 0]]))
    torch.testing.assert_close(recoloured, grey, atol=1e-3, rtol=0)


@pytest.mark.parametrize("alone", [False, True])
def test_mixtures_are_shown_in_other_colours(alone, monkeypatch):
    """Each of its own, in a step of all networks and in one of the segmenter alone."""
    batch, learner, seen = batch_of_eight(), learner_of("cutmix"), []
    monkeypatch.setattr(step, "recolour", lambda *given: seen.append(given) or recolour(*given))
    recolouring = draw_recolouring(8, torch.Generator().manual_seed(0))
    if alone:
        learner.networks.requires_grad_(False).segmenter.requires_grad_(True)
    edits = Edits(torch.zeros(8, 64, 64, dtype=torch.bool), torch.full((8,), RIGHT))
    darker = recolouring * torch.tensor([0.5, 1, 1, 1, 1])
    found, others = (learner(batch, edits, sure_teacher(), 1, recolouring=x)[1].semantic for x in (recolouring, darker))
    (mixed, own), _ = seen
    assert torch.equal(own, recolouring[[2, 3, 5, 6, 7]]) and mixed.shape == (5, 3, 64, 64)
    assert abs(found - others) > 1e-5
    seen.clear()
    learner_of("fixmatch")(batch, edits, sure_teacher(), 1)  # in its own colours
    assert not seen and STRATEGIES["cutmix"].recoloured


def test_recolouring_is_exact_under_autocast():
    image, recolouring = batch_of_four().image, draw_recolouring(4, torch.Generator().manual_seed(1))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(recolour(image, recolouring), recolour(image, recolouring).float())
        under = recolour(image, recolouring)
    assert torch.equal(under, recolour(image, recolouring))


def test_recolourings_are_drawn_within_bounds():
    """One photo in five is grey, one in two blurred."""
    drawn = draw_recolouring(4000, torch.Generator().manual_seed(0))
    brightness, contrast, saturation, angle, blur = drawn.T
    for factor in (brightness, contrast, saturation[saturation > 0]):
        assert 0.5 <= factor.min() < 0.51 and 1.49 < factor.max() <= 1.5
    assert abs((saturation == 0).float().mean() - 0.2) < 0.03 and abs((blur > 0).float().mean() - 0.5) < 0.03
    assert 0.6 < angle.abs().max() < 0.63 and abs(angle.mean()) < 0.02 and 0.99 < blur.max() <= 1
    assert torch.equal(drawn, draw_recolouring(4000, torch.Generator().manual_seed(0)))


def test_a_segmenter_that_learns_alone_is_taught_on_first_fills_and_nothing_is_painted():
    batch, learner = batch_of_four(), learner_of("supervised")
    networks = learner.networks
    for network in (networks.initial_inpainter, networks.recorrector, networks.guided_inpainter):
        network.requires_grad_(False)
    networks.guided_inpainter.forward = networks.guided_inpainter.prepare = None  # to be called by nobody
    outcome, losses = learner(batch, NO_EDITS, sure_teacher(), 2)
    assert outcome is None and not any((losses.initial, losses.reconstruction, losses.colour, losses.recognition))
    with torch.no_grad():
        fill = networks.initial_inpainter(batch.image * (1 - batch.mask), batch.mask).image
        fill = torch.where(batch.mask > 0, fill, batch.image)
        labels, hole = cells_of(batch.labels), F.max_pool2d(batch.mask, 4)[:, 0]
        filled, intact = (
            F.cross_entropy(networks.segmenter(image, mask).logits, labels, reduction="none")
            for image, mask in ((fill, batch.mask), (batch.image, torch.zeros_like(batch.mask)))
        )
    weight = torch.where(hole > 0, 1.0, 0.25)
    expected = (intact.mean() + (filled * weight).sum() / weight.sum()) / 2
    torch.testing.assert_close(losses.semantic.detach(), expected)
    losses.semantic.backward()
    assert networks.segmenter.classify.weight.grad.abs().sum() > 0


def test_a_segmenter_that_learns_alone_sees_in_fills_what_a_distilled_model_sees():
    batch, learner, other = batch_of_four(), learner_of("supervised"), make_tiny_networks(seed=7).eval()
    networks = learner.networks.requires_grad_(False)
    networks.segmenter.requires_grad_(True)
    _, losses = learner(batch, NO_EDITS, sure_teacher(), 2, distilled=other)
    with torch.no_grad():
        fill = networks.initial_inpainter(batch.image * (1 - batch.mask), batch.mask).image
        fill = torch.where(batch.mask > 0, fill, batch.image)
        intact = networks.segmenter(batch.image, torch.zeros_like(batch.mask)).logits
        wanted, seen = (network.segmenter(fill, batch.mask).logits for network in (other, networks))
        filled = F.cross_entropy(seen, wanted.softmax(1), reduction="none")
    weight = torch.where(F.max_pool2d(batch.mask, 4)[:, 0] > 0, 1.0, 0.25)
    of_intact = F.cross_entropy(intact, cells_of(batch.labels))
    torch.testing.assert_close(losses.semantic.detach(), (of_intact + (filled * weight).sum() / weight.sum()) / 2)


def test_the_mixture_is_of_strategies_with_a_strong_view_alone():
    batch, teacher = batch_of_four(unlabelled=2), sure_teacher()
    for name, strategy in STRATEGIES.items():
        learner = learner_of(name)
        losses = learner.losses_of_intact(batch, learner.target(batch, teacher), None)
        assert len(losses) == 1 + strategy.strong_view


def test_what_the_teacher_is_not_sure_of_is_no_class_of_the_fill():
    """It teaches maps, but neither discriminator nor edits are told the likeliest class."""
    batch, teacher = batch_of_four(unlabelled=2), make_tiny_networks(seed=1).eval()
    for name in ("mean_teacher", "cutmix"):
        learner = learner_of(name)
        outcome, _ = learner(batch, NO_EDITS, teacher, 0)
        assert learner.target(batch, teacher).trust.all()
        assert torch.equal(outcome.classes, cells_of(batch.labels))


def test_intact_photos_teach_the_segmenter_their_labels():
    """Those with the most labels, seen without a hole."""
    batch, learner = batch_of_four(unlabelled=2), learner_of("supervised")
    (loss,) = learner.losses_of_intact(batch, learner.target(batch, sure_teacher()), None)
    with torch.no_grad():
        intact, filled = (
            F.cross_entropy(learner.networks.segmenter(batch.image[:2], mask).logits, cells_of(batch.labels[:2]))
            for mask in (torch.zeros(2, 1, 64, 64), batch.mask[:2])
        )
    torch.testing.assert_close(loss.detach(), intact)
    assert (intact - filled).abs() > 1e-4


def test_maps_are_taught_in_the_hole_above_all():
    """A known cell counts a quarter in the segmenter's maps, and not at all in corrected ones, whose classes are
    weighed."""
    balance = torch.linspace(0.5, 3, 19)
    batch, learner = batch_of_four(), learner_of("supervised", balance)
    target, seen = learner.target(batch, sure_teacher()), []
    usual = learner.losses_of_maps
    learner.losses_of_maps = lambda *arguments: seen.append((arguments, usual(*arguments))) or seen[-1][1]
    learner(batch, NO_EDITS, sure_teacher(), 1)
    (((rounds, _, hole, _), losses),) = seen
    labels = cells_of(batch.labels)

    def expected(log_probabilities: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        loss = F.nll_loss(log_probabilities, labels, reduction="none")
        return (loss * weight).sum() / weight.sum()

    assert torch.equal(hole, F.max_pool2d(batch.mask, 4)[:, 0]) and torch.equal(target.labels, labels)
    everywhere = torch.where(hole > 0, 1.0, 0.25)
    by_hand = [
        expected(rounds[0].logits.log_softmax(1), everywhere),
        expected((rounds[1].newest + 1e-6).log(), everywhere),
        expected((rounds[1].probabilities + 1e-6).log(), hole * balance[labels]),
    ]
    assert len(losses) == 3
    for loss, wanted in zip(losses, by_hand, strict=True):
        torch.testing.assert_close(loss, wanted)


def test_sharpening_takes_the_fill_for_known():
    """The fill at half its size and back is what the first network is shown, as if there were no hole."""
    batch, learner, shown = batch_of_four(), learner_of("supervised"), []
    learner.networks.initial_inpainter.register_forward_pre_hook(lambda _, inputs: shown.append(inputs))
    plain, _ = learner(batch, NO_EDITS, sure_teacher(), 0)
    learner(batch, NO_EDITS, sure_teacher(), 0, refine=True)
    picture, mask = shown[-1]
    halved = F.avg_pool2d(plain.last.image.detach(), 2)
    enlarged = F.interpolate(halved, scale_factor=2, mode="bicubic").clamp(-1, 1)
    torch.testing.assert_close(picture, torch.where(batch.mask > 0, enlarged, batch.image))
    assert mask.shape == batch.mask.shape and not mask.any()


def test_rare_classes_are_raised_in_pseudo_labels():
    batch, teacher = batch_of_four(unlabelled=4), sure_teacher()
    floor = DistributionAlignment(torch.arange(19) == 7)
    plain = {name: STRATEGIES[name].pseudo_labels(teacher, batch, floor) for name in STRATEGIES}
    floor.offset[7] = 4.0
    raised = {name: STRATEGIES[name].pseudo_labels(teacher, batch, floor) for name in STRATEGIES}
    for name in ("cisc", "cutmix", "fixmatch", "mean_teacher"):
        (before, _), (after, _) = plain[name], raised[name]
        assert after[:, 7].mean() > before[:, 7].mean() + 0.01
    torch.testing.assert_close(raised["mean_teacher"][0], floor(plain["mean_teacher"][0]), atol=1e-4, rtol=1e-3)


def test_a_class_that_is_named_too_often_is_not_lowered():
    """It is left as it is, and raised at once when it is forgotten later."""
    labels = torch.zeros(2, 64, 64, dtype=torch.int64)
    labels[0, :4], labels[1] = 1, 255
    batch = Batch(torch.zeros(2, 3, 64, 64), torch.ones(2, 1, 64, 64), labels, torch.tensor([True, False]), ("a", "b"))
    floor = DistributionAlignment(torch.tensor([False, True]))
    everywhere, nowhere = (one_hot(torch.full((2, 16, 16), label), 2) * 0.9 + 0.05 for label in (1, 0))
    for _ in range(100):
        floor.count(everywhere, batch)
        floor.move()
    assert not floor.offset.any() and floor.named_share[1] > floor.labelled_share[1]
    for _ in range(200):
        floor.count(nowhere, batch)
        floor.move()
    assert floor.offset[1] > 0 and floor.offset[0] == 0
