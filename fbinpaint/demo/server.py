"""The command that starts the demo."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any

from starlette.middleware import Middleware

from fbinpaint.arguments import HelpWithDefaults
from fbinpaint.errors import InputError
from fbinpaint.hub.model_names import NOT_BUNDLED
from fbinpaint.hub.saved import split_revision
from fbinpaint.system.memory import bound_freed_memory

HOST, PORT = "127.0.0.1", "7860"
KNOWN_VISITORS = 1000  # Gradio keeps 60 kB of each in memory, and never lets go of one before it has so many


def serving() -> dict[str, Any]:
    """What `launch` is to know wherever the page is served; new each time, for Gradio writes into `app_kwargs`."""
    from .gate import MAX_UPLOAD, behind_gate
    from .uploads import UploadsFit

    return {
        "ssr_mode": False, "max_file_size": MAX_UPLOAD, "enable_monitoring": False, "run_history": False,
        "state_session_capacity": KNOWN_VISITORS,
        "app_kwargs": {"lifespan": behind_gate, "middleware": [Middleware(UploadsFit)]},
    }  # fmt: skip


def models_of_the_environment() -> dict[str, str]:
    """Of the variable FBINPAINT_MODELS, by name: folders or Hub ids with spaces between, USER/NAME or
    USER/NAME@REVISION; a name of one's own before it, NAME=USER/..., else it is the repository's.

    Raises InputError where two have the same name.
    """
    models: dict[str, str] = {}
    for given in os.environ.get("FBINPAINT_MODELS", "").split():
        name, equals, model = given.partition("=")
        name, model = (name, model) if equals else (split_revision(given)[0].rstrip("/").split("/")[-1], given)
        if not name or not model or name in models:
            raise InputError(f"FBINPAINT_MODELS: {given} has no name, or that of another; write NAME={model or given}")
        models[name] = model
    return models


def main(argv: Sequence[str] | None = None, program: str = "python app.py") -> int:
    """Serves the page until it is ended by a signal; the exit code where it cannot begin.

    program: what the help calls it
    """
    parser = argparse.ArgumentParser(
        prog=program, description="The demo page.", epilog=f"example: {program} --port 8000",
        formatter_class=HelpWithDefaults,
    )  # fmt: skip
    parser.add_argument(
        "--model", nargs="+", metavar="DIR|HUB_ID", help="default: those of FBINPAINT_MODELS, or under checkpoints/"
    )  # fmt: skip
    # Spaces and containers say by Gradio's environment variables where they listen. As texts, both are checked alike.
    parser.add_argument(
        "--port", type=int, default=os.environ.get("GRADIO_SERVER_PORT", PORT), help="of the host; GRADIO_SERVER_PORT"
    )  # fmt: skip
    parser.add_argument(
        "--host", default=os.environ.get("GRADIO_SERVER_NAME", HOST),
        help="0.0.0.0 = reachable from other machines; GRADIO_SERVER_NAME",
    )  # fmt: skip
    args = parser.parse_args(argv)
    # Not before: Gradio takes seconds to import, and ends in a traceback where the variable is no number.
    from .clients import close
    from .models import bundled_models, by_name, load
    from .page import STYLE, build_demo

    bound_freed_memory()
    try:
        models = by_name(args.model) if args.model else models_of_the_environment()
        models = models or bundled_models()
        if not models:
            raise InputError(NOT_BUNDLED)
        demo = build_demo(models)
    except InputError as error:
        parser.exit(1, f"error: {error}\n")
    # Visitors do not wait for the models to be loaded.
    threading.Thread(target=lambda: [load(model) for model in models.values()], daemon=True).start()
    address: dict[str, Any] = {"server_name": args.host, "server_port": args.port}
    for number in (signal.SIGINT, signal.SIGTERM):  # a regular exit, at which what visitors left is deleted
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        demo.launch(**address, footer_links=["api", "gradio"], **STYLE, **serving())
    except (OSError, OverflowError):  # Gradio words neither
        parser.exit(1, f"error: {args.host}:{args.port} is taken or no address of this machine; name another --port\n")
    finally:
        close(demo)
    return 0
