from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fbinpaint.errors import InputError
from fbinpaint.evaluation import metrics

BUNDLED = Path(metrics.__file__).parents[1] / "weights" / "alexnet_features.safetensors"


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """A smooth image and a noisy copy, (1,3,64,64) in [0,255], whole levels."""
    generator = np.random.default_rng(0)
    smooth = cv2.resize(generator.uniform(0, 255, (8, 8, 3)), (64, 64), interpolation=cv2.INTER_LINEAR)
    noisy = np.clip(smooth + generator.normal(0, 20, smooth.shape), 0, 255)
    return tuple(torch.from_numpy(image.round()).permute(2, 0, 1)[None].float() for image in (smooth, noisy))


def test_psnr_is_the_textbook_value(pair):
    a, b = pair
    expected = 10 * torch.log10(255**2 / ((a - b) ** 2).mean())
    assert metrics.psnr(a, b).item() == pytest.approx(expected.item(), abs=1e-3)
    assert metrics.psnr(a, a).item() == metrics.PSNR_CEILING


def test_scores_are_per_image(pair):
    a, b = pair
    batch = torch.cat([a, b]), torch.cat([a, a])
    assert metrics.psnr(*batch).tolist() == pytest.approx([100, metrics.psnr(b, a).item()])
    assert metrics.ssim(*batch).tolist() == pytest.approx([1, metrics.ssim(b, a).item()])
    assert 0 < metrics.ssim(b, a).item() < 0.9


