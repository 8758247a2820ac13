"""Licence and origin go with a model: saved, loaded, with exemplars added, trained further, on its card."""

import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from diffusers import DiffusionPipeline
from huggingface_hub import ModelCard

from fbinpaint import FeedbackInpaintPipeline, InputError
from fbinpaint.hub.card import model_card, says_less
from fbinpaint.hub.origin import as_launched, for_others, inherited, named_origin, options_for_others, read_origin
from fbinpaint.labels import CITYSCAPES

from .conftest import labelled_scenes, make_tiny_networks

ROOT = Path(__file__).resolve().parent.parent
REPORT = ROOT / "docs/reports/streets.json"
ORIGIN = {
    "license": "other",
    "license_name": "research-only",
    "data": [{"name": "streets of Zürich", "licence": "for research"}],
    "command": "train it",
    "time": "7 minutes",
}


@pytest.fixture
def licensed(tiny_pipeline_dir, tmp_path) -> Path:
    """A model whose licence and data are on file."""
    folder = shutil.copytree(tiny_pipeline_dir, tmp_path / "licensed")
    (folder / "training.json").write_text(json.dumps(ORIGIN))
    return folder


@pytest.mark.parametrize("load", [FeedbackInpaintPipeline.from_pretrained, DiffusionPipeline.from_pretrained])
def test_save_pretrained_keeps_the_origin(load, licensed, tmp_path):
    pipe = load(licensed)
    pipe.save_pretrained(tmp_path / "saved")
    assert read_origin(tmp_path / "saved") == pipe.origin == ORIGIN
    card = model_card(tmp_path / "saved", "user/saved")
    assert card.data.license == "other" and "- streets of Zürich: for research\n" in card.text


def test_the_origin_is_kept_when_the_folder_is_gone(licensed, tmp_path):
    pipe = FeedbackInpaintPipeline.from_pretrained(licensed)
    shutil.rmtree(licensed)
    pipe.save_pretrained(tmp_path / "saved")
    assert read_origin(tmp_path / "saved") == ORIGIN


def test_a_card_in_the_folder_is_not_touched(licensed):
    (licensed / "README.md").write_text("By hand.\n")
    FeedbackInpaintPipeline.from_pretrained(licensed).save_pretrained(licensed)
    assert (licensed / "README.md").read_text() == "By hand.\n"


def test_what_is_saved_names_no_local_path(licensed, tmp_path):
    for source in (licensed, tmp_path / "once"):
        target = tmp_path / "twice" if source.name == "once" else tmp_path / "once"
        FeedbackInpaintPipeline.from_pretrained(source).save_pretrained(target)
        files = list(target.rglob("*.json"))
        assert len(files) == 6
        for path in files:
            text = path.read_text(encoding="utf-8")
            assert "_name_or_path" not in text and str(tmp_path) not in text and "/" not in json.loads(text), path
    FeedbackInpaintPipeline.from_pretrained(tmp_path / "twice").segmenter.save_pretrained(tmp_path / "alone")
    assert "_name_or_path" not in (tmp_path / "alone/config.json").read_text()


def test_exemplars_are_data_of_the_model_too(licensed, tiny_pipeline_dir):
    photos, maps = zip(*labelled_scenes("cityscapes", 3), strict=True)
    pipe = FeedbackInpaintPipeline.from_pretrained(licensed)
    pipe.set_exemplars(list(photos), list(maps))
    added = {"name": "3 labelled photos, added as exemplars", "licence": "not stated"}
    assert pipe.origin == ORIGIN | {"data": [added, *ORIGIN["data"]]}
    bare = FeedbackInpaintPipeline.from_pretrained(tiny_pipeline_dir)
    bare.set_exemplars(np.stack(photos), np.stack(maps))
    unknown = {"name": "what the model they were added to was trained on", "licence": "not stated"}
    assert bare.origin == {"data": [added, unknown]}


def test_a_model_inherits_data_and_licences():
    own, other = [{"name": "mine", "licence": "CC0"}], {"name": "theirs", "licence": "MIT"}
    assert inherited(own, []) == {"data": own}
    assert inherited(own, [("best", ORIGIN), ("best", ORIGIN)]) == {
        "license": "other", "license_name": "research-only", "data": own + ORIGIN["data"],
    }  # fmt: skip
    several = inherited(own, [("best", ORIGIN), ("best", {"license": "mit", "data": [other]})])
    assert several["data"] == [*own, *ORIGIN["data"], other]
    assert several["license"] == "other" and "several" in several["license_name"]
    unknown = inherited(own, [("runs-1", {})])
    assert unknown == {"data": [*own, {"name": "what runs-1 was trained on", "licence": "not stated"}]}


