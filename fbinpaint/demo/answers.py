"""Questions about the photo that is open, a function for each: what it has to say, as news for the editor."""

from pathlib import Path

import numpy as np

from fbinpaint.errors import InputError
from fbinpaint.images.convert import to_mask
from fbinpaint.masks import protocol_mask

from .downloads import export_map, export_picture
from .inputs import open_upload
from .messages import told
from .models import AUTO, select
from .opening import MARK_FIRST, PRESS_RESTORE, arrived
from .restoring import drawn, find_hole, read_settings
from .session import Session
from .session_files import revisions
from .shared import Page

PREVIEW_COLOUR = (0, 150, 255)


def look_at_photo(page: Page, session: Session, request: dict, drawing: dict) -> dict:
    """The map of the photo, and by which model."""
    said, next_step = page.see(session, session.now), PRESS_RESTORE if drawing["marks"] else MARK_FIRST
    return {"message": told(" ".join(filter(None, (said, next_step))))}


def on_model(page: Page, session: Session, request: dict, drawing: dict) -> dict:
    """Another model: the map is made anew, and what was drawn of the other's classes goes."""
    if request["model"] not in (AUTO, *page.models):
        raise InputError(f"There is no model {request['model']!r:.40} here.")
    space_before = page.spaces.get(session.used)
    session.model, session.used = request["model"], ""
    said = page.see(session, session.now) or f"The map is now that of the model “{session.used}”."
    if page.spaces[session.used] == space_before:
        return {"message": told(said)}
    if drawing["strokes"]:
        said += " What you had painted on the map was of other classes, and is gone."
    marks = [{key: x for key, x in stroke.items() if key != "tag"} for stroke in drawing["marks"]]
    return {"marks": marks, "strokes": [], "forbidden": [], "message": told(said)}


def on_pick(page: Page, session: Session, request: dict, drawing: dict) -> dict:
    """The thing that was clicked is marked, and must not come back."""
    labels, space, (x, y) = page.labels(session), page.spaces[session.used], page.pixel(session, request)
    label = int(labels[y, x])
    if label >= space.num_classes:
        raise InputError("The map does not say what is there: mark it with the brush.")
    mask = select(page.models[session.used], labels, [label], (x, y))
    return selected(session, drawing, mask, label, f"{space.shown_names[label]}: this one is marked")


def on_class(page: Page, session: Session, request: dict, drawing: dict) -> dict:
    """All things of a class are marked, and must not come back."""
    labels, space, label = page.labels(session), page.spaces[session.used], request["label"]
    if not 0 <= label < space.num_classes:
        raise InputError("There is no such class.")
    mask = select(page.models[session.used], labels, [label], None)
    return selected(session, drawing, mask, label, f"{space.shown_names[label]}: all of it is marked")


def selected(session: Session, drawing: dict, mask: np.ndarray, label: int, said: str) -> dict:
    if not mask.any():
        raise InputError("Only specks of it are on the map: mark it with the brush.")
    message = f"{said}, and must not come back. Press Restore."
    return {"add": session.add_mask(mask, drawing["marks"]) | {"tag": label}, "message": told(message)}


def on_look(page: Page, session: Session, request: dict, drawing: dict) -> dict:
    """The class at a point of the map, to paint with."""
    labels, (x, y) = page.labels(session), page.pixel(session, request)
    label, space = int(labels[y, x]), page.spaces[session.used]
    return {"choose": label, "message": told(f"{space.shown_names[label]}: now paint it where it should be.")}


def on_mask(page: Page, session: Session, request: dict, drawing: dict) -> dict:
    """A mask from a file is a mark like others."""
    notes: list[str] = []
    mask = open_upload(arrived(page, request), request["name"])
    mask = to_mask(mask, session.size, open_upload(session.given, session.name), notes.append)
    if not mask.any():
        raise InputError(f"{Path(request['name']).name}: nothing in it is white from half of its range on")
    message = " ".join([f"The mask marks {mask.mean():.1%} of the photo.", *notes])
    return {"add": session.add_mask(mask, drawing["marks"]), "message": told(message)}


def on_random(page: Page, session: Session, request: dict, drawing: dict) -> dict:
    """Another hole each time, of the kind that models are scored on."""
    width, height = session.size
    mask = protocol_mask(height, width, next(revisions) % 1000)
    message = f"A hole at random, of {mask.mean():.0%} of the photo."
    return {"add": session.add_mask(mask, drawing["marks"]), "message": told(message)}


def on_preview(page: Page, session: Session, request: dict, drawing: dict) -> dict:
    """What would be filled, with grow, feather and invert."""
    settings = read_settings(drawing["settings"])
    hole, weights = find_hole(drawn(session, drawing["marks"]), settings, [])
    session.trim(drawing["marks"])
    with session.whole():
        return {"preview": str(session.tinted(hole if weights is None else weights[..., 0], PREVIEW_COLOUR))}


def on_go(page: Page, session: Session, request: dict, drawing: dict) -> dict:
    """To another version of the row: what the next one was made of is drawn again, to be changed."""
    index = request["index"]
    if not 0 <= index < len(session.versions):
        raise InputError("That restoration is not there any more.")
    if index == session.at:
        return {}
    following = session.versions[index + 1] if index < session.at else None
    session.at = index
    page.see(session, session.now)
    news = {"marks": [], "strokes": [], "message": told(session.now.label)}
    recipe, last = following and session.recipe(following), session.recipe(session.now)
    if recipe and recipe.base is session.now and recipe.model == session.used:
        news |= {"marks": recipe.marks, "strokes": recipe.strokes, "forbidden": recipe.forbidden}
    elif recipe and last and (recipe.base, recipe.model) == (last.base, last.model) == (last.base, session.used):
        news["strokes"] = recipe.strokes[len(last.strokes) :]  # the same was restored again, with these
    return news


def on_download(page: Page, session: Session, request: dict, drawing: dict) -> dict:
    """The picture, or the map, at full size."""
    session.trim(drawing["marks"])
    if request["format"] == "map":
        page.labels(session)
        path, note = export_map(session, page.spaces[session.used]), "pixel values are class ids"
    else:
        suffix = {"same": session.own_suffix(), "png": ".png", "jpeg": ".jpg"}[request["format"]]
        path, note = export_picture(session, suffix, page.models)
    size = path.stat().st_size
    size = f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.0f} kB"
    message = ": ".join(filter(None, (f"{path.name}, {size}", note)))
    return {"download": {"path": str(path), "name": path.name}, "message": told(message)}


QUESTIONS = {
    "look_at_photo": look_at_photo,
    "model": on_model,
    "pick": on_pick,
    "class": on_class,
    "look": on_look,
    "mask": on_mask,
    "random": on_random,
    "preview": on_preview,
    "go": on_go,
    "download": on_download,
}
