import copy
import csv
import json
import os
import shutil
import subprocess
import sys
import threading
import unicodedata
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from fbinpaint import FeedbackInpaintPipeline
from fbinpaint.batch.planning import plan_restorations
from fbinpaint.cli import errors_of, main
from fbinpaint.data.scenes import write_scenes
from fbinpaint.errors import InputError
from fbinpaint.evaluation import metrics
from fbinpaint.evaluation.controls import CONTROLS, control_pipelines, with_exemplars, with_random_exemplars
from fbinpaint.evaluation.evaluation import evaluate
from fbinpaint.evaluation.report import class_table, plot, table
from fbinpaint.images.folders import equal_size_batches, files_by_stem, pair_by_stem
from fbinpaint.images.io import load_image
from fbinpaint.labels import CITYSCAPES
from fbinpaint.system.urls import Url

from .conftest import make_tiny_networks, sorted_out


def write_photo(path: Path, size: tuple[int, int] = (48, 40), seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def write_mask(path: Path, size: tuple[int, int] = (48, 40)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros((size[1], size[0]), np.uint8)
    mask[8:20, 10:30] = 255
    Image.fromarray(mask).save(path)
    return path


def errors(capsys) -> list[str]:
    return [line for line in capsys.readouterr().err.replace("\r", "\n").splitlines() if line.startswith("error: ")]


# ---------------------------------------------------------------------------------------------- help and arguments


@pytest.mark.parametrize("command", ["run", "segment", "evaluate", "export", "publish"])
def test_help_is_short_with_an_example_and_needs_no_torch(command):
    script = (
        "import sys; from fbinpaint.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: assert not {'torch', 'diffusers', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script, command, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"example:\n  python -m fbinpaint {command} --" in done.stdout
    assert len(done.stdout.splitlines()) < {"run": 46, "evaluate": 52}.get(command, 31)  # a line for each option


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["run", "--image", "a.png"],
        ["run", "--image", "a.png", "--mask", "m.png", "--output", "o.png", "--rounds", "-1"],
        ["run", "--image", "a.png", "--mask", "m.png", "--output", "o.png", "--seed", str(2**64)],
        ["run", "--image", "a.png", "--mask", "m.png", "--output", "o.jpg", "--quality", "101"],
        ["evaluate", "--model", "m", "--data", "d", "--output", "r.json", "--rounds", "0,x"],
        ["evaluate", "--model", "m", "--data", "d", "--output", "r.json", "--limit", "0"],
        ["segment", "--image", "a.png", "--output", "o.png", "--mask", "m.png"],
    ],
)
def test_bad_usage_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    usage = " ".join(["usage: python -m fbinpaint", *arguments[:1]])  # of the command itself
    assert exit_.value.code == 2 and capsys.readouterr().err.startswith(f"{usage} [-h]")


# ---------------------------------------------------------------------------------------------- finding and pairing


def test_photos_pair_by_relative_stem(tmp_path):
    for name in ("photos/a.jpg", "photos/sub/a.png", "photos/v1.2.png", "photos/lost.png", "photos/.hidden.png"):
        write_photo(tmp_path / name)
    for name in ("masks/a.png", "masks/sub/a.png", "masks/v1.2.bmp"):
        write_mask(tmp_path / name)
    pairs, problems = pair_by_stem(files_by_stem(tmp_path / "photos"), files_by_stem(tmp_path / "masks"))
    assert {pair.stem: pair.mask.relative_to(tmp_path).as_posix() for pair in pairs} == {
        "a": "masks/a.png", "sub/a": "masks/sub/a.png", "v1.2": "masks/v1.2.bmp"
    }  # fmt: skip
    assert len(problems) == 1 and "lost.png" in problems[0]


def test_linked_folders_are_read_once(tmp_path):
    for name in ("elsewhere/a.png", "photos/b.png", "photos/sub/c.png", "photos/.hidden/d.png"):
        write_photo(tmp_path / name)
    (tmp_path / "photos/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos/sub/round").symlink_to(tmp_path / "photos")
    assert set(files_by_stem(tmp_path / "photos")) == {"b", "sub/c", "linked/a"}
    assert set(files_by_stem(tmp_path / "photos", leave_out=[tmp_path / "photos/sub"])) == {"b", "linked/a"}


def test_a_folder_is_not_called_by_a_link_to_it_that_comes_first(tmp_path):
    for name in ("photos/2024/a.png", "photos/later/b.png"):
        write_photo(tmp_path / name)
    mask = write_mask(tmp_path / "masks/2024/a.png")
    (tmp_path / "photos/00-latest").symlink_to("2024")
    (tmp_path / "photos/2024/next").symlink_to("../later")
    assert set(files_by_stem(tmp_path / "photos")) == {"2024/a", "later/b"}
    plan = plan_restorations(tmp_path / "photos", tmp_path / "masks", tmp_path / "out", save_semantics=False)
    jobs, problems, _ = sorted_out(plan)
    assert [(job.mask, job.result) for job in jobs] == [(mask, tmp_path / "out/2024/a.png")]
    assert len(problems) == 1 and "later/b.png: has no mask" in problems[0]


def test_ambiguous_stems_are_problems(tmp_path):
    for name in ("photos/a.jpg", "photos/a.png", "photos/b.png"):
        write_photo(tmp_path / name)
    for name in ("masks/a.png", "masks/b.png", "masks/b.bmp"):
        write_mask(tmp_path / name)
    pairs, problems = pair_by_stem(files_by_stem(tmp_path / "photos"), files_by_stem(tmp_path / "masks"))
    assert not pairs and len(problems) == 2
    assert "a.jpg" in problems[0] and "a.png" in problems[0] and "b.bmp" in problems[1]


def test_batches_are_of_one_size(tmp_path):
    for i, size in enumerate([(48, 40), (40, 48), (48, 40), (48, 40), (96, 80)]):
        write_photo(tmp_path / f"{i}.png", size)
    turned = Image.new("RGB", (40, 48))
    turned.getexif()[0x0112] = 6  # lies on its side: 48x40 once upright
    turned.save(tmp_path / "5.jpg", exif=turned.getexif())
    (tmp_path / "6.png").write_bytes(b"not a picture")
    (tmp_path / "7.png").write_bytes(b"not one either")
    turned.getexif()[0x0112] = 9  # says nothing: orientations end with 8
    turned.save(tmp_path / "8.jpg", exif=turned.getexif())
    pairs, _ = pair_by_stem(files_by_stem(tmp_path), None)

    def stems(batches):
        return sorted([pair.stem for pair in batch] for batch in batches)

    assert stems(equal_size_batches(pairs, 3)) == [["0", "2", "3"], ["1", "8"], ["4"], ["5"], ["6"], ["7"]]
    assert stems(equal_size_batches(pairs, 8, resolution=40)) == [["0", "2", "3", "4", "5"], ["1", "8"], ["6"], ["7"]]


# ---------------------------------------------------------------------------------------------- run: planning


@pytest.mark.parametrize("mask", ["é", "é_mask"])
def test_masks_are_found_by_names_in_another_unicode_form(tmp_path, mask):
    for own, other in (("NFC", "NFD"), ("NFD", "NFC")):
        folder = tmp_path / own
        photo = write_photo(folder / f"photos/{unicodedata.normalize(own, 'é')}.jpg")
        found = write_mask(folder / f"masks/{unicodedata.normalize(other, mask)}.png")
        plan = plan_restorations(folder / "photos", folder / "masks", folder / "out", save_semantics=False)
        jobs, problems, notes = sorted_out(plan)
        assert [job.mask for job in jobs] == [found] and not problems and not notes
        assert jobs[0].result == folder / f"out/{photo.stem}.png"  # the photo's own name


def test_results_never_overwrite_the_input(tmp_path):
    photo, mask = write_photo(tmp_path / "a.png"), write_mask(tmp_path / "m.png")
    for output in (photo, mask):
        jobs, problems, _ = sorted_out(plan_restorations(photo, mask, output, save_semantics=False))
        assert not jobs and str(output) in problems[0]
    before = write_photo(tmp_path / "x_before.png")
    jobs, problems, _ = sorted_out(plan_restorations(before, mask, tmp_path / "x.png", save_semantics=True))
    assert not jobs and "x_before.png" in problems[0]
    write_photo(tmp_path / "photos/a.png")
    with pytest.raises(InputError, match="another folder"):
        plan_restorations(tmp_path / "photos", mask, tmp_path / "photos", save_semantics=False)


def test_maps_of_one_photo_never_overwrite_another_result(tmp_path):
    write_photo(tmp_path / "photos/a.png"), write_photo(tmp_path / "photos/a_before.png")
    mask = write_mask(tmp_path / "m.png")
    jobs, problems, _ = sorted_out(plan_restorations(tmp_path / "photos", mask, tmp_path / "out", save_semantics=True))
    assert [job.image.name for job in jobs] == ["a.png"] and "a_before.png" in problems[0]
    jobs, problems, _ = sorted_out(plan_restorations(tmp_path / "photos", mask, tmp_path / "out", save_semantics=False))
    assert len(jobs) == 2 and not problems


def test_output_and_masks_inside_the_input_are_not_read(tmp_path):
    write_photo(tmp_path / "a.png"), write_photo(tmp_path / "out/a.png"), write_mask(tmp_path / "masks/a.png")
    write_mask(tmp_path / "masks/b.png")
    (tmp_path / "notes.txt").touch()
    plan = plan_restorations(tmp_path, tmp_path / "masks", tmp_path / "out", save_semantics=False)
    jobs, problems, notes = sorted_out(plan)
    assert [job.result for job in jobs] == [tmp_path / "out/a.png"] and not problems
    assert len(notes) == 3 and "notes.txt" in notes[1] and "b.png" in notes[2]
    assert notes[0].startswith(f"{tmp_path / 'out'}: lies in {tmp_path}, so what it holds is taken for earlier results")


@pytest.mark.parametrize(
    "image, mask, output, named",
    [
        ("missing.png", "m.png", "o.png", "missing.png"),
        ("a.png", "missing.png", "o.png", "missing.png"),
        ("a.png", "photos", "o.png", "photos"),
        ("a.png", "m.png", "o.xyz", "o.xyz"),
        ("a.png", "m.png", "new.folder/", "or make the folder first"),
        ("photos", "m.png", "a.png", "a.png"),
        ("empty", "m.png", "out", "empty"),
    ],
)
def test_arguments_that_do_not_fit_are_one_line(tmp_path, capsys, image, mask, output, named):
    write_photo(tmp_path / "a.png"), write_photo(tmp_path / "photos/a.png"), write_mask(tmp_path / "m.png")
    (tmp_path / "empty").mkdir()
    arguments = ["--image", tmp_path / image, "--mask", tmp_path / mask, "--output", tmp_path / output]
    assert main(["run", *map(str, arguments)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and named in line


def test_a_missing_model_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    photo, mask = write_photo(tmp_path / "a.png"), write_mask(tmp_path / "m.png")
    arguments = ["--image", photo, "--mask", mask, "--output", tmp_path / "o.png", "--model", tmp_path / "no-model"]
    assert main(["run", *map(str, arguments)]) == 1
    (line,) = errors(capsys)
    assert "no-model" in line and not (tmp_path / "o.png").exists()


# ---------------------------------------------------------------------------------------------- run: end to end


def test_run_one_photo(tmp_path, tiny_pipeline_dir):
    photo, mask = write_photo(tmp_path / "a.png"), write_mask(tmp_path / "m.png")
    output = tmp_path / "new/result.png"
    arguments = ["--image", photo, "--mask", mask, "--output", output, "--model", tiny_pipeline_dir, "--save-semantics"]
    assert main(["run", *map(str, arguments), "--rounds", "1", "--seed", "3"]) == 0
    written = {path.name: Image.open(path) for path in output.parent.iterdir()}
    assert sorted(written) == ["result.png", "result_after.png", "result_before.png"]
    hole = np.asarray(Image.open(mask)) > 0
    assert np.array_equal(np.asarray(written["result.png"])[~hole], np.asarray(Image.open(photo))[~hole])
    for name in ("result_before.png", "result_after.png"):
        assert written[name].mode == "P" and written[name].size == (48, 40) and np.asarray(written[name]).max() < 19


def test_run_keeps_the_colour_profile(tmp_path, tiny_pipeline_dir):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("RGB", (48, 40), "teal").save(tmp_path / "a.png", icc_profile=profile)
    mask = write_mask(tmp_path / "m.png")
    arguments = ["--image", tmp_path / "a.png", "--mask", mask, "--output", tmp_path / "o.png"]
    assert main(["run", *map(str, arguments), "--model", str(tiny_pipeline_dir), "--rounds", "0"]) == 0
    assert Image.open(tmp_path / "o.png").info["icc_profile"] == profile


def test_run_folder_writes_what_it_can_and_names_the_rest(tmp_path, tiny_pipeline_dir, capsys):
    photos, masks, out = tmp_path / "photos", tmp_path / "masks", tmp_path / "out"
    for name in ("a.png", "sub/b.png", "nan.png", "unpaired.png"):
        write_photo(photos / name)
    write_photo(photos / "tiny.png", (8, 8))
    (photos / "broken.png").write_bytes((photos / "a.png").read_bytes()[:1000])
    for name in ("a.png", "sub/b.png", "tiny.png", "broken.png"):
        write_mask(masks / name)
    # Fails within the pipeline, in one batch with a.png and sub/b.png, which must still be written.
    Image.fromarray(np.full((40, 48), np.nan, np.float32)).save(masks / "nan.tiff")

    arguments = ["--image", photos, "--mask", masks, "--output", out, "--model", tiny_pipeline_dir, "--rounds", "1"]
    assert main(["run", *map(str, arguments)]) == 1
    lines = errors(capsys)
    assert len(lines) == 4
    for name in ("broken.png", "nan.png", "tiny.png", "unpaired.png"):
        assert sum(name in line for line in lines) == 1
    written = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert written == ["a.png", "sub/b.png"]


def test_too_many_rounds_are_one_line_and_not_one_for_each_photo(tmp_path, tiny_pipeline_dir, capsys):
    write_photo(tmp_path / "photos/a.png"), write_photo(tmp_path / "photos/b.png")
    options = ["--image", tmp_path / "photos", "--mask", write_mask(tmp_path / "m.png"), "--output", tmp_path / "out"]
    assert main(["run", *map(str, options), "--model", str(tiny_pipeline_dir), "--rounds", "101"]) == 1
    line, *others = errors(capsys)
    assert "101" in line and not others and not list((tmp_path / "out").rglob("*.png"))


def test_run_folder_with_one_mask_for_all(tmp_path, tiny_pipeline_dir, capsys):
    write_photo(tmp_path / "photos/a.png"), write_photo(tmp_path / "photos/b.png", (96, 80), seed=1)
    mask = write_mask(tmp_path / "m.png")
    arguments = ["--image", tmp_path / "photos", "--mask", mask, "--output", tmp_path / "out", "--rounds", "0"]
    assert main(["run", *map(str, arguments), "--model", str(tiny_pipeline_dir)]) == 0
    assert Image.open(tmp_path / "out/b.png").size == (96, 80)


def test_run_keeps_the_format_of_each_photo_and_says_what_that_costs(tmp_path, tiny_pipeline_dir, capsys):
    photos, out = tmp_path / "photos", tmp_path / "out"
    tags = Image.Exif()
    tags[0x0112], tags[33432] = 6, "(c) me"
    for name in ("a.jpg", "b.webp", "c.gif", "d.tif", "e.bmp", "f.ppm", "g.jp2"):
        write_photo(photos / name)
    Image.open(photos / "a.jpg").save(photos / "a.jpg", exif=tags)
    mask = write_mask(tmp_path / "m.png")
    arguments = ["--image", photos, "--mask", mask, "--output", out, "--model", tiny_pipeline_dir, "--rounds", "0"]
    assert main(["run", *map(str, arguments), "--format", "keep", "--quality", "90"]) == 0
    said = [line for line in capsys.readouterr().err.replace("\r", "\n").splitlines() if line.startswith("note: ")]
    written = {path.name: Image.open(path) for path in out.iterdir()}
    assert {name: image.format for name, image in written.items()} == {
        "a.jpg": "JPEG", "b.webp": "WEBP", "c.png": "PNG", "d.tif": "TIFF", "e.bmp": "BMP", "f.ppm": "PPM",
        "g.jp2": "JPEG2000",
    }  # fmt: skip
    assert written["a.jpg"].size == (40, 48) and written["a.jpg"].getexif()[33432] == "(c) me"
    told = {name for name, image in written.items() if b"compositeWithTrained" in image.info.get("xmp", b"")}
    assert told == {"a.jpg", "b.webp", "c.png", "d.tif"}
    lossy = (f"results in {suffix} files are lossy" for suffix in (".jpg", ".webp"))
    for words in (*lossy, "c.gif: its result is a PNG", ".bmp files hold no XMP"):
        assert sum(words in line for line in said) == 1
    hole = np.asarray(Image.open(mask)) > 0
    for name in ("c", "d", "e", "f", "g"):
        files = (next(folder.glob(f"{name}.*")) for folder in (photos, out))
        photo, result = (np.asarray(load_image(file).convert("RGB")) for file in files)
        assert np.array_equal(photo[~hole], result[~hole])


def test_run_tells_in_the_result_that_a_model_painted_unless_asked_not_to(tmp_path, tiny_pipeline_dir, capsys):
    photo, mask = write_photo(tmp_path / "a.png"), write_mask(tmp_path / "m.png")
    arguments = ["--image", photo, "--mask", mask, "--model", tiny_pipeline_dir, "--rounds", "0", "--save-semantics"]
    assert main(["run", *map(str, arguments), "--output", str(tmp_path / "o.png")]) == 0
    assert main(["run", *map(str, arguments), "--output", str(tmp_path / "n.png"), "--no-provenance"]) == 0
    packet = Image.open(tmp_path / "o.png").info["xmp"]
    assert b"compositeWithTrainedAlgorithmicMedia" in packet and b"fbinpaint, model tiny<" in packet
    assert str(tmp_path).encode() not in packet
    assert not any("xmp" in Image.open(tmp_path / name).info for name in ("n.png", "o_before.png", "o_after.png"))
    Image.new("L", Image.open(photo).size).save(mask)  # marks nothing, so that nothing was painted
    assert main(["run", *map(str, arguments), "--output", str(tmp_path / "same.png"), "--quality", "80"]) == 0
    assert "xmp" not in Image.open(tmp_path / "same.png").info
    assert "same.png: is lossless, so --quality changes nothing there" in capsys.readouterr().err


def test_run_keeps_transparency_bit_depth_and_greyscale_of_photos(tmp_path, tiny_pipeline_dir):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 48, 4), dtype=np.uint8)
    deep = np.random.default_rng(1).integers(0, 4096, (40, 48)).astype(np.uint16)
    photos = {"alpha": pixels, "deep": deep, "grey": pixels[..., 0]}
    (tmp_path / "photos").mkdir()
    for name, photo in photos.items():
        Image.fromarray(photo).save(tmp_path / f"photos/{name}.png")
    mask, out = write_mask(tmp_path / "m.png"), tmp_path / "out"
    arguments = ["--image", tmp_path / "photos", "--mask", mask, "--output", out, "--rounds", "0"]
    assert main(["run", *map(str, arguments), "--model", str(tiny_pipeline_dir)]) == 0
    hole = np.asarray(Image.open(mask)) > 0
    for name, photo in photos.items():
        result = np.asarray(Image.open(out / f"{name}.png"))
        assert result.dtype == photo.dtype and result.shape == photo.shape
        assert np.array_equal(result[~hole], photo[~hole]) and (result != photo)[hole].any()


def test_format_keep_and_a_file_of_another_format_contradict(tmp_path, capsys):
    photo, mask = write_photo(tmp_path / "a.jpg"), write_mask(tmp_path / "m.png")
    arguments = ["--image", photo, "--mask", mask, "--output", tmp_path / "o.png", "--format", "keep"]
    assert main(["run", *map(str, arguments)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "o.png: is of another format than" in line and not (tmp_path / "o.png").exists()


# ---------------------------------------------------------------------------------------------- segment


def test_segment_one_photo(tmp_path, tiny_pipeline_dir, tiny_pipeline):
    photo, output = write_photo(tmp_path / "a.png"), tmp_path / "new/map.png"
    arguments = ["segment", "--image", photo, "--output", output, "--model", tiny_pipeline_dir]
    assert main(list(map(str, arguments))) == 0
    with Image.open(output) as found:
        assert found.mode == "P" and found.size == (48, 40)
        assert np.array_equal(np.asarray(found), tiny_pipeline.segment(Image.open(photo), output_type="np"))
        assert np.array_equal(found.convert("RGB"), tiny_pipeline.label_space.colorize(np.asarray(found)))
        in_colour = found.convert("RGB")
    assert [path.name for path in output.parent.iterdir()] == ["map.png"]  # no other file unless asked for
    assert main([*map(str, arguments), "--colour"]) == 0
    assert sorted(path.name for path in output.parent.iterdir()) == ["map.png", "map_colour.png"]
    with Image.open(tmp_path / "new/map_colour.png") as coloured:
        assert coloured.mode == "RGB" and np.array_equal(coloured, in_colour)


def test_segment_folder_writes_what_it_can_and_names_the_rest(tmp_path, tiny_pipeline_dir, capsys):
    """Photos of all sizes and modes, turned ones, photos of one size in one batch with one that is too small."""
    photos, out = tmp_path / "photos", tmp_path / "out"
    write_photo(photos / "small.png", (64, 64))
    write_photo(photos / "a.jpg"), write_photo(photos / "sub/b.png", seed=1)
    write_photo(photos / "wide.png", (1500, 40)), write_photo(photos / "large.jpg", (900, 700))
    Image.new("L", (70, 50), 90).save(photos / "grey.png")
    Image.new("RGBA", (50, 70), (200, 10, 10, 90)).save(photos / "alpha.webp")
    turned = Image.new("RGB", (96, 64), "teal")
    turned.getexif()[0x0112] = 6
    turned.save(photos / "turned.jpg", exif=turned.getexif())
    write_photo(photos / "tiny.png", (8, 8))
    (photos / "broken.png").write_bytes((photos / "small.png").read_bytes()[:1000])
    (photos / "empty.jpg").touch()
    (photos / "notes.txt").touch()

    arguments = ["--image", photos, "--output", out, "--model", tiny_pipeline_dir]
    assert main(["segment", *map(str, arguments)]) == 1
    printed = capsys.readouterr().err.replace("\r", "\n").splitlines()
    lines = [line for line in printed if line.startswith("error: ")]
    assert len(lines) == 3
    for name in ("broken.png", "empty.jpg", "tiny.png"):
        assert sum(name in line for line in lines) == 1
    assert any(line.startswith("note: ") and "notes.txt" in line for line in printed)
    found = {path.relative_to(out).as_posix(): Image.open(path) for path in out.rglob("*") if path.is_file()}
    assert {name: image.size for name, image in found.items()} == {
        "small.png": (64, 64), "a.png": (48, 40), "sub/b.png": (48, 40), "wide.png": (1500, 40),
        "large.png": (900, 700), "grey.png": (70, 50), "alpha.png": (50, 70), "turned.png": (64, 96),
    }  # fmt: skip
    assert all(image.mode == "P" and np.asarray(image).max() < 19 for image in found.values())


@pytest.mark.parametrize(
    "image, output, named",
    [
        ("missing.png", "o.png", "missing.png"),
        ("a.png", "o.jpg", "o.jpg"),
        ("a.png", "a.png", "a.png"),
        ("photos", "a.png", "a.png"),
        ("photos", "new.png", "new.png"),
        ("photos", "photos", "photos"),
        ("empty", "out", "empty"),
    ],
)
def test_segment_arguments_that_do_not_fit_are_one_line(tmp_path, capsys, image, output, named):
    photo = write_photo(tmp_path / "a.png")
    write_photo(tmp_path / "photos/a.png"), (tmp_path / "empty").mkdir()
    before = photo.read_bytes()
    assert main(["segment", "--image", str(tmp_path / image), "--output", str(tmp_path / output)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and named in line and photo.read_bytes() == before


# ---------------------------------------------------------------------------------------------- evaluate


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Six street scenes with labels but for the last, and one mask for each."""
    folder = tmp_path_factory.mktemp("data")
    write_scenes(folder, "cityscapes", count=6, size=(64, 48), seed=0)
    (folder / "labels/0005.png").unlink()
    for path in (folder / "images").iterdir():
        write_mask(folder / "masks" / path.name, (64, 48))
    return folder


@pytest.fixture
def only_alex(tmp_path, monkeypatch):
    """No LPIPS-VGG, whatever this machine has cached."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv(metrics.BACKBONES_VARIABLE, raising=False)


def test_evaluate_writes_the_report(tmp_path, data, tiny_pipeline_dir, only_alex, capsys):
    output = tmp_path / "reports/report.json"
    arguments = ["--model", tiny_pipeline_dir, "--data", data, "--output", output, "--resolution", "32"]
    assert main(["evaluate", *map(str, arguments), "--rounds", "2,0,1"]) == 0
    printed = capsys.readouterr().out
    assert "lpips_vgg is left out" in printed and "rounds=2 vs rounds=2, frozen-map: LPIPS-Alex" in printed

    report = json.loads(output.read_text())
    assert set(report) == {"protocol", "variants", "paired", "intact"}
    assert report["protocol"]["n"] == 6 and report["protocol"]["n_with_labels"] == 5
    assert report["protocol"]["resolution"] == 32 and report["protocol"]["sample_size"] == 96
    assert report["protocol"]["controls"] == ["frozen-map"] and report["protocol"]["labelled_share"] == 1
    assert report["protocol"]["label_space"] == "cityscapes"
    frozen = "rounds=2, frozen-map"  # whoever looks at feedback sees what it is worth
    assert list(report["variants"]) == ["rounds=0", "rounds=1", "rounds=2", frozen, "telea", "navier-stokes"]
    for name, variant in report["variants"].items():
        scores = variant["overall"]
        assert set(scores) == {
            "lpips_alex", "lpips_vgg", "psnr", "ssim", "psnr_hole", "miou_hole_before", "miou_hole_after",
            "iou_hole_by_class", "n",
        }  # fmt: skip
        if name.startswith("rounds"):
            terms = list(scores["iou_hole_by_class"].values())
            assert scores["miou_hole_after"] == pytest.approx(np.mean(terms), abs=1e-5)
        assert scores["n"] == 6 and scores["lpips_vgg"] is None and scores["psnr_hole"] < scores["psnr"]
        assert (scores["miou_hole_after"] is not None) == name.startswith("rounds")
        assert list(variant["by_mask_ratio"]) == ["10-20%", "20-30%", "30-40%", "40-50%", "50-60%"]
        assert sum(of_bin["n"] for of_bin in variant["by_mask_ratio"].values()) == 6
    in_labels = [CITYSCAPES.classes[i] for i in np.unique([Image.open(p) for p in (data / "labels").iterdir()])]
    assert list(report["intact"]["iou_by_class"]) == in_labels and report["intact"]["n"] == 5
    telea, navier_stokes = (report["variants"][name]["overall"] for name in ("telea", "navier-stokes"))
    assert telea["psnr_hole"] != navier_stokes["psnr_hole"]
    assert report["intact"]["miou"] == pytest.approx(np.mean(list(report["intact"]["iou_by_class"].values())), abs=1e-5)
    assert report["variants"][frozen]["overall"]["miou_hole_after"] == report["variants"]["rounds=0"]["overall"][
        "miou_hole_after"
    ]
    first = report["variants"]["rounds=0"]["overall"]
    assert first["miou_hole_after"] == first["miou_hole_before"]
    assert first["miou_hole_before"] == report["variants"]["rounds=2"]["overall"]["miou_hole_before"]

    assert list(report["paired"]) == [
        "rounds=1 vs rounds=0", "rounds=2 vs rounds=0",
        *(f"rounds={k} vs {other}" for k in range(3) for other in (frozen, "telea", "navier-stokes")),
    ]  # fmt: skip
    compared = report["paired"]["rounds=2 vs telea"]
    ours, theirs = (report["variants"][name]["overall"]["psnr"] for name in ("rounds=2", "telea"))
    assert compared["psnr"]["relative"] == pytest.approx((ours - theirs) / theirs, abs=1e-5)
    assert compared["psnr"]["ci95"][0] <= compared["psnr"]["relative"] <= compared["psnr"]["ci95"][1]
    assert compared["lpips_vgg"] is None and compared["miou_hole_after"] is None

    rows = list(csv.DictReader(output.with_suffix(".csv").open()))
    assert len(rows) == 6 * 6 and [row["photo"] for row in rows[:6]] == [f"000{i}" for i in range(6)]
    mean = np.mean([float(row["lpips_alex"]) for row in rows if row["variant"] == "telea"])
    assert mean == pytest.approx(report["variants"]["telea"]["overall"]["lpips_alex"], abs=1e-5)
    assert rows[5]["miou_hole_after"] == "" and rows[0]["miou_hole_after"] != ""
    assert sorted(path.name for path in output.parent.iterdir()) == ["report.csv", "report.json"]


def test_a_report_whose_table_nobody_reads_is_saved(tmp_path, data, tiny_pipeline_dir, only_alex, capsys, monkeypatch):
    reader, writer = os.pipe()

    def head() -> None:
        os.read(reader, 1000)  # the first line, which says what is left out
        os.close(reader)

    threading.Thread(target=head).start()
    arguments = ["--model", tiny_pipeline_dir, "--data", data, "--output", tmp_path / "report.json", "--limit", "1"]
    with open(writer, "w", buffering=1) as stdout:
        monkeypatch.setattr("sys.stdout", stdout)
        code = main(["evaluate", *map(str, arguments), "--resolution", "32", "--rounds", "0"])
    assert code == 1 and errors(capsys) == ["error: nobody reads what is printed any more; finished files are kept"]
    assert json.loads((tmp_path / "report.json").read_text())["protocol"]["n"] == 1


def test_run_without_stderr(tmp_path, tiny_pipeline_dir, monkeypatch):
    arguments = ["--image", write_photo(tmp_path / "a.png"), "--mask", write_mask(tmp_path / "mask.png")]
    monkeypatch.setattr("sys.stderr", None)  # as Python has it where it was closed before the start
    arguments += ["--output", tmp_path / "b.png", "--model", tiny_pipeline_dir]
    assert main(["run", *map(str, arguments)]) == 0
    assert load_image(tmp_path / "b.png").size == (48, 40)


def test_evaluate_scores_files_as_they_are(data, tiny_pipeline_dir, only_alex):
    """One photo by hand: given masks, at the resolution of the files, so that nothing is resized."""
    pipe = FeedbackInpaintPipeline.from_pretrained(tiny_pipeline_dir)
    found = evaluate(pipe, data, masks=data / "masks", resolution=48, rounds=(1,), baselines=("telea",), limit=1)
    photo = np.asarray(Image.open(data / "images/0000.png").convert("RGB"))
    mask = np.asarray(Image.open(data / "masks/0000.png"))
    truth = np.asarray(Image.open(data / "labels/0000.png"))

    out = pipe(Image.fromarray(photo), mask > 0, num_feedback_rounds=1)
    (ours,), (theirs,) = found.scores["rounds=1"], found.scores["telea"]
    by_hand = (np.asarray(out.images[0]), cv2.inpaint(photo, mask, 3, cv2.INPAINT_TELEA))
    for score, result in zip((ours, theirs), by_hand, strict=True):
        error = (result.astype(float) - photo) ** 2
        assert score.psnr == pytest.approx(10 * np.log10(255**2 / error.mean()), abs=1e-3)
        assert score.psnr_hole == pytest.approx(10 * np.log10(255**2 / error[mask > 0].mean()), abs=1e-3)
    after = metrics.confusion_matrix(truth, np.asarray(out.semantic_after[0]), mask > 0, 19)
    assert np.array_equal(ours.after, after) and ours.after.sum() == (mask > 0).sum()
    assert ours.mask_ratio == pytest.approx((mask > 0).mean())
    assert list(found.report["variants"]["telea"]["by_mask_ratio"]) == ["0-10%"]


def test_evaluate_twice_gives_the_same_report(data, tiny_pipeline_dir, only_alex):
    pipe = FeedbackInpaintPipeline.from_pretrained(tiny_pipeline_dir)
    settings = {"resolution": 32, "rounds": (0, 1), "baselines": (), "limit": 2}
    first, second = (evaluate(pipe, data, **settings).report for _ in range(2))
    others = ("rounds=0 vs rounds=1, frozen-map", "rounds=1 vs rounds=1, frozen-map")
    assert first == second and list(first["paired"]) == ["rounds=1 vs rounds=0", *others]


def test_fixed_and_broken_pixels_are_counted(data, only_alex):
    hole = np.asarray(Image.open(data / "masks/0000.png")) > 0
    truth = np.asarray(Image.open(data / "labels/0000.png"))
    networks = make_tiny_networks()
    bank = networks.recorrector.bank
    networks.recorrector.set_bank(replace(bank, maps=torch.full_like(bank.maps, int(truth[hole][0]))))
    networks.recorrector.gates.bias.data[3] = 8.0  # the layout has the say: a class that is there, everywhere
    pipe = FeedbackInpaintPipeline.from_networks(networks, "cityscapes", sample_size=96)
    found = evaluate(pipe, data, masks=data / "masks", resolution=48, rounds=(0, 2), baselines=("telea",), limit=1)
    photo = Image.open(data / "images/0000.png").convert("RGB")
    out = pipe(photo, hole, num_feedback_rounds=2)
    right = [np.asarray(labels)[hole] == truth[hole] for labels in (out.semantic_before[0], out.semantic_after[0])]
    (score,) = found.scores["rounds=2"]
    assert (score.fixed, score.broken) == ((~right[0] & right[1]).sum(), (right[0] & ~right[1]).sum())
    assert score.fixed + score.broken > 0
    harm = found.report["variants"]["rounds=2"]["do_no_harm"]
    assert harm["fixed"] == pytest.approx(score.fixed / hole.sum(), abs=1e-5)
    assert found.report["variants"]["rounds=0"]["do_no_harm"] == {"fixed": 0.0, "broken": 0.0}
    assert found.report["variants"]["telea"]["do_no_harm"] is None


def test_controls(data, tiny_pipeline_dir, only_alex):
    pipe = FeedbackInpaintPipeline.from_pretrained(tiny_pipeline_dir)
    found = evaluate(
        pipe, data, resolution=32, rounds=(0, 1), baselines=(),
        controls=tuple(CONTROLS),
    )  # fmt: skip
    overall = {name: variant["overall"] for name, variant in found.report["variants"].items()}
    assert overall["rounds=1, oracle"]["miou_hole_after"] > 0.8  # a quarter of the map's resolution is not all
    assert overall["rounds=1, shuffled-map"]["miou_hole_after"] < overall["rounds=1, oracle"]["miou_hole_after"]
    results = {name: tuple(one.psnr for one in of_variant) for name, of_variant in found.scores.items()}
    # What these networks segment again is nearly the same (tests/test_loop.py looks at the maps), and one exemplar more
    # or less need not change much: the test below looks at the banks themselves.
    for name in ("random-exemplar", "no-exemplars", "resegmented", "resegmented-mean"):
        del results[f"rounds=1, {name}"]
    assert results.pop("rounds=1, frozen-map") == results["rounds=0"]  # every pass paints over the first fill
    assert len(set(results.values())) == 4
    assert overall["rounds=1, frozen-map"]["miou_hole_after"] == overall["rounds=0"]["miou_hole_after"]
    # One photo of the six has no label: the others alone are in the oracle, and in what is paired with it.
    assert overall["rounds=1, oracle"]["n"] == 5 and overall["rounds=1"]["n"] == 6
    labelled = [one.lpips_alex for one in found.scores["rounds=1"] if one.photo != "0005"]
    oracle = [one.lpips_alex for one in found.scores["rounds=1, oracle"]]
    paired = found.report["paired"]["rounds=1 vs rounds=1, oracle"]["lpips_alex"]
    assert paired["n"] == 5 and paired["relative"] == pytest.approx(np.mean(labelled) / np.mean(oracle) - 1, abs=1e-5)
    assert found.report["paired"]["rounds=1 vs rounds=1, frozen-map"]["lpips_alex"]["n"] == 6
    assert "| rounds=1, oracle (5 photos) |" in table(found.report) and "| rounds=1 |" in table(found.report)
    assert pipe.config.variant == "feedback"  # the controls share its networks and leave it alone
    assert "rounds=1 vs rounds=1, shuffled-map" in found.report["paired"]
    assert sorted(found.report["protocol"]["controls"]) == sorted(CONTROLS)
    methods = [method for methods in CONTROLS.values() for method in methods]
    assert {f"rounds=1, {method}" for method in methods} < set(found.report["variants"])


def test_controls_of_exemplars(tiny_pipeline):
    """Layouts of the same few exemplars for every photo, or none at all; the pipeline itself keeps its own."""
    pipe = tiny_pipeline
    bank, before = pipe.recorrector.bank, copy.deepcopy(pipe.recorrector.bank)
    maps = {x.numpy().tobytes() for x in bank.maps}
    drawn = [with_random_exemplars(pipe, seed).recorrector for seed in range(20)]
    for recorrector in drawn:
        # Two and their mirror images, which are all that a layout is made of; what classes look like stays known.
        assert len(recorrector.bank) == recorrector.config.num_exemplars == 2 and recorrector.config.top_k == 4
        assert {x.numpy().tobytes() for x in recorrector.bank.maps} < maps
        assert torch.equal(recorrector.bank.weight, bank.weight) and torch.equal(recorrector.bank.counts, bank.counts)
    assert len({recorrector.bank.maps.numpy().tobytes() for recorrector in drawn}) > 5
    assert torch.equal(with_random_exemplars(pipe, 3).recorrector.bank.maps, drawn[3].bank.maps)
    pixels, hole = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8), np.zeros((48, 64), bool)
    hole[12:36, 16:40] = True
    controls = control_pipelines(pipe, ("random-exemplar", "no-exemplars"), seed=0)
    out = {name: control(pixels, hole, output_type="np").rounds[0] for name, control in controls.items()}
    own = pipe(pixels, hole, output_type="np").rounds[0]
    assert not any((round_.exemplar >= 0).any() for round_ in out["no-exemplars"])
    assert max(round_.exemplar.max() for round_ in out["random-exemplar"]) < 2
    for rounds in out.values():
        assert np.array_equal(rounds[0].image, own[0].image) and not np.array_equal(rounds[2].image, own[2].image)
    nothing = controls["no-exemplars"].recorrector.bank
    assert len(nothing) == 1 and not nothing.counts.any() and (nothing.maps == 255).all()
    assert len(pipe.recorrector.bank) == pipe.recorrector.config.num_exemplars == 5
    assert all(torch.equal(x, y) for x, y in zip(vars(bank).values(), vars(before).values(), strict=True))
    small = with_exemplars(pipe, replace(bank, maps=bank.maps[:2]))
    with pytest.raises(InputError, match="holds 2 exemplars"):
        with_random_exemplars(small, seed=0)


def test_only_what_is_labelled_is_scored(data, tiny_pipeline_dir, only_alex, tmp_path):
    """A label that knows one class of half of its photo, one that knows nothing, and one that is not there."""
    shutil.copytree(data, tmp_path / "data")
    labels = tmp_path / "data" / "labels"
    for name, top in (("0000.png", 24), ("0001.png", 0)):
        ids = np.asarray(Image.open(labels / name)).copy()
        ids[top:] = 255
        Image.fromarray(ids).save(labels / name)
    for path in sorted(labels.iterdir())[2:]:
        path.unlink()
    pipe = FeedbackInpaintPipeline.from_pretrained(tiny_pipeline_dir)
    settings = {"resolution": 48, "rounds": (0,), "baselines": (), "limit": 3, "masks": data / "masks"}
    found = evaluate(pipe, tmp_path / "data", **settings, controls=("oracle",))
    assert found.report["protocol"]["n_with_labels"] == 1 and found.report["protocol"]["labelled_share"] == 0.5
    scored = [one.after for one in found.scores["rounds=0"]]
    truth, hole = (np.asarray(Image.open(path)) for path in (labels / "0000.png", data / "masks/0000.png"))
    assert scored[1] is scored[2] is None and scored[0].sum() == ((truth != 255) & (hole > 0)).sum() > 0
    assert found.report["variants"]["rounds=0, oracle"]["overall"]["n"] == found.report["intact"]["n"] == 1
    (labels / "0000.png").unlink()
    with pytest.raises(InputError, match="no labelled pixel"):
        evaluate(pipe, tmp_path / "data", **settings, controls=("oracle",))
    unlabelled = evaluate(pipe, tmp_path / "data", **settings).report
    assert unlabelled["intact"] is unlabelled["variants"]["rounds=0"]["do_no_harm"] is None
    assert unlabelled["protocol"]["n_with_labels"] == 0 and class_table(unlabelled) == ""


def test_labels_of_the_known_part_alone_score_intact_photos_alone(data, tiny_pipeline_dir, only_alex, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    hole = np.asarray(Image.open(data / "masks/0000.png")) > 0
    for path in (tmp_path / "data/labels").iterdir():
        Image.fromarray(np.where(hole, 255, np.asarray(Image.open(path))).astype(np.uint8)).save(path)
    pipe = FeedbackInpaintPipeline.from_pretrained(tiny_pipeline_dir)
    report = evaluate(pipe, tmp_path / "data", data / "masks", resolution=48, rounds=(0,), baselines=()).report
    scores = report["variants"]["rounds=0"]
    assert scores["overall"]["miou_hole_after"] is scores["do_no_harm"] is None and report["intact"]["n"] == 5
    last = class_table(report).splitlines()[-1]
    assert last == f"| mean | {report['intact']['miou']:.3f} | - |"


@pytest.mark.parametrize(
    "spoil, named",
    [
        (lambda labels: [path.rename(path.with_name(f"x{path.name}")) for path in list(labels.iterdir())], "none of"),
        (lambda labels: (labels / "0001.png").rename(labels / "0001.jpg"), "0001.jpg"),
        (lambda labels: shutil.copy(labels / "0001.png", labels / "0001.bmp"), "0001.bmp"),
    ],
    ids=["other names", "another format", "two of a name"],
)
def test_labels_that_cannot_be_meant_are_one_line(data, tiny_pipeline_dir, only_alex, tmp_path, capsys, spoil, named):
    spoil(shutil.copytree(data, tmp_path / "data") / "labels")
    arguments = ["--model", tiny_pipeline_dir, "--data", tmp_path / "data", "--output", tmp_path / "report.json"]
    assert main(["evaluate", *map(str, arguments), "--resolution", "32", "--limit", "2"]) == 1
    (line,) = errors(capsys)
    assert named in line


def test_files_that_are_not_scored_are_told(data, tiny_pipeline_dir, only_alex, tmp_path, capsys):
    shutil.copytree(data, tmp_path / "data")
    (tmp_path / "data/images/0003.heic").touch()
    for name in ("0001_label.png", "0002_label.png"):
        shutil.copy(data / "labels/0001.png", tmp_path / "data/labels" / name)
    arguments = ["--model", tiny_pipeline_dir, "--data", tmp_path / "data", "--output", tmp_path / "report.json"]
    assert main(["evaluate", *map(str, arguments), "--resolution", "32", "--limit", "1", "--rounds", "0"]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith(f"note: {tmp_path}")] == [
        f"note: {tmp_path}/data/images/0003.heic: is not a photo that can be read, left alone",
        f"note: {tmp_path}/data/labels/0001_label.png: has the name of no photo in images/, not used "
        "(and 1 more like it)",
    ]


def test_maps_are_shuffled_between_photos_of_different_sizes(tmp_path, tiny_pipeline_dir, only_alex):
    for i, size in enumerate([(64, 48), (48, 64), (48, 48)]):
        write_photo(tmp_path / f"images/{i}.png", size, seed=i)
    pipe = FeedbackInpaintPipeline.from_pretrained(tiny_pipeline_dir)
    settings = {"resolution": 48, "rounds": (1,), "baselines": (), "controls": ("shuffled-map",)}
    assert len(evaluate(pipe, tmp_path, **settings).scores["rounds=1, shuffled-map"]) == 3
    with pytest.raises(InputError, match="is the only photo"):
        evaluate(pipe, tmp_path, **settings, limit=1)


def test_a_model_without_a_map_has_no_controls_of_maps(data, only_alex):
    networks = make_tiny_networks()
    networks.variant = "unguided"
    pipe = FeedbackInpaintPipeline.from_networks(networks, "cityscapes", sample_size=96)
    settings = {"resolution": 32, "rounds": (0, 1), "baselines": (), "limit": 2}
    assert evaluate(pipe, data, **settings).report["protocol"]["controls"] == []
    with pytest.raises(InputError, match="guided by no map"):
        evaluate(pipe, data, **settings, controls=("frozen-map",))


def test_compare_puts_several_models_into_one_report(tmp_path, data, tiny_pipeline_dir, only_alex, capsys):
    output = tmp_path / "report.json"
    other = tmp_path / "other"
    pipe = FeedbackInpaintPipeline.from_networks(make_tiny_networks(seed=1), "cityscapes", sample_size=96)
    pipe.save_pretrained(other)
    (other / "training.json").write_text('{"time": "7 minutes", "command": "train it"}')
    arguments = ["--data", data, "--output", output, "--resolution", "32", "--rounds", "0,2", "--limit", "3"]
    models = [f"a={tiny_pipeline_dir}", f"b={other}", f"c={tiny_pipeline_dir}"]
    assert main(["evaluate", *map(str, arguments), "--compare", *models]) == 0
    report = json.loads(output.read_text())
    assert list(report["variants"]) == [
        "a: rounds=0", "a: rounds=2", "a: rounds=2, frozen-map", "telea", "navier-stokes",
        "b: rounds=0", "b: rounds=2", "b: rounds=2, frozen-map",
        "c: rounds=0", "c: rounds=2", "c: rounds=2, frozen-map",
    ]  # fmt: skip
    assert list(report["intact"]) == ["a", "b", "c"] and report["intact"]["a"] == report["intact"]["c"]
    assert report["protocol"]["sample_size"] == {"a": 96, "b": 96, "c": 96}
    assert report["protocol"]["model"] == dict(model.split("=") for model in models)
    assert report["protocol"]["training"] == {"a": {}, "b": {"time": "7 minutes", "command": "train it"}, "c": {}}
    same, differ = report["paired"]["c: rounds=2 vs a: rounds=2"], report["paired"]["b: rounds=2 vs a: rounds=2"]
    assert same["psnr"] == {"relative": 0.0, "ci95": [0.0, 0.0], "n": 3} and differ["psnr"]["relative"] != 0
    assert "b: rounds=2 vs b: rounds=0" in report["paired"] and "a: rounds=2 vs telea" in report["paired"]
    text = (tmp_path / "report.md").read_text()
    assert "| b: rounds=2 |" in text and "b: rounds=2 vs a: rounds=2: LPIPS-Alex" in text and "| fixed |" in text
    assert "- b: 7 minutes" in text
    curves = Image.open(tmp_path / "report.png")
    assert min(curves.size) > 500 and len(curves.convert("RGB").getcolors(1 << 24)) > 50
    names = {row["variant"] for row in csv.DictReader(output.with_suffix(".csv").open())}
    assert names == set(report["variants"])
    printed = capsys.readouterr().out.splitlines()
    (first,) = [i for i, line in enumerate(printed) if line.split()[:2] == ["lpips_alex", "psnr"]]
    header, *rows = printed[first : first + 1 + len(report["variants"])]
    edges = [i for i in range(1, len(header) + 1) if header[i - 1] != " " and header[i : i + 1] in ("", " ")]
    for row, name in zip(rows, report["variants"], strict=True):  # columns line up, whatever the names' length
        assert row.startswith(f"{name} ") and len(row) == len(header) and len(row.removeprefix(name).split()) == 4
        assert all(row[edge - 1] != " " and row[edge : edge + 1] in ("", " ") for edge in edges)
    for variant in report["variants"].values():  # photos without labels have no second row of curves
        for scores in (variant["overall"], *variant["by_mask_ratio"].values()):
            scores["miou_hole_after"] = None
    plot(report, tmp_path / "unlabelled.png")
    unlabelled = Image.open(tmp_path / "unlabelled.png")
    assert unlabelled.width == curves.width and unlabelled.height == pytest.approx(curves.height / 2, abs=2)


def test_compare_refuses_what_cannot_be_compared(tmp_path, data, tiny_pipeline_dir, only_alex, capsys):
    faces = tmp_path / "faces"
    FeedbackInpaintPipeline.from_networks(make_tiny_networks("celebamask-hq"), "celebamask-hq").save_pretrained(faces)
    arguments = ["evaluate", "--data", str(data), "--output", str(tmp_path / "r.json"), "--compare"]
    assert main([*arguments, f"a={tiny_pipeline_dir}", f"b={faces}"]) == 1
    assert main([*arguments, f"a={tiny_pipeline_dir}", f"a={tiny_pipeline_dir}"]) == 1
    first, second = errors(capsys)
    assert "label spaces" in first and "same name" in second
    networks = make_tiny_networks()
    networks.variant = "unguided"
    FeedbackInpaintPipeline.from_networks(networks, "cityscapes").save_pretrained(tmp_path / "unguided")
    compared = [f"a={tiny_pipeline_dir}", f"b={tmp_path / 'unguided'}"]
    assert main([*arguments, *compared, "--controls", "resegmented"]) == 1
    said = capsys.readouterr()
    assert "unguided: is guided by no map" in said.err and said.out == ""  # before the first is scored, which says more
    with pytest.raises(SystemExit):
        main([*arguments, "without-a-name"])


@pytest.mark.parametrize(
    "change, named",
    [
        (["--controls", "oracle,placebo"], "placebo"),
        (["--data", "{tmp}"], "images/"),
        (["--data", "x" * 300], "images/"),
        (["--masks", "{tmp}/masks"], "0001.png"),
        (["--masks", "{tmp}/nowhere"], "nowhere"),
        (["--masks", "{tmp}/black"], "no hole"),
        (["--output", "{tmp}/report.txt"], "report.txt"),
        (["--resolution", "16"], "16"),
        (["--baselines", "telea,magic"], "magic"),
    ],
)
def test_evaluate_refuses_in_one_line(tmp_path, data, tiny_pipeline_dir, only_alex, capsys, change, named):
    write_mask(tmp_path / "masks/0000.png", (64, 48))
    (tmp_path / "black").mkdir()
    for path in (data / "images").iterdir():
        Image.new("L", (64, 48)).save(tmp_path / "black" / path.name)
    arguments = ["--model", tiny_pipeline_dir, "--data", data, "--output", tmp_path / "report.json", "--limit", "2"]
    change = [text.format(tmp=tmp_path) for text in change]
    assert main(["evaluate", *map(str, arguments), "--resolution", "32", *change]) == 1
    (line,) = errors(capsys)
    assert named in line and not (tmp_path / "report.json").exists()


@pytest.mark.parametrize("output, folder", [("/proc/r.json", "/proc"), ("r.json", "r.json"), ("r.json", "r.csv")])
def test_what_cannot_be_written_is_told_before_the_work(
    output, folder, tmp_path, data, tiny_pipeline_dir, only_alex, capsys
):
    (tmp_path / folder).mkdir(exist_ok=True)
    arguments = ["--model", tiny_pipeline_dir, "--data", data, "--output", tmp_path / output, "--limit", "2"]
    assert main(["evaluate", *map(str, arguments), "--resolution", "32", "--rounds", "0"]) == 1
    said = capsys.readouterr().err  # and no progress bar
    assert said.startswith(f"error: {tmp_path / folder}: ") and said.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ([] if folder == "/proc" else [folder])


def test_evaluate_refuses_labels_of_another_space(tmp_path, tiny_pipeline_dir, only_alex, capsys):
    write_photo(tmp_path / "images/a.png")
    (tmp_path / "labels").mkdir()
    Image.new("L", (48, 40), 200).save(tmp_path / "labels/a.png")
    arguments = ["--model", tiny_pipeline_dir, "--data", tmp_path, "--output", tmp_path / "r.json"]
    assert main(["evaluate", *map(str, arguments), "--resolution", "32"]) == 1
    (line,) = errors(capsys)
    assert "labels/a.png" in line and "200" in line


@pytest.mark.parametrize(
    ("output", "errors"),
    [
        (Path("out"), "out.errors.txt"),
        (Path("a/out"), "a/out.errors.txt"),
        (Path("/"), "/errors.txt"),
        (Path("/dev"), "/dev/errors.txt"),  # the root of a disk, too
        (Url("s3://bucket/a"), "s3://bucket/a.errors.txt"),
        (Url("s3://bucket"), "s3://bucket/errors.txt"),
        (Url("hf://buckets/me/it/a"), "hf://buckets/me/it/a.errors.txt"),
        (Url("hf://buckets/me/it"), "hf://buckets/me/it/errors.txt"),
    ],
)
def test_errors_lie_beside_the_results_but_in_the_same_store(output, errors):
    assert str(errors_of(output)) == errors



def test_errors_lie_in_the_output_where_nothing_can_be_beside_it(tmp_path):
    (tmp_path / "out").mkdir()
    assert errors_of(tmp_path / "out") == tmp_path / "out.errors.txt"
    tmp_path.chmod(0o500)
    try:
        if os.access(tmp_path, os.W_OK):
            pytest.skip("this user may write anywhere")
        assert errors_of(tmp_path / "out") == tmp_path / "out/errors.txt"
    finally:
        tmp_path.chmod(0o700)
