"""`/inpaint`, the demo's endpoint for programs that have a mask, through a real server; many programs at once.

The other endpoints are in test_demo_api.py.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from fbinpaint.data.scenes import street_scene
from fbinpaint.labels import CITYSCAPES, IGNORE

from .demo_browser import serve

CLIENTS, REQUESTS = 8, 5


@pytest.fixture(scope="module")
def url(tiny_pipeline_dir, tmp_path_factory) -> Iterator[str]:
    with serve({"tiny": str(tiny_pipeline_dir)}, tmp_path_factory.mktemp("gradio")) as url:
        yield url


def draw_street(path: Path, seed: int = 0) -> tuple[str, np.ndarray]:
    """A photo's path and its pixels."""
    photo, _ = street_scene((90, 70), np.random.default_rng(seed))
    photo.save(path)
    return str(path), np.array(photo)


def draw_hole(path: Path, left: int = 30) -> tuple[str, np.ndarray]:
    """A mask's path and its (H,W) bool array."""
    mask = np.zeros((70, 90), bool)
    mask[20:50, left : left + 30] = True
    Image.fromarray(mask).save(path)
    return str(path), mask


@pytest.fixture(scope="module")
def street(tmp_path_factory) -> tuple[str, np.ndarray]:
    return draw_street(tmp_path_factory.mktemp("photo") / "street.png")


@pytest.fixture(scope="module")
def hole(tmp_path_factory) -> tuple[str, np.ndarray]:
    return draw_hole(tmp_path_factory.mktemp("mask") / "mask.png")


@pytest.fixture(scope="module")
def client(url, tmp_path_factory) -> Client:
    return Client(url, verbose=False, download_files=tmp_path_factory.mktemp("downloads"))


def test_inpaint_keeps_the_known_pixels_and_fills_the_hole(client, street, hole):
    restored, before, after, figures = client.predict(
        handle_file(street[0]), handle_file(hole[0]), "tiny", 1, api_name="/inpaint"
    )
    pixels, mask = np.array(Image.open(restored)), hole[1]
    assert pixels.shape == street[1].shape
    assert np.array_equal(pixels[~mask], street[1][~mask])
    assert not np.array_equal(pixels[mask], street[1][mask])
    before, after = Image.open(before), Image.open(after)
    for map_ in (before, after):
        assert map_.mode == "P" and map_.size == (90, 70)
        assert np.asarray(map_).max() < CITYSCAPES.num_classes
        assert np.array_equal(map_.convert("RGB"), CITYSCAPES.colorize(np.asarray(map_)))
    before, after = np.asarray(before), np.asarray(after)
    assert np.array_equal(before[~mask], after[~mask])
    assert (figures["width"], figures["height"]) == (90, 70) and figures["hole"] == pytest.approx(mask.mean(), abs=1e-4)
    assert figures["classes"] == {str(i): CITYSCAPES.classes[i] for i in np.unique(after)}
    one_way, corrected = figures["rounds"]
    assert one_way["changed"] == 0 and 0 < one_way["confidence"] <= 1
    assert corrected["changed"] == pytest.approx((before != after)[mask].mean(), abs=1e-4)


def test_inpaint_keeps_mode_and_exif_and_tells_that_a_model_painted(client, street, hole, tmp_path):
    alpha = np.full(hole[1].shape, 200, np.uint8)
    tags = Image.Exif()
    tags[33432] = "(c) me"
    photo = np.dstack([street[1], alpha])
    Image.fromarray(photo).save(tmp_path / "alpha.png", exif=tags)
    path = client.predict(handle_file(tmp_path / "alpha.png"), handle_file(hole[0]), "tiny", 0, api_name="/inpaint")[0]
    restored = Image.open(path)
    assert restored.mode == "RGBA" and np.array_equal(np.asarray(restored)[~hole[1]], photo[~hole[1]])
    assert (np.asarray(restored)[..., 3] == alpha).all() and restored.getexif()[33432] == "(c) me"
    assert b"compositeWithTrainedAlgorithmicMedia" in restored.info["xmp"]


def test_inpaint_has_defaults_for_model_and_rounds(client, street, hole):
    given = client.predict(handle_file(street[0]), handle_file(hole[0]), "tiny", 2, api_name="/inpaint")
    default = client.predict(handle_file(street[0]), handle_file(hole[0]), api_name="/inpaint")
    assert np.array_equal(Image.open(given[0]), Image.open(default[0]))


def test_inpaint_follows_a_given_map(client, street, hole, tmp_path):
    wanted = np.full((70, 90), IGNORE, np.uint8)
    wanted[22:48, 32:58] = CITYSCAPES.classes.index("sky")
    CITYSCAPES.to_palette_image(wanted).save(tmp_path / "wanted.png")
    photo, mask = handle_file(street[0]), handle_file(hole[0])
    free = client.predict(photo, mask, api_name="/inpaint")
    led = client.predict(photo, mask, semantic_map=handle_file(tmp_path / "wanted.png"), api_name="/inpaint")
    assert (np.asarray(Image.open(led[2]))[wanted != IGNORE] == CITYSCAPES.classes.index("sky")).all()
    assert not np.array_equal(Image.open(free[0]), Image.open(led[0]))


def test_what_cannot_be_done_is_explained_in_a_line(client, street, hole, tmp_path):
    Image.new("L", (90, 70), 255).save(tmp_path / "full.png")
    Image.new("L", (90, 70)).save(tmp_path / "empty.png")
    Image.new("L", (99, 11), 255).save(tmp_path / "wide.png")
    (tmp_path / "broken.png").write_bytes(Path(street[0]).read_bytes()[:300])
    (tmp_path / "no_image.png").write_text("a poem")
    CITYSCAPES.to_palette_image(np.full((70, 90), 77, np.uint8)).save(tmp_path / "map.png")
    photo, mask = handle_file(street[0]), handle_file(hole[0])
    for arguments, explanation in (
        ((photo, None), "nothing is marked"),
        ((photo, handle_file(tmp_path / "empty.png")), "nothing is marked"),
        ((photo, handle_file(tmp_path / "full.png")), "everything is marked"),
        ((photo, handle_file(tmp_path / "wide.png")), "^wide.png: is 99x11, the photo 90x70"),
        ((None, mask), "no photo yet"),
        ((handle_file(tmp_path / "broken.png"), mask), "^broken.png: "),
        ((handle_file(tmp_path / "no_image.png"), mask), "^no_image.png: is not an image"),
        ((photo, mask, "tiny", 2, handle_file(tmp_path / "map.png")), "77"),
    ):
        with pytest.raises(AppError, match=explanation) as error:
            client.predict(*arguments, api_name="/inpaint")
        assert "\n" not in str(error.value)


@pytest.mark.slow
def test_many_clients_at_once_get_their_own_results(url, tmp_path):
    def visit(visitor: int) -> int:
        folder = tmp_path / str(visitor)
        folder.mkdir()
        client = Client(url, verbose=False, download_files=folder)
        for request in range(REQUESTS):
            photo, pixels = draw_street(folder / f"photo{request}.png", seed=100 * visitor + request)
            mask, marked = draw_hole(folder / f"mask{request}.png", left=5 * visitor)
            restored = client.predict(handle_file(photo), handle_file(mask), "tiny", 1, api_name="/inpaint")[0]
            restored = np.array(Image.open(restored))
            assert np.array_equal(restored[~marked], pixels[~marked])
            assert not np.array_equal(restored[marked], pixels[marked])
        return REQUESTS

    with ThreadPoolExecutor(CLIENTS) as pool:
        assert sum(pool.map(visit, range(CLIENTS))) == CLIENTS * REQUESTS
