"""The demo as its visitors meet it: through its API, and in a real browser."""

import os
import shutil
from io import BytesIO

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from playwright.sync_api import Locator, Page, expect, sync_playwright

import app
from fbinpaint.data.scenes import street_scene
from fbinpaint.errors import InputError
from fbinpaint.labels import CITYSCAPES

CHROMIUM_FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
PATIENCE = 60_000  # milliseconds; a small shared machine is slow, not broken


@pytest.fixture(scope="module")
def url(tiny_pipeline_dir):
    demo = app.build_demo({"tiny": str(tiny_pipeline_dir)})
    # A free port: 0 is not understood, None tries the next ones from 7860.
    _, url, _ = demo.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, ssr_mode=False, **app.STYLE)
    yield url
    demo.close()


# ---------------------------------------------------------------------------------------------- API


@pytest.fixture(scope="module")
def client(url, tmp_path_factory) -> Client:
    return Client(url, verbose=False, download_files=tmp_path_factory.mktemp("downloads"))


@pytest.fixture(scope="module")
def street(tmp_path_factory) -> tuple[str, np.ndarray]:
    """A photo's path and its pixels."""
    path = tmp_path_factory.mktemp("photo") / "street.png"
    photo, _ = street_scene((90, 70), np.random.default_rng(0))
    photo.save(path)
    return str(path), np.array(photo)


@pytest.fixture(scope="module")
def hole(tmp_path_factory) -> tuple[str, np.ndarray]:
    """A mask's path and its (H,W) bool array."""
    path = tmp_path_factory.mktemp("mask") / "mask.png"
    mask = np.zeros((70, 90), bool)
    mask[20:50, 30:60] = True
    Image.fromarray(mask).save(path)
    return str(path), mask


def test_inpaint_keeps_the_known_pixels_and_fills_the_hole(client, street, hole):
    restored, before, after = client.predict(
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
    assert np.array_equal(np.asarray(before)[~mask], np.asarray(after)[~mask])


def test_inpaint_has_defaults_for_model_and_rounds(client, street, hole):
    given = client.predict(handle_file(street[0]), handle_file(hole[0]), "tiny", 2, api_name="/inpaint")
    default = client.predict(handle_file(street[0]), handle_file(hole[0]), api_name="/inpaint")
    assert np.array_equal(Image.open(given[0]), Image.open(default[0]))


def test_missing_photo_and_mask_are_explained_in_a_line(client, street, hole):
    with pytest.raises(AppError, match="Nothing is marked"):
        client.predict(handle_file(street[0]), None, api_name="/inpaint")
    with pytest.raises(AppError, match="no photo yet"):
        client.predict(None, handle_file(hole[0]), api_name="/inpaint")


def test_only_inpaint_is_public(client):
    assert list(client.view_api(return_format="dict")["named_endpoints"]) == ["/inpaint"]


# ---------------------------------------------------------------------------------------------- models


def test_models_are_checked_before_the_page_opens(tmp_path):
    with pytest.raises(InputError, match="model_index.json"):
        app.build_demo({"empty": str(tmp_path)})


def test_a_label_space_gets_examples_once():
    examples = app.make_examples({"first": CITYSCAPES, "second": CITYSCAPES})
    assert [model for _, _, model in examples] == ["first"] * len(app.EXAMPLE_INDICES)


# ---------------------------------------------------------------------------------------------- browser


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium")
    if chromium is None:
        message = "the browser tests need chromium on the PATH (Debian: apt-get install chromium)"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, url):
    """The opened page; afterwards, fails on any console error of the demo. Nothing but the demo is reachable."""
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(PATIENCE)
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda m: errors.append(m.text) if m.type == "error" and url in m.location["url"] else None)
    page.route("**/*", lambda route: route.continue_() if route.request.url.startswith(url) else route.abort())
    page.goto(url)
    expect(page.locator("#editor canvas").first).to_be_visible(timeout=PATIENCE)
    yield page
    page.close()
    assert not errors


def pick_example(page: Page, index: int = 0) -> None:
    page.locator("#examples .gallery-item").nth(index).click()
    expect(page.locator("#mask img")).to_be_visible(timeout=PATIENCE)
    # The editor shows its picture on a canvas; only then can it be zoomed to fit or be painted on.
    expect(page.locator("#editor").get_by_role("button", name="Undo")).to_be_enabled(timeout=PATIENCE)


def restore(page: Page) -> None:
    """Press the button and wait until every result is there and has loaded."""
    page.get_by_role("button", name="Restore", exact=True).click()
    expect(page.locator("#status")).to_contain_text("Restored", timeout=PATIENCE)
    for result, count in (("#comparison", 2), ("#map-before", 2), ("#map-after", 2), ("#rounds", 3)):
        images = page.locator(f"{result} img")
        expect(images.nth(count - 1)).to_be_visible(timeout=PATIENCE)
        page.wait_for_function("selector => [...document.querySelectorAll(selector)].every(x => x.naturalWidth > 1)",
                               arg=f"{result} img")  # fmt: skip


def fetch(page: Page, image: Locator) -> np.ndarray:
    """The pixels of a picture on the page, (H,W,3) uint8."""
    return np.array(Image.open(BytesIO(page.request.get(image.get_attribute("src")).body())).convert("RGB"))


def test_a_picked_example_is_restored(page, tmp_path):
    pick_example(page)
    restore(page)
    expect(page.locator("#rounds")).to_contain_text("Round 2:")
    expect(page.locator("#status")).to_contain_text("of 256 × 192 pixels")
    screenshot = tmp_path / "restored.png"
    page.screenshot(path=screenshot, full_page=True)
    assert Image.open(screenshot).height > 1000


def test_a_painted_stroke_is_the_hole(page):
    pick_example(page)
    page.locator("#mask").get_by_role("button", name="Remove Image").click()
    expect(page.locator("#mask img")).to_have_count(0)
    page.locator("#editor").get_by_role("button", name="Brush", exact=True).click()
    box = page.locator("#editor canvas").first.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 50, y)
    page.mouse.down()
    page.mouse.move(x + 50, y, steps=4)
    page.mouse.up()
    restore(page)
    before, after = (fetch(page, image) for image in page.locator("#comparison img").all())
    blank = (before == app.HOLE_COLOUR).all(axis=2)
    assert blank[96, 128 - 20 : 128 + 20].all() and not blank[:20].any()  # the stroke crosses the centre of 256 x 192
    assert np.array_equal(before[~blank], after[~blank]) and not np.array_equal(before, after)


def test_nothing_marked_is_explained_in_a_toast(page):
    pick_example(page)
    page.locator("#mask").get_by_role("button", name="Remove Image").click()
    expect(page.locator("#mask img")).to_have_count(0)
    page.get_by_role("button", name="Restore", exact=True).click()
    expect(page.get_by_text("Nothing is marked")).to_be_visible(timeout=PATIENCE)


def test_an_empty_page_and_a_cleared_canvas_ask_for_a_photo(page):
    page.get_by_role("button", name="Restore", exact=True).click()
    expect(page.get_by_text("There is no photo yet")).to_be_visible(timeout=PATIENCE)
    page.reload()
    pick_example(page)
    page.locator("#editor").get_by_role("button", name="Clear canvas").click()
    expect(page.locator("#mask img")).to_have_count(0)
    page.get_by_role("button", name="Restore", exact=True).click()
    expect(page.get_by_text("There is no photo yet")).to_be_visible(timeout=PATIENCE)
