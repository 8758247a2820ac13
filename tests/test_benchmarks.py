"""The commands that measure what `evaluate` does not."""

import importlib
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import fbinpaint
from benchmarks import (
    coarse_faces,
    cost,
    edits,
    exemplar_costs,
    exemplars,
    holes,
    large,
    memory,
    soak,
    texture,
    training,
)
from fbinpaint import FeedbackInpaintPipeline, InputError
from fbinpaint.data.photos import collate
from fbinpaint.data.scenes import face_scene, street_scene
from fbinpaint.labels import CELEBAMASK_HQ

from .conftest import make_tiny_networks


@pytest.fixture
def coarse(tmp_path):
    """Three faces whose labels are groups of classes."""
    for name in ("images", "labels"):
        (tmp_path / "data" / name).mkdir(parents=True)
    for seed in range(3):
        photo, label = face_scene((64, 64), np.random.default_rng(seed))
        photo.save(tmp_path / "data/images" / f"{seed}.png")
        Image.fromarray(coarse_faces.GROUP_OF[np.asarray(label)].astype(np.uint8)).save(
            tmp_path / "data/labels" / f"{seed}.png"
        )
    return tmp_path / "data"


def test_coarse_faces_scores_groups(coarse, tmp_path, monkeypatch, capsys):
    model = tmp_path / "faces"
    FeedbackInpaintPipeline.from_networks(make_tiny_networks("celebamask-hq"), "celebamask-hq").save_pretrained(model)
    output = tmp_path / "report.json"
    arguments = ["--model", model, "--data", coarse, "--output", output, "--resolution", "48", "--rounds", "1"]
    monkeypatch.setattr("sys.argv", ["coarse_faces", *map(str, arguments)])
    assert coarse_faces.main() == 0
    report = json.loads(output.read_text())
    assert report["n"] == 3 and set(report["miou_hole"]) == {"0", "1"}
    for k, groups in report["iou_hole"].items():
        assert list(groups) == list(coarse_faces.GROUPS) and all(0 <= iou <= 1 for iou in groups.values())
        assert report["miou_hole"][k] <= max(groups.values())
    assert list(report["paired"]) == ["rounds=1 vs rounds=0"]


def test_coarse_faces_refuses_streets(coarse, tiny_pipeline_dir, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["coarse_faces", "--model", str(tiny_pipeline_dir), "--data", str(coarse)])
    assert coarse_faces.main() == 1
    assert (said := capsys.readouterr().err).startswith("error:") and "model of faces" in said


def test_edits_counts_what_the_judge_sees(street_folder, tiny_pipeline_dir, tmp_path, monkeypatch, capsys):
    output, grid = tmp_path / "edits.json", tmp_path / "edits.png"
    arguments = ["--model", tiny_pipeline_dir, "--data", street_folder, "--output", output, "--grid", grid]
    monkeypatch.setattr("sys.argv", ["edits", *map(str, arguments), "--resolution", "48"])
    assert edits.main() == 0
    report = json.loads(output.read_text())
    assert report["n"] == 12 and report["judge"] == report["model"] == str(tiny_pipeline_dir)
    by_class = report["by_class"]
    assert by_class and sum(one["share"] for one in by_class.values()) == pytest.approx(1, abs=0.01)
    for key in ("followed", "unasked"):
        assert report[key] == pytest.approx(sum(one["share"] * one[key] for one in by_class.values()), abs=0.01)
    assert Image.open(grid).height == 12 * 48


