"""The page in a browser: the map and its classes, what must not come back, the models."""

import numpy as np
import pytest
from playwright.sync_api import expect

from fbinpaint.labels import CITYSCAPES, get_label_space

from .demo_browser import Visitor

STROKE = (0.3, 0.5), (0.7, 0.5)
SKY, BUILDING = CITYSCAPES.classes.index("sky"), CITYSCAPES.classes.index("building")


def classes_in(visitor: Visitor, space=CITYSCAPES) -> np.ndarray:
    """The map that is shown, (H,W) ids."""
    pixels = visitor.picture("#map > img:first-child")
    palette = np.array(space.palette)
    found = (pixels[:, :, None] == palette).all(axis=3)
    assert found.any(axis=2).all()  # no other colours
    return found.argmax(axis=2)


def choose(visitor: Visitor, label: int) -> None:
    visitor.page.locator(f".classes input[value='{label}']").check()


def forbidden(visitor: Visitor) -> list[str]:
    return [text.strip(" ×✕") for text in visitor.page.locator(".forbidden button").all_inner_texts()]


def test_the_map_is_there_as_soon_as_the_photo_is(visitor, own_photo):
    visitor.open(own_photo)
    labels = classes_in(visitor)
    assert labels.shape == (120, 160)
    shown = visitor.page.locator(".things button").evaluate_all("xs => xs.map(x => Number(x.value))")
    counts = np.bincount(labels.ravel(), minlength=19)
    assert set(shown) == set(np.flatnonzero(counts >= 1e-3 * counts.sum()))


def test_after_a_restoration_the_map_is_whole_also_in_the_hole(visitor, own_photo):
    visitor.open(own_photo)
    before = classes_in(visitor)
    visitor.draw(*STROKE)
    visitor.restore()
    after = classes_in(visitor)
    assert np.array_equal(before[:40], after[:40])


def test_all_of_a_class_is_marked_and_must_not_come_back(visitor, own_photo):
    visitor.open(own_photo)
    labels = classes_in(visitor)
    things = visitor.page.locator(".things button")
    name, label = things.first.inner_text().strip(), int(things.first.get_attribute("value"))
    visitor.click(f".things button[value='{label}']")
    drawn = visitor.painted()[..., 3] > 127
    assert drawn[labels == label].mean() > 0.8 and name.lower() in visitor.status.lower()
    expect(things.first).to_have_attribute("aria-pressed", "true")
    assert forbidden(visitor) == [name]
    visitor.restore()
    assert label not in classes_in(visitor)[drawn]
    # Pressed again, the marks go, and it may come back.
    visitor.click("#undo")
    expect(visitor.page.locator(f".things button[value='{label}']")).to_have_attribute("aria-pressed", "true")
    visitor.click(f".things button[value='{label}']")
    assert not visitor.painted().any() and forbidden(visitor) == []


def test_undo_brings_back_what_may_come_back_and_what_must_not(visitor, own_photo):
    visitor.open(own_photo)
    first, second = visitor.page.locator(".things button").evaluate_all("xs => xs.map(x => x.value)")[:2]
    visitor.click(f".things button[value='{first}']")
    visitor.click(".forbidden button")  # it may come back
    visitor.page.locator(".forbid").select_option(second)
    listed = forbidden(visitor)
    assert len(listed) == 1
    visitor.restore()
    visitor.click("#undo")
    assert forbidden(visitor) == listed and visitor.marked().any()


def test_a_class_that_is_marked_again_must_not_come_back_again(visitor, own_photo):
    visitor.open(own_photo)
    name, label = visitor.page.locator(".things button").first.evaluate("x => [x.textContent, x.value]")
    for _ in range(2):
        visitor.click(f".things button[value='{label}']")
        assert forbidden(visitor) == [name.strip()] and "must not come back" in visitor.status
        visitor.click(".forbidden button")
        assert forbidden(visitor) == []
        visitor.click(f".things button[value='{label}']")
        assert pressed(visitor) == []


def pressed(visitor: Visitor) -> list[int]:
    """The classes of which all is marked."""
    return visitor.page.locator(".things [aria-pressed=true]").evaluate_all("xs => xs.map(x => Number(x.value))")


