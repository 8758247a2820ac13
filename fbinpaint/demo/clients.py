"""Who waits for what: a client that has gone away stops what is done for it, and none takes all places in the queue."""

import shutil
import threading
import time
from typing import TYPE_CHECKING, Any

import fastapi
import gradio as gr
from gradio.context import LocalContext

from fbinpaint.errors import InputError

if TYPE_CHECKING:  # torch takes seconds to import
    from torch.nn import Module

PATIENCE = 2  # seconds more for what is being done to end; containers are killed after ten in all
WORKER = "AnyIO worker thread"  # anyio's name of the threads that Gradio runs functions in
PLACES = 8  # in the queue, of one address
TOO_MANY = f"You have {PLACES} restorations waiting already: wait for one of them, then send the next."


class Gone(InputError):
    """Nobody waits for what is being done any more."""


def client_is_gone() -> bool:
    """Of the client that this thread works for. Gradio 6.31 notices within moments that its connection broke, but then
    only lets go of a generator between two of its values, and of other functions not at all."""
    blocks, event_id = LocalContext.blocks.get(None), LocalContext.event_id.get(None) or ""
    event = blocks._queue.event_ids_to_events.get(event_id) if blocks is not None else None
    return event is not None and not event.alive


def stop_for_nobody(network: "Module") -> None:
    """From now on the network raises Gone when it is called for a client that is gone: nothing that it is asked takes
    long by itself."""
    network.register_forward_pre_hook(stop)


def stop(*_) -> None:
    if client_is_gone():
        raise Gone("The client is gone.")


def close(demo: Any) -> None:
    """Deletes what visitors left, ends what is being done for them, then the server: a thread that is in the midst of
    torch when Python ends aborts the process."""
    shutil.rmtree(demo.storage.folder, ignore_errors=True)  # at once, for who ends us may not wait for the rest
    for events in demo._queue.active_jobs:
        for event in events or ():
            event.alive = False
    demo.close(verbose=False)  # waits up to five seconds for clients to hang up
    deadline = time.monotonic() + PATIENCE
    for thread in threading.enumerate():
        if thread.name == WORKER:
            thread.join(max(0, deadline - time.monotonic()))


def limit_places(demo: gr.Blocks) -> None:
    """One address may have no more than PLACES waiting in the queue; the next is refused as if the queue were full."""
    queue = demo._queue
    push = queue.push

    async def push_if_fair(body, request: fastapi.Request, username: str | None):
        waiting = (event for waiting in queue.event_queue_per_concurrency_id.values() for event in waiting.queue)
        if sum(address(event.request) == address(request) for event in waiting) >= PLACES:
            return False, TOO_MANY, "queue_full"
        return await push(body, request, username)

    queue.push = push_if_fair  # type: ignore[method-assign]  # Gradio has no hook for it


def address(request: fastapi.Request) -> str | None:
    return request.client and request.client.host
