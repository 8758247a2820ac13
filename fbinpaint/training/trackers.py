"""Experiment trackers, through accelerate: a run's options, scores and validation pictures; a resumed run goes on."""

import argparse
import uuid
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from PIL import Image

from fbinpaint.errors import InputError, one_line
from fbinpaint.hub.origin import options_for_others
from fbinpaint.system.files import whole_file

PROJECT = "fbinpaint"
# How each names a run that is to be gone on with. The others cannot, and start another one.
RESUME = {
    "wandb": lambda run: {"id": run, "resume": "allow"},
    "trackio": lambda run: {"name": run, "resume": "allow"},
    "mlflow": lambda run: {"run_id": run},
}


def check_tracker(name: str | None) -> None:
    if name and name not in map(str, get_available_trackers()):
        raise InputError(f"--report_to {name}: no such tracker is installed; pip install it")


def start_tracker(
    accelerator: Accelerator, name: str, options: argparse.Namespace, folder: Path, resumed: bool
) -> None:
    """Give the tracker `name` the run's options, and remember its run in `<folder>/<name>_run` for a resumed one."""
    path = folder / f"{name}_run"
    earlier = path.read_text().strip() if resumed and path.is_file() else None
    # MLflow numbers its runs itself; the others take a name of ours.
    run = earlier or (None if name == "mlflow" else uuid.uuid4().hex)
    of_run = RESUME[name](run) if name in RESUME and run else {}
    shown = options_for_others(vars(options))
    config = {key: " ".join(map(str, v)) if isinstance(v, list) else v for key, v in shown.items()}
    config = {key: "" if value is None else value for key, value in config.items()}
    # The options are those of the start: MLflow refuses other ones later.
    try:
        accelerator.init_trackers(PROJECT, config=None if earlier else config, init_kwargs={name: of_run})
    except Exception as error:  # each tracker has errors of its own: no key, no server, a run that is gone
        raise InputError(f"--report_to {name}: it could not start ({one_line(error)[:200]})") from error
    if name in RESUME and accelerator.is_main_process:
        run = run or accelerator.get_tracker(name, unwrap=True).info.run_id
        with whole_file(path) as temporary:
            temporary.write_text(run + "\n")


def track_picture(accelerator: Accelerator, path: Path, step: int) -> None:
    """The picture in a file, to those trackers that take pictures."""
    for tracker in accelerator.trackers:
        if hasattr(tracker, "log_images"):
            layout = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
            tracker.log_images({"validation": np.asarray(Image.open(path))[None]}, step=step, **layout)
