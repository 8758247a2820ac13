"""A restoration, step by step: what is to be filled and by what, the fills as they come, what became of wishes."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import cv2
import gradio as gr
import numpy as np

from fbinpaint.errors import InputError
from fbinpaint.images.convert import check_hole
from fbinpaint.images.crops import resize_image
from fbinpaint.labels import IGNORE, LabelSpace
from fbinpaint.masks import feather_weights, grow_mask

from .messages import told
from .models import MAX_ROUNDS, load, restore, segment_photo
from .rendering import album, annotate, annotate_changes, summary
from .session import Recipe, Session
from .shared import Page
from .strokes import marked, painted_classes

if TYPE_CHECKING:
    from fbinpaint.pipeline.outputs import FeedbackInpaintPipelineOutput

NOTHING_NEW = "Nothing is marked on this picture yet: paint over what should go, click a thing, or paint on the map."
CHANGED = "The photo or the model was changed before this began: look at the map, and press Restore again."
NEARLY_ALL = "Nearly all of the photo was marked, so most of it is made up: undo, and erase marks if you meant less."
FOLLOWED_FROM = 0.5  # of what was drawn: if the fill shows less of it, it did not follow
NO_DETAILS = tuple(gr.skip() for _ in range(5))  # of `details`: they stay as they are
LIMITS = {"grow": (-16, 64), "feather": (0, 32), "rounds": (0, MAX_ROUNDS)}


def steps(page: Page, session: Session, request: dict, drawing: dict) -> Iterator[tuple[dict, tuple]]:
    """News for the editor, and what the details show."""
    notes: list[str] = []
    with session.lock:
        if (request["session"], request["model"]) != (session.id, session.model):
            raise InputError(CHANGED)
        page.see(session, session.now)
        recipe = read_recipe(page, session, drawing)
        space, settings = page.spaces[recipe.model], recipe.settings
        edits = painted_classes(recipe.strokes, session.size, session.scale, space.num_classes)
        hole, weights = find_hole(drawn(session, recipe.marks), settings, notes, edits != IGNORE)
        photo = np.load(recipe.base.pixels)
        known_map = page.see_by(session, recipe.base, recipe.model)
    edits = edits if (edits != IGNORE).any() else None
    rounds = settings["rounds"]
    news: dict[str, Any] = {}
    load(page.models[recipe.model])  # here, not in `restore`: on ZeroGPU that runs in a process of its own
    for output in restore(page.models[recipe.model], photo, hole, rounds, edits, recipe.forbidden):
        done = len(output.rounds[0])
        if not news:  # the first one; where no network is asked, it is the last one, too
            with session.lock, session.whole():
                if session.closed:
                    return
                news = {"photo": str(session.preview(np.asarray(output.images[0])))}
        yield news | {"message": told(f"Round {done} of {rounds + 1} is done …")}, NO_DETAILS
    result = np.asarray(output.images[0])
    if weights is not None:
        blended = np.rint(weights * result + (1 - weights) * photo).astype(np.uint8)
        result = np.where(hole[..., None], blended, photo)
    said = [summary(output, hole), *followed(page, recipe, result, edits, hole), *notes]
    with session.lock:
        if session.closed:
            return
        version = session.append(result, f"{session.at + 1}: {said[0]}", recipe, hole)
        labels = np.where(hole, np.asarray(output.semantic_after[0]), known_map)
        session.see(version, labels, recipe.model, space)
        page.see(session, version)  # by the model that was chosen meanwhile
    news = {"marks": [], "strokes": [], "message": told(" ".join(said))}
    yield news, NO_DETAILS
    yield news, details(output, result, space, session.preview_size)  # again: a busy browser may skip the first


def read_recipe(page: Page, session: Session, drawing: dict) -> Recipe:
    """What is to be restored: what is newly marked; or else the last restoration again, with what was painted on
    the map, or chosen, since."""
    now, last = session.now, session.recipe(session.now)
    marks, strokes, settings = drawing["marks"], drawing["strokes"], read_settings(drawing["settings"])
    forbidden = drawing["forbidden"]
    if not all(label in range(page.spaces[session.used].num_classes) for label in forbidden):
        raise InputError("What must not come back is none of this model's classes; choose it again.")
    if drawn(session, marks).any() or last is None:
        if not marks and not strokes:
            raise InputError(NOTHING_NEW)
        return Recipe(now, marks, strokes, forbidden, session.used, settings)
    if last.model == session.used:
        strokes, forbidden = last.strokes + strokes, sorted({*last.forbidden, *forbidden} - {*drawing["allowed"]})
    recipe = Recipe(last.base, last.marks, strokes, forbidden, session.used, settings)
    if recipe == last:
        raise InputError(NOTHING_NEW)
    return recipe


def followed(page: Page, recipe: Recipe, result: np.ndarray, edits: np.ndarray | None, hole: np.ndarray) -> list[str]:
    """What the picture shows, looked at anew, of what was painted on the map, and of what must not come back."""
    if edits is None and not recipe.forbidden:
        return []
    names = page.spaces[recipe.model].shown_names
    seen, said = segment_photo(page.models[recipe.model], result), []
    for label in np.unique(edits[edits != IGNORE]) if edits is not None else ():
        share = round((seen[edits == label] == label).mean(), 2)
        could = "is followed" if share >= FOLLOWED_FROM else "could not be followed"
        said.append(f"Your {names[label]} {could}: the fill shows it on {share:.0%} of where you painted it.")
    for label in recipe.forbidden:
        again = hole & (seen == label)
        if edits is not None:
            again &= edits != label  # there it is to be
        if (share := again.sum() / hole.sum()) >= 0.01:
            still = f"{names[label].capitalize()} is still seen on {share:.0%} of the hole"
            said.append(f"{still}: mark it again with the brush.")
    return said


def drawn(session: Session, marks: list[dict]) -> np.ndarray:
    return marked(marks, session.size, session.scale, session.mask)


def find_hole(
    drawn: np.ndarray, settings: dict, notes: list[str], more: np.ndarray | None = None
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


def read_settings(given: dict) -> dict:
    """Raises InputError for what no page of ours sends."""
    settings: dict[str, Any] = {"invert": given.get("invert") is True}
    for name, (lowest, highest) in LIMITS.items():
        value = given.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
            raise InputError(f"{name} {value!r:.40}: must be a whole number from {lowest} to {highest}")
        settings[name] = value
    return settings
