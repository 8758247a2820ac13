"""FID against values by hand, and in a report, by the networks that are really used (with random weights)."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from fbinpaint.cli import main
from fbinpaint.data.scenes import write_scenes
from fbinpaint.errors import InputError
from fbinpaint.evaluation import fid, metrics


class Drawn(FeatureExtractorInceptionV3):
    """With the weights that it is made with."""

    def load_state_dict(self, state_dict, *args, **kwargs):
        return super().load_state_dict(self.state_dict())


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A folder with a file of torch-fidelity's form, random."""
    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    torch.manual_seed(0)
    network = Drawn("inception", ["2048"], nothing)
    path = tmp_path_factory.mktemp("backbones") / metrics.INCEPTION_FILE
    torch.save(network.state_dict(), path)
    return path.parent


def test_the_distance_is_that_of_two_normal_distributions():
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^.5), which of moved and stretched features can be had without a root."""
    photos = np.random.default_rng(0).normal(size=(fid.MIN_PHOTOS, 3)).astype(np.float32)
    assert fid.fid(photos, photos) == pytest.approx(0, abs=1e-5)
    assert fid.fid(photos + np.float32([1, 2, 0]), photos) == pytest.approx(5, rel=1e-4)
    stretched = (3 * (photos - photos.mean(0)) + photos.mean(0)).astype(np.float32)
    assert fid.fid(stretched, photos) == pytest.approx(4 * np.trace(np.cov(photos.T)), rel=1e-4)


def test_there_is_none_of_too_few_photos(weights, monkeypatch):
    monkeypatch.setenv(metrics.BACKBONES_VARIABLE, str(weights))
    photos = np.random.default_rng(0).normal(size=(fid.NUM_FEATURES, 3)).astype(np.float32)
    assert fid.fid(photos, photos) is None
    assert fid.load_inception(fid.NUM_FEATURES, torch.device("cpu")) is None
    assert fid.load_inception(fid.NUM_FEATURES + 1, torch.device("cpu")) is not None


def test_without_weights_it_is_left_out_and_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv(metrics.BACKBONES_VARIABLE, raising=False)
    assert fid.load_inception(fid.MIN_PHOTOS, torch.device("cpu")) is None
    assert metrics.INCEPTION_FILE in capsys.readouterr().out


def test_features_tell_pictures_apart(weights):
    network = fid.Inception(weights / metrics.INCEPTION_FILE)
    images = torch.randint(0, 256, (2, 3, 40, 48), generator=torch.Generator().manual_seed(0)).float()
    features = network(images)
    assert features.shape == (2, 2048) and not np.allclose(features[0], features[1])
    assert np.allclose(network(images[1:]), features[1:], rtol=1e-3, atol=1e-5)


class RunsWhatItSays:
    def __init__(self, path: str):
        self.path = path

    def __reduce__(self):
        return Path(self.path).touch, ()


@pytest.mark.parametrize("kind", ["program", "other", "broken", "missing"])
def test_other_files_are_refused_and_not_run(tmp_path, kind):
    path, trace = tmp_path / metrics.INCEPTION_FILE, tmp_path / "trace"
    if kind == "program":
        torch.save({"Conv2d_1a_3x3.conv.weight": RunsWhatItSays(str(trace))}, path)
    elif kind == "other":
        torch.save({"0.weight": torch.zeros(1)}, path)
    elif kind == "broken":
        path.write_bytes(b"no weights here")
    for network in (fid.Inception, lambda path: metrics.LPIPS("alex", path)):
        with pytest.raises(InputError, match=metrics.INCEPTION_FILE):
            network(path)
    assert not trace.exists()


def test_a_report_has_it_where_there_are_photos_enough(tmp_path, weights, tiny_pipeline_dir, monkeypatch, capsys):
    monkeypatch.setattr(fid, "MIN_PHOTOS", 3)  # two thousand photos would take minutes,
    monkeypatch.setattr(fid, "NUM_FEATURES", 64)  # and roots of their covariances as well
    monkeypatch.setenv(metrics.BACKBONES_VARIABLE, str(weights))
    write_scenes(tmp_path / "data", "cityscapes", count=3, size=(64, 48), seed=0)
    output = tmp_path / "report.json"
    arguments = ["--model", tiny_pipeline_dir, "--data", tmp_path / "data", "--output", output, "--resolution", "32"]
    assert main(["evaluate", *map(str, arguments), "--rounds", "0", "--baselines", "telea"]) == 0
    report = json.loads(output.read_text())
    values = {name: variant["fid"] for name, variant in report["variants"].items()}
    assert values["rounds=0"] > 0 and values["telea"] > 0 and values["rounds=0"] != values["telea"]
    assert report["protocol"]["n"] == 3 and "torch-fidelity" in report["protocol"]["versions"]
    assert f"{values['telea']:.2f}" in capsys.readouterr().out
    assert "inception" not in output.with_suffix(".csv").read_text()
