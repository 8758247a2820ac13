"""The page in a browser: opening photos, marking what should go."""

import base64
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Route, expect

from fbinpaint.data.scenes import street_scene
from fbinpaint.demo import models

from .demo_browser import Visitor, alike

STROKE = (0.3, 0.5), (0.7, 0.5)
GIVEN = """([selector, event, name, data, type]) => {
    const bytes = Uint8Array.from(atob(data), (x) => x.charCodeAt(0)), transfer = new DataTransfer();
    transfer.items.add(new File([bytes], name, {type}));
    const options = {bubbles: true, cancelable: true};
    const made = event === "paste" ? new ClipboardEvent(event, {...options, clipboardData: transfer})
                                   : new DragEvent(event, {...options, dataTransfer: transfer});
    document.querySelector(selector).dispatchEvent(made);
}"""


def give(visitor: Visitor, event: str, path: Path, selector: str = ".editor", kind: str = "image/png") -> None:
    """The file is dropped or pasted there."""
    data = base64.b64encode(path.read_bytes()).decode()
    visitor.page.evaluate(GIVEN, [selector, event, path.name, data, kind])


def given(visitor: Visitor, event: str, path: Path, selector: str = ".editor") -> None:
    """Until the photo is there."""
    before = visitor.source
    give(visitor, event, path, selector)
    visitor.page.wait_for_function(
        "before => ![before, ''].includes(document.querySelector('#photo > img').src)", arg=before
    )
    visitor.idle()


# ---------------------------------------------------------------------------------------------- photos


def test_a_broken_file_is_told_by_its_name_and_the_next_one_opens(visitor, own_photo, tmp_path):
    (tmp_path / "broken.png").write_bytes(own_photo.read_bytes()[:300])
    (tmp_path / "poem.jpg").write_text("a poem")
    Image.new("RGB", (9, 9)).save(tmp_path / "tiny.png")
    for name in ("broken.png", "poem.jpg", "tiny.png"):
        visitor.page.locator("#editor .choose").set_input_files(tmp_path / name)
        expect(visitor.page.get_by_role("status").filter(has_text=name)).to_be_visible()
        expect(visitor.page.get_by_role("status").filter(has_text=name)).to_have_attribute("data-kind", "error")
        assert visitor.page.locator(".editor").get_attribute("data-state") == "empty"
    visitor.open(own_photo)
    visitor.draw(*STROKE)
    visitor.restore()
    # With a photo open, it stays where it is.
    before = visitor.picture()
    give(visitor, "drop", tmp_path / "broken.png")
    expect(visitor.page.locator("#status")).to_contain_text("broken.png: ")
    assert np.array_equal(visitor.picture(), before)


def test_photos_can_be_dropped_and_pasted(visitor, own_photo, tmp_path):
    given(visitor, "drop", own_photo)
    assert visitor.picture().shape == (120, 160, 3)
    visitor.draw(*STROKE)
    visitor.restore()
    street_scene((100, 100), np.random.default_rng(3))[0].save(tmp_path / "pasted.png")
    given(visitor, "paste", tmp_path / "pasted.png", selector="body")
    assert visitor.picture().shape == (100, 100, 3) and visitor.restorations == 0 and not visitor.marked().any()
    visitor.draw(*STROKE)
    visitor.restore()
    # Not every system knows what kind of file it is.
    (tmp_path / "poem.txt").write_text("a poem")
    give(visitor, "paste", tmp_path / "poem.txt", selector="body", kind="")
    expect(visitor.page.locator("#status")).to_contain_text("poem.txt: ")
    assert visitor.restorations == 1


def test_a_file_that_is_too_large_to_be_sent_is_told_with_its_size(visitor):
    visitor.page.evaluate(
        """() => {
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File([new Uint8Array(100_000_001)], "large.png", {type: "image/png"}));
            document.body.dispatchEvent(new DragEvent("drop", {bubbles: true, cancelable: true, dataTransfer}));
        }"""
    )
    told = visitor.page.get_by_role("status").filter(has_text="large.png")
    expect(told).to_have_text("large.png: is 101 MB; files of up to 100 MB can be sent.")