def test_edits_refuses_a_judge_of_other_classes(street_folder, tiny_pipeline_dir, tmp_path, monkeypatch, capsys):
    faces = tmp_path / "faces"
    FeedbackInpaintPipeline.from_networks(make_tiny_networks("celebamask-hq"), "celebamask-hq").save_pretrained(faces)
    monkeypatch.setattr(
        "sys.argv", ["edits", "--model", str(tiny_pipeline_dir), "--judge", str(faces), "--data", str(street_folder)]
    )
    assert edits.main() == 1
    assert (said := capsys.readouterr().err).startswith("error:") and "celebamask-hq" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "arguments", "said"),
    [
        ("coarse_faces", "--model {faces} --data {photos}", "its ids are not those of groups"),
        ("coarse_faces", "--model {model} --data nowhere --output nowhere/r.json", "nowhere: no such folder"),
        ("cost", "--model {tmp}", "model_index.json"),
        ("edits", "--model {model} --data nowhere", "nowhere"),
        ("exemplars", "--model {model} --data {photos} --exemplars nowhere", "nowhere"),
        ("exemplar_costs", "--model {model} --exemplars nowhere", "nowhere"),
        ("export", "--model {tmp}", "model_index.json"),
        ("folder", "--model {tmp} --small 1 --large 1 --many 5", "a run ended with 1"),
        ("large", "--image nowhere.png", "nowhere.png"),
        ("latency", "--model {tmp} --threads 1", "model_index.json"),
        ("loader", "--train_data_dir nowhere --label_space cityscapes", "nowhere"),
        ("png", "nowhere.png", "nowhere.png"),
        ("table", "{tmp}/page.md", "report.json: is not JSON"),
        ("table", "{tmp}/no.md", "no.md: cannot be read"),
        ("texture", "--model {model} --data nowhere --resolution 48", "nowhere"),
        ("training", "--train_data_dir nowhere", "nowhere"),
        ("training", "--train_data_dir {photos} --streaming", "--streaming: "),
    ],
)
def test_wrong_input_is_one_line(
    command, arguments, said, street_folder, tiny_pipeline_dir, tmp_path, monkeypatch, capsys
):
    faces = tmp_path / "faces"
    FeedbackInpaintPipeline.from_networks(make_tiny_networks("celebamask-hq"), "celebamask-hq").save_pretrained(faces)
    (tmp_path / "report.json").write_text("{")
    (tmp_path / "page.md").write_text(f"<!-- report {tmp_path}/report.json -->\n<!-- /report -->\n")
    folders = {"faces": faces, "photos": street_folder, "model": tiny_pipeline_dir, "tmp": tmp_path}
    monkeypatch.setattr("sys.argv", [command, *arguments.format(**folders).split()])
    assert importlib.import_module(f"benchmarks.{command}").main() == 1
    printed = capsys.readouterr()
    (line,) = [line for line in printed.err.replace("\r", "\n").splitlines() if line.startswith("error: ")]
    assert said in line and "Traceback" not in printed.err + printed.out


@pytest.mark.slow
def test_folder_measures_runs_of_two_versions(tiny_pipeline_dir, monkeypatch, capsys):
    here = str(Path(fbinpaint.__file__).parents[1])
    arguments = ["--small", "3", "--large", "1", "--many", "12", "--times", "1", "--before", here]
    monkeypatch.setattr("sys.argv", ["folder", "--model", str(tiny_pipeline_dir), *arguments])
    assert importlib.import_module("benchmarks.folder").main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["now", "before"]
    for line in lines:
        rate, first = (float(re.search(words, line)[1]) for words in (r"([\d.]+) photos/s", r"([\d.]+) s of 12 photos"))
        assert rate > 0 and first > 0


@pytest.mark.slow
def test_png_tells_of_each_level(tmp_path, monkeypatch, capsys):
    street_scene((800, 600), np.random.default_rng(0))[0].save(tmp_path / "a.png")
    monkeypatch.setattr("sys.argv", ["png", str(tmp_path / "a.png")])
    assert importlib.import_module("benchmarks.png").main() == 0
    sizes = [float(size) for size in re.findall(r"level \d: [\d.]+ s, ([\d.]+) MB", capsys.readouterr().out)]
    assert len(sizes) == 6 and sizes[0] > sizes[-1] > 0


@pytest.mark.slow
def test_large_says_why_a_fill_failed(tmp_path, monkeypatch, capsys):
    """Each is filled by a process of its own."""
    Image.new("RGB", (64, 64)).save(tmp_path / "photo.png")
    monkeypatch.setattr("sys.argv", ["large", "--image", f"{tmp_path}/photo.png", "--model", str(tmp_path)])
    assert large.main() == 1
    assert f"error: {tmp_path}/model_index.json: " in capsys.readouterr().err


