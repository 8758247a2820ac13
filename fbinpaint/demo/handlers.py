"""What the editor asks of the server (editor.js), a method for each question.

    ask: what takes a moment          restore: what takes seconds, step by step

An answer is a view: all that the editor shows, as plain values and paths of files in the visitor's own folder. What is
wrong with an input is a message in it, for Gradio shows errors of functions that skip the queue to nobody.
"""

import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import gradio as gr
import numpy as np
from gradio.utils import get_upload_folder

from fbinpaint.errors import InputError
from fbinpaint.images.convert import check_hole, to_mask
from fbinpaint.images.crops import resize_image
from fbinpaint.labels import IGNORE, LabelSpace
from fbinpaint.masks import feather_weights, grow_mask, protocol_mask
from fbinpaint.system.files import whole_file

from .examples import example, example_name, list_examples
from .inputs import count_pixels, open_upload, without_folders
from .models import AUTO, MAX_ROUNDS, choose, label_space_of_model, load, places, restore, segment_photo, select
from .questions import NOT_UNDERSTOOD, read_question
from .rendering import album, annotate, annotate_changes, classes_of, summary
from .session import FORGOTTEN, Recipe, Session, Version, revisions
from .storage import Storage
from .strokes import marked, painted_classes

if TYPE_CHECKING:
    from fbinpaint.pipeline.outputs import FeedbackInpaintPipelineOutput

AS_LEFT = "Here is your photo again, as you left it."
FAULT = "Something went wrong here, not with your photo; try again, or another way."
NOTHING_NEW = "Nothing is marked on this picture yet: paint over what should go, click a thing, or paint on the map."
MARK_FIRST = "Now mark what should go: paint over it, or choose its name above the photo. Then press Restore."
PRESS_RESTORE = "The part to be filled is marked. Press Restore, or change the marks first."
NEARLY_ALL = "Nearly all of the photo was marked, so most of it is made up: undo, and erase marks if you meant less."
FOLLOWED_FROM = 0.5  # of what was drawn: if the fill shows less of it, it did not follow
PREVIEW_COLOUR = (0, 150, 255)
NO_DETAILS = tuple(gr.skip() for _ in range(5))  # of `details`: they stay as they are
LIMITS = {"grow": (-16, 64), "feather": (0, 32), "rounds": (0, MAX_ROUNDS)}