def test_a_model_is_called_by_the_name_of_its_folder(licensed):
    assert named_origin(str(licensed)) == ("licensed", ORIGIN)
    (licensed / "training.json").write_text('{"data": ["photos"]}')
    with pytest.raises(InputError, match="training.json.*licence"):
        named_origin(str(licensed))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/me/data/streets", "streets"),
        ("/home/me/data/streets/", "streets"),
        ("--output_dir=/home/me/runs", "--output_dir=runs"),
        ("../data/streets", "streets"),
        ("data/streets", "data/streets"),
        ("USER/NAME", "USER/NAME"),
        ("--seed=3", "--seed=3"),
        ("1e-3", "1e-3"),
        ("/", "/"),
    ],
)
def test_paths_of_this_machine_are_cut_to_their_last_name(text, shown):
    assert for_others(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("sftp://me:hunter2@store.example/photos", "sftp://store.example/photos"),
        ("--train_data_dir=sftp://me@host/photos", "--train_data_dir=sftp://host/photos"),
        ("https://host/photos.zip?X-Amz-Signature=abc&b=/c", "https://host/photos.zip"),
        ("s3://bucket/photos", "s3://bucket/photos"),
        ("hf://datasets/user/name@main/photos", "hf://datasets/user/name@main/photos"),
    ],
)
def test_what_opens_a_url_is_shown_to_nobody(text, shown):
    assert for_others(text) == shown
    option, _, url = text.rpartition("--train_data_dir=")
    assert options_for_others({"a": [url], "b": url, "c": 3, "d": None}) == {
        "a": [for_others(url)], "b": for_others(url), "c": 3, "d": None,
    }  # fmt: skip


def test_a_command_is_shown_as_it_is_started():
    options = ["--train_data_dir", "/home/me/photos"]
    assert as_launched(["/a/train_accelerate.py", *options]).split() == [
        "accelerate", "launch", "train_accelerate.py", "--train_data_dir", "photos",
    ]  # fmt: skip
    for program, module in (("/a/fbinpaint/__main__.py", "fbinpaint.__main__"), ("/usr/bin/fbinpaint", None)):
        shown = as_launched([program, "train", *options], module)
        assert shown == "accelerate launch -m fbinpaint train --train_data_dir photos"
    shown = as_launched(["/a/benchmarks/peers/__main__.py", "runs"], "benchmarks.peers.__main__")
    assert shown == "accelerate launch -m benchmarks.peers runs"


@pytest.mark.parametrize(("base", "in_metadata"), [("user/base", "user/base"), ("runs-3", None)])
def test_the_card_names_the_base_model_and_how_to_install(licensed, base, in_metadata):
    (licensed / "training.json").write_text(json.dumps(ORIGIN | {"base_model": base}))
    card = ModelCard(str(model_card(licensed, "user/name")))
    assert card.data.base_model == in_metadata and f"Base model: {base}. Time: 7 minutes." in card.text
    assert "pip install path/to/fbinpaint" in card.text and "DiffusionPipeline.from_pretrained(FOLDER)" in card.text


def test_the_cards_command_works_for_classes_of_several_words(tmp_path):
    classes = (*CITYSCAPES.classes[:-1], "the dog's bed")
    space = replace(CITYSCAPES, name="rooms", classes=classes)
    pipe = FeedbackInpaintPipeline.from_networks(make_tiny_networks(), space, sample_size=np.int64(96))
    pipe.save_pretrained(tmp_path / "rooms")
    (command,) = [line for line in model_card(tmp_path / "rooms", "user/rooms").text.splitlines() if "--remove" in line]
    words = shlex.split(command)
    assert words[words.index("--remove") :][:3] == ["--remove", "the dog's bed", "--output"]


def test_a_card_that_states_more_is_told_from_one_that_states_less(licensed, tiny_pipeline_dir):
    full, unmeasured = model_card(licensed, "user/name", [REPORT]), model_card(licensed, "user/name")
    bare = model_card(tiny_pipeline_dir, "user/name")
    assert says_less(unmeasured, full) and says_less(bare, unmeasured) and says_less(bare, full)
    assert not says_less(full, unmeasured) and not says_less(full, full) and not says_less(unmeasured, bare)
