"""`benchmarks.removal` and `benchmarks.judge`: what an independent segmenter sees of what was removed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import judge, removal
from fbinpaint import FeedbackInpaintPipeline
from fbinpaint.data.photos import PhotoCrops
from fbinpaint.data.sources import load_photos
from fbinpaint.labels import CITYSCAPES
from fbinpaint.models import Segmenter
from fbinpaint.pipeline.segmentation import segment_photos

from .conftest import make_tiny_networks
from .test_remove_command import CAR, block, make_pipeline, street

SIZE = (96, 64)


@pytest.fixture(scope="module")
def cars(tmp_path_factory) -> Path:
    """Five labelled streets, of which three show a car."""
    folder = tmp_path_factory.mktemp("cars")
    for name in ("images", "labels"):
        (folder / name).mkdir()
    for seed in range(5):
        Image.fromarray(street(SIZE, seed, car=seed < 3)).save(folder / "images" / f"{seed}.png")
        labels = np.zeros(SIZE[::-1], np.uint8)
        if seed < 3:
            labels[block(SIZE)] = CAR
        Image.fromarray(labels).save(folder / "labels" / f"{seed}.png")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "cars"
    make_pipeline().save_pretrained(folder)
    return folder


def measure(monkeypatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["removal", *map(str, arguments)])
    return removal.main()


def test_removal_is_judged(cars, model, tmp_path, monkeypatch, capsys):
    """A judge that sees cars everywhere, and the model's own segmenter."""
    everywhere = make_tiny_networks().segmenter
    everywhere.register_to_config(label_space="cityscapes")
    with torch.no_grad():
        everywhere.classify.bias[CAR] += 1000
    everywhere.save_pretrained(tmp_path / "everywhere" / "segmenter")
    output, grid = tmp_path / "report.json", tmp_path / "grid.png"
    assert measure(
        monkeypatch, "--model", model, "--judge", model, tmp_path / "everywhere", "--data", cars, "--classes", "car",
        "--resolution", SIZE[1], "--output", output, "--grid", grid,
    ) == 0  # fmt: skip
    report = json.loads(output.read_text())
    assert report["photos"] == report["found"] == 3 and report["classes"] == ["car"]
    seen = report["judges see in the hole"]
    assert set(seen[f"{tmp_path.name}/everywhere"].values()) == {1}
    own = seen[f"{model.parent.name}/cars"]
    assert own["intact"] > 0.3  # of the hole, which is grown
    assert own["forbidden"] == pytest.approx(report["the model itself sees"], abs=1e-4)
    moved = report["moved holes"]
    assert moved["judges see in the intact photo"][f"{tmp_path.name}/everywhere"] == 1
    assert moved["judges see in the intact photo"][f"{model.parent.name}/cars"] < 0.1
    assert moved["photos"] == 3 and min(moved["lpips_alex"].values()) > 0
    relative = moved["lpips_alex"]["forbidden"] / moved["lpips_alex"]["not forbidden"] - 1
    assert moved["forbidden vs not"]["relative"] == pytest.approx(relative, abs=1e-3)
    assert Image.open(grid).size == (6 * SIZE[0], 3 * SIZE[1])


def test_a_hole_is_moved_to_where_nothing_is_taken():
    hole, taken = np.zeros((40, 40), bool), np.zeros((40, 40), bool)
    hole[2:8, 2:12] = hole[30:34, 30:34] = True
    taken[:20] = True
    moved = removal.move(hole, taken | hole, np.random.default_rng(0))
    assert moved.sum() == hole.sum() and not (moved & (taken | hole)).any()
    taken[:] = True
    assert not removal.move(hole, taken, np.random.default_rng(0)).any()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--model {model} --judge {tmp} --data {cars} --classes car", "segmenter: no such folder"),
        ("--model {model} --judge {faces} --data {cars} --classes car", "is of celebamask-hq, the model of cityscapes"),
        ("--model {model} --judge {model} --data {cars} --classes bus", "no label shows bus"),
        ("--model {model} --judge {model} --data {cars} --classes zebra", "'zebra' is no class"),
        ("--model {model} --judge {model} --data nowhere --classes car", "nowhere"),
        ("--model {model} --judge {model} {model} --data {cars} --classes car", "two are called"),
        ("--model {model} --judge {model} --data {cars} --classes ,", "names no class"),
        ("--model {model} --judge {model} --data {cars} --classes car --grid nowhere/grid.png", "nowhere: no such"),
    ],
)
def test_wrong_input_is_one_line(arguments, said, cars, model, tmp_path, monkeypatch, capsys):
    faces = tmp_path / "faces"
    FeedbackInpaintPipeline.from_networks(make_tiny_networks("celebamask-hq"), "celebamask-hq").save_pretrained(faces)
    folders = {"model": model, "cars": cars, "tmp": tmp_path, "faces": faces}
    assert measure(monkeypatch, *arguments.format(**folders).split()) == 1
    (line,) = [x for x in capsys.readouterr().err.replace("\r", "\n").splitlines() if x.startswith("error: ")]
    assert said in line


@pytest.mark.slow
def test_a_judge_learns_from_intact_photos(cars):
    """What is red is a car: a few steps are enough for that."""
    crops = PhotoCrops(load_photos([str(cars)]), CITYSCAPES, 64)
    segmenter = Segmenter(encoder_name="test_efficientnet", channels=16, label_space="cityscapes")
    learnt = judge.train(crops, segmenter, steps=400, first_seed=1).eval()
    photo = street(SIZE, seed=9)
    seen = segment_photos(learnt, [photo], CITYSCAPES, 96, torch.device("cpu"))[0] == CAR
    assert seen[block(SIZE)].mean() > 0.7 and seen.mean() < 2 * seen[block(SIZE)].sum() / seen.size


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--train_data_dir {cars} --output {cars}", "is there already"),
        ("--train_data_dir {unlabelled} --output {tmp}/judge", "no labelled photo"),
        ("--train_data_dir nowhere --output {tmp}/judge", "nowhere"),
        ("--train_data_dir {void} --output {tmp}/judge", "no pixel of the labels is known (all are 255)"),
        ("--train_data_dir {cars} --output /dev/null/judge", "/dev/null: cannot be written to"),
    ],
)
def test_a_judge_that_cannot_be_made_is_one_line(
    arguments, said, cars, unlabelled_folder, tmp_path, monkeypatch, capsys
):
    void = shutil.copytree(cars, tmp_path / "void")
    for path in (void / "labels").iterdir():
        Image.new("L", Image.open(path).size, 255).save(path)
    folders = {"cars": cars, "unlabelled": unlabelled_folder, "void": void, "tmp": tmp_path}
    monkeypatch.setattr(
        "sys.argv", ["judge", "--label_space", "cityscapes", *arguments.format(**folders).split()]
    )
    assert judge.main() == 1
    (line,) = [x for x in capsys.readouterr().err.replace("\r", "\n").splitlines() if x.startswith("error: ")]
    assert said in line and not (tmp_path / "judge").exists()
