"""Questions after which another photo is on the page, or none: each gives the session, and news for the editor."""

from pathlib import Path

from fbinpaint.errors import InputError
from fbinpaint.images.convert import to_mask

from .examples import example
from .messages import told
from .restoring import read_settings
from .session import Session
from .shared import Page

AS_LEFT = "Here is your photo again, as you left it."
MARK_FIRST = "Now mark what should go: paint over it, or choose its name above the photo. Then press Restore."
PRESS_RESTORE = "The part to be filled is marked. Press Restore, or change the marks first."


def on_open(page: Page, request: dict, before: Session | None) -> tuple[Session, dict]:
    session = opened(page, arrived(page, request), request["name"], before)
    return session, greeting(page, session)


def on_example(page: Page, request: dict, before: Session | None) -> tuple[Session, dict]:
    """With its hole as a mark, which can be erased and added to."""
    if not 0 <= request["index"] < len(page.examples):
        raise InputError("There is no such example.")
    model, name = page.examples[request["index"]]
    photo, mask = example(page.spaces[model].name, name)
    source = page.example_file(request["index"])
    session = opened(page, source, source.name, before)
    marks = [session.add_mask(to_mask(mask, photo.size))]
    return session, greeting(page, session) | {"marks": marks, "message": told(PRESS_RESTORE)}


def arrived(page: Page, request: dict) -> Path:
    """The file that was uploaded; it may be gone again. Raises InputError where there is none."""
    path = Path(request["path"]).resolve()
    if not path.is_relative_to(page.cache) or not path.is_file():
        raise InputError(f"{Path(request['name']).name}: did not arrive; send it again")
    return path


def opened(page: Page, path: Path, name: str, before: Session | None) -> Session:
    """The session of a photo, in place of the one before."""
    session = Session.open(page.cache, path, name, before.model if before else page.first_choice)
    if before:
        page.storage.forget(before)
    page.storage.admit(session)
    return session


def greeting(page: Page, session: Session) -> dict:
    width, height = session.size
    return {"ask": "look_at_photo", "message": told(f"{Path(session.name).name}, {width} × {height} pixels.")}


def on_close(page: Page, request: dict, before: Session | None) -> tuple[None, dict]:
    if before:
        page.storage.forget(before)
    return None, {"message": told("")}


def on_resume(page: Page, request: dict, before: Session | None) -> tuple[Session, dict]:
    """What a page shows that was loaded anew: Gradio 6.31 does so after every break of the connection."""
    session, drawing = page.storage.use(page.storage.sessions.get(request["session"])).take_over(), request["left"]
    page.storage.admit(session)
    left: dict[str, list] = {key: drawing[key] for key in ("marks", "strokes", "forbidden")}
    made = session.recipe(session.now)
    if made and (made.marks, made.strokes) == (left["marks"], left["strokes"]):  # it came after the page was left
        left = dict.fromkeys(left, [])
    news = left | {"settings": read_settings(drawing["settings"]), "message": told(AS_LEFT)}
    return session, news if session.used else news | {"ask": "look_at_photo"}


OPENINGS = {"open": on_open, "example": on_example, "resume": on_resume, "close": on_close}
