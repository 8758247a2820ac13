"""What the API answers, and one replica of it: the models on a device, where requests that come together share a batch.

    POST /inpaint   image, mask, model=auto, rounds=2, forbidden=""                            the restored photo
    POST /remove    image, classes, model=auto, rounds=2, grow=, shadow=false, retries=0       likewise
    POST /segment   image, model=auto                                                          the map, of class ids
    GET  /health

Fields are those of a multipart form, and mean what they mean at the demo's endpoints (fbinpaint/demo/api.py). Pictures
are PNG files; what there is to say of them is JSON in the header X-Figures. Whatever goes wrong is {"error": "a line"}:
status 4xx for what the sender has to change, 503 where he is to come again later, 500 for a fault of ours.
"""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from anyio import from_thread
from fastapi import FastAPI, Form, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from PIL import Image
from ray import serve
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from fbinpaint.demo.api import Endpoints, check_classes
from fbinpaint.demo.files import restored_png
from fbinpaint.demo.gate import MAX_UPLOAD, length
from fbinpaint.demo.inputs import read_hole, whole_number, without_folders
from fbinpaint.demo.models import AUTO, MAX_RETRIES, MAX_ROUNDS, Busy, Places, load
from fbinpaint.demo.rendering import present_classes, round_share, size_and_hole
from fbinpaint.errors import InputError, printable
from fbinpaint.images.convert import name_of, to_rgb
from fbinpaint.images.io import MAX_PIXELS, ImageBytes, decode_image, open_image
from fbinpaint.images.modes import fit_to_format
from fbinpaint.system.memory import bound_freed_memory

BATCH = 8  # as many crops as the pipeline runs together
BATCH_WAIT = 0.02  # seconds that a request waits for others to share its batch
ONGOING = 2 * BATCH  # requests in a replica: while a batch is run, the next one is read
QUEUED = 256  # requests that wait for a replica; Ray Serve answers further ones with 503
FAULT = "Something went wrong here, not with your photo; try again."

# What belongs to it stands above the class, which takes a copy.
app = FastAPI(title="fbinpaint", docs_url=None, redoc_url=None)  # their pages are of scripts from another site


# ---------------------------------------------------------------------------------------------- what a batch does


@dataclass(frozen=True)
class Inpaint:
    """These are called with a pipeline, photos and masks; requests whose settings are equal are worked on together."""

    rounds: int
    forbidden: tuple[int, ...]

    def __call__(self, pipe, photos: list[Image.Image], masks: list[np.ndarray]) -> list[Image.Image]:
        return pipe(photos, masks, self.rounds, forbidden=self.forbidden).images


@dataclass(frozen=True)
class Remove:
    classes: tuple[int, ...]
    num_feedback_rounds: int
    grow: int | None
    shadow: bool
    retries: int

    def __call__(self, pipe, photos: list[Image.Image], masks: list[None]) -> list:
        from fbinpaint.removal import remove  # needs torch, which the replica alone imports

        return remove(pipe, photos, **vars(self))


@dataclass(frozen=True)
class Segment:
    def __call__(self, pipe, photos: list[Image.Image], masks: list[None]) -> list[Image.Image]:
        return pipe.segment(photos)


@dataclass(frozen=True)
class Task:
    """model: folder or Hub id; mask: (H,W) bool, if the work is to be told what to fill."""

    model: str
    work: Callable[..., list]
    photo: Image.Image
    mask: np.ndarray | None = None


def run(tasks: list[Task]) -> list[Any]:
    """The result of each, or the exception that it ended with."""
    alike: dict[tuple, list[int]] = {}
    for place, task in enumerate(tasks):
        alike.setdefault((task.model, task.work), []).append(place)
    results: dict[int, Any] = {}
    for (model, work), places in alike.items():
        some = [tasks[place] for place in places]
        results |= zip(places, together(load(model), work, some), strict=True)
    return [results[place] for place in range(len(tasks))]


def together(pipe, work: Callable[..., list], tasks: list[Task]) -> list[Any]:
    """As one batch; where that fails, each for itself, for the fault may be one photo's."""
    try:
        return work(pipe, [task.photo for task in tasks], [task.mask for task in tasks])
    except Exception as error:
        return [error] if len(tasks) == 1 else [result for task in tasks for result in together(pipe, work, [task])]


# ---------------------------------------------------------------------------------------------- errors


