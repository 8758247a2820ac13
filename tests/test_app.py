"""The demo as its visitors meet it: through its API, and in a real browser.

Screenshots of the page (desktop, phone, dark) are left in tests/artefacts/ to be looked at.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from gradio import processing_utils
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from playwright.sync_api import Locator, Page, expect, sync_playwright

from fbinpaint.data.scenes import street_scene
from fbinpaint.demo.examples import EXAMPLES, list_examples
from fbinpaint.demo.inputs import MAX_SIDE, read_edits, read_hole, read_photo
from fbinpaint.demo.models import bundled_models
from fbinpaint.demo.page import STYLE, build_demo
from fbinpaint.demo.rendering import HOLE_COLOUR, feathered
from fbinpaint.demo.server import SERVING
from fbinpaint.errors import InputError
from fbinpaint.labels import CITYSCAPES, IGNORE
from fbinpaint.masks import protocol_mask

ARTEFACTS = Path(__file__).parent / "artefacts"
CHROMIUM_FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
PATIENCE = 120_000  # milliseconds; a small shared machine is slow, not broken
expect.set_options(timeout=PATIENCE)
DESKTOP, PHONE = {"width": 1280, "height": 1000}, {"width": 390, "height": 844}
CLIENTS, REQUESTS = 8, 5


@pytest.fixture(scope="module")
def url(tiny_pipeline_dir):
    demo = build_demo({"tiny": str(tiny_pipeline_dir)})
    # A free port: 0 is not understood, None tries the next ones from 7860.
    _, url, _ = demo.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, **STYLE, **SERVING)
    yield url
    demo.close()


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


# ---------------------------------------------------------------------------------------------- API


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


# ---------------------------------------------------------------------------------------------- pieces


def test_models_are_checked_before_the_page_opens(tmp_path):
    with pytest.raises(InputError, match="model_index.json"):
        build_demo({"empty": str(tmp_path)})


def test_a_label_space_gets_examples_once():
    examples = list_examples({"first": CITYSCAPES, "second": CITYSCAPES})
    assert examples == [("first", name) for name in EXAMPLES["cityscapes"]]


def test_large_photos_are_scaled_down():
    assert read_photo(Image.new("RGB", (4 * MAX_SIDE, 300))).shape == (75, MAX_SIDE, 3)
    assert read_photo(Image.new("L", (300, 200))).shape == (200, 300, 3)


def test_the_hole_can_be_inverted_grown_and_shrunk_away(hole):
    mask = Image.fromarray(hole[1])
    assert np.array_equal(read_hole([mask], (90, 70), invert=True), ~hole[1])
    grown = read_hole([mask], (90, 70), grow=3)
    assert grown[17, 45] and not grown[16, 45] and grown[40, 62] and not grown[40, 63]
    with pytest.raises(InputError, match="shrink it less"):
        read_hole([mask], (90, 70), grow=-16)
    with pytest.raises(InputError, match="everything"):
        read_hole([mask], (90, 70), grow=60)


def test_feathering_blends_around_what_was_marked(hole):
    photo, fill = np.full((70, 90, 3), 100, np.uint8), np.full((70, 90, 3), 200, np.uint8)
    blended = feathered(photo, fill, read_hole([Image.fromarray(hole[1])], (90, 70), grow=4), 4)
    assert (blended[hole[1]] == 200).all() and blended[0, 0, 0] == 100
    assert (np.diff(blended[45:56, 45, 0].astype(int)) <= 0).all() and 100 < blended[51, 45, 0] < 200


def test_strokes_in_class_colours_become_edits(hole):
    layer = np.zeros((70, 90, 4), np.uint8)
    layer[25:45, 20:50] = (*CITYSCAPES.palette[8], 255)
    layer[25:30, 55:58] = (1, 2, 3, 255)  # no class's colour
    edits = read_edits([layer], hole[1], CITYSCAPES)
    assert (edits[25:45, 30:50] == 8).all() and np.count_nonzero(edits != IGNORE) == 20 * 20


# ---------------------------------------------------------------------------------------------- browser


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        chromium = shutil.which("chromium") or (own if os.path.exists(own) else None)
        if chromium is None:
            message = "the page wants a browser: make browser, or Debian's apt-get install chromium"
            pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, url):
    """Opens the page; afterwards, fails on any console error of the demo. Nothing but the demo is reachable."""
    pages, errors = [], []

    def open_page(viewport: dict = DESKTOP, query: str = "") -> Page:
        page = browser.new_page(viewport=viewport)
        pages.append(page)
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda m: errors.append(m.text) if m.type == "error" and url in m.location["url"] else None)
        page.route("**/*", lambda route: route.continue_() if route.request.url.startswith(url) else route.abort())
        page.goto(url + query)
        expect(page.locator("#editor canvas").first).to_be_visible(timeout=PATIENCE)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert not errors


@pytest.fixture
def page(open_page) -> Page:
    return open_page()


def wait_for_pictures(page: Page, selector: str, count: int) -> None:
    expect(page.locator(f"{selector} img").nth(count - 1)).to_be_visible(timeout=PATIENCE)
    for image in page.locator(f"{selector} img").all():
        image.scroll_into_view_if_needed()  # pictures out of sight load later
    page.wait_for_function(
        "selector => [...document.querySelectorAll(selector)].every(x => x.naturalWidth > 1)", arg=f"{selector} img"
    )


def wait_for_result(page: Page) -> None:
    """Every result is there and has loaded."""
    expect(page.locator("#status")).to_contain_text("Restored", timeout=PATIENCE)
    for selector, count in (("#comparison", 2), ("#map-before", 2), ("#map-after", 2), ("#rounds", 6)):
        wait_for_pictures(page, selector, count)


@contextmanager
def answered(page: Page) -> Iterator[None]:
    """Waits until the page has the server's answer to what is clicked here: one of the quick functions."""
    with page.expect_response(lambda response: response.url.endswith("/run/predict"), timeout=PATIENCE) as answer:
        yield
    assert answer.value.finished() is None and answer.value.ok
    page.wait_for_timeout(200)  # to show it