def test_every_class_is_in_one_group():
    names = [name for group in coarse_faces.GROUPS.values() for name in group]
    assert sorted(names) == sorted(CELEBAMASK_HQ.classes)


def test_border_tells_steps_of_colour_from_missing_grain():
    generator = np.random.default_rng(0)
    slope = np.linspace(40, 200, 256)[None, :, None].repeat(192, 0).repeat(3, 2)
    grain = generator.normal(0, 5, slope.shape)
    hole = np.zeros(slope.shape[:2], bool)
    hole[45:150, 61:200] = True

    def fill(values: np.ndarray) -> dict[str, float]:
        return large.border(np.where(hole[..., None], values, slope + grain).astype(np.float32), photo, hole)

    photo = (slope + grain).astype(np.float32)
    assert fill(photo) == {"step": 1, "shift": 1}
    smooth = fill(slope)
    assert smooth["step"] < 0.9 and 0.8 < smooth["shift"] < 1.2
    tinted = fill(slope + grain + 20)
    assert tinted["step"] > 2 and tinted["shift"] > 2


def test_large_masks_have_the_share_asked_for():
    for share in large.SHARES:
        mask = large.make_mask((400, 300), share)
        assert mask.shape == (300, 400) and share - 0.01 < mask.mean() < share + 0.06


