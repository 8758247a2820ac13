"""The gate before the demo: of Gradio's routes, those that the page and the endpoints use, with what belongs into each.

Gradio serves much beside what a page is made of: functions of components, proxies, recordings, figures of its own. What
is not in ROUTES does not exist here, and a body is read to its end only where it can be one of ours.
"""

import json
import re
from collections.abc import AsyncIterator, Container
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_UPLOAD = 100_000_000  # bytes, of one request
MAX_CALL = 2_000_000  # bytes; as Python's objects they can be fifty times as many
MAX_PARTS = 60_000  # lists and dicts of a call, which Gradio copies several times: an hour of painting has less
MAX_DEPTH = 12  # of lists and dicts in each other; what the page sends has 8
API = "/gradio_api"
NAME = "(inpaint|remove|segment)"
KEY = r"[\w-]{1,64}"  # of a session, an event, an upload


@dataclass(frozen=True)
class Route:
    """kind: what its body holds, None = nothing at all."""

    methods: tuple[str, ...]
    path: re.Pattern
    kind: str | None = None

    @classmethod
    def of(cls, methods: str, path: str, kind: str | None = None) -> "Route":
        return cls(tuple(methods.split()), re.compile(f"{path}/?"), kind)


ROUTES = (
    Route.of("GET HEAD", ""),
    Route.of("GET HEAD", "/(assets|static|svelte)/.+"),
    Route.of("GET HEAD", f"(/config|/favicon.ico|/manifest.json|/robots.txt|/theme.css|{API}/theme.css)"),
    Route.of("GET HEAD", f"{API}/(info|openapi.json|startup-events|app_id|login_check|queue/status)"),
    Route.of("GET HEAD", f"{API}/file=.+", "file"),
    Route.of("GET", f"{API}/queue/data"),
    Route.of("GET", f"{API}/upload_progress"),
    Route.of("GET", f"{API}/heartbeat/{KEY}"),
    Route.of("GET", f"{API}/call/(v2/)?{NAME}/{KEY}"),
    Route.of("POST", f"{API}/upload", "upload"),
    Route.of("POST", f"{API}/call/v2/{NAME}", "arguments"),
    Route.of("POST", f"{API}/call/{NAME}", "call"),
    Route.of("POST", f"{API}/queue/join", "call"),
    Route.of("POST", f"{API}/run/predict", "call"),  # by which the page asks what skips the queue
    Route.of("POST", f"{API}/(cancel|reset)", "arguments"),
)
# Of Gradio's description of a call. The rest would name an event of somebody else, or the shape of the answer.
CALL = {"data": list, "session_hash": str, "fn_index": int, "trigger_id": int}


class Refusal(Exception):
    """Answered with this status and one line."""

    def __init__(self, status: int, line: str):
        super().__init__(line)
        self.status = status