def test_a_slow_upload_takes_the_place_of_nothing_that_was_opened_after_it(visitor, own_photo, tmp_path):
    Image.new("RGB", (90, 60), "teal").save(tmp_path / "slow.png")
    held = []

    def hold(route: Route) -> None:
        held.append(route) if b"slow.png" in route.request.post_data_buffer else route.fallback()

    def arrives() -> None:
        with visitor.page.expect_response("**/upload*"):
            held.pop().continue_()
        visitor.page.wait_for_timeout(300)
        visitor.idle()

    visitor.page.route("**/upload*", hold)
    with visitor.page.expect_request("**/upload*"):
        visitor.page.locator("#editor .choose").set_input_files(tmp_path / "slow.png")
    visitor.open(own_photo)
    visitor.draw(*STROKE)
    arrives()
    assert visitor.picture().shape == (120, 160, 3) and visitor.marked().any()
    # A mask is of the photo that it was chosen for.
    with visitor.page.expect_request("**/upload*"):
        visitor.page.locator("#mask").set_input_files(tmp_path / "slow.png")
    given(visitor, "drop", own_photo)
    arrives()
    assert not visitor.marked().any() and "slow.png" not in visitor.status


def test_while_a_photo_is_slow_to_come_nothing_is_drawn_on_the_one_before(visitor, own_photo, tmp_path):
    shown = visitor.page.locator("#photo > img:first-child, #map > img:first-child")
    visitor.open(own_photo)
    visitor.page.mouse.move(*visitor.on_page("#photo", STROKE[0]))
    visitor.page.mouse.down()
    held: list[Route] = []
    visitor.page.route("**/file=**", lambda route: held.append(route))
    Image.open(own_photo).resize((90, 90)).save(tmp_path / "next.png")
    give(visitor, "drop", tmp_path / "next.png")
    expect(visitor.page.locator("#status")).to_contain_text("next.png")
    expect(visitor.page.locator("#status")).to_contain_text("Now mark")
    visitor.page.mouse.move(*visitor.on_page("#photo", STROKE[1]), steps=4)
    visitor.page.mouse.up()
    visitor.draw(*STROKE)
    visitor.draw(*STROKE, on="#map")
    for picture in shown.all():
        expect(picture).to_have_css("visibility", "hidden")  # and not as one that is broken
    visitor.page.unroute("**/file=**")
    for route in held:
        route.continue_()
    expect(shown.first).to_have_css("visibility", "visible")
    expect(shown.last).to_have_css("visibility", "visible")
    assert visitor.painted().shape[:2] == (90, 90)
    assert not visitor.marked().any() and not visitor.marked("#map").any()
    visitor.draw(*STROKE)
    assert visitor.marked().any()


def test_several_files_or_a_text_that_are_dropped_are_answered_in_a_line(visitor, own_photo):
    visitor.open(own_photo)
    visitor.draw(*STROKE)
    before, marks = visitor.picture(), visitor.marked()
    for files, answer in ((2, "2 files"), (0, "no file")):
        visitor.page.evaluate(
            """(files) => {
                const dataTransfer = new DataTransfer();
                dataTransfer.setData("text/plain", "a poem");
                for (let i = 0; i < files; i++) dataTransfer.items.add(new File(["a poem"], `${i}.txt`));
                document.body.dispatchEvent(new DragEvent("drop", {bubbles: true, cancelable: true, dataTransfer}));
            }""",
            files,
        )
        visitor.idle()
        assert answer in visitor.status and visitor.page.locator("#status").get_attribute("data-kind") == "error"
        assert np.array_equal(visitor.picture(), before) and np.array_equal(visitor.marked(), marks)


def test_closing_the_photo_takes_its_result_along(visitor, own_photo):
    visitor.open(own_photo)
    visitor.draw(*STROKE)
    visitor.restore()
    folder = visitor.folder
    expect(visitor.page.locator("#details")).to_be_visible()
    visitor.page.locator("#another").click()
    expect(visitor.page.locator("#editor .examples button").first).to_be_visible()
    expect(visitor.page.locator("#photo")).to_be_hidden()
    expect(visitor.page.locator("#details")).to_be_hidden()
    assert not folder.exists()
    visitor.idle()
    visitor.open(own_photo)
    assert visitor.restorations == 0 and not visitor.marked().any()


