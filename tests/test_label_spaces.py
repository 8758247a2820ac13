"""Label spaces and data sets of the user's own: read, refused where they make no sense, trained on, saved, used."""

import functools
import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import datasets
import gradio as gr
import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features
from datasets import Image as ImageColumn
from gradio_client import Client
from PIL import Image

import train_accelerate
from fbinpaint import FeedbackInpaintPipeline
from fbinpaint.cli import main
from fbinpaint.data.hf_datasets import HubOptions
from fbinpaint.data.label_map import read_label_map
from fbinpaint.data.photos import PhotoCrops, read_labels, read_photo
from fbinpaint.data.rows import has_label
from fbinpaint.data.scenes import street_scene
from fbinpaint.data.sources import load_photos, stream_photos
from fbinpaint.data.streams import rows_in_turn
from fbinpaint.demo.examples import EXAMPLES, list_examples
from fbinpaint.demo.models import label_space_of_model
from fbinpaint.demo.page import build_demo
from fbinpaint.demo.rendering import annotate, hex_colours
from fbinpaint.demo.strokes import painted_classes
from fbinpaint.errors import InputError
from fbinpaint.evaluation.photos import load_sample
from fbinpaint.hub.saved import read_label_space
from fbinpaint.images.folders import Pair
from fbinpaint.labels import CITYSCAPES, IGNORE, label_space_of, load_label_space

from .conftest import make_tiny_networks
from .fake_hub import FakeHub
from .test_hub import Client as HubClient