def test_one_who_does_not_wait_gets_all_that_he_clicked(visitor, own_photo):
    visitor.open(own_photo)
    labels = visitor.page.locator(".things button").evaluate_all("xs => xs.map(x => Number(x.value))")
    assert len(labels) > 2
    visitor.page.evaluate("document.querySelectorAll('.things button').forEach((thing) => thing.click())")
    visitor.idle()
    assert pressed(visitor) == labels
    visitor.click("[data-do=clear]")
    # Restore is pressed before the answers have come.
    told = visitor.page.evaluate(
        """() => { for (const thing of [...document.querySelectorAll(".things button")].slice(0, -1)) thing.click();
            document.querySelector("#restore").click(); return document.querySelector("#status").textContent; }"""
    )
    assert told == "Restoring …"
    expect(visitor.page.locator(".history li")).to_have_count(2)
    visitor.idle()
    assert "Restored" in visitor.status
    visitor.click("#undo")
    assert pressed(visitor) == labels[:-1]  # all but the largest: something must be known


def test_a_double_click_marks_a_class_once(visitor, own_photo):
    visitor.open(own_photo)
    visitor.page.locator(".things button").first.dblclick()
    visitor.idle()
    assert visitor.marked().any() and len(pressed(visitor)) == 1
    visitor.page.keyboard.press("Control+z")
    assert not visitor.marked().any()


