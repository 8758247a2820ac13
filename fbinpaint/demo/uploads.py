"""Uploads, before Gradio writes them to the disk."""

from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse

from ..errors import InputError


class UploadsFit:
    """ASGI middleware: uploads are refused, in a line, where there is no room for them."""

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
        await self.app(scope, receive, send)
