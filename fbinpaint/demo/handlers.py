"""What the editor asks of the server (editor.js).

    ask: what takes a moment          restore: what takes seconds, step by step

An answer is a view: all that the editor shows, as plain values and paths of files in the visitor's own folder. What is
wrong with an input is a message in it, for Gradio shows errors of functions that skip the queue to nobody.
"""

import traceback
from collections.abc import Iterator
from typing import Any

import gradio as gr

from fbinpaint.errors import InputError

from .answers import QUESTIONS
from .inputs import count_pixels, without_folders
from .messages import told
from .models import places
from .opening import OPENINGS
from .questions import NOT_UNDERSTOOD, read_question
from .restoring import NO_DETAILS, steps
from .session import FORGOTTEN, Session
from .shared import Page

FAULT = "Something went wrong here, not with your photo; try again, or another way."


class Handlers(Page):
    """The page's two events."""

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
                session, news = OPENINGS[kind](self, request, session)
            else:
                self.storage.make_room()
                if kind in OPENINGS:
                    with places.take(count_pixels(request.get("path"))):
                        session, news = OPENINGS[kind](self, request, session)
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

    def restore(self, value: dict, session: Session | None) -> Iterator[tuple]:
        """A restoration, step by step: values of the editor and of the components that show the details."""
        try:
            request, drawing = read_question(value)
            self.storage.make_room()
            # A place for each step, none between them: a restoration that nobody goes on with would keep it for ever.
            session = self.storage.use(session)
            todo = steps(self, session, request, drawing)
            while True:
                with places.take(session.pixels):
                    if (step := next(todo, None)) is None:
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
