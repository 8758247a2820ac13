"""A visitor of the demo's page in a real browser: what he does, and what he sees."""

import base64
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Download, Page, expect, sync_playwright

from fbinpaint.demo.page import STYLE, build_demo
from fbinpaint.demo.server import serving

ARTEFACTS = Path(__file__).parent / "artefacts"
CHROMIUM_FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
PATIENCE = 60_000  # milliseconds; a small shared machine is slow, not broken
expect.set_options(timeout=PATIENCE)
DESKTOP, PHONE = {"width": 1280, "height": 1000}, {"width": 390, "height": 844}
CLASS_BUTTON = ".things button:has-text('{}')"
# Nothing asked, nothing restored, for a quarter of a second: an answer may bring the next question with it.
IDLE = """() => new Promise((done) => {
    let since = performance.now();
    const look = () => {
        const editor = document.querySelector(".editor"), now = performance.now();
        if (editor.ariaBusy === "true" || editor.hasAttribute("data-restoring")) since = now;
        if (now - since > 250) done(); else setTimeout(look, 25);
    };
    look();
})"""


@contextmanager
def serve(models: dict[str, str], cache: Path) -> Iterator[str]:
    """The address of a demo in this process. Its files are its own: a demo that closes clears them, and others run."""
    with pytest.MonkeyPatch.context() as patch:
        if not Path(os.environ.get("GRADIO_TEMP_DIR", "/")).is_relative_to(cache):  # of two, both have the same
            patch.setenv("GRADIO_TEMP_DIR", str(cache))
        demo = build_demo(models)
        # A free port: 0 is not understood, None tries the next ones from 7860.
        settings = {"server_name": "127.0.0.1", "prevent_thread_lock": True, "quiet": True}
        _, url, _ = demo.launch(**settings, **STYLE, **serving())
        try:
            yield url
        finally:
            demo.close()


@contextmanager
def start_browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        chromium = shutil.which("chromium") or (own if os.path.exists(own) else None)
        if chromium is None:
            message = "the page wants a browser: make browser, or Debian's apt-get install chromium"
            pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


def alike(first: np.ndarray, second: np.ndarray) -> bool:
    """Two (H,W) bool: strokes that are drawn again at once are a little smoother at their borders."""
    return (first != second).mean() < 0.005


