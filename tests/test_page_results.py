"""The page in a browser: restoring, going on from the result, undo and redo, downloads."""

import shutil
import threading

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from fbinpaint.data.scenes import street_scene
from fbinpaint.demo import clients
from fbinpaint.demo.models import load

from .demo_browser import alike

STROKE = (0.3, 0.5), (0.7, 0.5)


def difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """By pixel, the largest of its channels."""
    return np.abs(first.astype(int) - second).max(axis=2)


@pytest.mark.slow
def test_one_goes_on_from_the_result_as_often_as_one_likes(visitor, own_photo):
    visitor.open(own_photo)
    for turn in range(5):
        before, y = visitor.picture(), 0.15 + 0.14 * turn
        visitor.draw((0.2, y), (0.6, y))
        visitor.restore()
        changed = difference(before, visitor.picture())
        assert visitor.restorations == turn + 1
        assert changed[round(y * 120) - 3 : round(y * 120) + 3, 40:90].mean() > 5 * changed[:, 130:].mean()
        assert "Restored" in visitor.status and not visitor.painted().any()


def test_an_example_is_restored_and_gone_on_from(visitor):
    visitor.example()
    assert visitor.painted()[..., 3].any()  # its hole
    visitor.restore()
    assert not visitor.painted().any()
    visitor.draw(*STROKE)
    visitor.restore()


def test_the_first_round_is_shown_before_the_rest_is_done(visitor, own_photo):
    visitor.open(own_photo)
    visitor.draw(*STROKE)
    visitor.page.evaluate(
        """() => { window.told = [];
            new MutationObserver(() => window.told.push(document.querySelector("#status").textContent))
                .observe(document.querySelector("#status"), {childList: true, characterData: true, subtree: true}); }"""
    )
    visitor.restore()
    told = visitor.page.evaluate("window.told")
    assert told[0].startswith("Restoring") and told[-1].startswith("Restored")
    assert any("Round 1 of 3 is done" in line for line in told)


@pytest.mark.slow
def test_undo_brings_back_the_picture_with_its_marks_and_redo_the_result(visitor, own_photo):
    visitor.open(own_photo)
    photo = visitor.picture()
    visitor.draw(*STROKE)
    marks = visitor.marked()
    visitor.restore()
    first = visitor.picture()
    visitor.draw((0.3, 0.2), (0.7, 0.2))
    visitor.restore()
    second = visitor.picture()
    visitor.click("#undo")
    assert np.array_equal(visitor.picture(), first)
    visitor.click("#undo")
    assert np.array_equal(visitor.picture(), photo) and alike(visitor.marked(), marks)
    expect(visitor.page.locator("#undo")).to_have_attribute("aria-disabled", "true")
    visitor.click("#redo")
    visitor.click("#redo")
    assert np.array_equal(visitor.picture(), second) and not visitor.painted().any()
    expect(visitor.page.locator("#redo")).to_have_attribute("aria-disabled", "true")
    # The row shows all of them, and leads to each.
    assert visitor.page.locator(".history img").count() == 3
    visitor.click(".history li:nth-child(2) button")
    assert np.array_equal(visitor.picture(), first)
    expect(visitor.page.locator(".history li:nth-child(2) button")).to_have_attribute("aria-current", "true")
    visitor.draw((0.3, 0.5), (0.5, 0.6), on=".history li:nth-child(1) button")  # by a hand that slips
    visitor.idle()
    assert np.array_equal(visitor.picture(), photo)
    visitor.click(".history li:nth-child(2) button")
    # What is restored from there takes the place of what came after it.
    visitor.click("[data-do=clear]")
    visitor.draw((0.2, 0.8), (0.4, 0.8))
    visitor.restore()
    assert visitor.restorations == 2 and not np.array_equal(visitor.picture(), second)