class Gate:
    """An ASGI application around another one.

    folder: the only one of which files are sent
    functions: numbers of those that can be called
    """

    def __init__(self, app: ASGIApp, folder: str | Path, functions: Container[int]):
        self.app, self.folder, self.functions = app, Path(folder).resolve(), functions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] != "http":
            await self.app(scope, receive, send)
        else:
            try:
                receive = await self.admit(scope, receive)
            except Refusal as refusal:
                # The rest of a body that is too long is not read: with the connection it is gone.
                answer = JSONResponse({"error": str(refusal)}, refusal.status, {"Connection": "close"})
                await answer(scope, receive, send)
            else:
                await self.app(scope, receive, without_credentials(send))

    async def admit(self, scope: Scope, receive: Receive) -> Receive:
        """What the application is to receive. Raises Refusal."""
        path, method = scope["path"].removeprefix(scope.get("root_path", "")), scope["method"]
        route = next((route for route in ROUTES if route.path.fullmatch(path)), None)
        if route is None:
            raise Refusal(404, "There is nothing here.")
        if method == "OPTIONS":  # asked by browsers before they send from another site
            return receive
        if method not in route.methods:
            raise Refusal(405, f"{method} is not answered here; use {route.methods[0]}.")
        headers = Headers(scope=scope)
        if route.kind == "file" and not self.is_ours(path.partition("/file=")[2]):
            raise Refusal(403, "This file is none of the demo's.")
        if route.kind == "upload":
            size = length(headers)
            if size is None:  # a longer body would be found out only with a part of it on the disk
                raise Refusal(411, "An upload says its length: send it with Content-Length.")
            if size > MAX_UPLOAD:
                raise Refusal(413, f"An upload of more than {MAX_UPLOAD // 10**6} MB is not taken.")
            return receive
        body = await read_body(headers, receive, MAX_CALL if route.kind in ("call", "arguments") else 0)
        if route.kind in ("call", "arguments"):
            body = self.check_call(body, route.kind)
        return replay(body, receive)

    def check_call(self, body: bytes, kind: str) -> bytes:
        """The body of a request, with nothing in it but what belongs there. Raises Refusal."""
        try:
            given = json.loads(body, parse_constant=refuse_number)
        except (ValueError, RecursionError):
            raise Refusal(400, "The request is no JSON.") from None
        if not isinstance(given, dict) or too_large(given):
            raise Refusal(400, f"The request is no JSON object of at most {MAX_DEPTH} levels and {MAX_PARTS} parts.")
        if kind == "arguments":
            return body
        given = {key: given[key] for key in CALL if given.get(key) is not None}
        right = "data" in given and all(type(x) is CALL[key] for key, x in given.items())
        right = right and re.fullmatch(KEY, given.get("session_hash", "x"))
        if not right or ("fn_index" in given and given["fn_index"] not in self.functions):
            raise Refusal(400, "The request is no call: it has `data`, a list, and may have a `session_hash`.")
        return json.dumps(given).encode()

    def is_ours(self, name: str) -> bool:
        """Whether a path is one in the folder; of others, nothing is told, not even whether they are there."""
        try:
            return Path(name).is_absolute() and Path(name).resolve().is_relative_to(self.folder)
        except (OSError, ValueError):  # a name that is too long, or has a zero byte
            return False


@asynccontextmanager
async def behind_gate(app: FastAPI) -> AsyncIterator[None]:
    """As lifespan of the application: puts the gate before it and before all that Gradio itself puts there. Gradio adds
    its middleware around that of `app_kwargs`, so that the headers of its answers could not be changed by one."""
    gradio: Any = app  # an App of Gradio's
    app.middleware_stack = Gate(gradio.middleware_stack, gradio.uploaded_file_dir, gradio.get_blocks().fns)
    yield


def length(headers: Headers) -> int | None:
    text = headers.get("content-length", "")
    return int(text) if text.isdecimal() else None


async def read_body(headers: Headers, receive: Receive, most: int) -> bytes:
    too_long = Refusal(413, f"The request is longer than {most} bytes.")
    if (length(headers) or 0) > most:
        raise too_long
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refusal(400, "The request broke off.")
        body += message.get("body", b"")
        if len(body) > most:
            raise too_long
        if not message.get("more_body"):
            return bytes(body)


def refuse_number(name: str) -> None:
    """NaN and Infinity, which Python takes for JSON."""
    raise ValueError(name)


def too_large(value: object) -> bool:
    """Whether more lists and dicts are in a value, or more of them in each other, than in any of ours."""
    inner: list[Any] = [value]
    parts = 0
    for _ in range(MAX_DEPTH):
        inner = [x for outer in inner for x in (outer.values() if isinstance(outer, dict) else outer)]
        inner = [x for x in inner if isinstance(x, list | dict)]
        parts += len(inner)
        if not inner or parts > MAX_PARTS:
            return bool(inner)
    return True


def replay(body: bytes, receive: Receive) -> Receive:
    """Gives the body that was read, then what else comes: the end of the connection."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return first.pop() if first else await receive()

    return next_message


def without_credentials(send: Send) -> Send:
    """Gradio allows pages of all other sites to read answers with the visitor's cookies; without them is enough."""

    async def send_less(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [(key, x) for key, x in message["headers"] if key.lower() != b"access-control-allow-credentials"]
            message = {**message, "headers": kept}
        await send(message)

    return send_less
