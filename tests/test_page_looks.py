"""The page in a browser: on a phone, in the dark, and with the bundled models; screenshots of each are left in
tests/artefacts/ to be looked at."""

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from fbinpaint.demo.examples import EXAMPLES
from fbinpaint.demo.models import bundled_models

from .demo_browser import ARTEFACTS, DESKTOP, PHONE, Visitor, serve

STROKE = (0.3, 0.5), (0.7, 0.5)


def test_on_a_phone_the_result_is_in_sight(new_visitor, own_photo):
    visitor = new_visitor(PHONE, has_touch=True, is_mobile=True)
    visitor.open(own_photo)
    visitor.draw(*STROKE)
    visitor.restore()
    assert visitor.in_sight("#photo")
    visitor.page.locator(".classes label").nth(10).click()
    visitor.draw(*STROKE, on="#map")
    visitor.restore("#restore-map")
    assert visitor.in_sight("#photo")
    assert visitor.overflow <= 0
    for picture in ("#photo", "#map"):
        assert visitor.page.locator(picture).bounding_box()["width"] > 300
    visitor.screenshot("phone")


def test_on_a_phone_the_row_of_results_shows_where_one_is(new_visitor, own_photo, tmp_path):
    visitor = new_visitor(PHONE, has_touch=True, is_mobile=True)
    Image.open(own_photo).crop((0, 0, 160, 30)).save(tmp_path / "wide.png")
    visitor.open(tmp_path / "wide.png")
    visitor.draw((0.4, 0.5))
    visitor.restore()
    shown = visitor.page.locator(".history [aria-current=true] img")
    expect(shown).to_be_in_viewport(ratio=0.9)
    visitor.click("#undo")
    expect(shown).to_be_in_viewport(ratio=0.9)


def test_on_a_phone_an_example_is_restored_by_taps(new_visitor):
    visitor = new_visitor(PHONE, has_touch=True, is_mobile=True)
    visitor.page.locator(".examples button").first.tap()
    expect(visitor.page.locator(".editor")).to_have_attribute("data-state", "open")
    visitor.idle()
    visitor.page.locator("#photo").scroll_into_view_if_needed()
    before = visitor.marked().sum()
    visitor.page.touchscreen.tap(*visitor.on_page("#photo", (0.05, 0.05)))
    assert visitor.marked().sum() > before
    visitor.page.locator("#restore").tap()
    visitor.idle()
    assert visitor.restorations == 1 and visitor.in_sight("#photo")
    # What acts is large enough for a finger.
    for button in visitor.page.locator(".editor button:visible").all():
        assert button.bounding_box()["height"] >= 24, button.inner_text()


def test_on_a_desktop_the_result_is_in_sight_after_restoring_with_the_map(visitor, own_photo):
    visitor.open(own_photo)
    visitor.draw(*STROKE)
    visitor.restore()
    assert visitor.in_sight("#photo")
    visitor.draw(*STROKE, on="#map")
    visitor.restore("#restore-map")
    assert visitor.in_sight("#photo")


def test_the_page_in_the_dark(new_visitor, own_photo):
    visitor = new_visitor(query="?__theme=dark")
    visitor.open(own_photo)
    visitor.draw(*STROKE)
    visitor.restore()
    visitor.screenshot("dark")
    assert np.asarray(Image.open(ARTEFACTS / "dark.png").convert("L"))[:60].mean() < 60


def test_licence_and_limits_are_on_the_page(visitor):
    visitor.page.get_by_role("button", name="Licence").click()
    expect(visitor.page.locator("#limits")).to_contain_text("non-commercial")
    expect(visitor.page.locator("#limits")).to_contain_text("made up")


@pytest.mark.slow
def test_the_bundled_models_restore_their_examples(browser, tmp_path):
    """The last screenshot is README's picture."""
    errors = []
    with serve(bundled_models(), tmp_path) as url:
        page = browser.new_page(viewport=DESKTOP)
        try:
            visitor = Visitor(page, url, errors).visit()
            visitor.example()
            assert "The model “faces” fits" in visitor.status
            expect(page.locator(".things")).to_contain_text("hair")
            visitor.restore()
            visitor.click("#another")
            visitor.example(len(EXAMPLES["celebamask-hq"]) + 1)  # the second street, after the faces
            assert "The model “streets” fits" in visitor.status
            visitor.click("[data-do=clear]")
            visitor.click(".things button:has-text('car')")
            visitor.restore()
            visitor.screenshot("desktop")
        finally:
            page.close()
    assert not errors