@pytest.mark.slow
def test_undo_after_the_page_is_loaded_anew_takes_back_stroke_by_stroke(visitor, own_photo):
    visitor.open(own_photo)
    visitor.draw(*STROKE)
    visitor.restore()
    visitor.draw((0.2, 0.2), (0.8, 0.2))
    one = visitor.marked()
    visitor.draw((0.2, 0.8), (0.8, 0.8))
    two = visitor.marked()
    visitor.draw(*STROKE, on="#map")
    visitor.page.reload()
    expect(visitor.page.locator("#status")).to_contain_text("as you left it")
    visitor.idle()
    visitor.click("#undo")
    assert visitor.at == 1 and alike(visitor.marked(), one)
    visitor.click("#redo")
    assert alike(visitor.marked(), two)
    for _ in range(3):
        visitor.click("#undo")
    assert visitor.at == 1 and not visitor.marked().any() and not visitor.marked("#map").any()
    visitor.click("#undo")
    assert visitor.at == 0


def test_undo_pressed_in_a_burst_takes_as_many_steps_and_loses_no_marks(visitor, own_photo):
    visitor.open(own_photo)
    visitor.draw(*STROKE)
    drawn = visitor.marked()
    visitor.restore()
    for y in (0.2, 0.8):
        visitor.draw((0.3, y), (0.7, y))
        visitor.restore()
    for button, presses, at in (("undo", 2, 1), ("redo", 2, 3), ("undo", 9, 0)):
        visitor.page.evaluate(f"for (let i = 0; i < {presses}; i++) document.querySelector('#{button}').click()")
        visitor.idle()
        assert visitor.at == at
    assert alike(visitor.marked(), drawn)


def test_restoring_again_with_other_settings_starts_from_the_same_marks(visitor, own_photo):
    visitor.open(own_photo)
    visitor.draw(*STROKE)
    visitor.restore()
    first = visitor.picture()
    visitor.click("#restore")
    assert "Nothing is marked" in visitor.status and visitor.restorations == 1
    visitor.set("rounds", 0)
    visitor.restore()
    assert "No feedback" in visitor.status
    assert difference(first, visitor.picture())[:20].max() == 0


def test_the_original_is_seen_while_the_button_or_tab_is_held(visitor, own_photo):
    visitor.open(own_photo)
    photo = visitor.picture()
    visitor.draw(*STROKE)
    visitor.restore()
    original = visitor.page.locator(".original")
    expect(original).to_have_css("opacity", "0")
    visitor.page.locator("#compare").hover()
    visitor.page.mouse.down()
    expect(original).to_have_css("opacity", "1")
    assert np.array_equal(visitor.picture(".original img"), photo)
    visitor.page.mouse.up()
    expect(original).to_have_css("opacity", "0")
    visitor.page.locator("#photo").focus()
    visitor.page.keyboard.down("Tab")
    expect(original).to_have_css("opacity", "1")
    visitor.page.wait_for_timeout(400)
    visitor.page.keyboard.up("Tab")
    expect(original).to_have_css("opacity", "0")
    expect(visitor.page.locator("#photo")).to_be_focused()  # held, it does not move on
    visitor.page.keyboard.press("Tab")
    expect(visitor.page.locator("#photo")).not_to_be_focused()


def test_the_details_show_whole_pictures_and_a_confidence_of_at_most_all(visitor, own_photo):
    visitor.open(own_photo)
    visitor.draw(*STROKE)
    visitor.restore()
    details = visitor.page.locator("#details")
    expect(details.locator("#rounds")).to_contain_text("Round 2")
    captions = details.locator("#rounds").inner_text()
    confidences = [int(words.partition("%")[0]) for words in captions.split("confidence ")[1:]]
    assert len(confidences) == 3 and all(0 <= confidence <= 100 for confidence in confidences)
    for part in ("#map-before", "#map-after", "#map-changes"):
        picture = details.locator(f"{part} img").first
        expect(picture).to_be_visible()
        visitor.page.wait_for_function("x => x.naturalWidth > 1", arg=picture.element_handle())
        box, frame = picture.bounding_box(), details.locator(part).bounding_box()
        assert box["width"] / box["height"] == pytest.approx(160 / 120, rel=0.02)
        assert box["y"] + box["height"] <= frame["y"] + frame["height"] + 1
    box = visitor.page.locator("#photo").bounding_box()
    assert box["width"] / box["height"] == pytest.approx(160 / 120, rel=0.01)


