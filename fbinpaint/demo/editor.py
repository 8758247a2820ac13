"""The editor: a photo and its map, to be painted on, with the tools for it.

Gradio's own ImageEditor has no lasso, no clicks and no undo of restorations, its brush is as many pixels of the photo
whatever its size, and it freezes when it is given a picture after an upload (Gradio 6.31). So this is a `gr.HTML` with
a template and a script of our own; Gradio carries the questions and answers.
"""

from pathlib import Path

import gradio as gr

HERE = Path(__file__).resolve().parent


def make_editor(view: dict) -> gr.HTML:
    """Its value is `{"view": ...}` from the server and `{"request": ..., "drawing": ...}` from the page, see
    handlers.py; its events are `ask` and `restore`.

    No class of its own: Gradio would write a stub file beside this one when it is imported.
    """
    return gr.HTML(
        {"view": view},
        html_template=(HERE / "editor.html").read_text(encoding="utf-8"),
        js_on_load="\n".join((HERE / f"{name}.js").read_text(encoding="utf-8") for name in ("painter", "editor")),
        apply_default_css=False,
        elem_id="editor",
    )
