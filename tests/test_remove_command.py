"""`run --remove`: what is named goes, the rest stays bit for bit, and a line says what became of each photo."""

import copy
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from fbinpaint import FeedbackInpaintPipeline
from fbinpaint.batch.batch import Found, listed, percentage, still_seen
from fbinpaint.batch.planning import plan_restorations
from fbinpaint.cli import main
from fbinpaint.images.convert import to_rgb
from fbinpaint.images.io import load_image
from fbinpaint.images.tensors import to_tensor
from fbinpaint.labels import CITYSCAPES
from fbinpaint.models import Segmenter
from fbinpaint.pipeline.exemplars import make_exemplars
from fbinpaint.removal import Removal

from . import test_unbreakable as unbreakable
from .conftest import make_tiny_networks, quiet_pipeline, sorted_out
from .odd_inputs import corpus, write_corpus

ROOT = Path(__file__).parents[1]
CAR = CITYSCAPES.classes.index("car")
MIXED = [(64, 64), (1200, 300), (100, 80), (64, 300), (96, 72), (400, 300)]


def street(size: tuple[int, int], seed: int, car: bool = True) -> np.ndarray:
    """(H,W,3) uint8: grey noise, and a red block in it, which is a car."""
    width, height = size
    pixels = np.repeat(np.random.default_rng(seed).integers(90, 170, (height, width, 1), dtype=np.uint8), 3, axis=2)
    if car:
        pixels[block(size)] = (220, 20, 20)
    return pixels


