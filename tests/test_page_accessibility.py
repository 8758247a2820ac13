"""The page in a browser: contrast, names, the keyboard alone, thumbs, small and large windows."""

import re

import numpy as np
import pytest
from playwright.sync_api import expect

from .demo_browser import PHONE

STROKE = (0.3, 0.5), (0.7, 0.5)
LAPTOP = {"width": 1366, "height": 768}

# Contrast as WCAG 2 defines it, of every text that is shown against what is behind it, and of the borders of controls
# against what is around them; what is too low, a line each. Of a gradient, its last colour is behind the text.
LOW_CONTRAST = """() => {
    const pen = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
    const colour = (text) => {
        pen.clearRect(0, 0, 1, 1);
        pen.fillStyle = text;
        pen.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
        return [r, g, b, a / 255];
    };
    const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3]));
    const light = (c) => c.map((v) => v / 255).map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const ratio = (a, b) => {
        const [high, low] = [light(a), light(b)].sort((x, y) => y - x);
        return (high + 0.05) / (low + 0.05);
    };
    const behind = (element) => {
        const layers = [];
        for (let x = element; x && !layers.some((c) => c[3] === 1); x = x.parentElement) {
            const {backgroundImage, backgroundColor} = getComputedStyle(x);
            if (backgroundImage.includes("gradient"))
                layers.push(colour(backgroundImage.match(/rgba?\\([^)]*\\)/g).at(-1)));
            layers.push(colour(backgroundColor));
        }
        return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
    };
    const opacity = (x) => x ? getComputedStyle(x).opacity * opacity(x.parentElement) : 1;
    const shown = (x) =>
        x.checkVisibility({opacityProperty: true, visibilityProperty: true}) && x.getClientRects().length;
    const low = [], texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    let count = 0;
    while (texts.nextNode()) {
        const element = texts.currentNode.parentElement, text = texts.currentNode.textContent.trim();
        if (!text || !shown(element) || element.closest("script, style, noscript, option")) continue;
        count += 1;
        const back = behind(element), [r, g, b, a] = colour(getComputedStyle(element).color);
        const found = ratio(over([r, g, b, a * opacity(element)], back), back);
        const wanted = element.closest("[aria-disabled=true], :disabled") ? 3 : 4.5;
        if (found < wanted) low.push(`${text.slice(0, 40)}: ${found.toFixed(2)}`);
    }
    const controls = ".editor :is(button, select, summary, .drop), .editor :is(.classes, .model) label";
    for (const control of document.querySelectorAll(controls)) {
        if (!shown(control)) continue;
        count += 1;
        const back = behind(control.parentElement);
        const found = ratio(over(colour(getComputedStyle(control).borderTopColor), back), back);
        if (found < 3) low.push(`border of ${control.textContent.trim().slice(0, 40)}: ${found.toFixed(2)}`);
    }
    return count > 10 ? low : [`only ${count} texts and controls were found`];
}"""
FOCUSED = """() => {
    const {tagName, id, className, value} = document.activeElement;
    return tagName === "BODY" ? "" : [tagName, id, className, value].join("|");
}"""
# How wide the outline is of what has the focus, or of the label or drop zone that shows it.
RING = """() => {
    const x = document.activeElement, shows = getComputedStyle(x).opacity === "0" ? x.closest("label") : x;
    return shows.checkVisibility() && getComputedStyle(shows).outlineStyle === "solid"
        && parseFloat(getComputedStyle(shows).outlineWidth);
}"""


def low_contrast(visitor) -> list[str]:
    return visitor.page.evaluate(LOW_CONTRAST)


def tab_to(visitor, selector: str) -> None:
    """By Tab alone."""
    for _ in range(120):
        visitor.page.keyboard.press("Tab")
        if visitor.page.locator(selector).evaluate_all("found => found.includes(document.activeElement)"):
            return
    raise AssertionError(f"Tab does not reach {selector}")


def press(visitor, key: str) -> None:
    visitor.page.keyboard.press(key)
    visitor.idle()


