"""The models that the demo serves, and what they do to a photo: these functions run where the GPU is."""

import functools
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from .. import cli
from ..cli import AUTO, CHECKPOINTS, bundled_models, load_pipeline  # noqa: F401  the page takes all from here
from .clients import stop_for_nobody

if TYPE_CHECKING:
    from ..outputs import FeedbackInpaintPipelineOutput
    from ..pipeline import FeedbackInpaintPipeline
    from ..removal import Removal

MAX_ROUNDS = 4
MAX_RETRIES = 4  # of a removal; each takes as long as the first fill


try:
    import spaces
except ImportError:  # everywhere but on a Space
    gpu = lambda function: function  # noqa: E731
else:
    gpu = spaces.GPU


one_at_a_time = threading.Lock()  # for what skips the queue, so that memory is bounded
loading = threading.Lock()
label_space_of_model = functools.cache(cli.label_space_of_model)


@functools.cache  # on first use, then kept
def loaded(model: str) -> "FeedbackInpaintPipeline":
    pipe = load_pipeline(model)
    for network in pipe.networks.children():
        stop_for_nobody(network)
    return pipe


def load(model: str) -> "FeedbackInpaintPipeline":
    """The pipeline of a folder or Hub id; who comes while it is being loaded waits, and does not load it again."""
    with loading:
        return loaded(model)


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
    -> the pipeline's output after every step. Its pictures are PIL's: as floats, 12 megapixels are 144 MB."""
    yield from load(model).stream(photo, hole, rounds, semantic_map=semantic_map, forbidden=forbidden)


@gpu
def segment_photo(model: str, photo: np.ndarray) -> np.ndarray:
    """photo (H,W,3) uint8 -> its map, (H,W) uint8 ids."""
    with one_at_a_time:
        return load(model).segment(photo, output_type="np")


@gpu
def choose(models: dict[str, str], photo: np.ndarray, hole: np.ndarray | None = None) -> str:
    """Which of these (name -> folder or Hub id) a photo (H,W,3) uint8 is for; what is in its hole (H,W) bool says
    nothing."""
    if len(models) == 1:
        return next(iter(models))
    with one_at_a_time:
        pipes = {name: load(model) for name, model in models.items()}
        # Not before: it imports torch and diffusers, which fails while another thread is just doing so for `load`.
        from ..model_choice import choose_model

        return choose_model(pipes, photo, hole).name


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