@pytest.mark.slow
def test_a_reloaded_page_goes_on_where_it_was_left(visitor, own_photo):
    visitor.open(own_photo)
    visitor.draw(*STROKE)
    visitor.restore()
    visitor.mark_a_thing()
    visitor.draw((0.2, 0.2), (0.6, 0.2))
    visitor.set("grow", 5)
    visitor.idle()
    result, marks, forbidden = visitor.picture(), visitor.marked(), ".forbidden button"
    names = visitor.page.locator(forbidden).all_inner_texts()
    for away in (False, True):
        if away:
            visitor.page.goto("about:blank")
            visitor.page.go_back()
        else:
            visitor.page.reload()
        expect(visitor.page.locator("#status")).to_contain_text("as you left it")
        visitor.idle()
        assert visitor.restorations == 1 and np.array_equal(visitor.picture(), result)
        assert np.array_equal(visitor.marked(), marks) and names
        assert visitor.page.locator(forbidden).all_inner_texts() == names
        assert visitor.page.locator("[data-setting=grow]").input_value() == "5"
    visitor.restore()
    visitor.click("#another")
    visitor.page.reload()
    visitor.example()
    visitor.restore()
    assert visitor.restorations == 1


@pytest.mark.slow
def test_a_broken_connection_takes_nothing_from_the_visitor(visitor, own_photo):
    """Gradio loads the page anew when the connection is back."""
    visitor.expected = ("ERR_INTERNET_DISCONNECTED", "Failed to fetch", "network error")
    visitor.open(own_photo)
    visitor.draw(*STROKE)
    visitor.restore()
    visitor.draw((0.2, 0.2), (0.6, 0.2))
    result, marks = visitor.picture(), visitor.marked()
    visitor.page.context.set_offline(True)
    visitor.page.locator("#restore").click()
    expect(visitor.page.get_by_text("Connection to the server was lost")).to_be_visible()
    with visitor.page.expect_navigation():
        visitor.page.context.set_offline(False)
    expect(visitor.page.locator("#status")).to_contain_text("as you left it")
    visitor.idle()
    assert np.array_equal(visitor.picture(), result) and np.array_equal(visitor.marked(), marks)
    visitor.restore()


@pytest.mark.slow
def test_a_page_that_is_loaded_anew_twice_or_refused_for_a_while_loses_nothing(visitor, own_photo, monkeypatch):
    visitor.expected = ("Failed to fetch", "network error")
    visitor.open(own_photo)
    visitor.draw(*STROKE)
    marks = visitor.marked()
    visitor.page.route("**/run/predict*", lambda route: None)  # the question is left before it is answered
    visitor.visit()
    visitor.page.unroute("**/run/predict*")
    monkeypatch.setattr(models.places, "waiting", 0)
    visitor.visit()
    expect(visitor.page.locator(".message").first).to_contain_text("The server is busy")
    monkeypatch.undo()
    visitor.page.reload()
    expect(visitor.page.locator("#status")).to_contain_text("as you left it")
    visitor.idle()
    assert np.array_equal(visitor.marked(), marks)
    assert visitor.page.evaluate("sessionStorage.length") == 0  # a copy of this tab starts anew


def test_a_page_that_is_ended_out_of_sight_has_kept_the_visit(visitor, own_photo):
    visitor.open(own_photo)
    visitor.draw(*STROKE)
    turn = "([hidden]) => { Object.defineProperty(document, 'hidden', {value: hidden, configurable: true}); "
    turn += "document.dispatchEvent(new Event('visibilitychange')); return sessionStorage.length; }"
    assert visitor.page.evaluate(turn, [True]) == 1
    kept = visitor.page.evaluate("JSON.parse(Object.values(sessionStorage)[0])")
    assert kept["session"] == visitor.folder.name and len(kept["left"]["marks"]) == 1
    assert visitor.page.evaluate(turn, [False]) == 0


def test_a_page_that_may_keep_nothing_works_as_far_as_it_can(visitor, own_photo):
    """In a frame of another site, browsers refuse its storage where they refuse that site's cookies."""
    visitor.page.add_init_script(
        "Object.defineProperty(window, 'sessionStorage', {get() { throw new DOMException('no', 'SecurityError'); }})"
    )
    visitor.visit()
    visitor.open(own_photo)
    visitor.draw(*STROKE)
    visitor.visit()
    visitor.example()
    assert visitor.marked().any()


def test_a_transparent_photo_and_one_on_its_side_are_shown_upright_on_white(visitor, tmp_path):
    tags = Image.Exif()
    tags[0x0112] = 6
    Image.new("RGBA", (120, 80), (200, 0, 0, 0)).save(tmp_path / "clear.png", exif=tags)
    visitor.open(tmp_path / "clear.png")
    assert visitor.picture().shape == (120, 80, 3) and visitor.picture().min() > 250