def open_everything(visitor) -> None:
    visitor.page.locator("#hole summary").click()
    visitor.page.get_by_role("button", name="Licence").click()
    expect(visitor.page.locator("#limits")).to_contain_text("non-commercial")
    help = visitor.page.locator("[data-do=help]")
    if help.is_visible():
        help.click()


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_and_border_stands_out_from_what_is_behind_it(new_visitor, own_photo, tmp_path, theme):
    visitor = new_visitor(models="two", query=f"?__theme={theme}")
    assert low_contrast(visitor) == []
    visitor.open(own_photo)
    assert low_contrast(visitor) == []
    visitor.mark_a_thing()
    visitor.draw(*STROKE)
    assert low_contrast(visitor) == []
    visitor.restore()
    open_everything(visitor)
    expect(visitor.page.locator("#rounds img")).to_have_count(6)
    assert visitor.page.locator(".seen .legend-item").count() > 2
    assert low_contrast(visitor) == []
    (tmp_path / "poem.png").write_text("no photo")
    visitor.page.locator("#mask").set_input_files(tmp_path / "poem.png")
    expect(visitor.page.locator("#status")).to_have_attribute("data-kind", "error")
    assert low_contrast(visitor) == []


def test_while_it_restores_every_text_can_be_read(new_visitor, own_photo):
    visitor = new_visitor()
    visitor.open(own_photo)
    visitor.draw(*STROKE)
    visitor.page.evaluate(
        f"""() => {{ window.low = null; const editor = document.querySelector(".editor");
            new MutationObserver(() => {{
                if (editor.hasAttribute("data-restoring")) window.low ??= ({LOW_CONTRAST})();
            }}).observe(document.querySelector("#restore"), {{attributes: true}}); }}"""
    )
    visitor.restore()
    assert visitor.page.evaluate("window.low") == []


def test_the_theme_of_the_system_is_followed(new_visitor, own_photo):
    visitor = new_visitor(color_scheme="dark", reduced_motion="reduce")
    visitor.open(own_photo)
    background = visitor.page.locator("body").evaluate("body => getComputedStyle(body).backgroundColor")
    assert max(map(int, re.findall(r"\d+", background)[:3])) < 60
    assert low_contrast(visitor) == []
    visitor.page.locator(".editor").evaluate("editor => editor.toggleAttribute('data-restoring', true)")
    assert visitor.page.locator("#photo .busy").evaluate("busy => getComputedStyle(busy).animationName") == "none"


def test_every_control_has_a_name(new_visitor, own_photo):
    visitor = new_visitor(models="two")
    control = r"^\s*- '?(?:button|link|radio|checkbox|slider|combobox|application|textbox)\b"
    nameless, named = re.compile(rf'{control}(?! ")', re.M), re.compile(rf'{control} "', re.M)
    empty = visitor.page.locator("body").aria_snapshot()
    assert not nameless.search(empty) and len(re.findall('button "Example: ', empty)) == 6
    visitor.open(own_photo)
    visitor.draw(*STROKE)
    visitor.restore()
    open_everything(visitor)
    page = visitor.page.locator("body").aria_snapshot()
    assert not nameless.search(page) and len(named.findall(page)) > 40
    for role, name in (
        ("slider", "Brush size"), ("combobox", "Format of the download"), ("radiogroup", "Class to paint on the map"),
        ("group", "Model"), ("slider", "Rounds of feedback"), ("slider", "Grow"), ("checkbox", "Invert"),
        ("combobox", "Add a class that must not come back"), ("list", "Restorations so far"),
    ):  # fmt: skip
        expect(visitor.page.get_by_role(role, name=name)).to_be_visible()


def test_what_happens_is_announced_once(visitor, own_photo):
    """Only the line of messages is a live region of the open page, and no message is filled in twice."""
    live = "#editor :is([aria-live], [role=status], [role=alert], output:not([aria-hidden=true]))"
    visitor.open(own_photo)
    shown = "found => found.filter((x) => x.checkVisibility()).map((x) => x.id)"
    assert visitor.page.locator(live).evaluate_all(shown) == ["status"]
    visitor.draw(*STROKE)
    visitor.page.evaluate(
        """() => { window.told = []; const line = document.querySelector("#status");
                   new MutationObserver(() => window.told.push(line.textContent)).observe(line, {childList: true}); }"""
    )
    visitor.restore()
    told = visitor.page.evaluate("window.told")
    assert told[0] == "Restoring …" and told[-1].startswith("Restored") and len(told) == len(set(told))