def test_squares_show_in_blocks_and_not_in_noise():
    generator = np.random.default_rng(0)
    noise = generator.normal(128, 20, (120, 160, 3)).clip(0, 255).astype(np.uint8)
    hole = np.zeros(noise.shape[:2], bool)
    hole[13:99, 22:141] = True
    assert texture.squares(texture.steps(noise, hole)) == pytest.approx(1, abs=0.03)
    blocks = generator.integers(0, 40, (30, 40, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    assert texture.squares(texture.steps(noise // 2 + blocks, hole)) > 1.3
    shifted = texture.steps(np.roll(noise // 2 + blocks, 2, (0, 1)), hole)  # blocks, but not those of the cells
    assert texture.squares(shifted) < 1 and (texture.by_place(shifted).argmax(1) == 2).all()
    # What lies outside the hole does not count.
    elsewhere = np.where(hole[..., None], noise, noise // 2 + blocks)
    assert (texture.steps(elsewhere, hole) == texture.steps(noise, hole)).all()
    with pytest.raises(InputError, match="nothing changes"):
        texture.squares(texture.steps(np.zeros_like(noise), hole))


def test_high_frequencies_are_those_of_the_noise():
    photo, hole = texture.noisy_gradient((200, 160), 100, 9)
    inside, around = texture.high_frequencies(np.where(hole[..., None], 128, photo), hole)
    assert not inside.any() and around == pytest.approx(9 * (8 / 9) ** 0.5, rel=0.05)
    assert hole.mean() == pytest.approx(np.pi * 50**2 / (200 * 160), rel=0.02)
    clean, _ = texture.noisy_gradient((200, 160), 100, 0)
    assert max(map(np.max, texture.high_frequencies(clean, hole))) < 0.5


def test_texture_reports_both(street_folder, tiny_pipeline_dir, tmp_path, monkeypatch, capsys):
    output = tmp_path / "texture.json"
    arguments = ["--model", tiny_pipeline_dir, "--data", street_folder, "--output", output, "--resolution", "48"]
    monkeypatch.setattr("sys.argv", ["texture", *map(str, arguments), "--limit", "2"])
    monkeypatch.setattr(texture, "SIZE", (400, 300))
    monkeypatch.setattr(texture, "DISC", 120)
    assert texture.main() == 0
    report = json.loads(output.read_text())
    found = report["squares"]
    assert found["n"] == 2 and set(report["grain"]) == {"4", "9", "16"}
    assert all(len(steps) == 4 for steps in found["by_place"].values())
    assert found["excess_percent"] == pytest.approx(100 * (found["restored"] / found["photos"] - 1), abs=0.05)
    monkeypatch.setattr("sys.argv", ["texture", *map(str, arguments[:-1]), "97"])
    assert texture.main() == 1
    assert "error: resolution 97" in capsys.readouterr().err


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_gradients_cost_twice_the_convolution_whatever_its_groups(groups):
    layer = torch.nn.Conv2d(8, 8, 3, padding=1, groups=groups)
    with cost.flop_counter() as counter:
        out = layer(torch.rand(2, 8, 6, 5, requires_grad=True))
        forward = counter.get_total_flops()
        out.sum().backward()
    assert forward == 2 * 2 * 30 * 8 * (8 // groups) * 9
    assert counter.get_total_flops() == 3 * forward


def test_attention_is_counted_on_cpus_too():
    query = torch.rand(1, 2, 10, 16)
    with cost.flop_counter() as counter:
        torch.nn.functional.scaled_dot_product_attention(query, query, query)
    assert counter.get_total_flops() == 2 * 2 * 2 * 10 * 10 * 16


@pytest.mark.slow
def test_a_training_step_is_told_by_its_parts(tiny_pipeline_dir, vgg_file, tmp_path):
    options = f"--pretrained_model {tiny_pipeline_dir} --perceptual_weights {vgg_file} --resolution 32 48"
    trainer = training.make_trainer(tmp_path, [*options.split(), "--perceptual_crop", "32", "--train_batch_size", "2"])
    batches = [collate([trainer.crops[i, i] for i in range(first, first + 2)]) for first in (0, 2)]
    found = training.measure(trainer, batches)
    parts = found["parts"]
    assert set(parts) == {
        "forward", "losses of the fill", "backward", "optimizer", "discriminator", training.REST
    }  # fmt: skip
    assert sum(part["share_of_time"] for part in parts.values()) == pytest.approx(1, abs=0.01)
    operations = [part["operations_per_step"] for part in parts.values()]
    assert sum(operations) == pytest.approx(found["operations_per_step"], abs=6) and min(operations) > 0
    flops = sum(part["gflop_per_photo"] for part in parts.values())
    assert 0 < flops == pytest.approx(found["gflop_per_photo"], abs=0.05)


def test_holes_reports_both_tables(tiny_pipeline_dir, tmp_path, monkeypatch, capsys):
    output = tmp_path / "holes.json"
    monkeypatch.setattr("sys.argv", ["holes", "--model", str(tiny_pipeline_dir), "--output", str(output)])
    for name, value in {"SIZES": ((240, 180),), "DRAWN": (120, 90), "PLAIN_SIZE": (160, 120), "DISC": 50}.items():
        monkeypatch.setattr(holes, name, value)
    assert holes.main() == 0
    printed = capsys.readouterr().out
    (report,) = json.loads(output.read_text()).values()
    assert len(report["thin_holes"]) == len(holes.PATTERNS) * len(holes.THICKNESSES)
    for row in report["thin_holes"]:
        assert row["error"] > 0 and row["telea"] > 0 and row["navier-stokes"] > 0
        assert f"| {row['pattern']} | {row['thickness']} | 240x180 | {row['error']:.2f} |" in printed
    assert set(report["plain_surroundings"]) == set(holes.plain_photos())
    for name, off in report["plain_surroundings"].items():
        assert off["mean"] <= off["maximum"] and f"| {name} | " in printed


def test_holes_refuses_a_model_that_is_not_there(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["holes", "--model", "/nowhere/model"])
    assert holes.main() == 1
    assert "error:" in (said := capsys.readouterr().err) and "Traceback" not in said


def test_masks_of_the_benchmark_are_as_thin_as_they_say():
    for pattern in holes.PATTERNS:
        for thickness in (1, 4, 16):
            hole = holes.thin_mask(pattern, thickness, (320, 240))
            depth = cv2.distanceTransform(hole.astype(np.uint8), cv2.DIST_L2, 5)
            assert 0 < hole.mean() < 0.5 and np.median(depth[hole]) <= max(1.5, 0.6 * thickness)


def test_the_servers_memory_is_measured_with_photos_of_all_sizes():
    sizes = [memory.size_of(request) for request in range(60)]
    assert sizes.count(memory.LARGEST) == 10 and len(set(sizes)) == 51
    for size in sizes:
        assert 100 <= min(size) <= max(size) <= 4000 and size[0] * size[1] <= 12_000_000
    assert min(map(min, sizes)) < 150


def test_the_soak_knows_a_right_result_from_a_foreign_and_an_untouched_one(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    hole = np.zeros((40, 60), bool)
    hole[5:20, 5:20] = True
    pictures = {
        "photo": pixels, "right": np.where(hole[..., None], 0, pixels), "foreign": pixels[::-1], "cut": pixels[:30],
        "off by one": np.where(hole[..., None], 0, pixels ^ 1),
    }  # fmt: skip
    for name, picture in pictures.items():
        Image.fromarray(picture.astype(np.uint8)).save(tmp_path / f"{name}.png")
    found = {name: soak.is_right(tmp_path / f"{name}.png", tmp_path / "photo.png", hole) for name in pictures}
    assert found == dict.fromkeys(pictures, False) | {"right": True}


def test_the_soak_reads_what_generators_send():
    from gradio.utils import diff

    first = {"view": {"photo": "a", "history": [1, 2], "old": 1}}
    second = {"view": {"photo": "ab", "history": [1, 3, 4], "new": {"x": [5]}}}
    value = soak.apply(None, [first])
    assert soak.apply(value, [diff(first, second)]) == [second]


def test_the_soak_measures_size_and_age_of_what_lies_outside_sessions(tmp_path):
    import os
    import time

    for name, age in (("upload/a.png", 50), ("visits/1/b.npy", 500)):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(bytes(100))
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    size, age = soak.largest_and_oldest(tmp_path)
    assert size == 200 and 49 < age < 60


@pytest.mark.slow
def test_exemplars_are_compared_with_none_and_with_the_models_own(
    street_folder, tiny_pipeline_dir, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(exemplars, "NUMBERS", (2,))
    arguments = f"--model {tiny_pipeline_dir} --data {street_folder} --exemplars {street_folder} --resolution 48"
    other = f"--segmenter {tiny_pipeline_dir} --bank {street_folder}"
    for more in (arguments, f"{arguments} {other}"):
        report = tmp_path / "report.json"
        monkeypatch.setattr("sys.argv", ["exemplars", *more.split(), "--output", str(report)])
        assert exemplars.main() == 0
        banks = json.loads(report.read_text())["banks"]
        own = f"2 of {'/'.join(street_folder.parts[-2:])}"
        assert list(banks) == ["none", "own", "random", own]
        assert banks["own"]["weights"] == [0, 0] and len(banks[own]["weights"]) == 2
        assert banks[own]["exemplars"] == 2
        for part in ("intact", "hole"):
            assert "against none" not in banks["none"][part]
            scores = {name: bank[part]["accuracy"] for name, bank in banks.items()}
            for other_name in ("none", "own"):
                change = banks[own][part][f"against {other_name}"]["accuracy"]
                assert change["difference"] == pytest.approx(scores[own] - scores[other_name])
                assert change["ci95"][0] <= change["ci95"][1]
        assert banks["own"]["intact"]["miou"] == banks["none"]["intact"]["miou"]  # a bank of training photos is silent
    capsys.readouterr()
    monkeypatch.setattr("sys.argv", ["exemplars", *arguments.split(), "--segmenter", str(tiny_pipeline_dir)])
    assert exemplars.main() == 1 and "--bank" in capsys.readouterr().err


@pytest.mark.slow
def test_what_exemplars_cost_is_timed_in_turns(street_folder, tiny_pipeline_dir, monkeypatch, capsys):
    monkeypatch.setattr(
        "sys.argv",
        ["c", "--model", str(tiny_pipeline_dir), "--exemplars", str(street_folder), "--turns", "2"],
    )
    assert exemplar_costs.main() == 0
    found = json.loads(capsys.readouterr().out)
    assert found["exemplars"] >= 2 and found["add an exemplar"] > 0 and 0.1 < found["call with over without"] < 10