def test_the_details_of_a_tall_photo_are_no_higher_than_the_window(visitor, own_photo, tmp_path):
    Image.open(own_photo).crop((0, 0, 20, 120)).save(tmp_path / "tall.png")
    visitor.open(tmp_path / "tall.png")
    visitor.draw((0.3, 0.5), (0.7, 0.5))
    visitor.restore()
    expect(visitor.page.locator("#map-after img.mask").first).to_be_attached()
    pictures = visitor.page.locator("#map-after .image-container img")
    visitor.page.wait_for_function("x => x.naturalWidth > 1", arg=pictures.first.element_handle())
    boxes = [picture.bounding_box() for picture in pictures.all()]
    assert boxes[0]["height"] == visitor.page.viewport_size["height"]
    assert all(box == boxes[0] for box in boxes)  # classes stay where they are on the photo


def test_a_small_hole_has_its_map_in_the_details_and_in_the_editor(visitor, own_photo):
    visitor.open(own_photo)
    visitor.draw((0.5, 0.5), (0.55, 0.5))
    visitor.restore()
    assert not (visitor.picture("#map > img:first-child")[55:65, 80:88] == 0).all(axis=2).any()
    for part in ("#map-before", "#map-after"):
        shown = np.zeros((120, 160), bool)
        masks = visitor.page.locator(f"{part} img.mask")
        expect(masks.first).to_be_attached()
        for mask in masks.all():
            source = mask.evaluate("image => image.src")
            shown |= np.asarray(visitor.fetch(source).convert("RGBA"))[..., 3] > 0
        assert shown.all()


# ---------------------------------------------------------------------------------------------- downloads


def test_a_wide_photo_comes_back_at_its_full_size_under_its_own_name(visitor, tmp_path):
    """Larger than what the page shows."""
    given = np.random.default_rng(1).integers(90, 166, (300, 2000, 3), dtype=np.uint8)
    Image.fromarray(given).save(tmp_path / "wide photo.png")
    visitor.open(tmp_path / "wide photo.png")
    assert visitor.picture().shape == (240, 1600, 3)
    visitor.draw((0.7, 0.5), (0.8, 0.5))
    visitor.restore()
    download = visitor.download()
    assert download.suggested_filename == "wide photo_restored.png"
    with Image.open(download.path()) as result:
        changed = (np.asarray(result) != given).any(axis=2)
        assert b"compositeWithTrainedAlgorithmicMedia" in result.info["xmp"]
    rows, columns = changed.any(axis=1).nonzero()[0], changed.any(axis=0).nonzero()[0]
    # The stroke is 8 % of 300 pixels thick.
    assert changed[150, 1410:1590].mean() > 0.8 and 135 < rows[0] and rows[-1] < 165
    assert 1380 < columns[0] and columns[-1] < 1620
    download = visitor.download(format="jpeg")
    assert download.suggested_filename == "wide photo_restored.jpg" and "encoded anew" in visitor.status
    with Image.open(download.path()) as result:
        assert result.format == "JPEG" and result.size == (2000, 300)
    download = visitor.download("#download-map")
    with Image.open(download.path()) as result:
        assert download.suggested_filename == "wide photo_map.png" and result.size == (2000, 300)
        assert result.mode == "P" and np.asarray(result).max() < 19


def test_photo_and_map_that_are_asked_for_while_another_answer_is_on_its_way_both_come(visitor, own_photo):
    visitor.open(own_photo)
    names = []
    visitor.page.on("download", lambda download: names.append(download.suggested_filename))
    visitor.page.evaluate("""() => ["#random-hole", "#download", "#download-map", "#download"].forEach(
        (button) => document.querySelector(button).click())""")
    visitor.idle()
    visitor.page.wait_for_timeout(300)
    assert sorted(names) == [f"{own_photo.stem}_map.png", f"{own_photo.stem}_restored.png"]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "format"), [("photo.tif", "TIFF"), ("photo.jp2", "JPEG2000"), ("photo.jpg", "JPEG")])