class Handlers:
    """models: name on the page -> folder or Hub id."""

    def __init__(self, models: dict[str, str]):
        self.models, self.cache = models, Path(get_upload_folder()).resolve()
        self.storage = Storage(self.cache)
        self.spaces = {name: label_space_of_model(model) for name, model in models.items()}
        self.examples = list_examples(self.spaces)

    # ------------------------------------------------------------------------------------------ questions

    def ask(self, value: dict, session: Session | None) -> tuple[dict, Session | None, Any]:
        """What the editor asks -> its new value, the session, and whether the details may stay."""
        before, why = session, FORGOTTEN
        news: dict[str, Any] = {}
        if session is not None and session.closed:
            why, session = session.closed, None
        try:
            request, drawing = read_question(value)
            kind = request["kind"]
            if kind == "close":
                session, news = self.on_close(request, session)
            else:
                self.storage.make_room()
                if kind in ("open", "example", "resume"):
                    with places.take(count_pixels(request.get("path"))):
                        session, news = getattr(self, f"on_{kind}")(request, session)
                elif kind not in QUESTIONS:
                    raise InputError(NOT_UNDERSTOOD)
                elif session is None:
                    raise InputError(why)
                else:
                    self.storage.use(session)
                    with places.take(session.pixels + count_pixels(request.get("path"))), session.lock:
                        news = QUESTIONS[kind](self, session, request, drawing)
        except InputError as error:
            news = {"message": told(without_folders(str(error)), "error")}
        except Exception:
            if session is None or not session.closed:
                traceback.print_exc()
                news = {"message": told(FAULT, "error")}
        if session is not None and session.closed:  # meanwhile
            news, session = {"message": told(session.closed, "error")}, None
        details = gr.skip() if session is before else gr.Column(visible=False)
        return {"view": self.view(session) | news}, session, details

    def on_open(self, request: dict, before: Session | None) -> tuple[Session, dict]:
        session = self.opened(self.arrived(request), request["name"], before)
        return session, self.greeting(session)

    def on_example(self, request: dict, before: Session | None) -> tuple[Session, dict]:
        """With its hole as a mark, which can be erased and added to."""
        if not 0 <= request["index"] < len(self.examples):
            raise InputError("There is no such example.")
        model, name = self.examples[request["index"]]
        photo, mask = example(self.spaces[model].name, name)
        source = self.example_file(request["index"])
        session = self.opened(source, source.name, before)
        marks = [session.add_mask(to_mask(mask, photo.size))]
        return session, self.greeting(session) | {"marks": marks, "message": told(PRESS_RESTORE)}

    def arrived(self, request: dict) -> Path:
        """The file that was uploaded; it may be gone again. Raises InputError where there is none."""
        path = Path(request["path"]).resolve()
        if not path.is_relative_to(self.cache) or not path.is_file():
            raise InputError(f"{Path(request['name']).name}: did not arrive; send it again")
        return path

    def opened(self, path: Path, name: str, before: Session | None) -> Session:
        """The session of a photo, in place of the one before."""
        session = Session.open(self.cache, path, name, before.model if before else self.first_choice)
        if before:
            self.storage.forget(before)
        self.storage.admit(session)
        return session

    def greeting(self, session: Session) -> dict:
        width, height = session.size
        return {"ask": "look_at_photo", "message": told(f"{Path(session.name).name}, {width} × {height} pixels.")}

    def on_close(self, request: dict, before: Session | None) -> tuple[None, dict]:
        if before:
            self.storage.forget(before)
        return None, {"message": told("")}

    def on_resume(self, request: dict, before: Session | None) -> tuple[Session, dict]:
        """What a page shows that was loaded anew: Gradio 6.31 does so after every break of the connection."""
        session, drawing = self.storage.use(self.storage.sessions.get(request["session"])).take_over(), request["left"]
        self.storage.admit(session)
        news = {key: drawing[key] for key in ("marks", "strokes", "forbidden")} | {"message": told(AS_LEFT)}
        return session, news if session.used else news | {"ask": "look_at_photo"}

    def look_at_photo(self, session: Session, request: dict, drawing: dict) -> dict:
        """The map of the photo, and by which model."""
        said, next_step = self.see(session, session.now), PRESS_RESTORE if drawing["marks"] else MARK_FIRST
        return {"message": told(" ".join(filter(None, (said, next_step))))}

    def on_model(self, session: Session, request: dict, drawing: dict) -> dict:
        """Another model: the map is made anew, and what was drawn of the other's classes goes."""
        if request["model"] not in (AUTO, *self.models):
            raise InputError(f"There is no model {request['model']!r:.40} here.")
        space_before = self.spaces.get(session.used)
        session.model, session.used = request["model"], ""
        said = self.see(session, session.now) or f"The map is now that of the model “{session.used}”."
        if self.spaces[session.used] == space_before:
            return {"message": told(said)}
        if drawing["strokes"]:
            said += " What you had painted on the map was of other classes, and is gone."
        marks = [{key: x for key, x in stroke.items() if key != "tag"} for stroke in drawing["marks"]]
        return {"marks": marks, "strokes": [], "message": told(said)}

    def on_pick(self, session: Session, request: dict, drawing: dict) -> dict:
        """The thing that was clicked is marked, and must not come back."""
        labels, space, (x, y) = self.labels(session), self.spaces[session.used], self.pixel(session, request)
        label = int(labels[y, x])
        if label >= space.num_classes:
            raise InputError("The map does not say what is there: mark it with the brush.")
        mask = select(self.models[session.used], labels, [label], (x, y))
        return self.selected(session, mask, label, f"{space.shown_names[label]}: this one is marked")

    def on_class(self, session: Session, request: dict, drawing: dict) -> dict:
        """All things of a class are marked, and must not come back."""
        labels, space, label = self.labels(session), self.spaces[session.used], request["label"]
        if not 0 <= label < space.num_classes:
            raise InputError("There is no such class.")
        mask = select(self.models[session.used], labels, [label], None)
        return self.selected(session, mask, label, f"{space.shown_names[label]}: all of it is marked")

    def selected(self, session: Session, mask: np.ndarray, label: int, said: str) -> dict:
        if not mask.any():
            raise InputError("Only specks of it are on the map: mark it with the brush.")
        message = f"{said}, and must not come back. Press Restore."
        return {"add": session.add_mask(mask) | {"tag": label}, "message": told(message)}

    def on_look(self, session: Session, request: dict, drawing: dict) -> dict:
        """The class at a point of the map, to paint with."""
        labels, (x, y) = self.labels(session), self.pixel(session, request)
        label, space = int(labels[y, x]), self.spaces[session.used]
        return {"choose": label, "message": told(f"{space.shown_names[label]}: now paint it where it should be.")}

    def on_mask(self, session: Session, request: dict, drawing: dict) -> dict:
        """A mask from a file is a mark like others."""
        notes: list[str] = []
        mask = open_upload(self.arrived(request), request["name"])
        mask = to_mask(mask, session.size, open_upload(session.given, session.name), notes.append)
        if not mask.any():
            raise InputError(f"{Path(request['name']).name}: nothing in it is white from half of its range on")
        message = " ".join([f"The mask marks {mask.mean():.1%} of the photo.", *notes])
        return {"add": session.add_mask(mask), "message": told(message)}

    def on_random(self, session: Session, request: dict, drawing: dict) -> dict:
        """Another hole each time, of the kind that models are scored on."""
        width, height = session.size
        mask = protocol_mask(height, width, next(revisions) % 1000)
        return {"add": session.add_mask(mask), "message": told(f"A hole at random, of {mask.mean():.0%} of the photo.")}

    def on_preview(self, session: Session, request: dict, drawing: dict) -> dict:
        """What would be filled, with grow, feather and invert."""
        settings = read_settings(drawing["settings"])
        hole, _ = self.hole(session, self.drawn(session, drawing["marks"]), settings, [])
        if settings["feather"]:
            hole = feather_weights(grow_mask(hole, -settings["feather"]), settings["feather"])
        session.trim()
        with session.whole():
            return {"preview": str(session.tinted(hole, PREVIEW_COLOUR))}

    def on_go(self, session: Session, request: dict, drawing: dict) -> dict:
        """To another version of the row: what the next one was made of is drawn again, to be changed."""
        index = request["index"]
        if not 0 <= index < len(session.versions):
            raise InputError("That restoration is not there any more.")
        if index == session.at:
            return {}
        following = session.versions[index + 1] if index < session.at else None
        session.at = index
        self.see(session, session.now)
        news = {"marks": [], "strokes": [], "message": told(session.now.label)}
        recipe, last = following and session.recipe(following), session.recipe(session.now)
        if recipe and recipe.base is session.now and recipe.model == session.used:
            news |= {"marks": recipe.marks, "strokes": recipe.strokes, "forbidden": recipe.forbidden}
        elif recipe and last and (recipe.base, recipe.model) == (last.base, last.model) == (last.base, session.used):
            news["strokes"] = recipe.strokes[len(last.strokes) :]  # the same was restored again, with these
        return news

    def on_download(self, session: Session, request: dict, drawing: dict) -> dict:
        """The picture, or the map, at full size."""
        if request["format"] == "map":
            self.labels(session)
            path, note = session.export_map(self.spaces[session.used]), "pixel values are class ids"
        else:
            suffix = {"same": session.own_suffix(), "png": ".png", "jpeg": ".jpg"}[request["format"]]
            path, note = session.export(suffix, self.models)
        size = path.stat().st_size
        size = f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.0f} kB"
        message = ": ".join(filter(None, (f"{path.name}, {size}", note)))
        return {"download": {"path": str(path), "name": path.name}, "message": told(message)}

    # ------------------------------------------------------------------------------------------ restoring

    def restore(self, value: dict, session: Session | None) -> Iterator[tuple]:
        """A restoration, step by step: values of the editor and of the components that show the details."""
        try:
            _, drawing = read_question(value)
            self.storage.make_room()
            # A place for each step, none between them: a restoration that nobody goes on with would keep it for ever.
            session = self.storage.use(session)
            steps = self.steps(session, drawing)
            while True:
                with places.take(session.pixels):
                    if (step := next(steps, None)) is None:
                        return
                news, shown = step
                if session.closed:  # another photo was opened meanwhile
                    return
                self.storage.use(session)
                yield {"view": self.view(session) | news}, *shown
        except InputError as error:
            if session is not None and session.closed:
                session = None
            yield {"view": self.view(session) | {"message": told(without_folders(str(error)), "error")}}, *NO_DETAILS
        except Exception:
            if session is not None and session.closed:
                return
            traceback.print_exc()
            yield {"view": self.view(session) | {"message": told(FAULT, "error")}}, *NO_DETAILS

    def steps(self, session: Session, drawing: dict) -> Iterator[tuple[dict, tuple]]:
        """News for the editor, and what the details show."""
        notes: list[str] = []
        with session.lock:
            self.see(session, session.now)
            recipe = self.recipe(session, drawing)
            space, settings = self.spaces[recipe.model], recipe.settings
            edits = painted_classes(recipe.strokes, session.size, session.scale, space.num_classes)
            hole, weights = self.hole(session, self.drawn(session, recipe.marks), settings, notes, edits != IGNORE)
            photo = np.load(recipe.base.pixels)
            known_map = self.see_by(session, recipe.base, recipe.model)
        edits = edits if (edits != IGNORE).any() else None
        rounds = settings["rounds"]
        news: dict[str, Any] = {}
        load(self.models[recipe.model])  # here, not in `restore`: on ZeroGPU that runs in a process of its own
        for output in restore(self.models[recipe.model], photo, hole, rounds, edits, recipe.forbidden):
            done = len(output.rounds[0])
            if not news:  # the first one; where no network is asked, it is the last one, too
                with session.lock, session.whole():
                    news = {"photo": str(session.preview(np.asarray(output.images[0])))}
            yield news | {"message": told(f"Round {done} of {rounds + 1} is done …")}, NO_DETAILS
        result = np.asarray(output.images[0])
        if weights is not None:
            blended = np.rint(weights * result + (1 - weights) * photo).astype(np.uint8)
            result = np.where(hole[..., None], blended, photo)
        said = [summary(output, hole), *self.followed(recipe, result, edits, hole), *notes]
        with session.lock:
            if session.closed:
                return
            version = session.append(result, f"{len(session.versions)}: {said[0]}", recipe, hole)
            labels = np.where(hole, np.asarray(output.semantic_after[0]), known_map)
            session.see(version, labels, recipe.model, space)
            self.see(session, version)  # by the model that was chosen meanwhile
        news = {"marks": [], "strokes": [], "message": told(" ".join(said))}
        yield news, NO_DETAILS
        yield news, details(output, result, space, session.preview_size)  # again: a busy browser may skip the first

    def recipe(self, session: Session, drawing: dict) -> Recipe:
        """What is to be restored: what is newly marked; or else the last restoration again, with what was painted on
        the map, or chosen, since."""
        now, last = session.now, session.recipe(session.now)
        marks, strokes, settings = drawing["marks"], drawing["strokes"], read_settings(drawing["settings"])
        forbidden = drawing["forbidden"]
        if not all(label in range(self.spaces[session.used].num_classes) for label in forbidden):
            raise InputError("What must not come back is none of this model's classes; choose it again.")
        if self.drawn(session, marks).any() or last is None:
            if not marks and not strokes:
                raise InputError(NOTHING_NEW)
            return Recipe(now, marks, strokes, forbidden, session.used, settings)
        if last.model == session.used:
            strokes, forbidden = last.strokes + strokes, sorted({*last.forbidden, *forbidden})
        recipe = Recipe(last.base, last.marks, strokes, forbidden, session.used, settings)
        if recipe == last:
            raise InputError(NOTHING_NEW)
        return recipe

    def followed(self, recipe: Recipe, result: np.ndarray, edits: np.ndarray | None, hole: np.ndarray) -> list[str]:
        """What the picture shows, looked at anew, of what was painted on the map, and of what must not come back."""
        if edits is None and not recipe.forbidden:
            return []
        names = self.spaces[recipe.model].shown_names
        seen, said = segment_photo(self.models[recipe.model], result), []
        for label in np.unique(edits[edits != IGNORE]) if edits is not None else ():
            share = (seen[edits == label] == label).mean()
            could = "is followed" if share >= FOLLOWED_FROM else "could not be followed"
            said.append(f"Your {names[label]} {could}: the fill shows it on {share:.0%} of where you painted it.")
        for label in recipe.forbidden:
            if (share := (seen[hole] == label).mean()) >= 0.01:
                still = f"{names[label].capitalize()} is still seen on {share:.0%} of the hole"
                said.append(f"{still}: mark it again with the brush.")
        return said

    # ------------------------------------------------------------------------------------------ parts

    def drawn(self, session: Session, marks: list[dict]) -> np.ndarray:
        return marked(marks, session.size, session.scale, session.mask)

    def hole(
        self, session: Session, drawn: np.ndarray, settings: dict, notes: list[str], more: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """What is filled (H,W) bool, and with feathering the share (H,W,1) of the fill in the result. more: what is
        painted on the map, (H,W) bool, which is filled in any case."""
        grow, feather = settings["grow"], settings["feather"]
        hole = drawn
        if drawn.any():
            hole = grow_mask(~drawn if settings["invert"] else drawn, grow)
            if not hole.any():
                raise InputError("Nothing of the marked part is left: shrink it less, or do not invert it.")
        if more is not None:
            hole = hole | more
        if not hole.any():
            raise InputError(NOTHING_NEW)
        grown = grow_mask(hole, feather)
        check_hole(grown, "The marks", lambda _: notes.append(NEARLY_ALL))
        return grown, feather_weights(hole, feather)[..., None] if feather else None

    def see(self, session: Session, version: Version) -> str | None:
        """Makes sure that the version has a map of the model in use, which is chosen first if it is to be; what was
        chosen, in words."""
        said = None
        if not session.used:
            used = session.model
            if session.model == AUTO:
                used = choose(self.models, np.load(session.versions[0].pixels))
                said = f"The model “{used}” fits this photo best; you can choose another below."
            session.used = used  # not before: choosing can fail, and is then tried again
        self.see_by(session, version, session.used)
        return said

    def see_by(self, session: Session, version: Version, model: str) -> np.ndarray:
        """The version's map (H,W) uint8 by a model."""
        if version.seen_by != model:
            labels = segment_photo(self.models[model], np.load(version.pixels))
            session.see(version, labels, model, self.spaces[model])
        return version.map()

    def labels(self, session: Session) -> np.ndarray:
        self.see(session, session.now)
        return session.now.map()

    def pixel(self, session: Session, request: dict) -> tuple[int, int]:
        """(x, y) of the photo."""
        x, y = (
            min(length - 1, max(0, int((float(at) + 0.5) * session.scale)))
            for at, length in zip(request["at"], session.size, strict=True)
        )
        return x, y

    @property
    def first_choice(self) -> str:
        return AUTO if len(self.models) > 1 else next(iter(self.models))

    def example_file(self, index: int) -> Path:
        """The file of an example's photo, made anew where it is gone."""
        model, name = self.examples[index]
        space = self.spaces[model].name
        path = self.cache / "examples" / f"{example_name(space, name).replace(' ', '_')}.png"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as temporary:
                example(space, name)[0].save(temporary, "PNG")
        return path

    def example_list(self) -> list[dict]:
        return [
            {
                "index": index, "thumb": str(self.example_file(index)),
                "label": f"Example: {example_name(self.spaces[model].name, name)}",
            }
            for index, (model, name) in enumerate(self.examples)
        ]  # fmt: skip

    def view(self, session: Session | None) -> dict:
        """What the editor shows."""
        view = {"revision": next(revisions), "examples": self.example_list(), "history": [], "classes": []}
        if session is None:
            return view
        now, space = session.now, self.spaces.get(session.used)
        auto = f"by the photo ({session.used})" if session.model == AUTO and session.used else "by the photo"
        view |= {
            "session": session.id,
            "photo": str(now.preview),
            "original": str(session.versions[0].preview),
            "map": now.map_preview and str(now.map_preview),
            "history": [{"thumb": str(version.thumb), "label": version.label} for version in session.versions],
            "at": session.at,
            "model": session.model,
            "models": [
                *([{"name": AUTO, "label": auto}] if len(self.models) > 1 else []),
                *({"name": name, "label": name} for name in self.models),
            ],
            "format": session.own_suffix().removeprefix(".").upper(),
        }
        if space and now.seen_by == session.used:
            view["classes"] = classes_of(space)
            view["shown"] = now.shown
        return view


QUESTIONS = {
    "look_at_photo": Handlers.look_at_photo,
    "model": Handlers.on_model,
    "pick": Handlers.on_pick,
    "class": Handlers.on_class,
    "look": Handlers.on_look,
    "mask": Handlers.on_mask,
    "random": Handlers.on_random,
    "preview": Handlers.on_preview,
    "go": Handlers.on_go,
    "download": Handlers.on_download,
}


def details(
    output: "FeedbackInpaintPipelineOutput", result: np.ndarray, space: LabelSpace, size: tuple[int, int]
) -> tuple:
    """How the result came about: the column that shows it, maps before and after feedback, what that changed, and every
    round; at most as large as (width, height)."""
    before, after = (
        cv2.resize(np.asarray(labels), size, interpolation=cv2.INTER_NEAREST_EXACT)
        for labels in (output.semantic_before[0], output.semantic_after[0])
    )
    small, first = resize_image(result, size), resize_image(np.asarray(output.rounds[0][0].image), size)
    changes = annotate_changes(small, before, after, space)
    maps = annotate(first, before, space), annotate(small, after, space), changes
    return gr.Column(visible=True), *maps, album(output, size)


def told(text: str, kind: str = "info") -> dict:
    return {"text": text, "kind": kind}


def read_settings(given: dict) -> dict:
    """Raises InputError for what no page of ours sends."""
    settings: dict[str, Any] = {"invert": given.get("invert") is True}
    for name, (lowest, highest) in LIMITS.items():
        value = given.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
            raise InputError(f"{name} {value!r:.40}: must be a whole number from {lowest} to {highest}")
        settings[name] = value
    return settings
