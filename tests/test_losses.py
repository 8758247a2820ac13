"""Losses on numbers one can check by hand."""

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from fbinpaint.errors import InputError
from fbinpaint.models.layers import one_hot, upsample_labels
from fbinpaint.training.losses import (
    PerceptualLoss,
    cisc_weight,
    class_balance,
    colour_loss,
    discriminator_hinge_loss,
    feature_matching_loss,
    generator_hinge_loss,
    r1_penalty,
    recognition_loss,
    reconstruction_loss,
    rejection_hinge_loss,
    semantic_loss,
)


def test_reconstruction_weighs_hole_and_known_by_their_own_area():
    target = torch.zeros(1, 3, 4, 4)
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., 0, 0] = 1
    prediction = torch.full_like(target, 0.5)
    prediction[..., 0, 0] = 0.25
    assert reconstruction_loss(prediction, target, mask).item() == pytest.approx(0.5 + 6 * 0.25)


def test_hinge_losses():
    real, fake = torch.tensor([[[[2.0, -3.0]]]]), torch.tensor([[[[0.5, 4.0]]]])
    hole = torch.tensor([[[[1.0, 0.0]]]])
    # Real: only the -3 is wrong, (0 + 1+3)/2; fake: only the hole counts, 1 + 0.5.
    assert discriminator_hinge_loss(real, fake, hole).item() == pytest.approx(2 + 1.5)
    assert discriminator_hinge_loss(torch.full_like(real, 1.0), torch.full_like(fake, -1.0), hole).item() == 0
    assert generator_hinge_loss(fake, hole).item() == -0.5
    assert rejection_hinge_loss(fake, torch.tensor([[[[0.25, 0.75]]]])).item() == pytest.approx(0.25 * 1.5 + 0.75 * 5)
    real, fake = [torch.ones(2), torch.zeros(3)], [torch.zeros(2), torch.full((3,), 3.0, requires_grad=True)]
    assert feature_matching_loss(real, fake).item() == (1 + 3) / 2


def test_r1_is_the_squared_gradient():
    real = torch.rand(2, 3, 4, 4, requires_grad=True)
    assert r1_penalty((2 * real).sum((1, 2, 3)), real).item() == pytest.approx(4 * 48)


def test_semantic_loss_ignores_255_and_weight_zero():
    log_p = torch.log(torch.tensor([0.9, 0.1])).view(1, 2, 1, 1).expand(1, 2, 1, 3)
    labels, weight = torch.tensor([[[0, 255, 1]]]), torch.tensor([[[1.0, 1.0, 0.0]]])
    ones, labelled = torch.ones_like(weight), torch.ones(1, 1, 3, dtype=torch.bool)
    loss = semantic_loss(log_p, one_hot(labels, 2), weight, ones, labelled).item()
    assert loss == pytest.approx(-torch.log(torch.tensor(0.9)).item())
    nothing = one_hot(torch.full_like(labels, 255), 2)
    assert semantic_loss(log_p, nothing, weight, ones, labelled).item() == 0


def test_many_pseudo_labels_do_not_drown_the_few_labels():
    log_p = torch.log(torch.tensor([0.9, 0.1])).view(1, 2, 1, 1).expand(1, 2, 1, 5)
    target = one_hot(torch.tensor([[[0, 1, 1, 1, 1]]]), 2)  # the first is a label
    weight, labelled = torch.ones(1, 1, 5), torch.tensor([[[True, False, False, False, False]]])
    right, wrong = (-torch.log(torch.tensor(p)).item() for p in (0.9, 0.1))
    for trusted in (0, 1, 4):
        # A teacher who is sure of one pixel in four teaches a quarter of what one does who is sure of all.
        trust = torch.tensor([[[1.0] + [1.0] * trusted + [0.0] * (4 - trusted)]])
        loss = semantic_loss(log_p, target, weight, trust, labelled).item()
        assert loss == pytest.approx(right + wrong * trusted / 4)


def test_a_few_unknown_pixels_do_not_drown_the_labels_around_them():
    """A cell with a pseudo-label weighs no more than one with a label, however few there are of the former."""
    log_p = torch.zeros(1, 2, 1, 100).log_softmax(1).requires_grad_()
    target = one_hot(torch.zeros(1, 1, 100, dtype=torch.int64), 2)
    labelled = torch.ones(1, 1, 100, dtype=torch.bool)
    labelled[..., 0] = False
    semantic_loss(log_p, target, torch.ones(1, 1, 100), torch.ones(1, 1, 100), labelled).backward()
    weights = -log_p.grad[0, 0, 0]
    assert 0.9 < weights[0] / weights[1] <= 1 + 1e-6 and weights[1:].sum() == pytest.approx(1)


def test_losses_of_maps_run_under_autocast_of_a_gpu():
    """Which refuses some functions, whatever device their arguments are on."""
    labels, ones = torch.tensor([[[0, 1], [1, 0]]]), torch.ones(1, 2, 2)
    maps = torch.rand(1, 2, 2, 2, dtype=torch.bfloat16)
    torch.set_autocast_enabled("cuda", True)  # torch.autocast("cuda") itself wants a GPU
    try:
        with torch._C._IncludeDispatchKeyGuard(torch._C.DispatchKey.AutocastCUDA):
            with pytest.raises(RuntimeError, match="unsafe to autocast"):
                torch.nn.functional.binary_cross_entropy(maps, maps)
            assert cisc_weight(maps, labels, torch.tensor([True, False])).isfinite().all()
            target, labelled = one_hot(labels, 2), torch.ones(1, 2, 2, dtype=torch.bool)
            assert semantic_loss(maps.softmax(1).log(), target, ones, ones, labelled).isfinite()
    finally:
        torch.set_autocast_enabled("cuda", False)