def test_a_click_marks_the_thing_that_is_there(visitor, own_photo):
    visitor.open(own_photo)
    labels = classes_in(visitor)
    label = int(np.bincount(labels.ravel()).argmax())
    y, x = np.argwhere(labels == label)[len(np.argwhere(labels == label)) // 2]
    visitor.page.locator("[data-tool=pick]").click()
    visitor.tap(((x + 0.5) / 160, (y + 0.5) / 120))
    drawn = visitor.painted()[..., 3] > 127
    assert drawn[y, x] and "must not come back" in visitor.status
    assert len(forbidden(visitor)) == 1


def test_classes_that_must_not_come_back_can_be_added_and_let_off(visitor, own_photo):
    visitor.open(own_photo)
    visitor.draw(*STROKE)
    visitor.restore()
    hole = np.zeros((120, 160), bool)
    hole[58:62, 60:100] = True
    found = np.unique(classes_in(visitor)[hole])
    visitor.click("#undo")
    for label in found:
        visitor.page.locator(".forbid").select_option(str(label))
    assert len(forbidden(visitor)) == len(found)
    visitor.restore()
    assert not np.isin(classes_in(visitor)[hole], found).any()
    visitor.click("#undo")
    while visitor.page.locator(".forbidden button").count():
        visitor.page.locator(".forbidden button").first.click()
    assert forbidden(visitor) == []
    # By arrow keys, the one that is meant, and none that is passed on the way.
    visitor.page.locator(".forbid").focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowDown", "ArrowDown", "Enter"):  # the first opens the list
        visitor.page.keyboard.press(key)
        visitor.page.wait_for_timeout(200)
    assert forbidden(visitor) == [CITYSCAPES.shown_names[2]]


def test_a_class_that_is_painted_is_followed_or_told_that_it_could_not_be(visitor, own_photo):
    visitor.open(own_photo)
    visitor.draw(*STROKE)
    visitor.restore()
    first = visitor.picture()
    choose(visitor, SKY)
    visitor.draw((0.4, 0.5), (0.6, 0.5), on="#map")
    painted = visitor.painted("#map")
    assert tuple(painted[60, 80, :3]) == pytest.approx(CITYSCAPES.palette[SKY], abs=2)
    visitor.restore("#restore-map")
    assert not np.array_equal(first, visitor.picture())
    assert (classes_in(visitor)[58:62, 68:92] == SKY).all()
    assert "Your sky is followed" in visitor.status or "Your sky could not be followed" in visitor.status
    assert not visitor.painted("#map").any()


def test_a_stroke_outside_the_hole_is_filled_too(visitor, own_photo):
    """None vanishes without a word: what is painted on the map alone is restored."""
    visitor.open(own_photo)
    choose(visitor, BUILDING)
    visitor.draw((0.3, 0.2), (0.5, 0.2), on="#map")
    visitor.restore("#restore-map")
    assert (classes_in(visitor)[23:26, 52:78] == BUILDING).all() and "Your building" in visitor.status
    visitor.draw((0.3, 0.8), (0.5, 0.8))
    visitor.draw((0.6, 0.2), (0.7, 0.2), on="#map")
    visitor.restore("#restore")
    labels = classes_in(visitor)
    assert (labels[23:26, 98:110] == BUILDING).all()


def test_strokes_on_the_map_can_be_forgotten_and_a_click_takes_up_a_class(visitor, own_photo):
    visitor.open(own_photo)
    labels = classes_in(visitor)
    visitor.draw(*STROKE, on="#map")
    assert visitor.painted("#map").any()
    visitor.click("#forget")
    assert not visitor.painted("#map").any()
    visitor.page.locator("[data-tool=pick]").click()
    visitor.tap((0.25, 0.25), on="#map")
    expect(visitor.page.locator(f".classes input[value='{labels[30, 40]}']")).to_be_checked()


# ---------------------------------------------------------------------------------------------- models


def test_another_model_has_other_classes_colours_and_strokes(new_visitor, own_photo):
    visitor = new_visitor(models="two")
    visitor.open(own_photo)
    for name, space in (("streets", CITYSCAPES), ("faces", get_label_space("celebamask-hq")), ("streets", CITYSCAPES)):
        visitor.page.locator(f"#model input[value={name}]").check()
        visitor.idle()
        assert name in visitor.status
        listed = visitor.page.locator(".classes label")
        assert [text.strip() for text in listed.all_inner_texts()] == list(space.shown_names)
        colours = listed.locator(".swatch").evaluate_all("xs => xs.map(x => getComputedStyle(x).backgroundColor)")
        assert colours == [f"rgb({r}, {g}, {b})" for r, g, b in space.palette]
        classes_in(visitor, space)
        # The class that is chosen paints what it is called.
        assert visitor.page.locator(".classes input:checked").count() == 1
        label = int(visitor.page.locator(".classes input:checked").get_attribute("value"))
        assert not visitor.painted("#map").any()
        visitor.draw(*STROKE, on="#map")
        assert tuple(visitor.painted("#map")[60, 80, :3]) == pytest.approx(space.palette[label], abs=2)
    visitor.restore("#restore-map")
    assert "Your " in visitor.status


def test_what_was_painted_for_another_model_goes_and_this_is_said(new_visitor, own_photo):
    visitor = new_visitor(models="two")
    visitor.open(own_photo)
    used = visitor.page.locator("#model label:has(:checked)").inner_text()
    other = "streets" if "faces" in used else "faces"
    visitor.draw(*STROKE)
    visitor.draw((0.3, 0.2), (0.6, 0.2), on="#map")
    visitor.page.locator(".forbid").select_option("14")
    assert len(forbidden(visitor)) == 1
    visitor.page.locator(f"#model input[value={other}]").check()
    visitor.idle()
    assert "is gone" in visitor.status and not visitor.painted("#map").any()
    assert forbidden(visitor) == []  # of the other model it is another class
    assert visitor.painted().any()  # the marks on the photo stay
    visitor.restore()


def test_the_model_is_chosen_by_the_photo_and_can_be_overruled(new_visitor, own_photo):
    visitor = new_visitor(models="two")
    visitor.open(own_photo)
    choices = visitor.page.locator("#model label").all_inner_texts()
    assert len(choices) == 3
    expect(visitor.page.locator("#model input:checked")).to_have_value("auto")
    used = visitor.page.locator("#model label").first.inner_text()
    assert "faces" in used or "streets" in used
    assert ("faces" if "faces" in used else "streets") in visitor.status
    visitor.draw(*STROKE)
    visitor.restore()
    visitor.page.locator("#model input[value=streets]").check()
    visitor.idle()
    visitor.click("#restore")
    expect(visitor.page.locator("#model input:checked")).to_have_value("streets")