def test_ssim_against_its_definition(pair):
    def blur(x: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(x, (11, 11), 1.5, borderType=cv2.BORDER_REFLECT_101)

    a, b = (image[0, 0].double().numpy() for image in pair)
    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b, covariance = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2, blur(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    expected = luminance * (2 * covariance + c2) / (var_a + var_b + c2)
    one_channel = [image[:, :1].expand(-1, 3, -1, -1) for image in pair]
    assert metrics.ssim(*one_channel).item() == pytest.approx(expected.mean(), abs=1e-4)


def test_psnr_hole_sees_only_the_hole(pair):
    a, b = pair
    hole = torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    hole[..., 10:20, 10:20] = True
    changed_outside = torch.where(hole, b, torch.zeros_like(b))
    assert metrics.psnr_hole(b, a, hole).item() == metrics.psnr_hole(changed_outside, a, hole).item()
    assert metrics.psnr_hole(b, a, ~hole & hole).isnan().all()


def test_lpips_on_the_bundled_backbone(pair):
    """0.202924 is no published figure: what this very pair gave when the backbone was bundled."""
    lpips = metrics.LPIPS("alex", BUNDLED)
    a, b = (image / 127.5 - 1 for image in pair)
    assert lpips(a, a).item() == 0
    assert lpips(a, b).item() == pytest.approx(0.202924, abs=1e-4)
    assert lpips(a, b).item() == pytest.approx(lpips.model(a, b).item(), abs=1e-6)
    assert lpips(torch.cat([a, b]), torch.cat([a, a])).tolist() == pytest.approx([0, lpips(b, a).item()], abs=1e-5)


def test_lpips_leaves_the_random_stream_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    metrics.LPIPS("alex", BUNDLED)
    assert torch.rand(1) == expected


def test_backbones_are_found_in_order(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv(metrics.BACKBONES_VARIABLE, raising=False)
    assert metrics.find_backbone("vgg") is None
    with pytest.raises(InputError, match=metrics.BACKBONES_VARIABLE):
        metrics.LPIPS("vgg")

    cached = tmp_path / "torch/hub/checkpoints/vgg16-397923af.pth"
    cached.parent.mkdir(parents=True)
    cached.touch()
    assert metrics.find_backbone("vgg") == cached

    monkeypatch.setenv(metrics.BACKBONES_VARIABLE, str(tmp_path))
    assert metrics.find_backbone("alex") == BUNDLED  # the folder has none: the next place is asked
    (tmp_path / "vgg16_features_fp16.safetensors").touch()
    assert metrics.find_backbone("vgg") == tmp_path / "vgg16_features_fp16.safetensors"


def test_half_precision_and_torchvision_files_load(tmp_path, pair):
    features = load_file(BUNDLED)
    save_file({key: value.half() for key, value in features.items()}, tmp_path / "half.safetensors")
    whole_network = {f"features.{key}": value for key, value in features.items()}
    torch.save({**whole_network, "classifier.1.weight": torch.zeros(2, 2)}, tmp_path / "alexnet-owt-7be5be79.pth")
    a, b = (image / 127.5 - 1 for image in pair)
    for name, tolerance in (("half.safetensors", 1e-3), ("alexnet-owt-7be5be79.pth", 0)):
        expected = metrics.LPIPS("alex", BUNDLED)(a, b).item()
        assert metrics.LPIPS("alex", tmp_path / name)(a, b).item() == pytest.approx(expected, abs=tolerance)


def test_a_wrong_backbone_is_refused(tmp_path):
    save_file({"0.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"no weights here")
    for name in ("other.safetensors", "broken.safetensors", "missing.safetensors"):
        with pytest.raises(InputError, match=name):
            metrics.LPIPS("alex", tmp_path / name)


def test_confusion_counts_known_pixels_of_the_hole():
    truth = np.array([[0, 1, 255], [1, 1, 0]], dtype=np.uint8)
    predicted = np.array([[0, 0, 2], [1, 2, 1]], dtype=np.uint8)
    hole = np.array([[1, 1, 1], [1, 1, 0]], dtype=bool)
    assert metrics.confusion_matrix(truth, predicted, hole, 3).tolist() == [[1, 0, 0], [1, 1, 1], [0, 0, 0]]
    assert metrics.confusion_matrix(truth, predicted, ~hole & hole, 3).sum() == 0
    with pytest.raises(ValueError, match="3 classes"):
        metrics.confusion_matrix(np.full((2, 3), 3), predicted, hole, 3)


def test_miou_is_the_mean_over_the_classes_of_the_labels():
    assert metrics.miou_from_confusion(np.diag([3, 4, 0])) == 1
    third_only_predicted = np.array([[1, 0, 0], [1, 1, 1], [0, 0, 0]])
    # It lowers the second's, which it was taken for, and is no term of its own.
    assert metrics.miou_from_confusion(third_only_predicted) == pytest.approx((1 / 2 + 1 / 3) / 2)
    third_never_predicted = third_only_predicted.T
    assert metrics.miou_from_confusion(third_never_predicted) == pytest.approx((1 / 2 + 1 / 3 + 0) / 3)
    both = metrics.miou_from_confusion(np.stack([np.diag([1, 1]), np.zeros((2, 2))]))
    assert both[0] == 1 and np.isnan(both[1])


def test_paired_relative():
    generator = np.random.default_rng(0)
    b = generator.uniform(1, 2, 200)
    a = 0.9 * b + generator.normal(0, 0.01, 200)
    found = metrics.paired_relative(a, b)
    low, high = found["ci95"]
    assert found["relative"] == pytest.approx(-0.1, abs=0.005) and low < found["relative"] < high
    assert high - low < 0.01  # paired: the spread of the photos themselves drops out
    assert found == metrics.paired_relative(a, b) != metrics.paired_relative(a, b, seed=1)
    assert metrics.paired_relative(b, b) == {"relative": 0, "ci95": [0, 0]}
    assert np.isnan(metrics.paired_relative(np.zeros(3), np.zeros(3))["relative"])


def resamples_by_hand(n: int, seed: int, number: int = 2000) -> list[np.ndarray]:
    """Of each the photos that were drawn, with replacement: how often each one was."""
    return list(np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=number))


def test_intervals_are_those_of_resamples_by_hand():
    """Nineteen of twenty resamples lie within; each is of the same photos for both."""
    generator = np.random.default_rng(1)
    a, b = generator.uniform(1, 2, 20), generator.uniform(1, 3, 20)
    changes = [(drawn @ a - drawn @ b) / (drawn @ b) for drawn in resamples_by_hand(20, seed=4)]
    found = metrics.paired_relative(a, b, seed=4)
    assert found["ci95"] == pytest.approx(np.quantile(changes, [0.025, 0.975]), abs=1e-9)
    assert found["relative"] == pytest.approx((a.mean() - b.mean()) / b.mean())
    a, b = (generator.integers(0, 9, (12, 3, 3)) for _ in range(2))
    changes = []
    for drawn in resamples_by_hand(12, seed=4):
        ours, theirs = (metrics.miou_from_confusion((drawn[:, None, None] * x).sum(0)) for x in (a, b))
        changes.append((ours - theirs) / theirs)
    found = metrics.paired_relative_miou(a, b, seed=4)
    assert found["ci95"] == pytest.approx(np.quantile(changes, [0.025, 0.975]), abs=1e-9)


def test_of_equal_scores_nothing_is_uncertain():
    """However much the photos differ: the bootstrap is paired, of mIoU as of the others."""
    confusions = np.random.default_rng(0).integers(0, 50, (15, 4, 4))
    assert metrics.paired_relative_miou(confusions, confusions) == {"relative": 0, "ci95": [0, 0]}
    better = confusions + 5 * np.eye(4, dtype=int)
    paired = metrics.paired_relative_miou(better, confusions)["ci95"]
    unpaired = metrics.paired_relative_miou(better[::-1], confusions)["ci95"]
    assert paired[1] - paired[0] < (unpaired[1] - unpaired[0]) / 2


def test_paired_relative_miou_is_of_summed_confusions():
    generator = np.random.default_rng(0)
    b = generator.integers(1, 50, (30, 4, 4))
    a = b + 20 * np.eye(4, dtype=int)
    found = metrics.paired_relative_miou(a, b)
    miou_a, miou_b = metrics.miou_from_confusion(a.sum(0)), metrics.miou_from_confusion(b.sum(0))
    assert found["relative"] == pytest.approx((miou_a - miou_b) / miou_b)
    assert 0 < found["ci95"][0] < found["relative"] < found["ci95"][1]
