"""The model for a photo is the one whose exemplars it is like; the command line chooses by that, and says so."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fbinpaint import FeedbackInpaintPipeline, cli
from fbinpaint.data.scenes import SCENES
from fbinpaint.hub import model_names
from fbinpaint.images.convert import to_mask
from fbinpaint.labels import CITYSCAPES
from fbinpaint.models.exemplar_bank import no_exemplars
from fbinpaint.pipeline.exemplars import make_exemplars
from fbinpaint.pipeline.model_choice import choose_model, is_unlike

from .conftest import make_tiny_networks, quiet_pipeline

ROOT = Path(__file__).resolve().parent.parent
KINDS = {"faces": "celebamask-hq", "streets": "cityscapes"}


def noise(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)


# ---------------------------------------------------------------------------------------------- by exemplars


def street(seed: int, negative: bool = False) -> np.ndarray:
    photo = np.array(SCENES["cityscapes"]((256, 192), np.random.default_rng(seed))[0])
    return 255 - photo if negative else photo


@pytest.fixture(scope="module")
def tiny() -> dict[str, FeedbackInpaintPipeline]:
    """Twice the same networks; the exemplars of one are streets, those of the other their negatives."""
    pipes = {name: quiet_pipeline(make_tiny_networks()) for name in ("streets", "negatives")}
    for name, pipe in pipes.items():
        maps = (SCENES["cityscapes"]((256, 192), np.random.default_rng(seed))[1] for seed in range(4))
        labelled = ((street(seed, name == "negatives"), semantic_map) for seed, semantic_map in enumerate(maps))
        pipe.recorrector.set_bank(make_exemplars(pipe.segmenter, CITYSCAPES, labelled))
    return pipes


@pytest.mark.slow
@pytest.mark.parametrize("order", [1, -1])
def test_the_model_whose_exemplars_look_like_the_photo_is_chosen(tiny, order):
    pipes = dict(list(tiny.items())[::order])
    for seed in range(4):
        for name in pipes:
            choice = choose_model(pipes, street(seed, name == "negatives"))
            assert choice.name == name == max(choice.scores, key=choice.scores.get)
            assert list(choice.scores) == list(pipes) and sum(choice.scores.values()) == pytest.approx(1)
            assert str(choice).startswith(f"{name} ") and str(choice).endswith(" %")


def test_what_is_to_be_filled_does_not_count(tiny):
    photo = np.array(SCENES["cityscapes"]((96, 64), np.random.default_rng(6))[0])
    mask = np.zeros((64, 96), bool)
    mask[10:50, 20:70] = True
    scores = [choose_model(tiny, photo, mask).scores]
    for seed in range(2):
        photo[mask] = noise((96, 64), seed)[mask]
        scores.append(choose_model(tiny, photo, mask).scores)
    assert scores[0] == scores[1] == scores[2] != choose_model(tiny, photo).scores


def test_what_is_to_be_filled_says_nothing_of_the_range_of_deep_greyscale(tiny):
    levels = np.array(Image.fromarray(noise((96, 64))).convert("L")).astype(np.uint16) * 15
    mask = np.zeros((64, 96), bool)
    mask[10:50, 20:70] = True
    scores = [choose_model(tiny, Image.fromarray(np.where(mask, x, levels).astype(np.uint16)), mask).scores
              for x in (levels, 65535)]  # fmt: skip
    assert scores[0] == scores[1]


def odd_photos() -> Iterator[tuple[Image.Image, np.ndarray | str | None]]:
    for size in ((16, 16), (17, 900), (900, 16), (300, 200)):
        yield Image.new("RGB", size, "gray"), None
        yield Image.fromarray(noise(size)).convert("L"), np.ones(size[::-1], bool)  # nothing is known
        yield Image.fromarray(noise(size)).convert("1"), np.zeros(size[::-1], bool)
    clear = Image.new("RGBA", (64, 48), (200, 10, 10, 255))
    clear.paste((0, 0, 0, 0), (0, 0, 32, 48))
    yield clear, "alpha"


def test_photos_of_no_kind_are_given_to_some_model(tiny):
    photos = list(odd_photos())
    for photo, mask in photos:
        choice = choose_model(tiny, photo, mask)
        assert choice.name in tiny and sum(choice.scores.values()) == pytest.approx(1)
    assert len(photos) == 13


def test_the_choice_does_not_depend_on_torchs_defaults(tiny):
    usual = choose_model(tiny, noise((64, 48))).scores
    with torch.device("meta"):
        assert choose_model(tiny, noise((64, 48))).scores == usual
    torch.set_default_dtype(torch.float64)
    try:
        assert choose_model(tiny, noise((64, 48))).scores == pytest.approx(usual, abs=1e-6)
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_model_without_exemplars_is_taken_only_where_no_other_is_there(tiny):
    bare = quiet_pipeline(make_tiny_networks())
    bare.recorrector.set_bank(no_exemplars(bare.recorrector.bank))
    assert choose_model({"bare": bare, "streets": tiny["streets"]}, noise((64, 48))).name == "streets"
    assert choose_model({"bare": bare}, noise((64, 48))).scores == {"bare": 1}


# ---------------------------------------------------------------------------------------------- the bundled models


@pytest.fixture(scope="module")
def bundled() -> dict[str, FeedbackInpaintPipeline]:
    return {name: cli.load_pipeline(folder) for name, folder in cli.bundled_models().items()}


@pytest.mark.parametrize("kind", KINDS)
def test_the_bundled_models_are_chosen_for_their_kind_of_scene_at_any_size_and_in_grey(bundled, kind):
    assert set(bundled) == set(KINDS)
    for seed in range(4):
        scene = SCENES[KINDS[kind]]((320, 240), np.random.default_rng([7, seed]))[0]
        for photo in (scene, scene.resize((80, 60)), scene.resize((1600, 1200)), scene.convert("L")):
            assert choose_model(bundled, photo).name == kind, (seed, photo.size, photo.mode)


@pytest.mark.parametrize("name, kind", [
    ("face.png", "faces"), ("street.png", "streets"), ("../fbinpaint/demo/pictures/portrait.jpg", "faces"),
])  # fmt: skip
def test_the_bundled_models_are_chosen_for_the_examples_with_their_holes(bundled, name, kind):
    photo = Image.open(ROOT / "examples" / name)
    mask = Image.open((ROOT / "examples" / name).with_name(f"{Path(name).stem}_mask.png"))
    hole = to_mask(mask, photo.size)
    white, black = (np.where(hole[..., None], np.uint8(level), np.asarray(photo)) for level in (255, 0))
    for shown in (photo, white, black):
        assert choose_model(bundled, shown, mask).name == kind
    assert choose_model(bundled, photo).scores[kind] > 0.8


def test_a_portrait_is_unlike_streets_and_a_street_unlike_portraits(bundled):
    portrait = Image.open(ROOT / "fbinpaint/demo/pictures/portrait.jpg")
    for name, pipe in bundled.items():
        assert [is_unlike(pipe, photo) for photo in (portrait, street(0))] == [name == "streets", name == "faces"]
    bare = quiet_pipeline(make_tiny_networks())
    bare.recorrector.set_bank(no_exemplars(bare.recorrector.bank))
    assert not is_unlike(bare, portrait)


# ---------------------------------------------------------------------------------------------- the command line


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "checkpoints"
    for name, space in KINDS.items():
        networks = make_tiny_networks(space, seed=len(name))
        FeedbackInpaintPipeline.from_networks(networks, space, sample_size=96).save_pretrained(folder / name)
    return folder


@pytest.fixture
def bundle(checkpoints, monkeypatch, tmp_path) -> Path:
    """The tiny models in the place of the bundled ones; a copy, from which some may be taken."""
    monkeypatch.setattr(model_names, "CHECKPOINTS", shutil.copytree(checkpoints, tmp_path / "checkpoints"))
    return model_names.CHECKPOINTS


def said(capsys) -> list[str]:
    lines = capsys.readouterr().err.replace("\r", "\n").splitlines()
    return [line for line in lines if line.startswith(("note: ", "error: ", "warning: "))]


def save_photo(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise((64, 48), seed)).save(path)
    return path


def save_mask(path: Path) -> Path:
    mask = np.zeros((48, 64), np.uint8)
    mask[10:20, 10:30] = 255
    Image.fromarray(mask).save(path)
    return path


@pytest.mark.parametrize("options", [[], ["--model=auto"]])
def test_one_photo_gets_the_model_that_suits_it_and_the_result_names_it(bundle, tmp_path, capsys, options):
    photo, mask, result = save_photo(tmp_path / "a.png"), save_mask(tmp_path / "m.png"), tmp_path / "o.png"
    pipes = {name: FeedbackInpaintPipeline.from_pretrained(bundle / name) for name in KINDS}
    choice = choose_model(pipes, Image.open(photo), Image.open(mask))
    command = ["run", f"--image={photo}", f"--mask={mask}", f"--output={result}", "--rounds=0"]
    assert cli.main([*command, *options]) == 0
    line = f"note: {photo}: model {choice.name} suits it best ({choice}); --model takes another"
    assert said(capsys)[:1] == [line]
    assert f"fbinpaint, model {choice.name}<".encode() in result.read_bytes()
    (other,) = KINDS.keys() - {choice.name}
    assert cli.main([*command, f"--model={bundle / other}"]) == 0
    assert said(capsys) == [] and f"fbinpaint, model {other}<".encode() in result.read_bytes()


def test_a_folder_gets_a_line_for_each_model_and_loads_each_once(bundle, tmp_path, capsys, monkeypatch):
    photos, loaded, load = tmp_path / "photos", [], cli.load_pipeline
    monkeypatch.setattr(cli, "load_pipeline", lambda model, **_: loaded.append(Path(model).name) or load(model))
    pipes = {name: load(str(bundle / name)) for name in KINDS}
    for seed in range(6):
        save_photo(photos / f"{seed}.png", seed)
    for seed, (kind, space) in enumerate(KINDS.items()):
        SCENES[space]((64, 48), np.random.default_rng(seed))[0].save(photos / f"{kind}.png")
    (photos / "broken.png").write_bytes(b"no picture")
    chosen = {path.stem: choose_model(pipes, Image.open(path)).name for path in photos.glob("*.png")
              if path.stem != "broken"}  # fmt: skip
    assert cli.main(["segment", f"--image={photos}", f"--output={tmp_path / 'maps'}"]) == 1
    notes = [line for line in said(capsys) if line.startswith("note: ")]
    counts = {name: list(chosen.values()).count(name) for name in KINDS}
    assert sorted(notes) == [
        f"note: model {name} suits {n} of 9 photos best; --model takes another" for name, n in counts.items() if n
    ]
    assert loaded == list(KINDS)
    for stem, name in chosen.items():
        expected = pipes[name].segment(Image.open(photos / f"{stem}.png"))
        written = Image.open(tmp_path / "maps" / f"{stem}.png")
        assert written.getpalette() == expected.getpalette() and written.tobytes() == expected.tobytes()


@pytest.mark.parametrize("classes, name", [("eye_g", "faces"), ("glasses,hat", "faces"), ("car,person", "streets")])
def test_removing_takes_the_model_that_knows_the_classes(bundle, tmp_path, capsys, classes, name):
    photo = save_photo(tmp_path / "a.png")
    command = ["run", f"--image={photo}", f"--remove={classes}", f"--output={tmp_path / 'o.png'}", "--rounds=0"]
    assert cli.main(command) == 0
    assert f"note: model {name}, the only one that knows {classes.replace(',', ', ')}" in said(capsys)


@pytest.mark.parametrize("classes, reason", [
    ("carr", "no model knows carr; "),
    ("car,eye_g", "no model knows all of car, eye_g; "),
    ("13", "13 is hair in faces, car in streets; "),
])  # fmt: skip
def test_classes_that_no_model_or_more_than_one_may_mean_are_one_line(bundle, tmp_path, capsys, classes, reason):
    photo = save_photo(tmp_path / "a.png")
    assert cli.main(["run", f"--image={photo}", f"--remove={classes}", f"--output={tmp_path / 'o.png'}"]) == 1
    (line,) = said(capsys)
    assert line.startswith(f"error: --remove: {reason}") and not (tmp_path / "o.png").exists()
    assert classes == "13" or ("faces: background, skin" in line and "streets: road, sidewalk" in line)


def test_the_one_model_that_is_there_is_taken_and_without_any_one_is_asked_for(bundle, tmp_path, capsys):
    photo, output = save_photo(tmp_path / "a.png"), tmp_path / "o.png"
    command = ["segment", f"--image={photo}", f"--output={output}"]
    shutil.rmtree(bundle / "streets")
    assert cli.main(command) == 0 and output.exists()
    assert said(capsys) == ["note: model faces, the only one under checkpoints/"]
    shutil.rmtree(bundle / "faces")
    assert cli.main(command) == 1
    (line,) = said(capsys)
    assert line.startswith("error: no --model given, and the bundled ones are only in a clone; ")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_models_in_half_precision_are_chosen_as_well(dtype, checkpoints):
    whole = {name: FeedbackInpaintPipeline.from_pretrained(checkpoints / name) for name in KINDS}
    half = {name: FeedbackInpaintPipeline.from_pretrained(checkpoints / name, dtype=dtype) for name in KINDS}
    scores = [choose_model(pipes, street(5)).scores["streets"] for pipes in (whole, half)]
    assert scores[0] == pytest.approx(scores[1], abs=0.1)