# ---------------------------------------------------------------------------------------------- an example's hole


@pytest.mark.slow
def test_the_hole_of_an_example_is_seen_and_can_be_erased(visitor, own_photo):
    visitor.example()
    before = visitor.marked()
    assert 0.02 < before.mean() < 0.9
    y, x = (round(axis.mean()) for axis in before.nonzero())
    height, width = before.shape
    rows = [(y / height, row / height) for row in range(0, height, 8)]
    visitor.page.locator(".brush-size").fill("20")
    visitor.draw(*[(x, row) for _, row in rows for x in (0.01, 0.99)], tool="eraser")
    assert not visitor.marked().any()
    visitor.draw((0.4, 0.4), (0.5, 0.4), tool="brush")
    alone = visitor.marked()
    visitor.restore()
    visitor.click("#undo")
    assert alike(visitor.marked(), alone)


def test_another_photo_drops_the_hole_of_an_example(visitor, own_photo):
    visitor.example()
    assert visitor.marked().any()
    given(visitor, "drop", own_photo)
    assert not visitor.marked().any()
    visitor.click("#restore")
    assert "Nothing is marked" in visitor.status


# ---------------------------------------------------------------------------------------------- tools


def test_the_brush_is_translucent_coloured_and_in_proportion_to_the_photo(visitor, own_photo, tmp_path):
    street_scene((640, 480), np.random.default_rng(0))[0].save(tmp_path / "larger.png")
    shares = []
    for path in (own_photo, tmp_path / "larger.png"):
        visitor.open(path) if not shares else given(visitor, "drop", path)
        visitor.draw((0.5, 0.5), (0.5, 0.5))
        dot = visitor.marked()
        shares.append(dot.any(axis=1).sum() / dot.shape[0])
    assert shares == [pytest.approx(0.08, abs=0.012)] * 2
    paint = visitor.page.locator("#photo .paint")
    assert 0.3 < float(paint.evaluate("x => getComputedStyle(x).opacity")) < 0.8
    red, green, blue = visitor.painted()[visitor.marked()][:, :3].mean(axis=0)
    assert max(red, green, blue) - min(red, green, blue) > 100
    # A visible slider, and keys, change its size.
    visitor.page.locator(".brush-size").fill("30")
    visitor.click("[data-do=clear]")
    visitor.draw((0.5, 0.5), (0.5, 0.5))
    assert visitor.marked().any(axis=1).sum() == pytest.approx(0.3 * 480, abs=5)
    visitor.page.keyboard.press("[")
    assert int(visitor.page.locator(".brush-size").input_value()) < 30
    visitor.page.keyboard.press("]")
    assert int(visitor.page.locator(".brush-size").input_value()) >= 29


def test_box_lasso_and_eraser_mark_areas(visitor, own_photo):
    visitor.open(own_photo)
    visitor.draw((0.25, 0.25), (0.75, 0.75), tool="box")
    expected = np.zeros((120, 160), bool)
    expected[30:90, 40:120] = True
    assert (visitor.marked() != expected).mean() < 0.02
    visitor.draw((0.3, 0.5), (0.7, 0.5), tool="eraser")
    assert not visitor.marked()[58:62, 60:100].any() and visitor.marked()[32:50, 45:115].all()
    visitor.click("[data-do=clear]")
    assert not visitor.marked().any()
    visitor.draw((0.2, 0.2), (0.8, 0.2), (0.2, 0.8), tool="lasso")
    triangle = visitor.marked()
    assert triangle[40, 50] and not triangle[90, 130] and triangle.mean() == pytest.approx(0.18, abs=0.03)
    visitor.restore()
    # What was filled is what was marked.
    visitor.click("#undo")
    assert alike(visitor.marked(), triangle)


