"""What `evaluate` scores beside its own protocol: official splits, the field's masks, and what other tools painted."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import train_accelerate
from benchmarks.reproduce import COMPARISONS, reproduce, section
from fbinpaint import FeedbackInpaintPipeline
from fbinpaint.cli import main
from fbinpaint.data.celebamask_hq import load_celebamask_hq
from fbinpaint.data.cityscapes import load_cityscapes
from fbinpaint.data.splits import load_split
from fbinpaint.errors import InputError, InputWarning
from fbinpaint.evaluation import metrics
from fbinpaint.evaluation.evaluation import compare, evaluate, export_protocol
from fbinpaint.evaluation.methods import fill_with_baseline
from fbinpaint.evaluation.photos import Photos, Sample
from fbinpaint.evaluation.report import table
from fbinpaint.labels import CELEBAMASK_HQ, CITYSCAPES
from fbinpaint.masks import LAMA_MASKS, MASK_KINDS, evaluation_mask, protocol_mask
from train_accelerate import parse_args

from .conftest import make_tiny_networks
from .test_cli import errors, write_mask, write_photo  # noqa: F401  (a fixture among them)
from .test_layouts import write_celebamask_hq, write_cityscapes

ROOT = Path(__file__).resolve().parent.parent
SMALL = {"resolution": 32, "rounds": (0,), "baselines": ()}


@pytest.fixture(autouse=True)
def only_alex(tmp_path_factory, monkeypatch):
    """No LPIPS-VGG, whatever this machine has cached."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch")))
    monkeypatch.delenv(metrics.BACKBONES_VARIABLE, raising=False)


@pytest.fixture
def photos(tmp_path) -> Path:
    """Three photos of two sizes, one of them in a folder of its own."""
    for name, size in (("a", (48, 40)), ("b", (40, 48)), ("more/c", (48, 40))):
        write_photo(tmp_path / "data/images" / f"{name}.png", size, seed=len(name))
    return tmp_path / "data"


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    """CelebAMask-HQ of six photos: 0, 3 of train, 1, 4 of val, 2, 2001 of test."""
    folder = tmp_path_factory.mktemp("celebamask-hq")
    write_celebamask_hq(folder, [0, 1, 2, 3, 4, 2001])
    write_lists(folder, {0: 0, 1: 1, 2: 2, 3: 0, 4: 1, 2001: 2})
    return folder


