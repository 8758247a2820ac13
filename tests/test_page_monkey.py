"""Five hundred random actions of a visitor who does not wait for answers leave a page that restores."""

import random

import pytest
from playwright.sync_api import Error, expect

from .demo_browser import Visitor

ACTIONS, SEED = 500, 0
PROBABLE = {"draw": 8, "restore": 4, "tool": 4, "undo": 3, "redo": 3, "press": 4, "paint_map": 3, "restore_map": 2}

# What Gradio and the browser say when a page is left, or a photo closed, while something of it is on its way.
LEFT_BEHIND = "AbortError: signal is aborted", "Connection errored out", "/visits/"


class Monkey:
    """Does what can be done at the moment, at random; what is hidden at that moment is left alone."""

    def __init__(self, visitor: Visitor, files: list[str], seed: int):
        self.visitor, self.page, self.files, self.random = visitor, visitor.page, files, random.Random(seed)
        self.done: list[str] = []
        self.restorations = 0  # most in a row that were seen
        self.actions = [name.removeprefix("do_") for name in dir(self) if name.startswith("do_")]

    def act(self) -> None:
        weights = [PROBABLE.get(name, 1) for name in self.actions]
        (name,) = self.random.choices(self.actions, weights)
        self.done.append(name)
        getattr(self, f"do_{name}")()
        self.restorations = max(self.restorations, self.visitor.restorations)

    # Clicks by script, as they must neither wait nor scroll.
    def click(self, selector: str) -> None:
        which = self.random.random()
        self.page.evaluate(
            """([selector, which]) => {
                const found = [...document.querySelectorAll(selector)].filter((x) => x.offsetParent);
                found[Math.floor(which * found.length)]?.click();
            }""",
            [selector, which],
        )

    def place(self) -> tuple[float, float]:
        return self.random.uniform(-0.05, 1.05), self.random.uniform(-0.05, 1.05)

    def stroke(self, on: str) -> None:
        box = self.page.evaluate(
            "x => { const {x: l, y, width, height} = document.querySelector(x).getBoundingClientRect();"
            " return [l, y, width, height]; }",
            on,
        )
        if not box[2]:
            return
        points = [(box[0] + x * box[2], box[1] + y * box[3]) for x, y in (self.place() for _ in range(3))]
        self.page.mouse.move(*points[0])
        self.page.mouse.down()
        for point in points[1:]:
            self.page.mouse.move(*point, steps=2)
        self.page.mouse.up()

    def fill(self, selector: str, highest: int, event: str = "change") -> None:
        value = self.random.randint(0, highest)
        self.page.evaluate(
            """([selector, value, event]) => {
                const slider = document.querySelector(selector);
                slider.value = value;
                slider.dispatchEvent(new Event("input", {bubbles: true}));
                slider.dispatchEvent(new Event(event, {bubbles: true}));
            }""",
            [selector, str(value), event],
        )

    # ------------------------------------------------------------------------------------------ actions

    def do_open(self) -> None:
        self.page.locator("#editor .choose").set_input_files(self.random.choice(self.files))

    def do_example(self) -> None:
        self.click(".examples button")

    def do_draw(self) -> None:
        self.stroke("#photo")

    def do_paint_map(self) -> None:
        self.stroke("#map")

    def do_tool(self) -> None:
        self.click("[data-tool]")

    def do_class_button(self) -> None:
        self.click(".things button")

    def do_class(self) -> None:
        self.click(".classes input")

    def do_let_off(self) -> None:
        self.click(".forbidden button")

    def do_forbid(self) -> None:
        self.fill(".forbid", 18)

    def do_restore(self) -> None:
        self.click("#restore")

    def do_restore_map(self) -> None:
        self.click("#restore-map")

    def do_undo(self) -> None:
        self.click("#undo")

    def do_redo(self) -> None:
        self.click("#redo")

    def do_history(self) -> None:
        self.click(".history button")

    def do_setting(self) -> None:
        name, highest = self.random.choice([("grow", 20), ("feather", 12), ("rounds", 2)])
        self.fill(f"[data-setting={name}]", highest)

    def do_invert(self) -> None:
        self.page.evaluate("document.querySelector('[data-setting=invert]').click()")

    def do_size(self) -> None:
        self.fill(".brush-size", 40, "input")

    def do_model(self) -> None:
        self.click("#model input")

    def do_random_hole(self) -> None:
        self.page.evaluate("document.querySelector('#random-hole').click()")

    def do_mask(self) -> None:
        self.page.locator("#mask").set_input_files(self.random.choice(self.files))

    def do_clear(self) -> None:
        self.click("[data-do=clear], [data-do=clear-map]")

    def do_download(self) -> None:
        self.click("#download, #download-map")

    def do_close(self) -> None:
        self.click("#another")

    def do_press(self) -> None:
        keys = "Control+z Control+Shift+z [ ] Enter ? Escape b e l r c Tab ArrowLeft Shift+ArrowRight Space".split()
        self.page.keyboard.press(self.random.choice(keys))

    def do_reload(self) -> None:
        if self.random.random() < 0.2:  # a page load takes a second
            self.visitor.visit()

    def do_wait(self) -> None:
        self.page.wait_for_timeout(self.random.randint(0, 400))


@pytest.mark.slow
def test_a_page_that_has_seen_everything_still_restores(new_visitor, own_photo, tmp_path):
    (tmp_path / "broken.png").write_bytes(own_photo.read_bytes()[:300])
    visitor = new_visitor(models="two")
    visitor.expected = LEFT_BEHIND
    monkey = Monkey(visitor, [str(own_photo), str(own_photo), str(tmp_path / "broken.png")], SEED)
    try:
        for _ in range(ACTIONS):
            monkey.act()
        assert monkey.restorations > 0
        visitor.idle()
        if visitor.page.locator("#another").is_visible():
            visitor.click("#another")
            expect(visitor.page.locator(".editor")).to_have_attribute("data-state", "empty")
        visitor.idle()
        visitor.open(own_photo)
        for name in ("grow", "feather"):
            visitor.set(name, 0)
        visitor.page.locator("[data-setting=invert]").uncheck()
        visitor.page.locator(".brush-size").fill("8")
        before = visitor.picture()
        visitor.draw((0.3, 0.5), (0.7, 0.5), tool="brush")
        visitor.restore()
        assert (visitor.picture()[58:62, 60:100] != before[58:62, 60:100]).any()
    except (AssertionError, Error) as error:
        pytest.fail(f"seed {SEED}, after {len(monkey.done)} actions, the last ones {monkey.done[-30:]}: {error}")