def pick_example(page: Page, index: int = 0) -> None:
    """The example comes with its result."""
    page.locator("#examples .gallery-item").nth(index).click()
    wait_for_result(page)
    # The editor shows its picture on a canvas; only then can it be zoomed to fit or be painted on.
    expect(page.locator("#editor").get_by_role("button", name="Undo")).to_be_enabled(timeout=PATIENCE)


def set_number(page: Page, label: str, value: str) -> None:
    """Types a number into a field until it stays."""
    field = page.get_by_label(label)
    for _ in range(50):
        field.fill(value)
        field.press("Tab")
        page.wait_for_timeout(300)
        if field.input_value() == value:
            break
    expect(field).to_have_value(value)


def open_hole_settings(page: Page, seed: str = "1") -> None:
    """The panel fills in its settings a moment after it shows, over what is typed until then: one tells when it has."""
    page.locator("#hole").get_by_role("button", name="The hole").click()
    expect(page.locator("#mask")).to_be_visible(timeout=PATIENCE)
    set_number(page, "Seed", seed)


def drop_mask(page: Page) -> None:
    open_hole_settings(page)
    page.locator("#mask").get_by_role("button", name="Remove Image").click()
    expect(page.locator("#mask img")).to_have_count(0)


@contextmanager
def repainted(page: Page, editor: str) -> Iterator[None]:
    """Waits until what is done here can be seen on the editor's canvas: it is drawn later than the page is updated."""
    canvas = page.locator(f"{editor} canvas").first
    old = canvas.screenshot()
    yield
    deadline = time.monotonic() + PATIENCE / 1000
    while canvas.screenshot() == old:
        assert time.monotonic() < deadline, f"{editor} still shows the same picture"
        page.wait_for_timeout(100)


def stroke(page: Page, editor: str, length: int = 100) -> None:
    """A horizontal brush stroke through the centre of an editor."""
    page.locator(editor).get_by_role("button", name="Brush", exact=True).click()
    canvas = page.locator(f"{editor} canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - length / 2, y)
    page.mouse.down()
    page.mouse.move(x + length / 2, y, steps=4)
    page.mouse.up()


def restore(page: Page, button: str = "#restore") -> None:
    """Press the button and wait until new results have replaced the old."""
    old = page.locator("#comparison img").nth(1)
    old = old.get_attribute("src") if old.count() else ""
    page.locator(button).click()
    page.wait_for_function(
        """old => { const images = document.querySelectorAll("#comparison img");
                    return images.length > 1 && images[1].src != old && /Restored/.test(status_text()); }"""
        .replace("status_text()", 'document.querySelector("#status").textContent'), arg=old,
    )  # fmt: skip
    wait_for_result(page)


def fetch(page: Page, image: Locator) -> np.ndarray:
    """The pixels of a picture on the page, (H,W,3) uint8."""
    return np.array(Image.open(BytesIO(page.request.get(image.get_attribute("src")).body())).convert("RGB"))


def before_and_after(page: Page) -> list[np.ndarray]:
    return [fetch(page, image) for image in page.locator("#comparison img").all()]


def screenshot(page: Page, name: str) -> None:
    ARTEFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTEFACTS / f"{name}.png", full_page=True)