def test_cisc_weight_is_the_share_of_the_label():
    labels = torch.tensor([[[0, 1, 2]]])
    consistency = torch.tensor([0.7, 0.2, 0.1]).view(1, 3, 1, 1).expand(1, 3, 1, 3)
    weight = cisc_weight(consistency, labels, torch.ones(3, dtype=torch.bool))
    torch.testing.assert_close(weight, torch.tensor([[[0.7, 0.2, 0.1]]]))
    # What no exemplar shows they do not refute.
    weight = cisc_weight(consistency, labels, torch.tensor([True, False, True]))
    torch.testing.assert_close(weight, torch.tensor([[[0.7, 1.0, 0.1]]]))


def test_class_balance_lifts_the_rare():
    weights = class_balance(torch.tensor([900.0, 100.0, 0.0]))
    assert weights[0] < 1 < weights[1] <= weights[2] == 5
    assert weights[1] / weights[0] == pytest.approx(3**0.5)


def test_what_the_map_says_should_be_seen_in_the_hole():
    """A fill that shows what it should costs nothing, one that does not a lot; known and unknown cells do not count."""

    def sees_brightness(fill, mask):  # class 1 where it is bright, a judge that is easy to please
        assert not mask.any()
        return SimpleNamespace(logits=20 * F.avg_pool2d(fill, 4)[:, :2] * torch.tensor([-1.0, 1.0]).view(1, 2, 1, 1))

    classes, hole = torch.zeros(1, 4, 4, dtype=torch.long), torch.zeros(1, 4, 4)
    classes[:, :, 2:], hole[:, :3] = 1, 1
    fill = upsample_labels(classes)[:, None].float().expand(1, 3, 16, 16) * 2 - 1
    assert recognition_loss(sees_brightness, fill, classes, hole) < 1e-6
    wrong = (-fill).clone().requires_grad_()
    loss = recognition_loss(sees_brightness, wrong, classes, hole)
    loss.backward()
    assert loss > 10 and wrong.grad[..., :12, :].any() and not wrong.grad[..., 12:, :].any()
    classes[:, 1:] = 255
    assert recognition_loss(sees_brightness, fill, classes, hole) < 1e-6
    assert recognition_loss(sees_brightness, fill, torch.full_like(classes, 255), hole) == 0


def test_perceptual_loss(vgg_file, tmp_path):
    loss = PerceptualLoss(vgg_file)
    image = torch.rand(1, 3, 32, 32) * 2 - 1
    noisy = (image + 0.3 * torch.randn_like(image)).requires_grad_()
    assert loss(image, image).item() == 0
    loss(noisy, image).backward()
    assert noisy.grad.any() and all(p.grad is None for p in loss.parameters())
    # Files that end at the last layer that is used say the same.
    short = {key: value for key, value in load_file(vgg_file).items() if int(key.split(".")[0]) <= loss.TAPS[-1]}
    assert len(short) < len(load_file(vgg_file))
    save_file(short, tmp_path / "short.safetensors")
    assert torch.equal(PerceptualLoss(tmp_path / "short.safetensors")(noisy, image), loss(noisy, image))
    with pytest.raises(InputError, match="no such file"):
        PerceptualLoss(tmp_path / "missing.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="other.safetensors"):
        PerceptualLoss(tmp_path / "other.safetensors")


@torch.no_grad()
def test_perceptual_loss_is_the_squared_distance_of_unit_features(vgg_file):
    """Of VGG16's, which is shown what it was trained on: colours less ImageNet's mean, over its deviation."""
    loss, generator = PerceptualLoss(vgg_file), torch.Generator().manual_seed(0)
    prediction, target = (torch.rand(2, 3, 32, 32, generator=generator) * 2 - 1 for _ in range(2))
    expected = 0
    for last in (3, 8, 15, 22):
        features = []
        for image in (prediction, target):
            mean, std = (torch.tensor(x).view(3, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
            h = loss.features[: last + 1](((image + 1) / 2 - mean) / std)
            features.append(h / h.square().sum(1, keepdim=True).sqrt())
        expected += (features[0] - features[1]).square().sum(1).mean()
    torch.testing.assert_close(loss(prediction, target), expected)


def test_colour_loss_leaves_texture_alone():
    classes, colours = torch.zeros(1, 2, 8, 8), torch.tensor([[[0.5, 0.5, 0.5], [-0.5, 0.0, 0.5]]])
    classes[:, 0, :, :4], classes[:, 1, :2, 4:] = 1, 1
    flat = torch.einsum("bchw,bck->bkhw", classes, colours)
    checks = 0.2 * (-1.0) ** (torch.arange(8)[:, None] + torch.arange(8))
    assert colour_loss(flat, classes, colours) == 0
    assert colour_loss(flat + checks, classes, colours).item() == pytest.approx(0, abs=1e-6)
    outside = flat.clone()
    outside[..., 2:, 4:] = 9
    assert colour_loss(outside, classes, colours) == 0
    assert colour_loss(flat + 0.1, classes, colours).item() == pytest.approx(0.1)
    half = flat.clone()
    half[..., :4, :4], half[..., 4:, :4] = 0.7, 0.3  # right on average, wrong in either half
    assert colour_loss(half, classes, colours).item() == pytest.approx(0.2 * 32 / 40)