@pytest.fixture(scope="module")
def streets(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cityscapes")
    write_cityscapes(folder)
    return folder


@pytest.fixture(scope="module")
def pipe(tiny_pipeline_dir) -> FeedbackInpaintPipeline:
    return FeedbackInpaintPipeline.from_pretrained(tiny_pipeline_dir)


def write_lists(folder: Path, split_of: dict[int, int]) -> None:
    """The owners' two lists: photo N of CelebA-HQ is photo 202599 - N of CelebA, in their order of lines."""
    mapping = [f"{number} \t{202598 - number}\t{202599 - number:06d}.jpg" for number in split_of]
    (folder / "CelebA-HQ-to-CelebA-mapping.txt").write_text("\n".join(["idx \torig_idx \torig_file", *mapping]) + "\n")
    parts = sorted(f"{202599 - number:06d}.jpg {split}" for number, split in split_of.items())
    (folder / "list_eval_partition.txt").write_text("\n".join(["000001.jpg 0", *parts]) + "\n")


def numbers(rows) -> list[str]:
    return [Path(row["name"]).stem for row in rows]


# ---------------------------------------------------------------------------------------------- official splits


def test_splits_of_celebamask_hq_are_those_of_celeba(faces):
    splits = {split: numbers(load_celebamask_hq(faces, split)) for split in ("train", "val", "test")}
    assert splits == {"train": ["0", "3"], "val": ["1", "4"], "test": ["2", "2001"]}
    assert list(load_split(faces, "test")) == ["2", "2001"]


def test_training_reads_all_faces_where_no_list_of_partitions_is_there(tmp_path):
    write_celebamask_hq(tmp_path, [0, 1])
    assert numbers(load_celebamask_hq(tmp_path)) == ["0", "1"]


@pytest.mark.parametrize(
    "spoil, named",
    [
        (lambda folder: (folder / "list_eval_partition.txt").unlink(), "list_eval_partition.txt: cannot be read"),
        (lambda folder: (folder / "CelebA-HQ-to-CelebA-mapping.txt").unlink(), "comes with CelebAMask-HQ"),
        (lambda folder: (folder / "list_eval_partition.txt").write_text("202598.jpg one 1\n"), "no line of 2 columns"),
        (lambda folder: write_lists(folder, {0: 0}), "does not say where 1.jpg belongs"),
        (lambda folder: write_lists(folder, {0: 0, 1: 3}), "does not say where 1.jpg belongs"),
        (lambda folder: write_lists(folder, {0: 0, 1: 0}), "no photo of the split val"),
    ],
    ids=["no partition", "no mapping", "broken", "a photo missing", "an unknown part", "an empty split"],
)
def test_lists_that_do_not_fit_the_photos_are_one_line(tmp_path, spoil, named):
    write_celebamask_hq(tmp_path, [0, 1])
    write_lists(tmp_path, {0: 0, 1: 1})
    spoil(tmp_path)
    with pytest.raises(InputError, match=named):
        load_split(tmp_path, "val")


def test_splits_of_cityscapes(streets):
    assert {Path(row["name"]).parent.name for row in load_cityscapes(streets)} == {"aachen", "ulm", "bayreuth"}
    val = load_split(streets, "val")
    assert list(val) == [f"lindau/lindau_{i:06d}_000019_leftImg8bit" for i in range(2)]
    assert all("gtFine/val/lindau" in row["semantic_map"]["path"] for row in val.values())
    with pytest.raises(InputError, match="leftImg8bit/test"):
        load_split(streets, "test")


def test_a_split_is_scored_with_its_owners_labels(streets, pipe):
    report = evaluate(pipe, streets, **SMALL, split="val").report
    assert report["protocol"]["n"] == report["protocol"]["n_with_labels"] == report["intact"]["n"] == 2
    assert report["protocol"]["split"] == "val" and report["protocol"]["mask_kind"] == "irregular"
    photos = Photos(streets, split="val", resolution=64)
    (pair, _), labels = photos.pairs, photos.labels()
    truth = photos.sample(pair, labels[pair.stem], CITYSCAPES).truth
    frame = pair.stem.removesuffix("_leftImg8bit")
    ids = Image.open(streets / f"gtFine/val/{frame}_gtFine_instanceIds.png")
    assert np.array_equal(truth, np.asarray(ids))  # which the fixture fills with train ids, at the same size


def test_a_broken_label_of_a_split_is_named(streets, tmp_path):
    data = shutil.copytree(streets, tmp_path / "data")
    photos = Photos(data, split="val", resolution=32)
    (pair, _), labels = photos.pairs, photos.labels()
    path = Path(labels[pair.stem]["semantic_map"]["path"])
    path.unlink()
    with pytest.raises(InputError, match=f"^{path}"):
        photos.sample(pair, labels[pair.stem], CITYSCAPES)


def test_labels_of_a_split_are_of_the_photo_size(faces):
    """The owners' photos have twice the size of their labels."""
    photos = Photos(faces, split="val", resolution=32)
    (pair, _), labels = photos.pairs, photos.labels()
    sample = photos.sample(pair, labels["1"], CELEBAMASK_HQ)
    assert sample.truth.shape == sample.photo.shape[:2] == (32, 32) and len(np.unique(sample.truth)) > 3


def test_a_split_of_another_label_space_is_refused(faces, pipe):
    with pytest.raises(InputError, match="labels of celebamask-hq"):
        evaluate(pipe, faces, **SMALL, split="test")


def test_an_official_layout_wants_a_split_and_a_plain_one_none(streets, photos):
    with pytest.raises(InputError, match="holds leftImg8bit; say with --split"):
        Photos(streets)
    with pytest.raises(InputError, match="leave it out"):
        Photos(photos, split="val")


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("a.npy", "ids", "labels are PNG files of class ids; save it as one"),
        ("a.png", "JPEG", "is a JPEG file whatever its name"),
        ("a.png", "one", "has no labelled pixel, which the control oracle needs"),
    ],
)
def test_labels_that_say_nothing_are_told_before_the_work(name, content, words, photos, pipe):
    """Ids in another format, ids that JPEG has changed, and a single pixel, which no photo shows at the scored size."""
    (photos / "labels").mkdir()
    ids = np.full((400, 480), 255, np.uint8)
    ids[0, 0] = 3
    if content == "ids":
        np.save(photos / "labels" / name, ids)
    else:
        Image.fromarray(ids).save(photos / "labels" / name, content if content == "JPEG" else "PNG")
    with pytest.raises(InputError, match=words):
        evaluate(pipe, photos, **SMALL, controls=("oracle",))