def overflow(page: Page) -> int:
    """Pixels by which the page is wider than its window."""
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


def test_a_picture_that_is_saved_again_is_whole_at_every_moment(tmp_path):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8))
    path = Path(processing_utils.save_pil_to_cache(picture, str(tmp_path), format="png"))
    size = path.stat().st_size
    with ThreadPoolExecutor() as pool:
        save = processing_utils.save_pil_to_cache
        saved = [pool.submit(save, picture, str(tmp_path), format="png") for _ in range(9)]
        while not all(future.done() for future in saved):
            assert len(path.read_bytes()) == size
    assert {Path(future.result()) for future in saved} == {path} and len(list(path.parent.iterdir())) == 1


def test_a_picked_example_shows_its_result_and_can_be_restored(page):
    pick_example(page)
    expect(page.locator("#rounds")).to_contain_text("Round 2:")
    expect(page.locator("#status")).to_contain_text("of 256 × 192 pixels")
    cached = before_and_after(page)
    page.locator("#restore").click()
    page.wait_for_timeout(500)
    wait_for_result(page)
    assert all(map(np.array_equal, cached, before_and_after(page)))


def test_a_painted_stroke_is_the_hole(page):
    pick_example(page)
    drop_mask(page)
    stroke(page, "#editor")
    restore(page)
    before, after = before_and_after(page)
    blank = (before == HOLE_COLOUR).all(axis=2)
    assert blank[96, 128 - 20 : 128 + 20].all() and not blank[:20].any()  # the stroke crosses the centre of 256 x 192
    assert np.array_equal(before[~blank], after[~blank]) and not np.array_equal(before, after)


def test_the_first_map_is_shown_before_the_rest_is_done(page):
    pick_example(page)
    open_hole_settings(page)
    # Another hole, another map: with the old one the same picture would come back.
    set_number(page, "number input for Grow", "2")
    page.evaluate(
        """() => { window.seen = [];
            const note = () => window.seen.push([document.querySelector("#map-before img").src,
                                                 document.querySelector("#status").textContent]);
            new MutationObserver(note).observe(document.body,
                {subtree: true, childList: true, attributes: true, characterData: true}); note(); }"""
    )
    restore(page)
    seen = page.evaluate("window.seen")
    first, last = seen[0][0], seen[-1][0]
    early = [text for source, text in seen if source not in (first,) and "Round" in text]
    assert last != first and early


def test_a_class_painted_on_the_map_is_followed(page):
    pick_example(page)
    drop_mask(page)
    stroke(page, "#editor", length=300)
    restore(page)
    first = before_and_after(page)
    with answered(page):  # the brush takes its colour
        page.locator(".classes label", has_text="sky").click()
    stroke(page, "#map-editor", length=200)
    restore(page, "#restore-again")
    second = before_and_after(page)
    hole = (first[0] == HOLE_COLOUR).all(axis=2)
    assert np.array_equal(first[0], second[0]) and np.array_equal(first[1][~hole], second[1][~hole])
    assert not np.array_equal(first[1][hole], second[1][hole])
    expect(page.locator("#map-after")).to_contain_text("sky")
    # What was painted stays until it is forgotten.
    restore(page, "#forget")
    assert np.array_equal(before_and_after(page)[1], first[1])


def test_an_uploaded_mask_is_the_hole(page, tmp_path):
    pick_example(page)
    drop_mask(page)
    mask = np.zeros((192, 256), np.uint8)
    mask[100:150, 40:90] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    page.locator("#mask input[type=file]").set_input_files(tmp_path / "mask.png")
    expect(page.locator("#mask img")).to_be_visible(timeout=PATIENCE)
    restore(page)
    before, after = before_and_after(page)
    assert (before[mask > 0] == 255).all() and (before == HOLE_COLOUR).all(axis=2).sum() < 1.02 * (mask > 0).sum()
    assert np.array_equal(before[mask == 0], after[mask == 0])


