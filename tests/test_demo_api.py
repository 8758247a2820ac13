"""The demo's endpoints for programs, through a real server: `/segment`, `/remove`, and what `/inpaint` may not paint.

The rest of `/inpaint` is in test_demo_inpaint.py.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import ExifTags, Image

from fbinpaint import FeedbackInpaintPipeline
from fbinpaint.data.scenes import street_scene
from fbinpaint.demo import page, server
from fbinpaint.demo.api import Endpoints
from fbinpaint.errors import InputError
from fbinpaint.images.convert import to_rgb
from fbinpaint.images.tensors import pad_to_multiple, to_tensor
from fbinpaint.labels import CITYSCAPES
from fbinpaint.masks import grow_mask

from .conftest import make_tiny_networks

SIZE = (96, 64)  # no larger than the tiny pipeline's sample_size: the map is what the segmenter says of the photo
CAR, TRAIN = CITYSCAPES.classes.index("car"), CITYSCAPES.classes.index("train")
NEVER = -100.0  # a logit that no other is below


@pytest.fixture(scope="module")
def street() -> Image.Image:
    photo, _ = street_scene(SIZE, np.random.default_rng(0))
    return photo


@pytest.fixture(scope="module")
def pipeline(street) -> FeedbackInpaintPipeline:
    """Its segmenter sees cars in about a tenth of the street, and trains nowhere."""
    networks = make_tiny_networks().eval()
    image = pad_to_multiple(to_tensor(np.array(street)), 16)
    bias = networks.segmenter.classify.bias
    with torch.no_grad():
        bias[TRAIN] += NEVER
        logits = networks.segmenter(image, torch.zeros_like(image[:, :1])).logits[0]
        others = logits.clone()
        others[CAR] = NEVER
        bias[CAR] += (others.amax(0) - logits[CAR]).quantile(0.1)
    return FeedbackInpaintPipeline.from_networks(networks, "cityscapes", sample_size=96)


@pytest.fixture(scope="module")
def client(pipeline, tmp_path_factory):
    model = tmp_path_factory.mktemp("model")
    pipeline.save_pretrained(model)
    with pytest.MonkeyPatch.context() as patch:
        # Files of its own: a demo that closes clears them, and others may be running.
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        demo = page.build_demo({"first": str(model), "second": str(model)})
        settings = {"server_name": "127.0.0.1", "prevent_thread_lock": True, "quiet": True}
        _, url, _ = demo.launch(**settings, **page.STYLE, **server.serving())
        yield Client(url, verbose=False, download_files=tmp_path_factory.mktemp("downloads"))
        demo.close()


@pytest.fixture
def photo(street, tmp_path) -> dict:
    street.save(tmp_path / "street.png")
    return handle_file(tmp_path / "street.png")


def pixels(path: str) -> np.ndarray:
    """The values of the file as they are stored; of a map, the ids."""
    return np.array(Image.open(path))


def test_the_endpoints_are_listed_with_the_names_and_defaults_of_their_arguments(client):
    listed = client.view_api(return_format="dict")["named_endpoints"]
    arguments = {
        name: {
            x["parameter_name"]: x["parameter_default"] if x["parameter_has_default"] else "required"
            for x in endpoint["parameters"]
        }
        for name, endpoint in listed.items()
    }
    first = {"model": "auto"}
    inpaint = {"image": "required", "mask": "required"} | first | {"rounds": 2, "semantic_map": None, "forbidden": ""}
    remove = {"image": "required", "classes": "required"} | first
    remove |= {"rounds": 2, "grow": None, "shadow": False, "retries": 0}
    assert arguments == {"/inpaint": inpaint, "/segment": {"image": "required"} | first, "/remove": remove}
    assert [list(x) for x in arguments.values()] == [list(inpaint), ["image", "model"], list(remove)]
    assert [len(endpoint["returns"]) for endpoint in listed.values()] == [4, 2, 5]


def test_segment_gives_the_map_and_the_share_of_each_class(client, pipeline, street, photo):
    path, figures = client.predict(photo, api_name="/segment")
    shown, labels = Image.open(path), pixels(path)
    assert shown.format == "PNG" and shown.mode == "P" and shown.size == SIZE
    assert np.array_equal(labels, pipeline.segment(street, output_type="np"))
    assert np.array_equal(shown.convert("RGB"), CITYSCAPES.colorize(labels))
    ids = np.unique(labels)
    assert CAR in ids and len(ids) > 1
    assert (figures["width"], figures["height"]) == SIZE
    assert figures["classes"] == {str(i): CITYSCAPES.classes[i] for i in ids}
    shares = {CITYSCAPES.classes[i]: pytest.approx((labels == i).mean(), abs=1e-6) for i in ids}
    assert figures["shares"] == shares


def test_segment_turns_a_photo_upright(client, street, tmp_path):
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = 6
    street.save(tmp_path / "sideways.jpg", exif=tags)
    path, figures = client.predict(handle_file(tmp_path / "sideways.jpg"), "second", api_name="/segment")
    assert (figures["width"], figures["height"]) == SIZE[::-1] == Image.open(path).size


def test_remove_fills_what_it_finds_and_nothing_else(client, street, photo):
    restored, mask, before, after, figures = client.predict(photo, "car, person", api_name="/remove")
    filled = pixels(mask) == 255
    assert Image.open(mask).mode == "L" and set(np.unique(pixels(mask))) == {0, 255}
    known = np.asarray(street)
    assert np.array_equal(pixels(restored)[~filled], known[~filled])
    assert not np.array_equal(pixels(restored)[filled], known[filled])
    labels = pixels(client.predict(photo, api_name="/segment")[0])
    assert np.array_equal(pixels(before), labels) and CAR in labels[filled]
    assert Image.open(after).mode == "P" and CAR not in pixels(after)[filled]
    assert (figures["width"], figures["height"]) == SIZE
    assert figures["hole"] == pytest.approx(filled.mean(), abs=1e-6)
    assert figures["found"]["car"] == pytest.approx((filled & (labels == CAR)).mean(), abs=1e-6)
    seen = pixels(client.predict(handle_file(restored), api_name="/segment")[0])[filled]
    assert figures["seen_again"].get("car", 0) == pytest.approx((seen == CAR).mean(), abs=1e-6)


def test_remove_gives_the_same_for_names_ids_and_arguments_left_out(client, photo):
    given = client.predict(photo, f"{CAR},", "first", 2, None, False, 0, api_name="/remove")
    default = client.predict(photo, "car", api_name="/remove")
    assert all(np.array_equal(pixels(a), pixels(b)) for a, b in zip(given[:4], default[:4], strict=True))
    assert given[4] == default[4]


def test_remove_follows_its_arguments(client, pipeline, photo, street):
    labels = pipeline.segment(street, output_type="np")
    masks = {}
    for grow in (0, 3):
        arguments = {"rounds": 0, "grow": grow, "retries": 1}
        restored, mask, *_, figures = client.predict(photo, "car", **arguments, api_name="/remove")
        masks[grow] = pixels(mask) == 255
        assert np.array_equal(pixels(restored)[~masks[grow]], np.asarray(street)[~masks[grow]])
        assert figures["found"].keys() == {"car"}
    assert np.array_equal(masks[0], pipeline.select(labels, "car", grow=0))
    assert np.array_equal(masks[3], grow_mask(masks[0], 3))
    shaded = client.predict(photo, "car", rounds=0, shadow=True, api_name="/remove")[1]
    assert np.array_equal(pixels(shaded) == 255, pipeline.select(labels, "car", shadows_in=street))


def test_remove_keeps_mode_and_exif_and_tells_that_a_model_painted(client, street, tmp_path):
    tags = Image.Exif()
    tags[ExifTags.Base.Copyright] = "(c) me"
    sent = np.dstack([np.asarray(street), np.full(SIZE[::-1], 200, np.uint8)])
    Image.fromarray(sent).save(tmp_path / "alpha.png", exif=tags)
    photo = handle_file(tmp_path / "alpha.png")
    restored, mask, *_, figures = client.predict(photo, "car", grow=0, api_name="/remove")
    restored, filled = Image.open(restored), pixels(mask) == 255
    assert restored.mode == "RGBA" and restored.getexif()[ExifTags.Base.Copyright] == "(c) me"
    assert np.array_equal(np.asarray(restored)[~filled], sent[~filled])
    assert filled.any() and (np.asarray(restored)[..., 3] == 200).all()
    assert b"compositeWithTrainedAlgorithmicMedia" in restored.info["xmp"]
    # The same hole, filled by /inpaint, gives the same file.
    again, *_, same = client.predict(photo, handle_file(mask), forbidden="car", api_name="/inpaint")
    assert Path(again).read_bytes() == Path(restored.filename).read_bytes() and same["hole"] == figures["hole"]


def test_remove_keeps_the_values_of_a_16_bit_photo(client, street, tmp_path):
    sent = np.asarray(street.convert("L")).astype(np.uint16) * 200 + 7
    Image.fromarray(sent).save(tmp_path / "deep.png")
    classes = ", ".join(CITYSCAPES.classes[:9])  # in grey, cars may be gone
    restored, mask, *_ = client.predict(handle_file(tmp_path / "deep.png"), classes, grow=0, api_name="/remove")
    filled = pixels(mask) == 255
    assert Image.open(restored).mode == "I;16" and filled.any()
    assert np.array_equal(pixels(restored)[~filled], sent[~filled])


def test_a_photo_without_such_things_comes_back_as_it_is(client, street, tmp_path):
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation], tags[ExifTags.Base.Copyright] = 3, "(c) me"
    street.save(tmp_path / "turned.png", exif=tags)
    answer = client.predict(handle_file(tmp_path / "turned.png"), "train", api_name="/remove")
    restored, mask, before, after, figures = answer
    restored = Image.open(restored)
    assert np.array_equal(restored, to_rgb(Image.open(tmp_path / "turned.png")))
    assert restored.getexif()[ExifTags.Base.Copyright] == "(c) me" and "xmp" not in restored.info
    assert not pixels(mask).any() and np.array_equal(pixels(before), pixels(after))
    size = {"width": SIZE[0], "height": SIZE[1], "hole": 0}
    assert figures == {"model": "first"} | size | {"found": {}, "seen_again": {}}


def test_inpaint_paints_no_forbidden_class(client, photo, tmp_path):
    hole = np.zeros(SIZE[::-1], bool)
    hole[16:48, 24:72] = True
    Image.fromarray(hole).save(tmp_path / "mask.png")
    mask = handle_file(tmp_path / "mask.png")
    free = client.predict(photo, mask, api_name="/inpaint")
    classes = np.unique([pixels(path)[hole] for path in free[1:3]])
    listed = ", ".join(CITYSCAPES.classes[i] for i in classes)
    kept = client.predict(photo, mask, forbidden=listed, api_name="/inpaint")
    for path in kept[1:3]:
        assert not np.isin(pixels(path)[hole], classes).any()
    assert not np.array_equal(pixels(free[0]), pixels(kept[0]))


def test_what_cannot_be_done_is_explained_in_a_line(client, photo, street, tmp_path):
    street.save(tmp_path / "broken.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "broken.png").read_bytes()[:300])
    Image.new("RGB", (9, 9)).save(tmp_path / "small.png")
    broken, small = handle_file(tmp_path / "broken.png"), handle_file(tmp_path / "small.png")
    Image.fromarray(np.arange(96) < np.full((64, 1), 40)).save(tmp_path / "mask.png")
    mask = handle_file(tmp_path / "mask.png")
    every_class = ",".join(CITYSCAPES.classes)
    for endpoint, arguments, explanation in (
        ("/segment", (None,), "no photo yet"),
        ("/segment", (broken,), "^broken.png: "),
        ("/segment", (small,), "9x9"),
        ("/segment", (photo, "third"), "^model 'third': .* auto, first, second"),
        ("/segment", (photo, None), "^model None: .* first, second"),
        ("/remove", (None, "car"), "no photo yet"),
        ("/remove", (broken, "car"), "^broken.png: "),
        ("/remove", (photo, ""), "No class is named; .* sidewalk"),
        ("/remove", (photo, " , "), "No class is named"),
        ("/remove", (photo, None), "No class is named"),
        ("/remove", (photo, "car, hat"), "no model knows all of car, hat; .* sidewalk"),
        ("/remove", (photo, "car, hat", "first"), "'hat' is no class of cityscapes; .* sidewalk"),
        ("/remove", (photo, "car; person", "first"), "'car; person' is no class"),
        ("/remove", (photo, "19"), "no model knows 19"),
        ("/remove", (photo, "car", "first", 2, SIZE[0]), "all of it would be filled"),
        ("/remove", (photo, "car", "first", "two"), "^rounds 'two': must be a whole number from 0 to 4"),
        ("/remove", (photo, "car", "first", 1.5), "^rounds 1.5: "),
        ("/remove", (photo, "car", "first", 2, -1), "^grow -1: must be a whole number from 0 to 96"),
        ("/remove", (photo, "car", "first", 2, 10**400), "^grow 10+: "),
        ("/remove", (photo, "car", "first", 2, True), "^grow True: "),
        ("/remove", (photo, "car", "first", 2, None, "no"), "^shadow 'no': must be true or false"),
        ("/remove", (photo, "car", "first", 2, None, False, 99), "^retries 99: must be a whole number from 0 to 4"),
        ("/remove", (photo, 5), "^classes 5: must be names or ids by commas"),
        ("/inpaint", (photo, mask, "first", None), "^rounds None: "),
        ("/inpaint", (photo, mask, "first", 2, None, 5), "^forbidden 5: must be names or ids by commas"),
        ("/inpaint", (photo, mask, "first", 2, None, "hat"), "'hat' is no class of cityscapes"),
        ("/inpaint", (photo, mask, "first", 2, None, every_class), "all classes"),
    ):
        with pytest.raises(AppError, match=explanation) as error:
            client.predict(*arguments, api_name=endpoint)
        assert "\n" not in str(error.value)


def test_classes_choose_the_model(street, pipeline, tmp_path_factory):
    """Only one of two models knows glasses, and only the other cars."""
    folder = tmp_path_factory.mktemp("models")
    pipeline.save_pretrained(folder / "streets")
    networks = make_tiny_networks("celebamask-hq").eval()
    FeedbackInpaintPipeline.from_networks(networks, "celebamask-hq", sample_size=96).save_pretrained(folder / "faces")
    endpoints = Endpoints({name: str(folder / name) for name in ("faces", "streets")}, str(folder))
    assert endpoints.fitting("auto", np.asarray(street), "eye_g, hat")[0] == "faces"
    assert endpoints.fitting("auto", np.asarray(street), "car") == ("streets", [CAR])
    assert endpoints.fitting("faces", np.asarray(street)) == ("faces", [])
    assert endpoints.fitting("auto", np.asarray(street))[0] in ("faces", "streets")
    with pytest.raises(InputError, match="no model knows all of car, hat"):
        endpoints.fitting("auto", np.asarray(street), "car, hat")