class Visitor:
    """Places on pictures are shares of their width and height."""

    def __init__(self, page: Page, url: str, errors: list[str]):
        """errors: what goes wrong in the browser is added to it. Nothing but the demo is reachable."""
        self.page, self.url = page, url
        self.expected: tuple[str, ...] = ()  # parts of errors that are none

        def note(text: str, place: str) -> None:
            if not any(part in f"{text} {place}" for part in self.expected):
                errors.append(f"{text} ({place})")

        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: note(str(error), "script"))
        page.on("console", lambda m: url in m.location["url"] and m.type == "error" and note(m.text, m.location["url"]))
        page.route("**/*", lambda route: route.continue_() if route.request.url.startswith(url) else route.abort())

    def visit(self, query: str = "") -> "Visitor":
        self.page.goto(self.url + query)
        expect(self.page.locator("#editor .examples button").first).to_be_attached()
        return self

    # ------------------------------------------------------------------------------------------ what he does

    def idle(self) -> None:
        self.page.evaluate(IDLE)

    def open(self, path: str | Path) -> None:
        """A photo of his own, by the file chooser."""
        self.page.locator("#editor .choose").set_input_files(path)
        expect(self.page.locator(".editor")).to_have_attribute("data-state", "open")
        self.idle()

    def example(self, index: int = 0) -> None:
        self.page.locator(".examples button").nth(index).click()
        expect(self.page.locator(".editor")).to_have_attribute("data-state", "open")
        self.idle()

    def click(self, selector: str) -> None:
        self.page.locator(selector).click()
        self.idle()

    def mark_a_thing(self) -> None:
        """The smallest that can be marked by its name: an untrained network's map has classes of specks alone."""
        things = self.page.locator(".things button")
        for i in range(things.count()):
            things.nth(i).click()
            self.idle()
            if things.nth(i).get_attribute("aria-pressed") == "true":
                return
        pytest.fail(f"no thing could be marked: {self.status}")

    def draw(self, *places: tuple[float, float], on: str = "#photo", tool: str | None = None) -> None:
        if tool:
            self.page.locator(f"[data-tool={tool}]").click()
        self.page.locator(on).scroll_into_view_if_needed()
        places = [self.on_page(on, place) for place in places]
        self.page.mouse.move(*places[0])
        self.page.mouse.down()
        for place in places[1:]:
            self.page.mouse.move(*place, steps=4)
        self.page.mouse.up()

    def tap(self, place: tuple[float, float], on: str = "#photo") -> None:
        self.page.locator(on).scroll_into_view_if_needed()
        self.page.mouse.click(*self.on_page(on, place))
        self.idle()

    def on_page(self, picture: str, place: tuple[float, float]) -> tuple[float, float]:
        box = self.page.locator(picture).bounding_box()
        return box["x"] + place[0] * box["width"], box["y"] + place[1] * box["height"]

    def restore(self, button: str = "#restore") -> None:
        """Until its result is there: the next picture in the row."""
        before = self.at
        self.click(button)
        assert self.at == before + 1, self.status

    def set(self, setting: str, value: int) -> None:
        slider = self.page.locator(f"[data-setting={setting}]")
        if not slider.is_visible():
            self.page.locator("#hole summary").click()
        slider.fill(str(value))
        slider.dispatch_event("change")
        self.idle()

    def download(self, button: str = "#download", format: str | None = None) -> Download:
        if format:
            self.page.locator(".format").select_option(format)
        with self.page.expect_download() as download:
            self.page.locator(button).click()
        self.idle()
        return download.value

    # ------------------------------------------------------------------------------------------ what he sees

    @property
    def status(self) -> str:
        return self.page.locator("#status").inner_text()

    @property
    def restorations(self) -> int:
        return max(0, self.page.locator(".history li").count() - 1)

    @property
    def at(self) -> int:
        """Which picture in the row is shown, from 0."""
        return self.page.locator(".history button").evaluate_all("xs => xs.findIndex((x) => x.ariaCurrent === 'true')")

    @property
    def source(self) -> str:
        """The address of the photo as the page shows it."""
        return self.page.locator("#photo > img:first-child").evaluate("image => image.src")

    def picture(self, selector: str = "#photo > img:first-child") -> np.ndarray:
        """The pixels of a picture on the page as its file holds them, (H,W,3) uint8."""
        return np.array(self.fetch(self.page.locator(selector).evaluate("image => image.src")).convert("RGB"))

    def fetch(self, url: str) -> Image.Image:
        return Image.open(BytesIO(self.page.request.get(url).body()))

    @property
    def folder(self) -> Path:
        """Where the server keeps what is of the photo."""
        return Path(unquote(self.source.partition("file=")[2])).parent

    def painted(self, on: str = "#photo") -> np.ndarray:
        """What is drawn over a picture, (H,W,4) uint8, as large as the picture is shown to the page."""
        url = self.page.locator(f"{on} canvas.paint").evaluate("canvas => canvas.toDataURL()")
        return np.array(Image.open(BytesIO(base64.b64decode(url.partition(",")[2]))))

    def marked(self, on: str = "#photo") -> np.ndarray:
        """Where that is, (H,W) bool."""
        return self.painted(on)[..., 3] > 127

    def in_sight(self, selector: str) -> bool:
        box, height = self.page.locator(selector).bounding_box(), self.page.viewport_size["height"]
        return box["y"] >= -1 and box["y"] + min(box["height"], height) <= height + 1

    def screenshot(self, name: str) -> None:
        ARTEFACTS.mkdir(exist_ok=True)
        self.page.screenshot(path=ARTEFACTS / f"{name}.png", full_page=True)

    @property
    def overflow(self) -> int:
        """Pixels by which the page is wider than its window."""
        return self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