class Limited:
    """ASGI middleware: a body that says no length, or too great a one, is not read."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.app
        if scope["type"] == "http" and scope["method"] == "POST":
            said = length(Headers(scope=scope))
            if said is None:
                app = problem(411, "A request says its length: send it with Content-Length.")
            elif said > MAX_UPLOAD:
                app = problem(413, f"A request of more than {MAX_UPLOAD // 10**6} MB is not taken.")
        await app(scope, receive, send)


app.add_middleware(Limited)


def problem(status: int, line: str) -> JSONResponse:
    return JSONResponse({"error": printable(line)}, status)


@app.exception_handler(InputError)
async def input_error(request: Request, error: InputError) -> JSONResponse:
    return problem(503 if isinstance(error, Busy) else 400, without_folders(str(error)))


@app.exception_handler(RequestValidationError)
async def wrong_form(request: Request, error: RequestValidationError) -> JSONResponse:
    """Of several wrong fields, the first is told."""
    wrong = error.errors()[0]
    field = wrong["loc"][-1]
    if wrong["type"] == "missing":
        return problem(400, f"{field}: is missing; send it as a field of a multipart form")
    if field in ("image", "mask"):
        return problem(400, f"{field}: is no file; send one as a field of a multipart form")
    return problem(400, f"{field} {wrong['input']!r:.40}: {wrong['msg']}")


@app.exception_handler(HTTPException)
async def no_such_route(request: Request, error: HTTPException) -> JSONResponse:
    return problem(error.status_code, f"{request.method} {request.url.path}: {error.detail}")


@app.exception_handler(Exception)  # which is raised again, and so gets into the log
async def fault(request: Request, error: Exception) -> JSONResponse:
    return problem(500, FAULT)


# ---------------------------------------------------------------------------------------------- requests


def opened(upload: UploadFile, field: str) -> Image.Image:
    """The header of a picture is read, not yet its pixels. Messages name it as the sender did."""
    name = printable(Path(upload.filename or field).name) or field
    return open_image(ImageBytes(name, upload.file.read()), name)  # which is guarded against files of very many parts


def pixels(*images: Image.Image) -> int:
    """Of these together; an AVIF file counts as the largest, as what is in it may be larger than it says."""
    return sum(MAX_PIXELS if image.format == "AVIF" else image.width * image.height for image in images)


def answer(picture: bytes, figures: dict) -> Response:
    return Response(picture, media_type="image/png", headers={"X-Figures": json.dumps(figures)})


@serve.deployment(max_ongoing_requests=ONGOING, max_queued_requests=QUEUED)
@serve.ingress(app)
class Api:
    """models: name -> folder or Hub id.

    Routes are no coroutines, so each runs in a thread: pictures are read and written beside the networks.
    """

    def __init__(self, models: dict[str, str]):
        bound_freed_memory()
        self.models = models
        self.endpoints = Endpoints(models, cache_dir="")  # whose rules hold here, too; no file is sent
        self.places = Places(pixels=MAX_PIXELS, waiting=ONGOING, seconds=50)
        for model in models.values():
            load(model)

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=BATCH_WAIT)
    async def batched(self, tasks: list[Task]) -> list[Any]:
        return await run_in_threadpool(run, tasks)

    def result(self, task: Task) -> Any:
        result = from_thread.run(self.batched, task)
        if isinstance(result, Exception):
            raise result
        return result

    @app.get("/health")
    def health(self) -> dict:
        return {"status": "ok", "models": list(self.models)}

    @app.post("/inpaint")
    def inpaint(
        self, image: UploadFile, mask: UploadFile, model: str = Form(AUTO), rounds: int = Form(2),
        forbidden: str = Form(""),
    ) -> Response:  # fmt: skip
        self.endpoints.check_model(model)
        rounds = whole_number(rounds, "rounds", MAX_ROUNDS)
        photo, drawn = opened(image, "image"), opened(mask, "mask")
        notes: list[str] = []
        with self.places.take(pixels(photo, drawn)):
            rgb = to_rgb(decode_image(photo, name_of(photo, "image")))
            hole = read_hole(decode_image(drawn, name_of(drawn, "image")), rgb.shape[1::-1], photo, notes.append)
            model, ids = self.endpoints.fitting(model, rgb, forbidden, hole, "forbidden")
            restored = self.result(Task(self.models[model], Inpaint(rounds, tuple(ids)), photo, hole))
            return self.restored(restored, hole, model, {"notes": notes} if notes else {})

    @app.post("/remove")
    def remove(
        self, image: UploadFile, classes: str = Form(""), model: str = Form(AUTO), rounds: int = Form(2),
        grow: int | None = Form(None), shadow: bool = Form(False), retries: int = Form(0),
    ) -> Response:  # fmt: skip
        self.endpoints.check_model(model)
        check_classes(classes, self.endpoints.spaces)
        rounds, retries = whole_number(rounds, "rounds", MAX_ROUNDS), whole_number(retries, "retries", MAX_RETRIES)
        photo = opened(image, "image")
        if grow is not None:
            grow = whole_number(grow, "grow", max(photo.size))
        with self.places.take(pixels(photo)):
            rgb = to_rgb(decode_image(photo, name_of(photo, "image")))
            model, ids = self.endpoints.fitting(model, rgb, classes)
            work = Remove(tuple(ids), rounds, grow, shadow, retries)
            removal = self.result(Task(self.models[model], work, photo))
            shares = {"found": removal.found, "seen_again": removal.seen_again}
            shares = {key: {name: round_share(x) for name, x in of.items()} for key, of in shares.items()}
            return self.restored(removal.image, removal.mask, model, shares)

    @app.post("/segment")
    def segment(self, image: UploadFile, model: str = Form(AUTO)) -> Response:
        self.endpoints.check_model(model)
        photo = opened(image, "image")
        with self.places.take(pixels(photo)):
            rgb = to_rgb(decode_image(photo, name_of(photo, "image")))
            model, _ = self.endpoints.fitting(model, rgb)
            found = self.result(Task(self.models[model], Segment(), photo))
            buffer = io.BytesIO()
            found.save(buffer, "PNG")
            classes = present_classes(np.asarray(found), self.endpoints.spaces[model])
        return answer(buffer.getvalue(), {"model": model, "classes": classes})

    def restored(self, picture: Image.Image, hole: np.ndarray, model: str, more: dict) -> Response:
        picture, _ = fit_to_format(picture, "restored.png")
        data = restored_png(picture, self.models[model] if hole.any() else None)
        return answer(data, {"model": model} | size_and_hole(hole) | more)