def test_a_random_hole_follows_its_seed(page):
    pick_example(page)
    open_hole_settings(page, seed="3")
    with answered(page):
        page.locator("#random-hole").click()
    restore(page)
    hole = (before_and_after(page)[0] == HOLE_COLOUR).all(axis=2)
    expected = protocol_mask(192, 256, 3)
    assert hole[expected].all() and hole.mean() < expected.mean() + 0.02


def test_the_result_can_be_downloaded_and_used_again(page):
    pick_example(page)
    _, after = before_and_after(page)
    with page.expect_download() as download:
        page.locator("#download").click()
    assert download.value.suggested_filename.endswith(".png")
    assert np.array_equal(np.array(Image.open(download.value.path()).convert("RGB")), after)
    assert b"compositeWithTrainedAlgorithmicMedia" in Image.open(download.value.path()).info["xmp"]
    with page.expect_download() as download:
        page.locator("#download-map").click()
    map_ = Image.open(download.value.path())
    assert map_.mode == "P" and np.asarray(map_).max() < CITYSCAPES.num_classes
    with repainted(page, "#editor"), answered(page):
        page.locator("#reuse").click()
    stroke(page, "#editor")
    restore(page)
    before, _ = before_and_after(page)
    known = ~(before == HOLE_COLOUR).all(axis=2)
    assert np.array_equal(before[known], after[known])


def test_a_result_that_is_gone_cannot_be_the_next_photo(page):
    pick_example(page)
    expect(page.locator("#reuse")).to_be_enabled(timeout=PATIENCE)
    with answered(page):
        page.locator("#editor").get_by_role("button", name="Clear canvas").click()
    expect(page.locator("#reuse")).to_be_disabled(timeout=PATIENCE)


def test_a_taken_port_is_one_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = [sys.executable, "app.py", "--port", str(taken.getsockname()[1])]
        run = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, text=True)
    assert run.returncode == 1 and "is taken" in run.stderr and "Traceback" not in run.stderr


def test_phone_and_dark(open_page):
    phone = open_page(PHONE)
    pick_example(phone)
    assert overflow(phone) <= 0
    for part in ("#editor", "#comparison", "#map-before", "#map-editor"):
        assert phone.locator(part).bounding_box()["width"] > 300
    screenshot(phone, "phone")
    dark = open_page(DESKTOP, "?__theme=dark")
    pick_example(dark)
    screenshot(dark, "dark")
    assert np.asarray(Image.open(ARTEFACTS / "dark.png").convert("L"))[:60].mean() < 60


def test_nothing_marked_is_explained_in_a_toast(page):
    pick_example(page)
    drop_mask(page)
    page.locator("#restore").click()
    expect(page.get_by_text("Nothing is marked")).to_be_visible(timeout=PATIENCE)


def test_an_empty_page_and_a_cleared_canvas_ask_for_a_photo(page):
    page.locator("#restore").click()
    expect(page.get_by_text("There is no photo yet")).to_be_visible(timeout=PATIENCE)
    page.reload()
    pick_example(page)
    page.locator("#editor").get_by_role("button", name="Clear canvas").click()
    expect(page.locator("#mask img")).to_have_count(0)
    page.locator("#restore").click()
    expect(page.get_by_text("There is no photo yet")).to_be_visible(timeout=PATIENCE)


def test_the_bundled_models_restore_their_examples(browser):
    """The screenshot is README's picture. The last test here: a demo that closes clears the files of all of them."""
    demo = build_demo(bundled_models())
    settings = {"server_name": "127.0.0.1", "prevent_thread_lock": True, "quiet": True}
    _, address, _ = demo.launch(**settings, **STYLE, **SERVING)
    page = browser.new_page(viewport=DESKTOP)
    try:
        page.set_default_timeout(PATIENCE)
        page.goto(address)
        pick_example(page, len(EXAMPLES["celebamask-hq"]))  # the first street, after the faces
        expect(page.locator("#map-after")).to_contain_text("road")
        pick_example(page)
        expect(page.locator("#map-after")).to_contain_text("hair", timeout=PATIENCE)
        page.locator("#map-editor").scroll_into_view_if_needed()
        page.wait_for_timeout(1000)  # it draws only what is in sight
        screenshot(page, "desktop")
    finally:
        page.close()
        demo.close()