# ---------------------------------------------------------------------------------------------- masks


def test_masks_in_turn_are_stretched_to_the_photos(photos, tmp_path):
    """Two square masks, of other names, for three photos, the third of which gets the first one again."""
    for name, box in (("00001", np.s_[:32]), ("00000", np.s_[:, :16])):
        mask = np.zeros((64, 64), np.uint8)
        mask[box] = 255
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(tmp_path / f"masks/{name}.png")
    found = Photos(photos, tmp_path / "masks", resolution=40, pairing="cycle")
    holes = [found.sample(pair, None, None).hole for pair in found.pairs]
    assert [hole.shape for hole in holes] == [(40, 48), (48, 40), (40, 48)]
    assert holes[0][:, :12].all() and not holes[0][:, 12:].any() and np.array_equal(holes[0], holes[2])
    assert holes[1][:24].all() and not holes[1][24:].any()
    assert "in turn" in found.description(())["masks"] and found.description(())["pairing"] == "cycle"
    with pytest.raises(InputError, match="has no mask"):
        Photos(photos, tmp_path / "masks")
    for pair in found.pairs:  # of this very photo a mask has its shape, or is another's
        of_photo = tmp_path / "own" / f"{pair.stem}.png"
        of_photo.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tmp_path / "masks/00000.png", of_photo)
    own = Photos(photos, tmp_path / "own", resolution=40)
    with pytest.raises(InputError, match="64x64"):
        own.sample(own.pairs[0], None, None)