def test_a_photo_comes_back_in_its_own_format(visitor, own_photo, tmp_path, name, format):
    Image.open(own_photo).save(tmp_path / name)
    visitor.open(tmp_path / name)
    visitor.draw(*STROKE)
    visitor.restore()
    download = visitor.download()
    assert download.suggested_filename == name.replace("photo", "photo_restored")
    with Image.open(download.path()) as result:
        assert result.format == format and result.size == (160, 120)


# ---------------------------------------------------------------------------------------------- what goes wrong


@pytest.mark.slow
def test_a_fault_of_the_server_is_told_and_another_photo_opens(visitor, own_photo, capfd):
    """Of both functions: the one that skips the queue, and the one that restores."""
    visitor.open(own_photo)
    visitor.draw(*STROKE)
    shutil.rmtree(visitor.folder)
    for button in ("#restore", "#random-hole", "#download"):
        if button == "#random-hole":
            visitor.page.locator("#hole summary").click()
        visitor.click(button)
        expect(visitor.page.locator("#status")).to_contain_text("Something went wrong")
        expect(visitor.page.locator("#status")).to_have_attribute("data-kind", "error")
    assert "FileNotFoundError" in capfd.readouterr().err
    visitor.click("#another")
    visitor.open(own_photo)
    visitor.draw(*STROKE)
    visitor.restore()


def test_a_full_queue_is_told_and_there_is_room_later(visitor, own_photo, monkeypatch):
    visitor.expected = ("503",)
    visitor.open(own_photo)
    visitor.draw(*STROKE)
    monkeypatch.setattr(clients, "PLACES", 0)
    visitor.click("#restore")
    expect(visitor.page.locator("#status")).to_contain_text("too many wait")
    expect(visitor.page.locator("#status")).to_have_attribute("data-kind", "error")
    monkeypatch.undo()
    visitor.restore()


def test_who_waits_for_long_is_told_and_draws_nothing_that_would_be_lost(visitor, own_photo, tiny_pipeline_dir):
    visitor.page.clock.install()
    visitor.visit()
    visitor.open(own_photo)
    visitor.draw(*STROKE)
    drawn, turn = visitor.marked(), threading.Event()

    def wait(*_) -> None:
        turn.wait(60)

    hook = load(str(tiny_pipeline_dir)).segmenter.register_forward_pre_hook(wait)
    try:
        visitor.page.locator("#restore").click()
        expect(visitor.page.locator(".editor")).to_have_attribute("data-restoring", "")
        for _ in range(2):  # what was heard since the last look counts as an answer
            visitor.page.wait_for_timeout(500)
            visitor.page.clock.fast_forward(301_000)
        expect(visitor.page.locator("#status")).to_contain_text("This still waits")
        visitor.draw((0.2, 0.8), (0.8, 0.8))
        assert np.array_equal(visitor.marked(), drawn)
    finally:
        turn.set()
        hook.remove()
    visitor.idle()
    assert visitor.at == 1 and "Restored" in visitor.status


def test_nothing_marked_is_told_in_a_line_that_covers_nothing(visitor, own_photo):
    visitor.open(own_photo)
    visitor.click("#restore")
    assert "Nothing is marked" in visitor.status and visitor.restorations == 0
    line, picture = (visitor.page.locator(x).bounding_box() for x in ("#status", "#photo"))
    assert line["y"] >= picture["y"] + picture["height"]
    visitor.draw(*STROKE)
    visitor.restore()
    assert "Nothing is marked" not in visitor.status


@pytest.mark.slow
def test_two_visitors_at_once_see_their_own_photos(new_visitor, tmp_path):
    visitors = [new_visitor(), new_visitor()]
    for number, visitor in enumerate(visitors):
        street_scene((96, 64), np.random.default_rng(number))[0].save(tmp_path / f"{number}.png")
        visitor.open(tmp_path / f"{number}.png")
        visitor.draw(*STROKE)
    for visitor in visitors:
        visitor.page.locator("#restore").click()
    for number, visitor in enumerate(visitors):
        visitor.idle()
        expect(visitor.page.locator(".history li")).to_have_count(2)
        given = np.array(Image.open(tmp_path / f"{number}.png"))
        with Image.open(visitor.download().path()) as result:
            changed = (np.asarray(result) != given).any(axis=2)
        assert changed[30:34, 35:60].all() and not changed[:20].any()