def test_tab_reaches_everything_shows_where_it_is_and_goes_round(new_visitor, own_photo):
    visitor = new_visitor(models="two")
    visitor.open(own_photo)
    visitor.draw(*STROKE)
    visitor.restore()
    visitor.page.locator("#hole summary").click()
    visitor.page.evaluate("document.activeElement.blur()")
    reached = []
    for _ in range(120):
        visitor.page.keyboard.press("Tab")
        focused = visitor.page.evaluate(FOCUSED)
        if not focused or focused == reached[:1]:
            break
        reached.append(focused)
        assert visitor.page.evaluate(RING) >= 2, f"{focused}: nothing shows that it has the focus"
    else:
        raise AssertionError("Tab never leaves the page")
    wanted = visitor.page.evaluate(
        """() => [...document.querySelectorAll(".editor :is(button, select, summary, input, [tabindex])")]
            .filter((x) => x.checkVisibility() && (x.type !== "radio" || x.checked))
            .map(({tagName, id, className, value}) => [tagName, id, className, value].join("|"))"""
    )
    assert len(wanted) > 30 and set(wanted) <= set(reached)
    # Backwards, too, out of the picture in which Tab has another meaning while it is held.
    visitor.page.locator("#photo").focus()
    visitor.page.keyboard.press("Shift+Tab")
    assert "photo" not in visitor.page.evaluate(FOCUSED)


def test_a_tap_of_tab_moves_on_and_held_it_shows_the_original(visitor, own_photo):
    visitor.open(own_photo)
    visitor.page.locator("#photo").focus()
    visitor.page.keyboard.down("Tab")
    expect(visitor.page.locator(".editor")).to_have_attribute("data-original", "")
    visitor.page.wait_for_timeout(400)
    visitor.page.keyboard.up("Tab")
    expect(visitor.page.locator(".editor")).not_to_have_attribute("data-original", "")
    expect(visitor.page.locator("#photo")).to_be_focused()
    visitor.page.keyboard.press("Tab")
    expect(visitor.page.locator("#restore")).to_be_focused()
    visitor.page.locator("#map").focus()
    visitor.page.keyboard.press("Tab")  # of a group of radios, the chosen one
    expect(visitor.page.locator(".classes input:checked")).to_be_focused()


@pytest.mark.slow
def test_a_whole_visit_by_keyboard_alone(new_visitor):
    visitor = new_visitor(models="two")
    page = visitor.page
    tab_to(visitor, ".examples button >> nth=3")
    press(visitor, "Enter")
    expect(page.locator("#photo")).to_be_focused()  # not lost with the button
    original, marked = visitor.picture(), visitor.marked()
    assert marked.any()
    page.keyboard.press("ArrowUp")
    for _ in range(4):
        page.keyboard.press("Shift+ArrowUp")
    assert (visitor.marked() & ~marked).any()
    press(visitor, "Enter")
    assert visitor.restorations == 1 and not np.array_equal(visitor.picture(), original)
    expect(page.locator("#photo")).to_be_focused()
    tab_to(visitor, "#undo")
    press(visitor, "Enter")
    assert np.array_equal(visitor.picture(), original)
    expect(page.locator("#undo")).to_be_focused()  # although there is nothing to undo any more
    tab_to(visitor, "#model input:checked")
    press(visitor, "ArrowUp")  # round to the last one
    expect(page.locator("#model input[value=streets]")).to_be_checked()
    expect(page.locator("#model input[value=streets]")).to_be_focused()
    tab_to(visitor, "#rounds-number")
    press(visitor, "ArrowLeft")
    expect(page.locator("#rounds-number")).to_have_value("1")
    tab_to(visitor, "#map")
    page.keyboard.press("Space")
    assert visitor.marked("#map").any()
    tab_to(visitor, ".classes input:checked")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".classes input >> nth=1")).to_be_checked()
    tab_to(visitor, ".things button")
    press(visitor, "Space")
    chip = page.locator(".forbidden button")
    expect(chip).to_have_count(1)
    tab_to(visitor, ".forbidden button")
    press(visitor, "Enter")  # it may come back: the chip goes, the focus stays in its row
    expect(chip).to_have_count(0)
    expect(page.locator(".forbid")).to_be_focused()
    tab_to(visitor, "#hole summary")
    page.keyboard.press("Enter")
    tab_to(visitor, "[data-setting=grow]")
    press(visitor, "ArrowRight")
    tab_to(visitor, "#restore-map")
    press(visitor, "Enter")
    assert visitor.restorations == 1, visitor.status
    expect(page.locator("#restore-map")).to_be_focused()
    tab_to(visitor, "#download")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert download.value.suggested_filename.endswith(".png")
    visitor.idle()
    tab_to(visitor, "#another")
    press(visitor, "Enter")
    expect(page.locator(".choose")).to_be_focused()


def test_undo_takes_back_strokes_and_cleared_marks_without_a_keyboard(visitor, own_photo):
    visitor.open(own_photo)
    expect(visitor.page.locator("#undo")).to_be_disabled()
    visitor.draw(*STROKE)
    visitor.draw((0.3, 0.2), (0.7, 0.2))
    both = visitor.marked()
    visitor.click("[data-do=clear]")
    visitor.click("#undo")
    assert np.array_equal(visitor.marked(), both)
    visitor.click("#undo")
    assert both.sum() > visitor.marked().sum() > 0
    visitor.click("#redo")
    assert np.array_equal(visitor.marked(), both)
    for _ in range(2):
        visitor.click("#undo")
    assert not visitor.marked().any()
    expect(visitor.page.locator("#undo")).to_be_disabled()