@pytest.mark.parametrize(
    "settings, named",
    [
        ({"pairing": "cycle"}, "--masks"),
        ({"pairing": "random"}, "random"),
        ({"mask_kind": "enormous"}, "enormous"),
        ({"split": "train"}, "train"),
        ({"resolution": 0}, "too low"),
        ({"masks": Path("m"), "mask_kind": "thin"}, "leave one"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(photos, settings, named):
    with pytest.raises(InputError, match=named):
        Photos(photos, **settings)


def test_a_folder_without_masks_has_none_to_take_in_turn(photos, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no mask"):
        Photos(photos, tmp_path / "empty", pairing="cycle")


@pytest.mark.parametrize("kind", MASK_KINDS)
@pytest.mark.parametrize("size", [(32, 32), (64, 128), (256, 256)])
def test_made_masks_are_the_same_for_a_photo_and_others_for_others(kind, size):
    first, again, other = (evaluation_mask(kind, *size, index, seed=3) for index in (4, 4, 5))
    assert first.shape == size and first.dtype == bool and 0 < first.mean() <= 0.6
    assert np.array_equal(first, again) and np.array_equal(first, other) == (kind == "centre")


def test_the_default_masks_are_still_the_protocol_masks():
    assert np.array_equal(evaluation_mask("irregular", 64, 48, 7), protocol_mask(64, 48, 7))


def test_lama_masks_are_as_thick_as_they_say():
    """Hole pixels by their mean distance to what is known, over 40 masks each."""
    depth = {}
    for kind in LAMA_MASKS:
        masks = [evaluation_mask(kind, 256, 256, index).astype(np.uint8) for index in range(40)]
        assert max(mask.mean() for mask in masks) <= 0.5
        depths = [cv2.distanceTransform(mask, cv2.DIST_L2, 5)[mask > 0].mean() for mask in masks]
        depth[kind] = np.mean(depths)
    assert 2 * depth["thin"] < depth["medium"] and 1.3 * depth["medium"] < depth["thick"]


# ---------------------------------------------------------------------------------------------- other tools


def test_what_is_exported_is_what_is_scored(photos, pipe, tmp_path):
    """The folder scored again gives the same figures, and a tool that finds the truth loses nothing."""
    assert export_protocol(tmp_path / "out", photos, resolution=32, seed=1) == 3
    names = ["a", "b", "more/c"]
    content = json.loads((tmp_path / "out/protocol.json").read_text())
    assert content["names"] == names and content["seed"] == 1 and content["resolution"] == 32
    for name in names:
        photo, mask = (Image.open(tmp_path / "out" / kind / f"{name}.png") for kind in ("images", "masks"))
        assert photo.mode == "RGB" and mask.mode == "L" and min(photo.size) == 32 and photo.size == mask.size
        assert set(np.unique(mask)) == {0, 255}
    direct = evaluate(pipe, photos, **SMALL, seed=1, results={"truth": tmp_path / "out/images"}).report
    again = evaluate(pipe, tmp_path / "out", masks=tmp_path / "out/masks", **SMALL, seed=1).report
    assert direct["variants"]["rounds=0"] == again["variants"]["rounds=0"]
    assert direct["variants"]["truth"]["overall"]["lpips_alex"] == 0
    assert direct["variants"]["truth"]["overall"]["psnr"] == 100 and "| truth |" in table(direct)


def test_known_pixels_of_results_are_the_photos(photos, pipe, tmp_path):
    """What a tool changed outside the hole is neither scored nor in the way; what looks like a mistake is said."""
    export_protocol(tmp_path / "out", photos, resolution=32)
    for folder, change in (("kept", 0), ("changed", 60)):
        for path in sorted((tmp_path / "out/masks").rglob("*.png")):
            name = path.relative_to(tmp_path / "out/masks")
            hole = np.asarray(Image.open(path)) > 0
            photo = np.asarray(Image.open(tmp_path / "out/images" / name)).astype(int)
            result = np.where(hole[..., None], 127, np.clip(photo + change, 0, 255)).astype(np.uint8)
            (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(result).save(tmp_path / folder / name)
    results = {"kept": tmp_path / "kept", "changed": tmp_path / "changed"}
    with pytest.warns(InputWarning, match="changed/a.png: outside the hole"):
        report = evaluate(pipe, photos, **SMALL, results=results).report
    assert report["variants"]["kept"] == report["variants"]["changed"]
    assert report["protocol"]["results"] == {name: f"{tmp_path.name}/{name}" for name in results}
    found = report["paired"]["rounds=0 vs kept"]["psnr"]
    ours, theirs = (report["variants"][name]["overall"]["psnr"] for name in ("rounds=0", "kept"))
    assert found["relative"] == pytest.approx((ours - theirs) / theirs, abs=1e-5) and found["n"] == 3
    assert found["ci95"][0] <= found["relative"] <= found["ci95"][1]


def test_results_stand_beside_each_of_several_models(photos, pipe, tmp_path):
    other = FeedbackInpaintPipeline.from_networks(make_tiny_networks(seed=1), "cityscapes", sample_size=96)
    export_protocol(tmp_path / "out", photos, resolution=32)
    found = compare({"a": pipe, "b": other}, photos, **SMALL, results={"tool": tmp_path / "out/images"}).report
    assert list(found["variants"]) == ["a: rounds=0", "tool", "b: rounds=0"]
    assert {"a: rounds=0 vs tool", "b: rounds=0 vs tool"} <= set(found["paired"])


def test_results_that_cannot_be_scored_are_one_line(photos, tiny_pipeline_dir, tmp_path, capsys):
    export_protocol(tmp_path / "out", photos, resolution=32)
    capsys.readouterr()
    model = ["evaluate", "--model", str(tiny_pipeline_dir), "--output", str(tmp_path / "r.json")]
    command = [*model, "--data", str(photos), "--resolution", "32", "--rounds", "0", "--results"]

    def refused(*results: str) -> str:
        assert main([*command, *results]) == 1
        (line,) = errors(capsys)
        assert not (tmp_path / "r.json").exists()
        return line

    assert "nowhere is no folder" in refused(f"lama={tmp_path / 'nowhere'}")
    small = shutil.copytree(tmp_path / "out/images", tmp_path / "small")
    for name in ("b", "more/c"):
        Image.new("RGB", (16, 16)).save(small / f"{name}.png")
    assert "b.png, more/c.png have another size" in (line := refused(f"lama={small}")) and "16x16, not 32x38" in line
    (small / "b.png").unlink()
    assert "lacks b.png (1 of 3)" in refused(f"lama={small}")
    (small / "a.png").write_bytes(b"no picture")
    shutil.copy(tmp_path / "out/images/b.png", small)
    assert "small/a.png" in refused(f"lama={small}")
    assert "is the name of a method" in refused(f"telea={tmp_path / 'out/images'}")
    assert "same name" in refused(f"a={tmp_path / 'out/images'}", f"a={small}")
    with pytest.raises(SystemExit):
        main([*command, f"a vs b={small}"])


def test_the_command_exports_alone_and_beside_a_report(photos, tiny_pipeline_dir, tmp_path, capsys):
    command = ["evaluate", "--data", str(photos), "--resolution", "32", "--mask-kind", "centre"]
    assert main([*command, "--export-protocol", str(tmp_path / "out")]) == 0
    assert "3 photos and masks" in capsys.readouterr().out
    hole = np.asarray(Image.open(tmp_path / "out/masks/a.png")) > 0
    assert np.array_equal(hole, evaluation_mask("centre", *hole.shape, 0))
    assert json.loads((tmp_path / "out/protocol.json").read_text())["mask_kind"] == "centre"
    scored = ["--model", str(tiny_pipeline_dir), "--output", str(tmp_path / "r.json"), "--rounds", "0"]
    results = ["--results", f"tool={tmp_path / 'out/images'}", "--baselines", "biharmonic", "--limit", "2"]
    assert main([*command, *scored, *results, "--export-protocol", str(tmp_path / "again")]) == 0
    report = json.loads((tmp_path / "r.json").read_text())
    assert list(report["variants"]) == ["rounds=0", "biharmonic", "tool"]
    assert report["protocol"]["masks"].startswith("centre") and report["protocol"]["n"] == 2
    assert "scikit-image" in report["protocol"]["versions"]
    assert sorted(path.name for path in (tmp_path / "again/images").iterdir()) == ["a.png", "b.png"]


def test_an_export_replaces_nothing(photos, tmp_path, capsys):
    write_photo(tmp_path / "out/images/mine.png")
    command = ["evaluate", "--data", str(photos), "--resolution", "32", "--export-protocol"]
    assert main([*command, str(tmp_path / "out")]) == 1
    assert "remove it or name a new folder" in errors(capsys)[0]
    assert [path.name for path in tmp_path.rglob("*.png") if "out" in path.parts] == ["mine.png"]


def test_nothing_is_exported_where_the_report_is_refused(photos, tiny_pipeline_dir, tmp_path, capsys):
    """The command is given again once it is corrected, and an export replaces nothing."""
    command = ["evaluate", "--data", str(photos), "--resolution", "32", "--export-protocol", str(tmp_path / "out")]
    for arguments, named in (
        (["--model", str(tiny_pipeline_dir), "--output", str(tmp_path / "r.txt")], "must be a .json file"),
        (["--model", str(tmp_path / "none"), "--output", str(tmp_path / "r.json")], "none"),
        (["--compare", f"a={tiny_pipeline_dir}", "a=b", "--output", str(tmp_path / "r.json")], "have the same name"),
    ):
        assert main([*command, *arguments]) == 1
        assert named in errors(capsys)[0] and not (tmp_path / "out").exists()


def test_an_export_that_fails_leaves_nothing(photos, tmp_path, capsys):
    (photos / "images/broken.png").write_bytes(b"no picture")
    assert main(["evaluate", "--data", str(photos), "--export-protocol", str(tmp_path / "out")]) == 1
    assert "broken.png" in errors(capsys)[0] and sorted(path.name for path in tmp_path.iterdir()) == ["data"]


@pytest.mark.parametrize(
    "given",
    [
        [],
        ["--model", "m"],
        ["--output", "r.json"],
        ["--export-protocol", "d", "--model", "m"],
        ["--export-protocol", "d", "--results", "a=b"],
    ],
    ids=" ".join,
)
def test_a_report_takes_a_model_and_a_name(given, tmp_path, capsys):
    assert main(["evaluate", "--data", str(tmp_path), *given]) == 1
    assert "--output" in errors(capsys)[0]


# ---------------------------------------------------------------------------------------------- biharmonic


def test_biharmonic_continues_a_ramp_and_keeps_what_is_known():
    across, down = np.meshgrid(np.arange(48), np.arange(40))
    photo = np.stack([2 * across + 3 * down, 4 * across, 5 * down], -1).astype(np.uint8)
    hole = np.zeros((40, 48), bool)
    hole[10:25, 12:30] = True
    spoilt = np.where(hole[..., None], 0, photo).astype(np.uint8)
    image = fill_with_baseline("biharmonic", Sample("a", spoilt, hole, None)).image
    assert np.array_equal(image[~hole], photo[~hole])
    assert np.array_equal(image, photo)  # a ramp is biharmonic


def test_biharmonic_refuses_what_would_take_minutes(pipe, tmp_path):
    write_photo(tmp_path / "images/large.png", (1100, 1000))
    with pytest.raises(InputError, match="large.png: is scored at 1100x1000"):
        evaluate(pipe, tmp_path, resolution=1000, rounds=(0,), baselines=("biharmonic",))


# ---------------------------------------------------------------------------------------------- the paper's comparison


def test_options_of_a_file_are_overruled_by_the_command_line(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text(
        "label_space: cityscapes\nresolution: [64, 48]\nperceptual_crop: 32\nlearning_rate: 1e-3\nstreaming: true\n"
        "compile: false\nlabel_map:\nmixed_precision: 'no'\ntrain_data_dir: a b\nseed: 5\n"
    )
    args = parse_args(["--config", str(config), "--seed", "7", "--perceptual_crop", "16"])
    assert args.resolution == [64, 48] and args.learning_rate == 1e-3 and args.label_space == "cityscapes"
    assert args.streaming and not args.compile and args.label_map is None and args.mixed_precision == "no"
    assert args.train_data_dir == ["a b"] and args.seed == 7 and args.perceptual_crop == 16
    assert parse_args(["--conf", str(config), "--resolution", "128"]).resolution == [128]


@pytest.mark.parametrize(
    "text, named",
    [
        ("resolutoin: 64\nsteps: 3\n", "resolutoin, steps: no option"),
        ("config: other.yaml\n", "config: no option"),
        ("mixed_precision: no\n", "mixed_precision: False does not fit; a bare yes, no"),
        ("streaming: 1\n", "write true or false"),
        ("seed: [1, 2]\n", "seed: [1, 2] does not fit; write a number"),
        ("resolution: {a: 1}\n", "or a list of them"),
        ("resolution: []\n", "does not fit"),
        ("seed: 1\nseed: 2\n", "seed: is there twice"),
        ("- seed\n", "holds no options"),
        ("", "holds no options"),
        ("seed: [1\n", "is not YAML"),
        ("seed: !!python/object/apply:os.getcwd []\n", "is not YAML"),
    ],
)
def test_a_file_of_options_that_cannot_be_meant_is_one_line(tmp_path, capsys, text, named):
    (tmp_path / "c.yaml").write_text(text)
    assert train_accelerate.main(["--config", str(tmp_path / "c.yaml")]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"error: {tmp_path / 'c.yaml'}: ") and named in line


def test_a_file_of_options_that_is_not_there_is_one_line(tmp_path, capsys):
    assert train_accelerate.main(["--config", str(tmp_path / "c.yaml")]) == 1
    assert "name a YAML file" in capsys.readouterr().out


@pytest.mark.parametrize("name", COMPARISONS)
def test_configs_are_what_the_training_takes(name):
    args = parse_args(["--config", str(ROOT / f"configs/{name}.yaml"), "--train_data_dir", "d"])
    assert args.label_space == name and args.resolution == [256] and args.max_train_steps == 60000


def test_recipes_are_what_the_training_takes(monkeypatch):
    monkeypatch.chdir(ROOT)
    text = re.sub(r" \\\n\s+", " ", (ROOT / "docs/recipes.md").read_text())
    commands = re.findall(r"accelerate launch .*train_accelerate.py (.*)", text)
    assert [parse_args(shlex.split(command)).label_space for command in commands] == ["celebamask-hq", "cityscapes"]


def make_reproduce(tmp_path: Path, *variables: str) -> subprocess.CompletedProcess:
    """`make reproduce` in an environment that is set up: this one."""
    python = tmp_path / "venv/bin/python"
    python.parent.mkdir(parents=True)
    (tmp_path / "venv/.installed").touch()
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    command = ["make", "reproduce", f"VENV={tmp_path / 'venv'}", *variables]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=550)


@pytest.mark.slow
def test_make_reproduce_trains_scores_and_writes_the_tables(streets, tiny_pipeline_dir, vgg_file, tmp_path):
    """Both official layouts, 20 faces and 13 streets, two steps each."""
    faces, models = tmp_path / "CelebAMask-HQ", {"cityscapes": tiny_pipeline_dir, "celebamask-hq": tmp_path / "faces"}
    write_celebamask_hq(faces, range(20))
    write_lists(faces, {number: {0: 2, 1: 1}.get(number % 7, 0) for number in range(20)})
    networks = make_tiny_networks("celebamask-hq")
    FeedbackInpaintPipeline.from_networks(networks, "celebamask-hq", sample_size=96).save_pretrained(tmp_path / "faces")
    for name, model in models.items():
        (tmp_path / f"{name}.yaml").write_text(
            f"label_space: {name}\npretrained_model: {model}\nperceptual_weights: {vgg_file}\nresolution: 32\n"
            "perceptual_crop: 16\ntrain_batch_size: 4\nmax_train_steps: 9\nnum_validation_images: 2\n"
            "num_exemplars: 3\ndataloader_num_workers: 0\n"
        )
    options = f"--output {tmp_path / 'out'} --configs {tmp_path} --variants feedback --launch=--cpu "
    options += "--train '--max_train_steps 2' --evaluate '--resolution 32 --mask-kind centre'"
    done = make_reproduce(tmp_path, f"CELEBA={faces}", f"CITYSCAPES={streets}", f"REPRODUCE={options}")
    assert done.returncode == 0, done.stdout + done.stderr
    log = (tmp_path / "out/celebamask-hq/feedback/training_options.json").read_text()
    assert json.loads(log)["max_train_steps"] == 2 and json.loads(log)["resolution"] == [32]
    tables = (tmp_path / "out/tables.md").read_text()
    for title, name, count in (("CelebA-HQ", "celebamask-hq", 3), ("Cityscapes", "cityscapes", 2)):
        report = json.loads((tmp_path / f"out/{name}.json").read_text())
        assert report["protocol"]["n"] == report["protocol"]["n_with_labels"] == count
        scores = report["variants"]["feedback: rounds=2"]["overall"]
        of_set = tables.split(f"## {title}\n")[1].split("\n## ")[0]
        assert f"| feedback: rounds=2 | {scores['lpips_alex']:.4f} |" in of_set and "| biharmonic |" in of_set
        assert "LPIPS-Alex by the share" in of_set and "| 20-30% |" in of_set and "| telea | " in of_set
        assert ("-5.89%" if name == "celebamask-hq" else "-6.15%") in of_set.splitlines()[-1]


def test_what_cannot_be_reproduced_is_refused_before_any_training(faces, tmp_path):
    rest = (tmp_path / "out", ["feedback"], ROOT / "configs", [], [], [])
    with pytest.raises(InputError, match="no data: give --celebamask-hq or --cityscapes"):
        reproduce({}, *rest)
    with pytest.raises(InputError, match="sideways: no variant"):
        reproduce({"celebamask-hq": faces}, rest[0], ["sideways"], *rest[2:])
    shutil.copytree(faces, tmp_path / "data")
    (tmp_path / "data/list_eval_partition.txt").unlink()
    with pytest.raises(InputError, match="list_eval_partition.txt: cannot be read"):
        reproduce({"celebamask-hq": tmp_path / "data"}, *rest)
    assert not (tmp_path / "out").exists()


def test_ours_is_compared_with_all_that_is_in_the_report(photos, pipe, tmp_path):
    other = FeedbackInpaintPipeline.from_networks(make_tiny_networks(seed=1), "cityscapes", sample_size=96)
    settings = {"resolution": 32, "rounds": (0, 2), "baselines": ("telea",), "limit": 1}
    report = compare({"unidirectional": other, "feedback": pipe}, photos, **settings).report
    last = section("cityscapes", report).split("By how much")[1].splitlines()[2:]
    others = [line.split(" | ")[0].removeprefix("| ") for line in last[2:]]
    assert {"telea", "unidirectional: rounds=2", "feedback: rounds=0"} <= set(others)
    assert last[-1].endswith("| -6.15% | - | +1.58% |")
