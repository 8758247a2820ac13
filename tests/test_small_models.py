"""The recipe of models without strings: what it makes has seen nothing but scenes that it drew, and says so."""

import json
import shutil

import numpy as np
import pytest

from benchmarks import small_models
from fbinpaint import FeedbackInpaintPipeline
from fbinpaint.data.scenes import street_scene
from fbinpaint.masks import protocol_mask


@pytest.mark.slow
def test_a_model_is_made_of_scenes_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(small_models, "SCENES", {"streets": ("cityscapes", 12)})
    small = {"--resolution": 32, "--perceptual_crop": 32, "--train_batch_size": 2, "--num_validation_images": 2}
    pairs = zip(small_models.OPTIONS[::2], small_models.OPTIONS[1::2], strict=True)
    options = {**dict(pairs), **small, "--initial_steps": 1}
    monkeypatch.setattr(small_models, "OPTIONS", [x for pair in options.items() for x in pair])
    small_models.make(tmp_path, "streets", minutes=0.02)
    model = tmp_path / "streets"
    start = {path: path.read_bytes() for path in (tmp_path / "start").rglob("*.safetensors")}
    shutil.rmtree(model)  # as if it had been cut short
    small_models.make(tmp_path, "streets", minutes=0.03)
    assert start and all(path.read_bytes() == content for path, content in start.items())

    origin = json.loads((model / "training.json").read_text())
    scenes = {"name": "12 procedural scenes (cityscapes) of fbinpaint.data.scenes", "licence": "Apache-2.0"}
    assert origin["license"] == "apache-2.0" and origin["data"] == [scenes] and "base_model" not in origin
    assert origin["command"].startswith("python -m benchmarks.small_models") and "minutes" in origin["time"]
    assert small_models.emissions(60, 2)["emissions"] == 10 and origin["co2_eq_emissions"]["source"].startswith("est")
    assert "Apache License" in (model / "LICENSE").read_text()
    pipe = FeedbackInpaintPipeline.from_pretrained(model)
    photo, _ = street_scene((64, 48), np.random.default_rng(3))
    out = pipe(photo, protocol_mask(48, 64, 0))
    assert out.images[0].size == photo.size and pipe.config.sample_size == small_models.SIDE
    assert sum(parameter.numel() for parameter in pipe.networks.parameters()) < 5e6


def test_minutes_that_make_no_sense_are_refused_before_scenes_are_drawn(tmp_path, monkeypatch, capsys):
    for minutes, said in (("0", "--minutes: must be above 0"), ("nan", "--minutes: 'nan' is not a number")):
        monkeypatch.setattr("sys.argv", ["small_models", str(tmp_path / "small"), "--minutes", minutes])
        with pytest.raises(SystemExit):
            small_models.main()
        assert said in capsys.readouterr().err and not (tmp_path / "small").exists()
