"""Uploads: there must be room for them, and files that visitors name must be ones that they uploaded."""

from contextlib import suppress
from typing import Any

import gradio as gr
from gradio.block_function import BlockFunction
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse

from fbinpaint.errors import InputError

NOT_UPLOADED = "This file did not arrive here: upload it first, or again, and name it by the path that this answers."


def guard(demo: gr.Blocks) -> None:
    """Makes the demo look at all that comes in for its functions, by whatever route, before Gradio does.

    Gradio 6.31 checks only files that are marked as such, lets them be any in its cache, all visitors' pictures
    included, and fetches those that are addresses of other sites. Here a file is one that the upload route wrote: its
    name cannot be guessed, and so is the right to it. Of all others nothing is told, not even whether they exist.
    """
    preprocess = demo.preprocess_data

    async def guarded(block_fn: BlockFunction, inputs: list, state: Any, explicit_call: bool = False) -> list:
        if len(inputs) != len(block_fn.inputs):
            raise refusal(f"{len(inputs)} values arrived where {len(block_fn.inputs)} belong.")
        check_files(inputs, demo.upload_file_set)
        inputs = [
            image_file(value) if isinstance(component, gr.Image) else value
            for component, value in zip(block_fn.inputs, inputs, strict=True)
        ]
        return await preprocess(block_fn, inputs, state, explicit_call)

    demo.preprocess_data = guarded  # type: ignore[method-assign]  # Gradio has no hook for it


def check_files(value: Any, uploaded: set[str]) -> None:
    """Raises gr.Error if a "path" anywhere in a value of JSON is none of the uploaded ones."""
    inner = [value]
    while inner:
        value = inner.pop()
        if isinstance(value, dict):
            if "path" in value and not (isinstance(value["path"], str) and value["path"] in uploaded):
                raise refusal(NOT_UPLOADED)
            inner.extend(value.values())
        elif isinstance(value, list):
            inner.extend(value)


def image_file(value: Any) -> dict | None:
    """A picture as a program sent it, as Gradio takes it: of all that it may have, only the path. Raises gr.Error for
    what is none."""
    if value is None:
        return None
    if not isinstance(value, dict) or "path" not in value:
        raise refusal(NOT_UPLOADED)
    return {"path": value["path"], "meta": {"_type": "gradio.FileData"}}


def refusal(line: str) -> gr.Error:
    return gr.Error(line, title="Not yet", print_exception=False)


class UploadsFit:
    """ASGI middleware: uploads are refused, in a line, where there is no room for them. One that breaks off, as when a
    page is closed, is no error: Gradio 6.31 would fill the log with it."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"].rstrip("/").endswith("/upload"):
            length = dict(scope["headers"]).get(b"content-length", b"")
            try:
                storage = scope["app"].get_blocks().storage
                await run_in_threadpool(storage.make_room, int(length) if length.isdigit() else 0)
            except InputError as error:
                return await PlainTextResponse(str(error), status_code=507)(scope, receive, send)
        with suppress(ClientDisconnect):
            await self.app(scope, receive, send)
