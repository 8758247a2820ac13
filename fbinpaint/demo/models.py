"""The models that the demo serves, and what they do to a photo: these functions run where the GPU is."""

import functools
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr
import numpy as np
from PIL import Image

from .. import cli
from ..cli import load_pipeline

if TYPE_CHECKING:
    from ..outputs import FeedbackInpaintPipelineOutput
    from ..removal import Removal

CHECKPOINTS = Path(__file__).resolve().parents[2] / "checkpoints"
MAX_ROUNDS = 4
MAX_RETRIES = 4  # of a removal; each takes as long as the first fill


try:
    import spaces
except ImportError:  # everywhere but on a Space
    gpu = lambda function: function  # noqa: E731
else:
    gpu = spaces.GPU


one_at_a_time = threading.Lock()  # for what skips the queue, so that memory is bounded
load = functools.cache(load_pipeline)  # on first use, then kept
label_space_of_model = functools.cache(cli.label_space_of_model)


def bundled_models() -> dict[str, str]:
    """The folders under checkpoints/ that hold a pipeline, by name."""
    return {path.parent.name: str(path.parent) for path in sorted(CHECKPOINTS.glob("*/model_index.json"))}


@gpu
def restore(
    model: str,
    photo: np.ndarray,
    hole: np.ndarray,
    rounds: int,
    semantic_map: np.ndarray | None = None,
    forbidden: Sequence[int] = (),
) -> Iterator["FeedbackInpaintPipelineOutput"]:
    """photo (H,W,3) uint8, hole (H,W) bool, a map edited by the user, ids of classes that must not be in the hole
    -> the pipeline's output after every step."""
    pipe = load(model)
    yield from pipe.stream(photo, hole, rounds, semantic_map=semantic_map, output_type="np", forbidden=forbidden)


def restore_with_progress(
    model: str,
    photo: np.ndarray,
    hole: np.ndarray,
    rounds: int,
    edits: np.ndarray | None,
    progress: gr.Progress,
    forbidden: Sequence[int] = (),
) -> Iterator["FeedbackInpaintPipelineOutput"]:
    """`restore`, and a bar that shows which round it is at."""
    progress((0, rounds + 1), desc="Round 0", unit="rounds")
    load(model)  # here, not in `restore`: on ZeroGPU that runs in a process of its own
    for output in restore(model, photo, hole, rounds, edits, forbidden):
        if (done := len(output.rounds[0])) <= rounds:
            progress((done, rounds + 1), desc=f"Round {done}", unit="rounds")
        yield output


@gpu
def segment_photo(model: str, photo: np.ndarray) -> np.ndarray:
    """photo (H,W,3) uint8 -> its map, (H,W) uint8 ids."""
    with one_at_a_time:
        return load(model).segment(photo, output_type="np")


def choose(models: dict[str, str], photo: np.ndarray) -> tuple[str, str]:
    """The model for a photo (H,W,3) uint8 among these (name -> folder or Hub id), and a sentence that says so."""
    name = next(iter(models))
    return name, f"This looks like a photo for the model “{name}”; you can choose another below."


def select(model: str, labels: np.ndarray, classes: Sequence[int], point: tuple[int, int] | None) -> np.ndarray:
    """The mask (H,W) bool for all things of some classes on a map (H,W) uint8, or for the one at a point (x, y)."""
    return load(model).select(labels, classes, point=point)


@gpu
def remove_classes(
    model: str, photo: np.ndarray, classes: Sequence[int], rounds: int, grow: int | None, shadow: bool, retries: int
) -> "Removal":
    """What becomes of a photo (H,W,3) uint8 without the classes of these ids; the rest as for `removal.remove`."""
    from fbinpaint.removal import remove  # which imports torch

    settings = {"num_feedback_rounds": rounds, "grow": grow, "shadow": shadow, "retries": retries}
    return remove(load(model), [Image.fromarray(photo)], classes, **settings)[0]