def test_undo_takes_back_what_was_done_last_on_the_photo_or_on_the_map(visitor, own_photo):
    visitor.open(own_photo)
    visitor.draw(*STROKE)
    marks = visitor.marked()
    visitor.draw(*STROKE, on="#map")
    strokes = visitor.painted("#map")
    visitor.click("[data-do=clear]")  # of the photo, though the map was painted on last
    visitor.click("#undo")
    assert np.array_equal(visitor.marked(), marks) and np.array_equal(visitor.painted("#map"), strokes)
    visitor.click("#undo")
    assert np.array_equal(visitor.marked(), marks) and not visitor.painted("#map").any()
    visitor.click("#undo")
    assert not visitor.marked().any()
    for _ in range(3):
        visitor.click("#redo")
    assert not visitor.marked().any() and np.array_equal(visitor.painted("#map"), strokes)


@pytest.mark.slow
@pytest.mark.parametrize("width, height", [(390, 844), (320, 640), (844, 390), (820, 1180)])
def test_on_phones_and_tablets_all_is_within_reach(new_visitor, own_photo, width, height):
    visitor = new_visitor({"width": width, "height": height}, models="two", has_touch=True, is_mobile=True)
    visitor.open(own_photo)
    if height > 640:
        assert visitor.in_sight("#photo") and visitor.in_sight("#restore")
    visitor.draw(*STROKE)
    visitor.restore()
    assert visitor.in_sight("#photo")
    open_everything(visitor)
    expect(visitor.page.locator("#rounds img")).to_have_count(6)
    # Where something is too wide, the window of a phone grows with it.
    assert visitor.page.evaluate("innerWidth") == width and visitor.overflow <= 0
    low = visitor.page.evaluate(
        """() => [...document.querySelectorAll(".editor :is(button, select, summary, .file, input[type=range])"),
                  ...document.querySelectorAll(".editor label:has(> [type=radio])")]
            .filter((x) => x.checkVisibility() && x.getBoundingClientRect().height < 36).map((x) => x.outerHTML)"""
    )
    assert low == []
    # Nothing lies over what comes after it.
    visitor.page.get_by_role("button", name="Licence").click()


def test_one_finger_draws_and_two_scroll_the_page(new_visitor, own_photo):
    visitor = new_visitor(PHONE, has_touch=True, is_mobile=True)
    visitor.open(own_photo)
    touch = visitor.page.context.new_cdp_session(visitor.page)

    def drag(*fingers: tuple[float, float]) -> None:
        """Upwards, by 120 pixels."""
        points = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(fingers)]
        for i in range(len(points)):
            touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": points[: i + 1]})
        for step in range(1, 13):
            moved = [point | {"y": point["y"] - 10 * step} for point in points]
            touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": moved})
            visitor.page.wait_for_timeout(16)
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        visitor.page.wait_for_timeout(300)

    x, y = visitor.on_page("#photo", (0.5, 0.8))
    drag((x - 40, y), (x + 40, y))
    assert visitor.page.evaluate("scrollY") > 30 and not visitor.marked().any()
    visitor.page.evaluate("scrollTo(0, 0)")
    drag((x, y))
    assert visitor.page.evaluate("scrollY") == 0 and visitor.marked().any()
    drag((x, visitor.page.locator("#status").bounding_box()["y"]))  # beside the photo, one finger is enough
    assert visitor.page.evaluate("scrollY") > 30


@pytest.mark.slow
@pytest.mark.parametrize("width, height", [(1366, 768), (1920, 1080), (1280, 1000)])
def test_on_laptops_and_wide_screens_photo_restore_and_message_are_in_sight(new_visitor, own_photo, width, height):
    visitor = new_visitor({"width": width, "height": height})
    visitor.open(own_photo)
    visitor.draw(*STROKE)
    visitor.restore()
    assert visitor.page.evaluate("scrollY") == 0
    for part in (".tools", ".things", "#photo", "#restore", "#download", "#status", "#map", "#restore-map"):
        assert visitor.in_sight(part), part
    # At twice the size of all letters, it is one column and nothing is cut.
    visitor.page.set_viewport_size({"width": width // 2, "height": height // 2})
    assert visitor.overflow <= 0
