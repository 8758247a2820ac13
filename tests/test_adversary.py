"""What the discriminator is shown, what it is told, and which of both sides learns from a loss."""

import copy
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from torch.nn import functional as F

from fbinpaint.data.photos import Batch
from fbinpaint.models.layers import one_hot
from fbinpaint.training.adversary import Adversary

from .conftest import make_tiny_networks


@pytest.fixture
def adversary() -> Adversary:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Adversary(Accelerator(), make_tiny_networks().segmenter.encoder, 19, learning_rate=1e-3)


@pytest.fixture
def given(adversary) -> SimpleNamespace:
    """Three photos with their fills. Into the second and third other classes were drawn than they show; of the third
    nobody knows in its right half what it shows."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return (torch.rand(shape, generator=generator) * 2 - 1).to(adversary.accelerator.device)

    mask = torch.zeros(3, 1, 64, 64)
    mask[:, :, 8:40, 16:48] = 1
    classes = torch.randint(0, 19, (3, 16, 16), generator=generator)
    told, edited_mask = classes.clone(), torch.zeros(3, 1, 64, 64, dtype=torch.bool)
    edited_mask[1:, :, 16:32, 16:48] = True
    told[1:, 4:8, 4:12] = (classes[1:, 4:8, 4:12] + 1) % 19
    classes[2, :, 8:] = 255
    image, fill, wanted = draw(3, 3, 64, 64), draw(3, 3, 64, 64).requires_grad_(), draw(3, 3, 64, 64)
    mask, classes, told, edited_mask = (x.to(image.device) for x in (mask, classes, told, edited_mask))
    batch = Batch(image, mask, torch.zeros(3, 64, 64, dtype=torch.int64), torch.ones(3, dtype=torch.bool), ("a",) * 3)
    last, mismatched = SimpleNamespace(image=fill), torch.tensor([1, 2]).to(image.device)
    outcome = SimpleNamespace(last=last, classes=classes, target_classes=told, edited_mask=edited_mask)
    return SimpleNamespace(batch=batch, outcome=outcome, wanted=wanted, mismatched=mismatched)


def hole_at(score: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return F.adaptive_avg_pool2d(mask, score.shape[-2:])


def mean_under(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return (x * weight).sum() / weight.sum()


def test_the_generator_is_judged_as_what_was_drawn(adversary, given):
    """And learns from it, while the discriminator does not."""
    fill, mask, told = given.outcome.last.image, given.batch.mask, one_hot(given.outcome.target_classes, 19)
    features = adversary.encoder_features(fill)
    hinge, matching = adversary.generator_losses(mask, given.outcome, features, given.wanted)
    scores, seen = adversary.discriminator(fill, mask, features, told)
    expected = sum(-mean_under(score, hole_at(score, mask)) for score in scores) / 4
    torch.testing.assert_close(hinge, expected)
    wanted = adversary.discriminator.look(given.wanted, mask)
    torch.testing.assert_close(matching, sum((a - b).abs().mean() for a, b in zip(seen, wanted, strict=True)) / 3)
    assert matching > 0.01
    (hinge + matching).backward()
    assert fill.grad.flatten(1).any(1).all()
    parameters = list(adversary.discriminator.parameters())
    assert all(p.grad is None and p.requires_grad for p in parameters)
    assert all(p.grad is None for p in adversary.encoder.parameters())


def test_the_discriminator_learns_photos_fills_and_photos_that_are_not_what_was_drawn(adversary, given):
    fill, mask, mismatched = given.outcome.last.image, given.batch.mask, given.mismatched
    features = adversary.encoder_features(fill)
    before = copy.deepcopy(adversary.discriminator)
    loss = adversary.learn(given.batch, given.outcome, features, mismatched, step=1)
    image = given.batch.image
    real_features = adversary.encoder_features(image)
    classes, told = one_hot(given.outcome.classes, 19), one_hot(given.outcome.target_classes, 19)
    of_real, _ = before(image, mask, real_features, classes)
    of_fill, _ = before(fill, mask, features, told)
    some = [level[mismatched] for level in real_features]
    of_mistold, _ = before(image[mismatched], mask[mismatched], some, told[mismatched])
    # Where nobody knows what the photo shows, it may be what was drawn.
    wrong = given.outcome.edited_mask[mismatched].float()
    wrong[1, :, :, 32:] = 0
    expected = 0
    for real, fake, other in zip(of_real, of_fill, of_mistold, strict=True):
        expected += F.relu(1 - real).mean() / 4
        expected += mean_under(F.relu(1 + fake), hole_at(fake, mask)) / 4
        expected += mean_under(F.relu(1 + other), hole_at(other, wrong)) / 4
    torch.testing.assert_close(loss.detach(), expected.detach())
    pairs = zip(before.parameters(), adversary.discriminator.parameters(), strict=True)
    assert not all(torch.equal(a, b) for a, b in pairs)
    assert fill.grad is None  # the fill learns nothing from this


def test_the_discriminator_comes_to_tell_photos_from_fills(adversary, given):
    image, fill, mask = given.batch.image, given.outcome.last.image, given.batch.mask
    for step in range(16):  # the first is penalised
        adversary.learn(given.batch, given.outcome, adversary.encoder_features(fill.detach()), given.mismatched, step)
    with torch.no_grad():
        told, classes = one_hot(given.outcome.target_classes, 19), one_hot(given.outcome.classes, 19)
        of_real, _ = adversary.discriminator(image, mask, adversary.encoder_features(image), classes)
        of_fill, _ = adversary.discriminator(fill, mask, adversary.encoder_features(fill), told)
    for real, fake in zip(of_real, of_fill, strict=True):
        assert mean_under(real, hole_at(real, mask)) > mean_under(fake, hole_at(fake, mask)) + 0.1