ROOT = Path(train_accelerate.__file__).parent
CLASSES = ["flat", "construction", "object", "nature", "sky", "human", "vehicle"]  # the categories of Cityscapes
CATEGORIES = np.array([0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 5, 6, 6, 6, 6, 6, 6], np.uint8)  # of its 19 classes
CONTENT = {
    "name": "categories",
    "classes": CLASSES,
    "palette": [[128, 64, 128], [70, 70, 70], [153, 153, 153], [107, 142, 35], [1, 2, 250], [220, 20, 60], [0, 0, 142]],
    "ignored_ids": [200],
}
FOREIGN = np.array([31, 7, 4, 0, 90, 12, 55], np.uint8)  # how somebody else numbers the categories


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def write_json(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.fixture
def classes_json(tmp_path) -> Path:
    return write_json(tmp_path / "classes.json", CONTENT)


draw_street = functools.cache(lambda index: street_scene((96, 64), np.random.default_rng(index)))


def street(index: int) -> tuple[Image.Image, np.ndarray]:
    """A photo and its map of categories."""
    photo, ids = draw_street(index)
    return photo, CATEGORIES[ids]


def write_folder(folder: Path, count: int = 6) -> Path:
    """Plain photos and labels; the first row of pixels is void, which is 200."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for index in range(count):
        photo, ids = street(index)
        ids[0] = 200
        photo.save(folder / "images" / f"{index}.png")
        Image.fromarray(ids).save(folder / "labels" / f"{index}.png")
    return folder


def png(image: Image.Image) -> dict:
    file = io.BytesIO()
    image.save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def write_foreign_parquet(path: Path, count: int = 6) -> Path:
    """Columns and ids as somebody else calls them; id 200 is none of the categories."""
    path.parent.mkdir(parents=True, exist_ok=True)
    streets = [street(index) for index in range(count)]
    labels = [FOREIGN[ids] for _, ids in streets]
    for label in labels:
        label[0] = 200
    columns = {
        "pixel_values": [png(photo) for photo, _ in streets],
        "annotation": [png(Image.fromarray(label)) for label in labels],
        "scene": [0] * count,
    }
    features = {"pixel_values": ImageColumn(), "annotation": ImageColumn(), "scene": ClassLabel(names=["street"])}
    Dataset.from_dict(columns, features=Features(features)).to_parquet(path)
    return path.parent


def write_label_map(path: Path) -> Path:
    """Names for some, ids for the others."""
    content = {str(FOREIGN[label]): CLASSES[label] if label % 2 else label for label in range(len(CLASSES))}
    return write_json(path, content)


# ------------------------------------------------------------------------------------------------------ classes.json


def test_a_label_space_of_a_file_comes_back_from_a_configuration(tmp_path):
    content = CONTENT | {"flip_pairs": [[0, 3]], "display_names": [name.upper() for name in CLASSES]}
    space = load_label_space(str(write_json(tmp_path / "x.json", content)))
    assert space.classes == tuple(CLASSES) and space.shown_names[4] == "SKY" and space.ignored_ids == (200,)
    assert space.flip(np.arange(7)).tolist() == [3, 1, 2, 0, 4, 5, 6]
    assert json.loads(json.dumps(space.to_config())).items() >= content.items()
    assert label_space_of(json.loads(json.dumps(space.to_config())), "config.json") == space
    of_numpy = replace(space, palette=tuple(map(tuple, np.array(space.palette, np.uint8))))
    assert of_numpy.to_config() == space.to_config()
    assert load_label_space("cityscapes") is CITYSCAPES and CITYSCAPES.to_config() == "cityscapes"


@pytest.mark.parametrize(
    "content, problem",
    [
        ("{", "is not JSON"),
        ('{"name": "a", "name": "b"}', "the key 'name' occurs twice"),
        ("[1]", "is not a JSON object"),
        ({"classes": CLASSES, "palette": []}, "name is missing"),
        (CONTENT | {"name": "cityscapes"}, "built-in label space"),
        (CONTENT | {"name": "a b"}, "must be letters"),
        (CONTENT | {"colors": []}, "key 'colors', which means nothing"),
        (CONTENT | {"classes": "sky"}, "classes is not a list"),
        (CONTENT | {"classes": ["sky", *CLASSES[1:]]}, "'sky' occurs twice"),
        (CONTENT | {"classes": ["", *CLASSES[1:]]}, "'' is not a name"),
        (CONTENT | {"classes": [7, *CLASSES[1:]]}, "7 is not a name"),
        (CONTENT | {"classes": ["7", *CLASSES[1:]]}, "'7' has a comma, or is a number"),
        (CONTENT | {"classes": ["door, double", *CLASSES[1:]]}, "has a comma"),
        (CONTENT | {"classes": [f"class {i}" for i in range(255)]}, "there are 255; give 2 to 254"),
        (CONTENT | {"classes": ["sky"]}, "there are 1; give 2 to 254"),
        (CONTENT | {"palette": CONTENT["palette"][1:]}, "6 colours for 7 classes"),
        (CONTENT | {"palette": [[70, 70, 70], *CONTENT["palette"][1:]]}, r"\[70, 70, 70\] occurs twice"),
        (CONTENT | {"palette": [[128, 128, 128], *CONTENT["palette"][1:]]}, "colour of unknown pixels"),
        (CONTENT | {"palette": [[1, 2, 256], *CONTENT["palette"][1:]]}, r"\[1, 2, 256\] is not a colour"),
        (CONTENT | {"palette": ["#010203", *CONTENT["palette"][1:]]}, "'#010203' is not a colour"),
        (CONTENT | {"flip_pairs": [[0, 7]]}, r"\[0, 7\] is not a pair of ids from 0 to 6"),
        (CONTENT | {"flip_pairs": [[0, 1, 2]]}, r"\[0, 1, 2\] is not a pair"),
        (CONTENT | {"flip_pairs": [[0, 1], [1, 2]]}, "the id 1 occurs twice"),
        (CONTENT | {"flip_pairs": [[3, 3]]}, "the id 3 occurs twice"),
        (CONTENT | {"ignored_ids": [-1]}, "-1 is not an id"),
        (CONTENT | {"display_names": ["a"]}, "display_names: 1 for 7 classes"),
    ],
)
def test_a_label_space_that_makes_no_sense_is_one_line_with_its_file(content, problem, tmp_path):
    path = write_json(tmp_path / "classes.json", content)
    with pytest.raises(InputError, match=f"^{path}: [^\n]*{problem}[^\n]*$"):
        load_label_space(str(path))


def test_the_example_in_the_docs_is_a_label_space(tmp_path):
    example = re.search(r"```json\n(.*?)```", (ROOT / "docs/training.md").read_text(), re.DOTALL)[1]
    space = load_label_space(str(write_json(tmp_path / "classes.json", example)))
    assert space.num_classes == 4 and space.flip(np.arange(4)).tolist() == [0, 1, 3, 2] and space.ignored_ids == (254,)


def test_a_label_space_that_is_not_there_is_one_line():
    with pytest.raises(InputError, match="^unknown label space 'ade20k': .*cityscapes, or a JSON file"):
        load_label_space("ade20k")
    with pytest.raises(InputError, match="^nowhere/classes.json: cannot be read"):
        load_label_space("nowhere/classes.json")


def test_ignored_ids_are_unknown_wherever_labels_are_read(classes_json, tmp_path):
    space, folder = load_label_space(str(classes_json)), write_folder(tmp_path / "data", 1)
    expected = street(0)[1]
    expected[0] = IGNORE
    assert np.array_equal(read_labels(load_photos([folder])[0], space), expected)
    sample = load_sample(Pair("0", folder / "images/0.png", None), folder / "labels/0.png", 0, 64, 0, space)
    assert np.array_equal(sample.truth, expected)
    networks = make_tiny_networks()
    pipe = FeedbackInpaintPipeline(**dict(networks.named_children()), label_space="cityscapes")
    with pytest.raises(InputError, match="class id 200"):  # of a label space that does not ignore it
        pipe.set_exemplars([street(0)[0]], [Image.open(folder / "labels/0.png")])


# --------------------------------------------------------------------------------------------------- foreign data sets


def test_a_label_map_renumbers_and_leaves_the_rest_unknown(classes_json, tmp_path):
    space = load_label_space(str(classes_json))
    source = write_foreign_parquet(tmp_path / "parquet" / "train-0.parquet")
    label_map = read_label_map(write_label_map(tmp_path / "ids.json"), space)
    rows = load_photos([str(source)], [], HubOptions("pixel_values", "annotation"))
    assert has_label(rows).all() and len(rows) == 6
    for index, row in enumerate(rows):
        expected = street(index)[1]
        expected[0] = IGNORE
        assert np.array_equal(read_labels(row, space, label_map), expected)
        assert np.array_equal(read_photo(row, 64, space, label_map)[0], np.asarray(street(index)[0]))
    streamed, _ = stream_photos([str(source)], [], 0, HubOptions("pixel_values", "annotation"))
    crops = PhotoCrops(rows, space, 32, label_map=label_map)
    for row, kept in zip(rows_in_turn(streamed), rows, strict=True):
        (a, b) = (crops.example([x], True, seed=3) for x in (row, kept))
        assert np.array_equal(a["labels"], b["labels"]) and a["labels"].min() < 7
    with pytest.raises(InputError, match="row 0: not an index image with ids 0..6 or 255.*--label_map"):
        read_labels(rows[0], space)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_a_label_map_takes_ids_of_any_width(dtype, tmp_path):
    space = load_label_space("cityscapes")
    label_map = read_label_map(write_json(tmp_path / "ids.json", {"7": "road", "200": "sky", "60000": 13}), space)
    ids = np.array([[7, 200, 6, 255]], dtype)
    expected = [0, 10, IGNORE, IGNORE]
    if dtype != np.uint8:
        ids, expected = np.append(ids, [[60000, 60001]], axis=1).astype(dtype), [*expected, 13, IGNORE]
    Image.fromarray(ids).save(tmp_path / "label.png")
    row = {"name": "photo", "label_format": "ids", "semantic_map": {"path": str(tmp_path / "label.png"), "bytes": None}}
    assert read_labels(row, space, label_map).tolist() == [expected]


@pytest.mark.parametrize(
    "content, problem",
    [
        ("nothing", "is not JSON"),
        ('{"1": 2, "1": 3}', "the key '1' occurs twice"),
        ({"01": 2, "1": 3}, "the id 1 has two keys"),
        ({}, "maps no id"),
        ({"road": 1}, "key 'road' is not an id"),
        ({"-1": 1}, "key '-1' is not an id"),
        ({"70000": 1}, "key '70000' is not an id"),
        ({"1": "moon"}, "1 stands for 'moon', which is no class of cityscapes"),
        ({"1": 19}, "1 stands for 19, which is no class"),
        ({"1": None}, "1 stands for None"),
        ({"1": True}, "1 stands for True"),
    ],
)
def test_a_label_map_that_makes_no_sense_is_one_line_with_its_file(content, problem, tmp_path):
    path = write_json(tmp_path / "ids.json", content)
    with pytest.raises(InputError, match=f"^{path}: [^\n]*{problem}[^\n]*$"):
        read_label_map(path, CITYSCAPES)


def test_labels_that_hold_no_ids_are_refused(tmp_path):
    photo, ids = street(0)
    (tmp_path / "images").mkdir(), (tmp_path / "labels").mkdir()
    photo.save(tmp_path / "images" / "a.png")
    Image.fromarray(ids).save(tmp_path / "labels" / "a.png", "JPEG")
    (row,) = load_photos([tmp_path])
    with pytest.raises(InputError, match="labels/a.png: is a JPEG"):
        read_labels(row, CITYSCAPES)
    photo.save(tmp_path / "labels" / "a.png")
    with pytest.raises(InputError, match="labels/a.png: not an index image but one of mode RGB"):
        read_labels(row, CITYSCAPES)


@pytest.mark.parametrize("load", [load_photos, lambda *args: stream_photos(*args[:2], 0, *args[2:])])
def test_columns_and_splits_that_are_not_there_are_one_line(load, tmp_path):
    source = str(write_foreign_parquet(tmp_path / "parquet" / "train-0.parquet", 2))
    plain = str(write_folder(tmp_path / "plain", 1))
    for sources, options, problem in (
        (source, HubOptions(), "no column of photos; .* found .*pixel_values.*--image_column"),
        (source, HubOptions("picture"), r"has no column 'picture' \(--image_column\); found .*pixel_values"),
        (source, HubOptions("pixel_values", "mask"), r"has no column 'mask' \(--label_column\); found .*annotation"),
        (source, HubOptions("pixel_values", "scene"), "column scene holds int64, no pictures; name another --label"),
        (source, HubOptions("pixel_values", split="test"), "split test .*--split"),
        (plain, HubOptions("pixel_values"), "holds photos as files; .*leave them out"),
    ):
        with pytest.raises(InputError, match=f"^{sources}: [^\n]*{problem}[^\n]*$"):
            load([sources], [], options)


DATASETS = """
import sys
from fbinpaint.data.hf_datasets import HubOptions
from fbinpaint.data.sources import load_photos, stream_photos
from fbinpaint.data.streams import rows_in_turn

options = HubOptions("pixel_values", "annotation", "night", "test", "v1")
rows = load_photos([], ["user/streets"], options)
streamed = list(rows_in_turn(stream_photos([], ["user/streets"], 0, options)[0]))
assert [row["image"]["bytes"] for row in rows] == [row["image"]["bytes"] for row in streamed]
print(len(rows), *set(rows["label_format"]))
for changed in ({"config_name": "dusk"}, {"revision": "v2"}, {"split": "train"}):
    try:
        load_photos([], ["user/streets"], HubOptions(**{**vars(options), **changed}))
    except ValueError as error:
        print(type(error).__name__, error)
"""


def test_a_hub_data_set_is_read_by_configuration_split_and_revision(tmp_path):
    """Three photos where all three are named; the newest revision has another number, and no such configuration."""
    parquet = write_foreign_parquet(tmp_path / "night" / "test.parquet", 3) / "test.parquet"
    card = "---\nconfigs:\n- config_name: night\n  data_files:\n  - split: test\n    path: night/test.parquet\n---\n"
    hub = FakeHub()
    try:
        hub.add_dataset("user/streets", {"README.md": card.encode(), "night/test.parquet": parquet.read_bytes()}, "v1")
        hub.add_dataset("user/streets", {"README.md": b"# gone"})
        client = HubClient(hub, tmp_path / "home")
        done = client.python("-c", DATASETS)
    finally:
        hub.close()
    assert done.returncode == 0, done.stderr
    first, *refused = done.stdout.splitlines()
    assert first == "3 ids" and len(refused) == 3, done.stdout
    assert all(line.startswith("InputError user/streets: cannot be loaded") for line in refused)
    assert "dusk" in refused[0] and "v2" in refused[1] and "split train" in refused[2]


# ------------------------------------------------------------------------------------- trained, saved, reloaded, used


def train(output: Path, model: Path, vgg: Path, *options: object) -> int:
    return train_accelerate.main(
        ["--output_dir", str(output), "--pretrained_model", str(model), "--perceptual_weights", str(vgg)]
        + ["--resolution", "48", "--perceptual_crop", "32", "--train_batch_size", "2", "--max_train_steps", "2"]
        + ["--num_validation_images", "1", "--num_exemplars", "3", "--dataloader_num_workers", "0", *map(str, options)]
    )


@pytest.fixture(scope="module")
def trained(tiny_pipeline_dir, vgg_file, tmp_path_factory) -> Path:
    """A pipeline of seven classes, trained on a data set with columns and ids of its own; what it was made from is
    gone afterwards."""
    home = tmp_path_factory.mktemp("home")
    source = write_foreign_parquet(home / "parquet" / "test-0.parquet")
    spaces, ids = write_json(home / "classes.json", CONTENT), write_label_map(home / "ids.json")
    assert 0 == train(
        home / "run", tiny_pipeline_dir, vgg_file, "--train_data_dir", source, "--label_space", spaces, "--label_map",
        ids, "--image_column", "pixel_values", "--label_column", "annotation", "--split", "test", "--adversarial_start",
        "0",
    )  # fmt: skip
    shutil.rmtree(source), spaces.unlink(), ids.unlink()
    return home / "run" / "pipeline"


def test_a_foreign_data_set_of_seven_classes_is_trained_saved_reloaded_and_restores(trained):
    pipe = FeedbackInpaintPipeline.from_pretrained(trained)
    pipe.set_progress_bar_config(disable=True)
    assert list(pipe.label_space.classes) == CLASSES and pipe.label_space.palette[4] == (1, 2, 250)
    assert pipe.segmenter.config.num_classes == pipe.recorrector.config.num_classes == 7
    photo, hole = street(99)[0], np.zeros((64, 96), bool)
    hole[20:44, 30:60] = True
    out = pipe(photo, hole, num_feedback_rounds=1)
    assert np.array_equal(np.asarray(out.images[0])[~hole], np.asarray(photo)[~hole])
    names = {pipe.label_space.classes[label] for label in np.unique(np.asarray(out.semantic_after[0]))}
    assert names <= set(CLASSES)
    labels = np.asarray(out.semantic_after[0])
    assert np.array_equal(out.semantic_after[0].convert("RGB"), pipe.label_space.colorize(labels))
    drawn = np.full((64, 96), IGNORE, np.uint8)
    drawn[20:44, 30:60] = CLASSES.index("vehicle")
    led = pipe(photo, hole, num_feedback_rounds=1, semantic_map=drawn)
    assert (np.asarray(led.semantic_after[0])[hole] == CLASSES.index("vehicle")).all()


def test_components_bring_their_label_space_along(trained, tiny_pipeline):
    pipe = FeedbackInpaintPipeline.from_pretrained(trained)
    again = FeedbackInpaintPipeline(**pipe.components)
    assert again.label_space == pipe.label_space and again.config.label_space == "categories"
    assert FeedbackInpaintPipeline(**pipe.components, label_space=pipe.label_space).label_space == pipe.label_space
    with pytest.raises(InputError, match="label_space is 'cityscapes', the segmenter's own is 'categories'"):
        FeedbackInpaintPipeline(**pipe.components, label_space="cityscapes")
    with pytest.raises(InputError, match="'cityscapes', the segmenter's own is 'categories'"):
        FeedbackInpaintPipeline.from_pretrained(trained, label_space="cityscapes")
    with pytest.raises(InputError, match="GuidedInpainter is of 19 classes, the label space categories has 7"):
        FeedbackInpaintPipeline(**pipe.components | {"guided_inpainter": tiny_pipeline.guided_inpainter})
    parts = dict(make_tiny_networks().named_children())
    with pytest.raises(InputError, match="does not say what its classes are"):
        FeedbackInpaintPipeline(**parts)
    faces = FeedbackInpaintPipeline(**parts, label_space="celebamask-hq")
    assert FeedbackInpaintPipeline(**faces.components).label_space.name == "celebamask-hq"


def test_models_saved_before_segmenters_knew_their_classes_load(tiny_pipeline_dir, tmp_path):
    """As the bundled ones: model_index.json alone names the label space."""
    for name in ("faces", "streets"):
        bundled = ROOT / "checkpoints" / name
        assert "label_space" not in json.loads((bundled / "segmenter/config.json").read_text())
        assert read_label_space(bundled).name == {"faces": "celebamask-hq", "streets": "cityscapes"}[name]
    folder = shutil.copytree(tiny_pipeline_dir, tmp_path / "old")
    config = json.loads((folder / "segmenter/config.json").read_text())
    assert config.pop("label_space") == "cityscapes"
    write_json(folder / "segmenter/config.json", config)
    pipe = FeedbackInpaintPipeline.from_pretrained(folder)
    assert pipe.label_space is CITYSCAPES
    pipe.save_pretrained(tmp_path / "new")
    assert json.loads((tmp_path / "new/segmenter/config.json").read_text())["label_space"] == "cityscapes"


@pytest.mark.parametrize(
    "change, problem",
    [
        (lambda index, config: index.update(label_space="rooms"), "is of rooms, but its segmenter of categories"),
        (lambda index, config: config.pop("label_space"), "unknown label space 'categories'"),
        (lambda index, config: config["label_space"]["classes"].pop(), "7 colours for 6 classes"),
        (lambda index, config: config.update(label_space="cityscapes"), "19 classes, not num_classes"),
        (lambda index, config: config.update(label_space=7), "label_space: is not an object"),
    ],
)
def test_a_saved_label_space_that_was_damaged_is_one_line(change, problem, trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "model")
    paths = folder / "model_index.json", folder / "segmenter/config.json"
    contents = [json.loads(path.read_text()) for path in paths]
    change(*contents)
    for path, content in zip(paths, contents, strict=True):
        write_json(path, content)
    with pytest.raises(InputError, match=f"^{folder}/[^\n]*{problem}[^\n]*$"):
        FeedbackInpaintPipeline.from_pretrained(folder)


def test_every_command_takes_a_model_of_any_label_space(trained, tmp_path, capsys):
    data = write_folder(tmp_path / "data", 3)
    photo, mask = data / "images/0.png", tmp_path / "mask.png"
    Image.fromarray(np.pad(np.full((20, 30), 255, np.uint8), ((20, 24), (30, 36)))).save(mask)
    model = ["--model", str(trained)]
    files = ["--image", str(photo), "--mask", str(mask), "--output", str(tmp_path / "restored.png")]
    assert main(["run", *model, *files, "--rounds", "1", "--save-semantics"]) == 0
    assert main(["segment", *model, "--image", str(photo), "--output", str(tmp_path / "map.png")]) == 0
    for name in ("map", "restored_after"):
        found = Image.open(tmp_path / f"{name}.png")
        assert np.asarray(found).max() < 7
        assert np.array_equal(found.convert("RGB"), read_label_space(trained).colorize(np.asarray(found)))
    assert main(["exemplars", *model, "--data", str(data), "--output", str(tmp_path / "own")]) == 0
    assert read_label_space(tmp_path / "own") == read_label_space(trained)
    report = tmp_path / "report.json"
    settings = ["--resolution", "64", "--rounds", "0,1", "--baselines", "telea", "--output", str(report)]
    assert main(["evaluate", "--model", str(tmp_path / "own"), "--data", str(data), *settings]) == 0
    scores = json.loads(report.read_text())
    assert scores["protocol"]["label_space"] == "categories"
    assert set(scores["intact"]["iou_by_class"]) <= set(CLASSES)
    capsys.readouterr()
    settings = ["--repo-id", "user/name", "--dry-run", "--report", str(report)]
    assert main(["publish", "--model", str(trained), *settings]) == 0
    card = capsys.readouterr().out
    assert "the label space `categories`" in card and "- categories" in card and ", ".join(CLASSES) in card


def test_labels_in_folders_have_the_ids_of_the_label_space(classes_json, tiny_pipeline_dir, vgg_file, tmp_path, capsys):
    folder = write_folder(tmp_path / "data")
    settings = ["--train_data_dir", folder, "--label_space", classes_json]
    assert train(tmp_path / "run", tiny_pipeline_dir, vgg_file, *settings) == 0
    assert "is of cityscapes; these start anew" in capsys.readouterr().out
    own = tmp_path / "run/pipeline"
    assert read_label_space(own).classes == tuple(CLASSES)
    # Other colours are no other classes: nothing starts anew, and the newer colours are saved.
    palette = [[255 - level for level in colour] for colour in CONTENT["palette"]]
    recoloured = write_json(tmp_path / "recoloured.json", CONTENT | {"palette": palette})
    settings[-1] = recoloured
    assert train(tmp_path / "more", own, vgg_file, *settings) == 0
    assert "start anew" not in capsys.readouterr().out
    assert list(read_label_space(tmp_path / "more/pipeline").palette[4]) == palette[4]
    # Other names are other classes, as many as they may be.
    write_json(recoloured, CONTENT | {"classes": CLASSES[::-1]})
    assert train(tmp_path / "other", own, vgg_file, *settings, "--distilled_model", own) == 1
    said = capsys.readouterr().out
    assert "these start anew" in said and "error: --distilled_model" in said


def test_training_refuses_what_it_cannot_read_in_one_line(classes_json, tiny_pipeline_dir, vgg_file, tmp_path, capsys):
    folder = write_folder(tmp_path / "data")
    write_json(tmp_path / "bad.json", CONTENT | {"classes": []})
    ids = write_json(tmp_path / "ids.json", {"1": "moon"})
    settings = ["--train_data_dir", folder, "--label_space", classes_json]
    for options, problem in (
        (["--label_space", tmp_path / "bad.json"], f"error: {tmp_path}/bad.json: classes: there are 0"),
        (["--label_space", "ade20k"], "error: unknown label space 'ade20k'"),
        (["--label_space", classes_json, "--label_map", ids], f"error: {ids}: 1 stands for 'moon'"),
        (["--label_space", classes_json, "--split", "test"], f"error: {folder}: holds photos as files"),
    ):
        assert train(tmp_path / "run", tiny_pipeline_dir, vgg_file, *settings[:2], *options) == 1
        assert capsys.readouterr().out.splitlines()[-1].startswith(problem)
    with pytest.raises(SystemExit):
        train(tmp_path / "run", tiny_pipeline_dir, vgg_file, *settings, "--revision", "v1")
    assert "--revision: is of Hub data sets" in capsys.readouterr().err


# ----------------------------------------------------------------------------------------------------------- the demo


def test_two_label_spaces_may_give_one_name_two_colours(trained):
    """A "sky" painted for either model is that model's class: strokes carry ids, not colours."""
    spaces = [CITYSCAPES, label_space_of_model(str(trained))]
    ids = [space.classes.index("sky") for space in spaces]
    assert len(set(ids)) == len({hex_colours(space)["sky"] for space in spaces}) == 2
    for space, label in zip(spaces, ids, strict=True):
        area = {"kind": "area", "points": [[0, 0], [8, 0], [8, 8], [0, 8]], "label": label}
        assert (painted_classes([area], (8, 8), 1, space.num_classes) == label).all()
    with pytest.raises(InputError, match="not of this model's classes"):
        painted_classes([area | {"label": max(ids)}], (8, 8), 1, max(ids))


def test_a_model_of_an_unknown_label_space_has_no_examples(trained, tiny_pipeline_dir):
    space = label_space_of_model(str(trained))
    assert list_examples({"own": space}) == []
    known = [("streets", name) for name in EXAMPLES["cityscapes"]]
    assert list_examples({"own": space, "streets": CITYSCAPES}) == known
    for models in ({"own": str(trained)}, {"own": str(trained), "streets": str(tiny_pipeline_dir)}):
        assert build_demo(models).fns


def test_a_map_on_the_page_has_the_colours_of_its_label_space(tmp_path):
    palette = list(CITYSCAPES.palette)
    palette[10] = (3, 99, 251)
    other = replace(CITYSCAPES, name="other", palette=tuple(palette))
    spaces, sky = {space.name: space for space in (CITYSCAPES, other)}, np.full((20, 20), 10, np.uint8)
    with gr.Blocks() as demo:
        name, shown = gr.Textbox(), gr.AnnotatedImage(format="png")
        photo = np.zeros((20, 20, 3), np.uint8)
        gr.on([], lambda name: annotate(photo, sky, spaces[name]), name, shown, api_name="x")
    try:
        _, url, _ = demo.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)
        client = Client(url, verbose=False, download_files=tmp_path)
        for space in spaces.values():
            found = client.predict(space.name, api_name="/x")
            (mask,) = found.get("value", found)["annotations"]
            colour = tuple(np.asarray(Image.open(mask["image"]))[5, 5, :3].tolist())
            assert mask["label"] == "sky" and colour == space.palette[10]
    finally:
        demo.close()
