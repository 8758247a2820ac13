"""What the editor asks of the server, called as it is by the page: questions and restorations."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fbinpaint import FeedbackInpaintPipeline
from fbinpaint.data.scenes import street_scene
from fbinpaint.demo.handlers import Handlers
from fbinpaint.demo.models import AUTO, segment_photo
from fbinpaint.demo.restoring import followed
from fbinpaint.demo.session import Session
from fbinpaint.labels import CITYSCAPES, IGNORE, get_label_space

from .conftest import make_tiny_networks

SIZE = (80, 60)
SETTINGS = {"invert": False, "grow": 0, "feather": 0, "rounds": 1}
BOX = {"kind": "area", "points": [[20, 20], [60, 20], [60, 40], [20, 40]]}
SKY = CITYSCAPES.classes.index("sky")


@pytest.fixture(scope="module")
def folders(tiny_pipeline_dir, tmp_path_factory) -> dict[str, str]:
    faces = tmp_path_factory.mktemp("faces")
    networks = make_tiny_networks("celebamask-hq")
    FeedbackInpaintPipeline.from_networks(networks, "celebamask-hq", sample_size=96).save_pretrained(faces)
    return {"streets": str(tiny_pipeline_dir), "faces": str(faces)}


class Visit:
    """A page without a browser: it remembers what it was last sent."""

    def __init__(self, handlers: Handlers):
        self.handlers, self.session, self.view, self.details = handlers, None, {}, None

    def drawing(self, marks=(), strokes=(), forbidden=(), **settings) -> dict:
        return {
            "marks": list(marks), "strokes": list(strokes), "forbidden": list(forbidden), "allowed": [],
            "settings": SETTINGS | settings,
        }  # fmt: skip

    def ask(self, kind: str, drawing: dict | None = None, **request) -> dict:
        value = {"request": {"id": 1, "kind": kind} | request, "drawing": drawing or self.drawing()}
        answer, self.session, self.details = self.handlers.ask(value, self.session)
        assert answer["view"]["revision"] > self.view.get("revision", 0)
        self.view = answer["view"]
        return self.view

    def open(self, path: Path, name: str | None = None) -> dict:
        view = self.ask("open", path=str(path), name=name or path.name)
        return self.ask(view["ask"]) if "ask" in view else view

    def restore(self, drawing: dict) -> list[dict]:
        views = [answer["view"] for answer, *_ in self.handlers.restore(self.request(drawing), self.session)]
        self.view = views[-1] if views else self.view
        return views

    def request(self, drawing: dict) -> dict:
        """Of a restoration, as the page makes it."""
        shown = {name: self.view.get(name, "") for name in ("session", "model")}
        return {"request": {"id": 2, "kind": "restore"} | shown, "drawing": drawing}

    @property
    def told(self) -> str:
        return self.view["message"]["text"]

    @property
    def pixels(self) -> np.ndarray:
        return np.load(self.session.now.pixels)


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    (tmp_path / "gradio").mkdir()
    return tmp_path / "gradio"


@pytest.fixture
def photo(cache) -> Path:
    street_scene(SIZE, np.random.default_rng(0))[0].save(cache / "street.png")
    return cache / "street.png"


@pytest.fixture
def visit(cache, folders) -> Visit:
    return Visit(Handlers({"streets": folders["streets"]}))


def messages(views: list[dict]) -> str:
    return " ".join(view["message"]["text"] for view in views if "message" in view)


def test_a_photo_is_opened_seen_restored_and_undone(visit, photo):
    view = visit.open(photo)
    assert view["at"] == 0 and len(view["history"]) == 1 and view["shown"] and len(view["classes"]) == 19
    given = visit.pixels
    views = visit.restore(visit.drawing([BOX]))
    assert "Restored" in messages(views) and visit.view["at"] == 1
    hole = np.zeros(SIZE[::-1], bool)
    hole[20:40, 20:60] = True
    inner, outer = hole.copy(), hole.copy()
    inner[[20, 39]] = inner[:, [20, 59]] = False
    outer[19:41, 19:61] = True
    changed = (visit.pixels != given).any(axis=2)
    assert not changed[~outer].any() and changed[inner].mean() > 0.9
    view = visit.ask("go", index=0)
    assert np.array_equal(visit.pixels, given) and view["marks"] == [BOX]
    assert "marks" not in visit.ask("go", index=0)  # there already: they stay
    assert visit.ask("go", index=1)["marks"] == []


def test_a_page_that_is_loaded_anew_takes_the_visit_over_from_the_one_before(visit, photo):
    visit.open(photo)
    visit.restore(visit.drawing([BOX]))
    before, result = visit.session, visit.pixels
    again = Visit(visit.handlers)
    other = BOX | {"points": [[1, 1], [9, 1], [9, 9], [1, 9]]}
    kept = visit.drawing([BOX, other], forbidden=[SKY], grow=3, invert=True)
    view = again.ask("resume", session=before.id, left=kept)
    assert view["at"] == 1 and view["marks"] == [BOX, other] and view["forbidden"] == [SKY]
    assert view["settings"] == SETTINGS | {"grow": 3, "invert": True}
    assert np.array_equal(again.pixels, result)
    before.close()  # as the server does some time after the old page is gone
    assert "Restored" in messages(again.restore(kept)) and again.view["at"] == 2
    assert "another tab" in messages(visit.restore(kept))
    assert "another tab" in visit.ask("random")["message"]["text"]
    assert visit.session is None and again.session.folder.is_dir()
    again.session.close()
    for gone in (again.session.id, ".."):
        view = Visit(visit.handlers).ask("resume", session=gone, left=kept)  # as after a restart of the server
        assert "forgotten" in view["message"]["text"] and "restarted" in view["message"]["text"]


def test_what_was_restored_while_the_page_was_loaded_anew_is_not_marked_any_more(visit, photo):
    visit.open(photo)
    drawing = visit.drawing([BOX], forbidden=[SKY], grow=3)
    visit.restore(drawing)
    view = Visit(visit.handlers).ask("resume", session=visit.session.id, left=drawing)
    assert view["at"] == 1 and view["marks"] == view["strokes"] == view["forbidden"] == []
    assert view["settings"] == SETTINGS | {"grow": 3}


def test_a_choice_of_the_model_that_failed_is_made_again(cache, folders, photo, capsys):
    faces = shutil.copytree(folders["faces"], cache / "a copy that nothing has loaded")
    visit = Visit(Handlers({"streets": folders["streets"], "faces": str(faces)}))
    weights = next(faces.rglob("*.safetensors"))
    weights = weights.rename(weights.with_suffix(".away"))
    visit.open(photo)
    assert visit.view["message"]["kind"] == "error"
    weights.rename(weights.with_suffix(".safetensors"))
    capsys.readouterr()
    assert "Restored" in messages(visit.restore(visit.drawing([BOX])))


def test_files_outside_the_uploads_are_not_opened(visit, tmp_path):
    street_scene(SIZE, np.random.default_rng(0))[0].save(tmp_path / "secret.png")
    for path in (tmp_path / "secret.png", "/etc/passwd", visit.handlers.cache / "../secret.png"):
        view = visit.ask("open", path=str(path), name="secret.png")
        assert view["message"]["kind"] == "error" and "did not arrive" in visit.told and visit.session is None
        assert "photo" not in view


def test_without_a_photo_everything_says_so(visit):
    for kind, details in (
        ("pick", {"at": [1, 1]}), ("class", {"label": 1}), ("look", {"at": [1, 1]}), ("mask", {"path": "", "name": ""}),
        ("random", {}), ("preview", {}), ("go", {"index": 0}), ("download", {"format": "png"}),
        ("model", {"model": "x"}), ("look_at_photo", {}),
    ):  # fmt: skip
        assert "forgotten" in visit.ask(kind, **details)["message"]["text"]
    assert "forgotten" in messages(visit.restore(visit.drawing([BOX])))


@pytest.mark.parametrize(
    ("kind", "request_"),
    [
        ("nonsense", {}), ("restore", {}), ("go", {"index": 99}), ("go", {"index": -1}), ("go", {}),
        ("pick", {"at": "here"}), ("pick", {}), ("class", {"label": 99}), ("class", {"label": -1}),
        ("model", {"model": "other"}), ("mask", {"path": "/etc/passwd", "name": "x"}), ("download", {"format": "exe"}),
        ("__init__", {}), (["go"], {}), (None, {}), ("go", {"index": "0"}), ("go", {"index": 0.5}),
        ("example", {"index": -1}),
        ("pick", {"at": [1]}), ("pick", {"at": [float("nan"), 1]}), ("open", {"path": 7, "name": "x"}), ("mask", {}),
    ],
)  # fmt: skip
def test_questions_that_no_page_asks_are_answered_in_a_line(visit, photo, kind, request_):
    visit.open(photo)
    view = visit.ask(kind, **request_)
    assert view["message"]["kind"] == "error" and view["message"]["text"] and "\n" not in view["message"]["text"]
    assert view["at"] == 0 and view["photo"] and "Something went wrong" not in visit.told
    visit.restore(visit.drawing([BOX]))
    assert visit.view["at"] == 1


@pytest.mark.parametrize(
    "settings", [{"grow": 1000}, {"grow": 1.5}, {"feather": -1}, {"rounds": 99}, {"rounds": None}, {"rounds": True}]
)
def test_settings_outside_their_range_are_refused(visit, photo, settings):
    visit.open(photo)
    views = visit.restore(visit.drawing([BOX], **settings))
    assert "must be a whole number from" in messages(views) and visit.view["at"] == 0


def test_a_drawing_that_is_none_is_refused_in_a_line(visit, photo):
    visit.open(photo)
    for drawing in ({}, {"marks": 3}, None, visit.drawing([{"kind": "line"}]), visit.drawing([BOX], ["x"])):
        views = visit.restore(drawing)
        assert views[-1]["message"]["kind"] == "error" and visit.session.at == 0


def test_forbidden_classes_of_no_model_are_refused_in_a_line(visit, photo):
    visit.open(photo)
    for forbidden in ([99], ["car"], [-1], [None], list(range(19))):
        views = visit.restore(visit.drawing([BOX], forbidden=forbidden))
        assert views[-1]["message"]["kind"] == "error" and visit.session.at == 0
        assert "Something went wrong" not in messages(views), forbidden


def test_nothing_new_is_not_restored_again(visit, photo):
    visit.open(photo)
    assert "Nothing is marked" in messages(visit.restore(visit.drawing()))
    visit.restore(visit.drawing([BOX]))
    assert "Nothing is marked" in messages(visit.restore(visit.drawing())) and visit.view["at"] == 1
    visit.restore(visit.drawing(rounds=0))
    assert visit.view["at"] == 2 and len(visit.session.versions) == 3


def test_a_class_on_the_map_is_kept_over_further_restorations_with_it(visit, photo):
    visit.open(photo)
    visit.restore(visit.drawing([BOX]))
    stroke = {"kind": "line", "points": [[30, 30], [40, 30]], "size": 6, "label": SKY}
    views = visit.restore(visit.drawing(strokes=[stroke]))
    assert "Your sky" in messages(views)
    assert (np.load(visit.session.now.labels)[28:32, 30:40] == SKY).all()
    more = {"kind": "line", "points": [[50, 30]], "size": 6, "label": SKY + 1}
    visit.restore(visit.drawing(strokes=[more]))
    labels = np.load(visit.session.now.labels)
    assert (labels[28:32, 30:40] == SKY).all() and labels[30, 50] == SKY + 1
    # Back, what was painted on the map since is there to be changed.
    assert visit.ask("go", index=2)["strokes"] == [more] and visit.view["marks"] == []
    visit.ask("go", index=3)
    assert visit.ask("go", index=1)["strokes"] == [stroke]


def test_what_is_painted_where_it_must_not_come_back_gets_one_advice(visit, photo):
    visit.open(photo)
    visit.restore(visit.drawing([BOX], forbidden=[SKY]))
    views = visit.restore(visit.drawing(strokes=[BOX | {"label": SKY}]))
    assert "Your sky" in messages(views) and "still seen" not in messages(views)
    recipe = visit.session.recipe(visit.session.now)
    assert recipe.forbidden == [SKY]  # beside what is painted, it is still not wanted
    hole = np.zeros(SIZE[::-1], bool)
    hole[20:40, 20:60] = True
    seen = segment_photo(visit.handlers.models["streets"], visit.pixels)
    label = int(np.bincount(seen[hole]).argmax())
    again = replace(recipe, forbidden=[label])
    for edits in (None, np.where(hole, np.uint8(label), np.uint8(IGNORE))):
        said = " ".join(followed(visit.handlers, again, visit.pixels, edits, hole))
        assert ("still seen" in said) == (edits is None)
    edits = np.full(SIZE[::-1], IGNORE, np.uint8)
    for where, count in ((seen == label, 62), (seen != label, 63)):  # 49.6 %, which is told as 50
        edits.flat[np.flatnonzero(where)[:count]] = label
    said = " ".join(followed(visit.handlers, again, visit.pixels, edits, hole))
    assert "is followed: the fill shows it on 50%" in said


def test_a_thing_is_marked_and_forbidden_and_does_not_come_back(visit, photo):
    view = visit.open(photo)
    label = view["shown"][0]
    stroke = visit.ask("class", label=label)["add"]
    assert stroke["tag"] == label and Path(stroke["url"]).is_file()
    visit.restore(visit.drawing([stroke, {**BOX, "erase": True}], forbidden=[label]))
    assert visit.view["at"] == 1
    hole = visit.session.load_mask(visit.session.now.painted)
    assert hole.any() and not hole[22:38, 22:58].any() and label not in np.load(visit.session.now.labels)[hole]


def test_nearly_all_marked_is_told_in_words_of_the_page(visit, photo):
    visit.open(photo)
    box = {"kind": "area", "points": [[0, 0], [80, 0], [80, 58], [0, 58]]}
    told = messages(visit.restore(visit.drawing([box])))
    assert "Nearly all of the photo was marked" in told and "PIL" not in told


def test_grow_and_feather_reach_as_far_as_they_say(visit, photo):
    visit.open(photo)
    given = visit.pixels
    visit.restore(visit.drawing([BOX], grow=4))
    rows, columns = visit.session.load_mask(visit.session.now.painted).nonzero()
    assert abs(rows.min() - 16) <= 1 and abs(columns.max() - 64) <= 1
    visit.ask("go", index=0)
    visit.restore(visit.drawing([BOX], feather=6))
    weights = visit.session.load_mask(visit.session.now.painted)
    changed = (visit.pixels != given).any(axis=2)
    assert not changed[~weights].any() and weights.sum() > 20 * 40
    too_much = visit.restore(visit.drawing([BOX], grow=-16))
    assert "shrink it less" in messages(too_much)


def test_another_model_takes_the_class_strokes_along_with_its_map(cache, folders, photo):
    visit = Visit(Handlers(folders))
    visit.open(photo)
    assert visit.session.model == AUTO and visit.session.used in folders
    stroke = BOX | {"label": 3}
    other = next(name for name in folders if name != visit.session.used)
    view = visit.ask("model", visit.drawing([BOX | {"tag": 5}], [stroke]), model=other)
    space = CITYSCAPES if other == "streets" else get_label_space("celebamask-hq")
    assert [x["name"] for x in view["classes"]] == list(space.shown_names)
    assert view["strokes"] == view["forbidden"] == [] and view["marks"] == [BOX] and "is gone" in visit.told
    assert visit.session.now.seen_by == other
    # Of the same classes, what was painted stays.
    assert "strokes" not in visit.ask("model", visit.drawing([], [stroke]), model=other)


def test_closing_while_something_is_restored_ends_it(visit, photo):
    visit.open(photo)
    steps = visit.handlers.restore(visit.request(visit.drawing([BOX], rounds=4)), visit.session)
    next(steps)
    session = visit.session
    visit.ask("close")
    assert visit.session is None and not session.folder.exists()
    assert list(steps) == [] and not session.folder.exists()


def test_a_restoration_that_waited_is_of_the_photo_and_model_that_it_was_drawn_for(cache, folders, photo):
    """Both models have 19 classes: a stroke of the one would be taken for another class of the other."""
    visit = Visit(Handlers(folders))
    visit.open(photo)
    visit.ask("model", model="streets")
    waiting = visit.request(visit.drawing([BOX], [BOX | {"label": SKY}], forbidden=[SKY]))
    visit.ask("model", model="faces")
    given = visit.pixels
    for _ in range(2):
        told = messages([answer["view"] for answer, *_ in visit.handlers.restore(waiting, visit.session)])
        assert "was changed before this began" in told and np.array_equal(visit.pixels, given)
        visit.open(photo)
        visit.ask("model", model="streets")


def test_what_was_forbidden_may_be_let_off_when_it_is_restored_again(visit, photo):
    visit.open(photo)
    visit.restore(visit.drawing([BOX], forbidden=[SKY]))
    assert visit.session.recipe(visit.session.now).forbidden == [SKY]
    assert "Nothing is marked" in messages(visit.restore(visit.drawing()))
    visit.restore(visit.drawing() | {"allowed": [SKY]})
    assert visit.session.recipe(visit.session.now).forbidden == []


def test_restorations_are_numbered_as_they_follow(visit, photo):
    visit.open(photo)
    for _ in range(3):
        visit.restore(visit.drawing([BOX]))
    visit.ask("go", index=1)
    view = visit.restore(visit.drawing([BOX]))[-1]
    assert [version["label"].split(":")[0] for version in view["history"][1:]] == ["1", "2"]


def test_a_photo_as_wide_as_can_be_opens(visit, cache):
    Image.new("RGB", (9000, 16), "white").save(cache / "wide.png")
    view = visit.open(cache / "wide.png")
    assert view["at"] == 0 and view["message"]["kind"] != "error"


def test_a_model_that_is_chosen_while_something_is_restored_has_its_map_in_the_end(cache, folders, photo):
    visit = Visit(Handlers(folders))
    visit.open(photo)
    visit.ask("model", model="streets")
    steps = visit.handlers.restore(visit.request(visit.drawing([BOX])), visit.session)
    next(steps)
    visit.ask("model", model="faces")
    view = [answer["view"] for answer, *_ in steps][-1]
    space = get_label_space("celebamask-hq")
    assert [x["name"] for x in view["classes"]] == list(space.shown_names) and view["shown"] and view["at"] == 1
    assert visit.session.now.recipe.model == "streets" and visit.session.now.seen_by == "faces"


@pytest.mark.parametrize("stroke", [BOX, {"kind": "line", "points": [[20, 20], [180, 90]], "size": 3}])
def test_holes_that_take_no_network_are_restored(visit, cache, stroke):
    """In plain surroundings, and thin ones: all rounds of them are done at once."""
    grey = np.random.default_rng(0).normal(120, 2, (150, 200, 1)).repeat(3, axis=2)
    Image.fromarray(grey.astype(np.uint8)).save(cache / "wall.png")
    visit.open(cache / "wall.png")
    views = visit.restore(visit.drawing([stroke], rounds=2))
    assert "Restored" in messages(views) and "Something went wrong" not in messages(views) and visit.view["at"] == 1


def test_a_folder_that_has_vanished_is_told_to_the_visitor(visit, photo, capsys):
    """The page never shows an error that Gradio itself catches of a function that skips the queue."""
    visit.open(photo)
    shutil.rmtree(visit.session.folder)
    for kind in ("random", "download", "preview"):
        drawing = visit.drawing([BOX], feather=3)
        view = visit.ask(kind, drawing, format="png")
        assert view["message"]["kind"] == "error" and "Something went wrong" in visit.told
    assert "Something went wrong" in messages(visit.restore(visit.drawing([BOX])))
    assert "FileNotFoundError" in capsys.readouterr().err
    visit.open(photo)
    visit.restore(visit.drawing([BOX]))
    assert visit.view["at"] == 1


def test_another_photo_takes_the_files_of_the_first_along(visit, photo):
    visit.open(photo)
    first: Session = visit.session
    visit.open(photo)
    assert not first.folder.exists() and visit.session is not first and visit.session.folder.is_dir()
    broken = photo.with_name("broken.png")
    broken.write_bytes(photo.read_bytes()[:99])
    kept = visit.session
    assert "broken.png" in visit.open(broken)["message"]["text"] and visit.session is kept and kept.folder.is_dir()


def test_every_example_opens_with_its_hole(visit):
    for example in visit.handlers.example_list():
        assert Path(example["thumb"]).is_file() and example["label"]
        view = visit.ask("example", index=example["index"])
        (mark,) = view["marks"]
        assert visit.session.mask(mark["mask"]).any()


def test_many_visitors_at_once_get_their_own_results(visit, cache):
    def come(number: int) -> bool:
        own = Visit(visit.handlers)
        path = cache / f"{number}.png"
        street_scene(SIZE, np.random.default_rng(number))[0].save(path)
        own.open(path)
        given = np.asarray(Image.open(path))
        for _ in range(2):
            own.restore(own.drawing([BOX]))
        return own.session.at == 2 and np.array_equal(own.pixels[:18], given[:18])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(come, range(8)))