def test_strokes_are_undone_and_redone_by_keys_before_restorations(visitor, own_photo):
    visitor.open(own_photo)
    visitor.draw(*STROKE)
    one = visitor.marked()
    visitor.draw((0.3, 0.2), (0.7, 0.2))
    two = visitor.marked()
    visitor.page.keyboard.press("Control+z")
    assert alike(visitor.marked(), one)
    visitor.page.keyboard.press("Control+Shift+z")
    assert alike(visitor.marked(), two)
    visitor.page.locator("#photo").focus()
    visitor.page.keyboard.press("Enter")
    visitor.idle()
    assert visitor.restorations == 1
    after = visitor.picture()
    visitor.page.keyboard.press("Control+z")
    visitor.idle()
    assert not np.array_equal(visitor.picture(), after) and alike(visitor.marked(), two)
    visitor.page.keyboard.press("Control+y")
    visitor.idle()
    visitor.page.keyboard.press("?")
    expect(visitor.page.locator(".keys")).to_be_visible()
    visitor.page.keyboard.press("?")
    expect(visitor.page.locator(".keys")).to_be_hidden()


def test_marks_are_painted_by_arrow_keys(visitor, own_photo):
    visitor.open(own_photo)
    visitor.page.locator("#photo").focus()
    for key in ("ArrowLeft", "Shift+ArrowRight", "Shift+ArrowRight", "Shift+ArrowDown"):
        visitor.page.keyboard.press(key)
    assert visitor.marked()[60, 78:84].all()
    visitor.page.keyboard.press("Enter")
    visitor.idle()
    assert visitor.restorations == 1


# ---------------------------------------------------------------------------------------------- the hole's settings


def test_grow_feather_and_invert_are_shown_before_running(visitor, own_photo):
    visitor.open(own_photo)
    visitor.draw((0.4, 0.4), (0.6, 0.6), tool="box")
    preview = visitor.page.locator("#photo .preview")
    expect(preview).to_be_hidden()

    def shown() -> np.ndarray:
        expect(preview).to_be_visible()
        source = preview.evaluate("image => image.src")
        return np.asarray(visitor.fetch(source).convert("RGBA"))[..., 3] / 255

    visitor.set("grow", 8)
    grown = shown()
    assert grown[42, 80] == 1 and grown[36, 80] == 0 and grown[60, 58] == 1
    visitor.set("feather", 10)
    soft = shown()
    assert soft[60, 80] == 1 and len(np.unique(soft)) > 5 and soft[32, 80] > 0
    visitor.set("feather", 0)
    visitor.set("grow", 0)
    expect(preview).to_be_hidden()
    visitor.page.locator("[data-setting=invert]").check()
    visitor.idle()
    assert shown()[60, 80] == 0 and shown()[10, 10] == 1
    visitor.restore()
    expect(preview).to_be_hidden()
    with Image.open(visitor.download().path()) as result:
        changed = (np.asarray(result) != np.asarray(Image.open(own_photo))).any(axis=2)
    assert not changed[50:70, 66:94].any() and changed[:40].mean() > 0.9
    visitor.click("#undo")  # which brings the marks back, and what they mean
    assert shown()[60, 80] == 0 and shown()[10, 10] == 1
    # The next photo starts without them.
    visitor.set("grow", 8)
    visitor.open(own_photo)
    assert visitor.page.locator("[data-setting=grow]").input_value() == "0"
    expect(visitor.page.locator("[data-setting=invert]")).not_to_be_checked()


def test_a_mask_from_a_file_and_a_random_hole_are_marks(visitor, own_photo, tmp_path):
    visitor.open(own_photo)
    mask = np.zeros((120, 160), np.uint8)
    mask[20:60, 30:70] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    Image.fromarray(mask[:, :50]).save(tmp_path / "narrow.png")
    visitor.page.locator("#hole summary").click()
    visitor.page.locator("#mask").set_input_files(tmp_path / "mask.png")
    expect(visitor.page.locator("#status")).to_contain_text("The mask marks 8.3%")
    visitor.idle()
    assert (visitor.marked() == (mask > 0)).all()
    visitor.page.locator("#mask").set_input_files(tmp_path / "narrow.png")
    expect(visitor.page.locator("#status")).to_contain_text("narrow.png: is 50x120, the photo 160x120")
    assert (visitor.marked() == (mask > 0)).all()
    visitor.click("[data-do=clear]")
    give(visitor, "drop", tmp_path / "mask.png", selector="#mask")  # where it can be chosen: it is no photo
    expect(visitor.page.locator("#status")).to_contain_text("The mask marks 8.3%")
    visitor.idle()
    assert (visitor.marked() == (mask > 0)).all()
    visitor.click("[data-do=clear]")
    visitor.click("#random-hole")
    assert "random" in visitor.status and visitor.marked().any()
    visitor.restore()