def block(size: tuple[int, int]) -> tuple[slice, slice]:
    width, height = size
    return slice(height // 3, 2 * height // 3), slice(width // 4, width // 2)


def write(path: Path, size: tuple[int, int] = (64, 48), seed: int = 0, car: bool = True, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(street(size, seed, car)).save(path, **options)
    return path


def learn_cars(segmenter: Segmenter) -> None:
    """What is red is a car; grey noise is road."""
    steps, rate = 60, 1e-2
    optimizer = torch.optim.Adam(segmenter.parameters())
    rng = np.random.default_rng(0)
    for step in range(steps):
        size = ((64, 48), (96, 64))[step % 2]
        left, top, width, height = rng.integers(0, (*size, *size))
        place = block(size) if step % 4 < 2 else (slice(top, top + height), slice(left, left + width))
        pixels, car = street(size, step, car=False), torch.zeros(1, *size[::-1])
        pixels[place], car[0][place] = (220, 20, 20), 1
        image, share = to_tensor(pixels), F.avg_pool2d(car, 4)
        target = torch.zeros(1, 19, *share.shape[1:])
        target[:, 0], target[:, CAR] = 1 - share, share
        loss = F.cross_entropy(segmenter(image, torch.zeros_like(image[:, :1])).logits, target)
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def make_pipeline() -> FeedbackInpaintPipeline:
    networks = make_tiny_networks()
    learn_cars(networks.segmenter)
    return quiet_pipeline(networks)


@pytest.fixture(scope="module")
def pipe() -> FeedbackInpaintPipeline:
    return make_pipeline()


@pytest.fixture(scope="module")
def model(pipe, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "cars"
    pipe.save_pretrained(folder)
    return folder


def run(model: Path | str, image: Path, output: Path, *options: str | Path, classes: str | None = "car") -> int:
    given = [f"--remove={classes}"] if classes is not None else []
    return main(["run", f"--image={image}", f"--output={output}", f"--model={model}", "--rounds=0", *given,
                 *map(str, options)])  # fmt: skip


SEEN, DOUBTED = " still seen in ", ": unlike the photos that model "
ALL = "all of it would be filled"


def said(capsys, seen: bool = False, doubted: bool = False) -> tuple[str, list[str]]:
    """What is on stdout, and the lines on stderr that are no progress bar; what is still seen, which depends on how
    random networks paint, only where asked, and likewise what is doubted: grey noise is unlike all scenes."""
    out, err = capsys.readouterr()
    lines = err.replace("\r", "\n").splitlines()
    lines = [line for line in lines if line.startswith(("note: ", "error: ", "warning: "))]
    return out, [line for line in lines if (seen or SEEN not in line) and (doubted or DOUBTED not in line)]


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def mask_of(path: Path) -> np.ndarray:
    """(H,W) bool. As `--save-masks` writes it."""
    with Image.open(path.with_name(f"{path.stem}_mask.png")) as image:
        assert image.format == "PNG" and image.mode == "L"
        values = np.asarray(image)
    assert np.isin(values, (0, 255)).all()
    return values > 0


# ---------------------------------------------------------------------------------------------- results


def test_what_is_named_goes_from_photos_of_all_sizes_and_all_else_stays(tmp_path, model, pipe, capsys):
    photos, out = tmp_path / "photos", tmp_path / "out"
    for i, size in enumerate(MIXED):
        write(photos / ("sub" if i % 2 else "") / f"{i}.png", size, seed=i)
    turned = Image.Exif()
    turned[0x0112] = 6  # 48x64 once upright
    write(photos / "turned.jpg", exif=turned, quality=95)
    write(photos / "sub/empty.png", seed=9, car=False)
    assert run(model, photos, out, "--save-masks", "--save-semantics") == 0
    printed, lines = said(capsys)

    stems = [path.removesuffix(".png") for path in files_in(out) if "_" not in path]
    assert stems == ["0", "2", "4", "sub/1", "sub/3", "sub/5", "sub/empty", "turned"]
    assert files_in(out) == sorted(f"{s}{end}.png" for s in stems for end in ("", "_before", "_after", "_mask"))
    filled, pixels = 0, 0
    for stem in stems:
        (photo,) = photos.glob(f"{stem}.*")
        before, result, mask = to_rgb(load_image(photo)), to_rgb(load_image(out / f"{stem}.png")), mask_of(out / stem)
        assert before.shape == result.shape and mask.shape == before.shape[:2]
        assert np.array_equal(result[~mask], before[~mask])
        maps = [np.asarray(Image.open(out / f"{stem}_{when}.png")) for when in ("before", "after")]
        assert np.array_equal(maps[0], pipe.segment(Image.open(photo), output_type="np"))
        if stem == "sub/empty":
            assert not mask.any() and np.array_equal(*maps)
            continue
        red = (before[..., 0] > 180) & (before[..., 1] < 60)
        assert red.mean() > 0.05 and mask[red].mean() > 0.95 and mask.mean() < 0.5
        assert not np.array_equal(result[red], before[red])
        assert not (maps[1][mask] == CAR).any()
        filled, pixels = filled + mask.sum(), pixels + mask.size
    assert printed == f"found in 7 of 8 photos, {100 * filled / pixels:.1f} % of their pixels\n"
    assert lines == [f"note: {photos / 'sub/empty.png'}: shows no car; copied as it is"]


def test_a_photo_that_shows_none_is_copied(tmp_path, model, capsys):
    photos = tmp_path / "photos"
    for name in ("a.png", "b.jpg", "c.BMP", "d.webp"):
        write(photos / name, car=False)
    write(photos / "e.png")
    Image.open(photos / "a.png").quantize(16).save(photos / "f.gif")
    options = ("--remove= person , car", "--save-masks")
    assert run(model, photos, tmp_path / "out", *options, classes=None) == 0
    printed, lines = said(capsys)
    assert printed.startswith("found in 1 of 6 photos (person in none, car in 1), ")
    copied = [photos / name for name in ("a.png", "b.jpg", "c.BMP", "d.webp", "f.gif")]
    wanted = [f"note: {path}: shows no person and no car; copied as it is" for path in copied]
    assert sorted(line for line in lines if "copied" in line) == wanted
    assert sorted(line for line in lines if "copied" not in line) == [
        f"note: {photos / 'f.gif'}: written as 8-bit RGB, because results keep no palette",
        f"warning: model {model}: the labelled photos that it keeps show no person, so it hardly finds any",
    ]
    assert (tmp_path / "out/a.png").read_bytes() == (photos / "a.png").read_bytes()
    for path in copied:
        result = Image.open(tmp_path / f"out/{path.stem}.png")
        assert result.format == "PNG" and "xmp" not in result.info
        assert np.array_equal(to_rgb(result), to_rgb(load_image(path)))
        assert not mask_of(tmp_path / "out" / path.stem).any()
    assert b"compositeWithTrainedAlgorithmicMedia" in Image.open(tmp_path / "out/e.png").info["xmp"]

    assert run(model, photos, tmp_path / "kept", "--format=keep", "--quality=50") == 0
    for path in copied[:4]:
        assert (tmp_path / "kept" / path.name).read_bytes() == path.read_bytes()
    assert run(model, photos / "b.jpg", tmp_path / "o.jpeg") == 0  # another suffix of the same format
    assert (tmp_path / "o.jpeg").read_bytes() == (photos / "b.jpg").read_bytes()
    capsys.readouterr()
    assert run(model, photos / "a.png", tmp_path / "o.jpg") == 0
    assert "nothing was filled, but it was encoded again" in said(capsys)[1][-1]
    assert np.allclose(to_rgb(load_image(tmp_path / "o.jpg")), to_rgb(load_image(photos / "a.png")), atol=16)


def test_one_photo_is_named_with_its_mask_beside_it(tmp_path, model, capsys):
    photo = write(tmp_path / "a.png")
    assert run(model, photo, tmp_path / "new/o.png", "--save-masks", "--no-provenance", "--shadow", "--retries=2") == 0
    assert files_in(tmp_path / "new") == ["o.png", "o_mask.png"]
    assert "xmp" not in Image.open(tmp_path / "new/o.png").info
    assert capsys.readouterr().out.startswith("found in 1 of 1 photos, ")


def test_grow_is_in_pixels(tmp_path, model):
    photo = write(tmp_path / "a.png", (96, 72))
    masks = {}
    for grow in (0, 3, 9):
        assert run(model, photo, tmp_path / f"{grow}.png", f"--grow={grow}", "--save-masks") == 0
        masks[grow] = mask_of(tmp_path / str(grow))
    rows, columns = np.nonzero(masks[0])
    for grow in (3, 9):
        assert [rows.min() - grow, rows.max() + grow] == list(np.nonzero(masks[grow].any(1))[0][[0, -1]])
        assert [columns.min() - grow, columns.max() + grow] == list(np.nonzero(masks[grow].any(0))[0][[0, -1]])


def test_masks_of_ones_own_are_filled_as_well(tmp_path, model, pipe, capsys):
    photos, masks, out = tmp_path / "photos", tmp_path / "masks", tmp_path / "out"
    hole = np.zeros((48, 64), bool)
    hole[2:9, 40:60] = True
    nothing = np.zeros_like(hole)
    masks.mkdir()
    given = {"both": (True, hole), "thing": (True, nothing), "mask": (False, hole), "none": (False, nothing)}
    for name, (car, own) in given.items():
        write(photos / f"{name}.png", car=car)
        Image.fromarray(own).save(masks / f"{name}.png")
    assert run(model, photos, out, f"--mask={masks}", "--save-masks") == 0
    printed, lines = said(capsys)
    car = pipe.select(pipe.segment(street((64, 48), 0), output_type="np"), "car")
    wanted = {"both": car | hole, "thing": car, "mask": hole, "none": nothing}
    for name, mask in wanted.items():
        assert np.array_equal(mask_of(out / name), mask)
        before, result = (np.asarray(Image.open(folder / f"{name}.png")) for folder in (photos, out))
        assert np.array_equal(before[~mask], result[~mask]) and np.array_equal(before, result) == (name == "none")
    share = (car.sum() + (car | hole).sum()) / (2 * hole.size)
    assert printed == f"found in 2 of 4 photos, {percentage(share)} of their pixels\n"
    assert sorted(lines) == [
        f"note: {photos / 'mask.png'}: shows no car; only what its mask marks was filled",
        f"note: {photos / 'none.png'}: shows no car; copied as it is",
    ]


def test_classes_are_forbidden_in_masks_of_ones_own(tmp_path, model, capsys):
    """Half of the car is marked: without a class to forbid, the map shows it there."""
    photo, size = write(tmp_path / "a.png", (96, 72)), (96, 72)
    rows, columns = block(size)
    hole = np.zeros(size[::-1], bool)
    hole[rows, columns.start + 4 : columns.stop - 4] = True
    Image.fromarray(hole).save(tmp_path / "m.png")
    options = [f"--mask={tmp_path / 'm.png'}", "--save-semantics"]
    assert run(model, photo, tmp_path / "free.png", *options, classes=None) == 0
    assert run(model, photo, tmp_path / "forbidden.png", *options) == 0
    assert (np.asarray(Image.open(tmp_path / "free_after.png"))[hole] == CAR).any()
    assert not (np.asarray(Image.open(tmp_path / "forbidden_after.png"))[hole] == CAR).any()


def test_the_transparent_part_is_filled_as_well(tmp_path, model, capsys):
    pixels = np.dstack([street((64, 48), 0), np.full((48, 64), 255, np.uint8)])
    pixels[:6, 50:, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert run(model, tmp_path / "a.png", tmp_path / "o.png", "--mask=alpha", "--save-masks") == 0
    mask = mask_of(tmp_path / "o")
    assert mask[:6, 50:].all() and mask[20, 20] and not mask[40:, 50:].any()


# ---------------------------------------------------------------------------------------------- masks


def test_saved_masks_are_taken_again(tmp_path, model, capsys):
    photos, out = tmp_path / "photos", tmp_path / "out"
    for i, name in enumerate(("a.png", "sub/b.jpg")):
        write(photos / name, seed=i)
    assert run(model, photos, out, "--save-masks", "--save-semantics") == 0
    said(capsys)
    assert run(model, photos, tmp_path / "again", f"--mask={out}", "--save-masks", classes=None) == 0
    assert said(capsys) == ("", [f"note: {out}: holds 2 photos beside their masks (NAME_mask.png); these are used"])
    for name in ("a", "sub/b"):
        assert np.array_equal(mask_of(tmp_path / "again" / name), mask_of(out / name)) and mask_of(out / name).any()

    for path in [*out.rglob("*_before.png"), *out.rglob("*_after.png")]:
        path.unlink()
    assert run(model, out, tmp_path / "third", f"--mask={out}", "--save-masks", classes=None) == 0
    assert files_in(tmp_path / "third") == ["a.png", "a_mask.png", "sub/b.png", "sub/b_mask.png"]


def test_masks_are_saved_without_removal_too(tmp_path, model):
    photo = write(tmp_path / "a.png")
    soft = np.linspace(0, 255, 64, dtype=np.uint8)[None].repeat(48, 0)
    Image.fromarray(soft).resize((128, 96)).save(tmp_path / "m.jpg")
    assert run(model, photo, tmp_path / "o.png", f"--mask={tmp_path / 'm.jpg'}", "--save-masks", classes=None) == 0
    mask = mask_of(tmp_path / "o")
    before, result = (np.asarray(Image.open(tmp_path / name)) for name in ("a.png", "o.png"))
    assert mask.shape == (48, 64) and 0.4 < mask.mean() < 0.6 and np.array_equal(before[~mask], result[~mask])


def test_masks_among_the_photos_are_no_photos(tmp_path, model, capsys):
    photos = tmp_path / "photos"
    write(photos / "a.png"), write(photos / "a_mask.png"), write(photos / "sub/b_mask.png")  # there is no photo b
    assert run(model, photos, tmp_path / "out") == 0
    assert files_in(tmp_path / "out") == ["a.png", "sub/b_mask.png"]
    assert said(capsys)[1] == [f"note: {photos / 'a_mask.png'}: is a mask by its name, left alone"]


def test_saved_masks_overwrite_nothing(tmp_path, model, capsys):
    photo = write(tmp_path / "a_mask.png")
    before = photo.read_bytes()
    assert run(model, photo, tmp_path / "a.png", "--save-masks") == 1
    (line,) = said(capsys)[1]
    assert line == f"error: {photo}: its result would overwrite {photo}; name another output"
    assert files_in(tmp_path) == ["a_mask.png"] and photo.read_bytes() == before
    plans = (plan_restorations(photo, None, tmp_path / name, True, save_masks=True) for name in ("a.png", "b.png"))
    jobs, problems, _ = sorted_out(next(plans))
    assert not jobs and len(problems) == 1
    (job,), problems, _ = sorted_out(next(plans))
    names = ["b.png", "b_before.png", "b_after.png", "b_mask.png"]
    assert [path.name for path in job.targets] == names and not problems


# ---------------------------------------------------------------------------------------------- what is said


def test_what_is_still_seen_is_said(pipe, tmp_path, capsys):
    """This model paints in red, whatever it is told."""
    pipe = copy.deepcopy(pipe)
    red = torch.tensor([2.0, -2.0, -2.0])  # in [-1,1]; a residual
    pipe.guided_inpainter.details.to_rgb.bias.data.copy_(red.repeat_interleave(4))
    pipe.save_pretrained(tmp_path / "model")
    for name, car in (("a", True), ("b", False)):
        write(tmp_path / f"photos/{name}.png", (64, 48), car=car)
    assert run(tmp_path / "model", tmp_path / "photos", tmp_path / "out", "--save-masks", classes="car,bus") == 0
    result, mask = Image.open(tmp_path / "out/a.png"), mask_of(tmp_path / "out/a")
    share = (pipe.segment(result, output_type="np") == CAR)[mask].mean()
    assert share > 0.2 and sorted(said(capsys, seen=True)[1]) == [
        f"note: {tmp_path / 'photos/a.png'}: car is still seen in {100 * share:.1f} % of what was filled",
        f"note: {tmp_path / 'photos/b.png'}: shows no car and no bus; copied as it is",
    ]


def test_a_find_in_a_photo_of_another_kind_is_doubted(pipe, tmp_path, capsys):
    """The exemplars are grey streets with a car: a red block on a meadow is unlike them, a meadow alone shows none."""
    pipe, size = copy.deepcopy(pipe), (256, 192)
    labels = np.zeros(size[::-1], np.uint8)
    labels[block(size)] = CAR
    streets = [(street(size, seed), labels) for seed in range(4)]
    pipe.recorrector.set_bank(make_exemplars(pipe.segmenter, CITYSCAPES, streets))
    pipe.save_pretrained(tmp_path / "model")
    photos, meadow = tmp_path / "photos", street(size, 9)
    meadow[labels != CAR] = (20, 220, 20)
    write(photos / "street.png", size, seed=8)
    Image.fromarray(meadow).save(photos / "meadow.png")
    meadow[labels == CAR] = (20, 220, 20)
    Image.fromarray(meadow).save(photos / "empty.png")
    assert run(tmp_path / "model", photos, tmp_path / "out") == 0
    assert sorted(said(capsys, doubted=True)[1]) == [
        f"note: {photos / 'empty.png'}: shows no car; copied as it is",
        f"note: {photos / 'meadow.png'}: unlike the photos that model {tmp_path / 'model'} has learnt from; what was "
        "taken for car may be something else, so look at it",
    ]


def test_words_of_shares_and_lists():
    shares = {0: "0.0 %", 1e-5: "less than 0.1 %", 0.0005: "0.1 %", 0.031: "3.1 %", 1: "100.0 %"}
    assert {share: percentage(share) for share in shares} == shares
    assert [listed("abc"[:n]) for n in (1, 2, 3)] == ["a", "a and b", "a, b and c"]
    words = "car is still seen in 3.1 %, person in less than 0.1 % and bus in 0.2 % of what was filled"
    assert still_seen({"car": 0.031, "person": 1e-4, "bus": 0.002}) == words
    found, mask = Found(), np.zeros((10, 100), bool)
    mask[0, :31] = True
    blank = Image.new("L", (1, 1))
    for seen in ({"car": 0.02}, {}, {"car": 0.01, "bus": 0.01}):
        removal = Removal(blank, mask if seen else mask & ~mask, seen, {}, blank, blank)
        found += Found.of(removal, {"car": "car", "bus": "bus", "person": "person"})
        alone = Found.of(removal, {"car": "car"})
    assert str(found) == "found in 2 of 3 photos (car in 2, bus in 1, person in none), 3.1 % of their pixels"
    assert str(alone) == "found in 1 of 1 photos, 3.1 % of their pixels"
    assert str(Found(photos=4)) == "found in 0 of 4 photos"


def test_a_hole_of_nearly_everything_is_said(tmp_path, model, pipe, capsys):
    photo = write(tmp_path / "a.png")
    car = pipe.select(pipe.segment(Image.open(photo), output_type="np"), "car", grow=0)
    farthest = cv2.distanceTransform((~car).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE).max()
    assert run(model, photo, tmp_path / "o.png", f"--grow={math.ceil(farthest) - 1}", "--save-masks") == 0
    share = mask_of(tmp_path / "o").mean()
    assert 0.95 < share < 1
    words = f"note: {photo}: {100 * share:.1f} % of it was filled, so there was little to go by"
    assert said(capsys)[1] == [words]


# ---------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "options, words",
    [
        ([], "nothing says what to fill; give --mask, or name what is to go"),
        (["--save-masks"], "nothing says what to fill"),
        (["--remove=hat"], "--remove: 'hat' is no class of cityscapes; name some of these"),
        (["--remove=car,glasses"], "'glasses' is no class of cityscapes"),
        (["--remove=car", "--remove=19"], "'19' is no class of cityscapes"),
        (["--remove= , "], "--remove: names no class"),
        (["--remove=" + ",".join(CITYSCAPES.classes)], "--remove: these are all classes of cityscapes"),
        (["--mask={m}", "--grow=0"], "--grow: only for what --remove takes out"),
        (["--mask={m}", "--retries=0", "--shadow"], "--shadow, --retries: only for what --remove takes out"),
        (["--remove=car", "--mask={m}x"], "m.pngx: no such file or folder"),
        (["--remove=car", "--mask={p}"], "photos: holds photos but no mask"),
    ],
)
def test_what_cannot_be_meant_is_one_line_before_any_network_is_loaded(tmp_path, model, capsys, options, words):
    """The model is its configuration alone: loading it would be another error."""
    shutil.copytree(model, tmp_path / "bare", ignore=shutil.ignore_patterns("*.safetensors"))
    write(tmp_path / "photos/a.png")
    Image.new("1", (64, 48)).save(tmp_path / "m.png")
    options = [option.format(m=tmp_path / "m.png", p=tmp_path / "photos") for option in options]
    assert run(tmp_path / "bare", tmp_path / "photos", tmp_path / "out", *options, classes=None) == 1
    printed, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert line.startswith("error: ") and words in line and not printed and not (tmp_path / "out").exists()
    if "is no class" in words:
        assert line.endswith(", ".join(CITYSCAPES.classes))


def test_a_model_that_is_not_there_is_one_line(tmp_path, capsys):
    assert run("nobody/nothing", write(tmp_path / "a.png"), tmp_path / "o.png") == 1
    (line,) = said(capsys)[1]
    assert line.startswith("error: nobody/nothing: ") and files_in(tmp_path) == ["a.png"]


@pytest.mark.parametrize("option", ["--grow=x", "--grow=-1", "--grow=1" + 40 * "0", "--retries=-1", "--remove"])
def test_values_that_are_none_are_bad_usage(tmp_path, model, option, capsys):
    with pytest.raises(SystemExit) as exit_:
        run(model, write(tmp_path / "a.png"), tmp_path / "o.png", option)
    assert exit_.value.code == 2 and "error: argument --" in capsys.readouterr().err
    assert files_in(tmp_path) == ["a.png"]


def test_classes_go_by_their_owners_names_shown_names_and_ids(tmp_path, capsys):
    faces = tmp_path / "faces"
    networks = make_tiny_networks("celebamask-hq")
    FeedbackInpaintPipeline.from_networks(networks, "celebamask-hq", sample_size=96).save_pretrained(faces)
    photo = write(tmp_path / "a.png")
    for i, classes in enumerate(("eye_g,l_eye,19", "car")):
        assert run(faces, photo, tmp_path / f"e{i}.png", classes=classes) == 1
        (line,) = said(capsys)[1]
        assert "is no class of celebamask-hq" in line and "eye_g" in line and not (tmp_path / f"e{i}.png").exists()
    results = []
    for i, classes in enumerate(("eye_g,hair", " glasses , hair", "3,13", "glasses, eye_g ,hair,3")):
        assert run(faces, photo, tmp_path / f"{i}.png", "--save-masks", classes=classes) == 0
        results.append((said(capsys)[0], (tmp_path / f"{i}.png").read_bytes(), mask_of(tmp_path / str(i)).tobytes()))
    assert len(set(results)) == 1


def test_photos_that_fail_are_a_line_each_and_the_others_go_on(tmp_path, model, capsys):
    photos, out = tmp_path / "photos", tmp_path / "out"
    write(photos / "a.png"), write(photos / "b.png", seed=1), write(photos / "tiny.png", (12, 12))
    Image.new("RGB", (64, 48), (220, 20, 20)).save(photos / "all.png")  # in one batch with a and b
    (photos / "broken.png").write_bytes((photos / "a.png").read_bytes()[:700])
    (photos / "empty.jpg").touch()
    Image.new("1", (9000, 8000)).save(photos / "huge.png")
    write(photos / "two.png"), write(photos / "two.bmp")
    assert run(model, photos, out, "--save-masks", "--grow=14") == 1
    printed, lines = said(capsys)
    failed = [line for line in lines if line.startswith("error: ")]
    assert len(failed) == 6
    for name, words in (
        ("all.png", "all of it would be filled, so nothing of the photo is known; name fewer classes"),
        ("broken.png", "broken or truncated"), ("empty.jpg", "is empty"), ("huge.png", "megapixels"),
        ("tiny.png", "at least 16x16"), ("two.png", "same stem"),
    ):  # fmt: skip
        assert sum(str(photos / name) in line and words in line for line in failed) == 1
    assert files_in(out) == ["a.png", "a_mask.png", "b.png", "b_mask.png"]
    assert printed.startswith("found in 2 of 2 photos, ")


def test_masks_that_cannot_be_used_are_a_line_each(tmp_path, model, capsys):
    photos, masks = tmp_path / "photos", tmp_path / "masks"
    masks.mkdir()
    for name, size, level in (("good", (64, 48), 0), ("white", (64, 48), 255), ("shape", (48, 64), 0)):
        write(photos / f"{name}.png"), Image.new("L", size, level).save(masks / f"{name}.png")
    write(photos / "lost.png")
    assert run(model, photos, tmp_path / "out", f"--mask={masks}") == 1
    lines = said(capsys)[1]
    assert len(lines) == 3 and all(line.startswith("error: ") for line in lines)
    expected = {"white": "everything is marked", "shape": "is 48x64, the photo 64x48", "lost": "has no mask"}
    for name, words in expected.items():
        assert sum(f"{name}.png: " in line and words in line for line in lines) == 1
    assert files_in(tmp_path / "out") == ["good.png"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of PIL, while the test itself reads the photo
def test_odd_files_are_filled_or_refused_in_one_line(tmp_path, model):
    """The photos and masks of `tests.odd_inputs`, of all modes and kinds of damage; each with its mask, too."""
    odd = corpus()
    write_corpus(tmp_path, odd)
    folders = [f"--{kind}={tmp_path / name}" for kind, name in (("image", "photos"), ("mask", "masks"))]
    options = [f"--output={tmp_path / 'restored'}", f"--model={model}", "--rounds=0", "--remove=car", "--save-masks"]
    code, lines = unbreakable.run(tmp_path, *folders, *options)
    assert code == 1
    for one in odd:
        named = f"{tmp_path}/{one.blames}/{one.family}/{one.shown or Path(one.files[one.blames]).name}"
        about = [line for line in lines if named in line and SEEN not in line]
        if one.expected == "refused":
            (line,) = about
            assert line.startswith("error: ") and one.word in line
        elif one.expected == "restored" and len(one.stem) < 200:  # else NAME_mask.png is too long a name
            if any(ALL in line for line in about):  # to a model that has learnt nothing, all of a photo may be cars
                assert one.family == "sides" and len(about) == 1
                continue
            assert [line for line in about if not line.startswith("note: ")] == []
            photo = to_rgb(load_image(tmp_path / "photos" / one.files["photos"]))
            result = to_rgb(load_image(tmp_path / "restored" / one.files["restored"]))
            mask = mask_of(tmp_path / f"restored/{one.family}/{one.stem}.png")
            assert mask[one.hole].all() and np.array_equal(result[~mask], photo[~mask])


# ---------------------------------------------------------------------------------------------- interrupted, resumed


def test_resume_does_what_lacks_a_file_and_counts_its_own_photos(tmp_path, model, capsys):
    photos, out = tmp_path / "photos", tmp_path / "out"
    write(photos / "a.png"), write(photos / "b.png", seed=1), write(photos / "c.png", car=False)
    options = ("--resume", "--save-masks", "--save-semantics")
    assert run(model, photos, out, *options) == 0 and len(files_in(out)) == 12
    said(capsys)
    (out / "b_mask.png").unlink(), (out / "c_after.png").unlink()
    before = {name: (out / name).stat().st_mtime_ns for name in files_in(out)}
    assert run(model, photos, out, *options) == 0
    printed, lines = said(capsys)
    assert printed.startswith("found in 1 of 2 photos, ")
    assert f"note: {out}: 1 of 3 photos are done already, left alone" in lines
    changed = {name for name in files_in(out) if before.get(name) != (out / name).stat().st_mtime_ns}
    assert changed == {f"{x}{end}.png" for x in "bc" for end in ("", "_mask", "_before", "_after")}
    assert run(model, photos, out, *options) == 0  # nothing left to do, nothing to sum up
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_an_interrupted_removal_is_resumed(tmp_path, model, capsys, tell):
    """SIGINT to a real process, in the middle of photos of 64 to 1200 pixels."""
    photos, out, count = tmp_path / "photos", tmp_path / "out", 60
    scenes = [write(tmp_path / f"scene{i}.png", size, i, car=i % 3 != 2) for i, size in enumerate(MIXED)]
    photos.mkdir()
    for i in range(count):
        os.link(scenes[0 if 6 <= i else i], photos / f"{i:03}.png")  # many small ones, one of each large one
    command = ["run", f"--image={photos}", f"--output={out}", f"--model={model}", "--rounds=0", "--remove=car"]
    command.append("--save-masks")
    with open(tmp_path / "stderr", "w+", encoding="utf-8") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "fbinpaint", *command], cwd=ROOT, stderr=stderr, stdout=subprocess.PIPE,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a suite in the background ignores it
        )  # fmt: skip
        try:
            started = time.monotonic()
            while not out.exists() or sum(name[3:] == ".png" for name in os.listdir(out)) < 20:
                assert process.poll() is None, f"over too early:\n{(tmp_path / 'stderr').read_text()[-2000:]}"
                assert time.monotonic() - started < 300
                time.sleep(0.001)
            process.send_signal(signal.SIGINT)
            printed, _ = process.communicate(timeout=300)
        finally:
            process.kill()
    stderr = (tmp_path / "stderr").read_text()
    assert process.returncode == 130 and "interrupted: finished files are kept" in stderr and not printed
    assert "Traceback" not in stderr

    def check() -> dict[str, int]:
        """Every file is whole, known pixels are the photo's, and where a result is, its mask is; when each was written.
        """
        names = files_in(out)
        assert all(name[:3].isdecimal() and name[3:] in (".png", "_mask.png") for name in names)
        for name in names:
            with Image.open(out / name) as image:
                image.load()
            if name[3:] == ".png":
                photo, result = (np.asarray(Image.open(folder / f"{name[:3]}.png")) for folder in (photos, out))
                mask = mask_of(out / name[:3])
                assert np.array_equal(photo[~mask], result[~mask])
                assert mask.any() == (name[:3] not in ("002", "005"))
                assert not mask.any() or not np.array_equal(photo[mask], result[mask])
        return {name: (out / name).stat().st_mtime_ns for name in names}

    first = check()
    done = sum(name[3:] == ".png" for name in first)
    assert 20 <= done < count
    assert main([*command, "--resume"]) == 0
    second = check()
    printed, lines = said(capsys)
    assert f"note: {out}: {done} of {count} photos are done already, left alone" in lines
    assert printed.split(",")[0].endswith(f" of {count - done} photos") and len(second) == 2 * count
    whole = {name: when for name, when in first.items() if f"{name[:3]}.png" in first}
    assert whole.items() <= second.items()
    tell(f"interrupted removal from {count} photos: stopped after {done}, none torn, all there")
