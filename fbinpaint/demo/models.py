"""The models that the demo serves, and what they do to a photo: these functions run where the GPU is."""

import functools
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from .. import cli
from ..cli import AUTO, CHECKPOINTS, bundled_models, load_pipeline  # noqa: F401  the page takes all from here
from ..errors import InputError
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


class Places:
    """Room for so many pixels at once, of all that is being worked on, whatever way it came in: the memory that is
    needed follows them. Who comes when there is no room waits for those before him.

    waiting: how many may; seconds: how long. Whoever would be one more, or waits longer, is told to come back.
    """

    def __init__(self, pixels: int, waiting: int, seconds: float):
        self.free, self.pixels, self.waiting, self.seconds = pixels, pixels, waiting, seconds
        self.line: deque[object] = deque()
        self.changed = threading.Condition()

    @contextmanager
    def take(self, pixels: int) -> Iterator[None]:
        """Raises InputError where there is no room in time. Not to be taken again by who has taken it."""
        pixels = min(pixels, self.pixels)  # the largest goes alone
        me = object()
        with self.changed:
            if len(self.line) >= self.waiting:
                raise InputError(BUSY)
            self.line.append(me)
            try:
                if not self.changed.wait_for(lambda: self.line[0] is me and self.free >= pixels, self.seconds):
                    raise InputError(BUSY)
                self.free -= pixels
            finally:
                self.line.remove(me)
                self.changed.notify_all()
        try:
            yield
        finally:
            with self.changed:
                self.free += pixels
                self.changed.notify_all()


BUSY = "The server is busy with the photos of others; try again in a minute."
places = Places(pixels=16_000_000, waiting=16, seconds=50)  # two photos of 12 megapixels at once would take 2.2 GB
one_at_a_time = threading.Lock()  # of the networks, for what skips the queue
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
    pipelines = {name: load(model) for name, model in models.items()}
    from ..model_choice import choose_model  # after `load`, which lets one thread alone import torch and diffusers

    with one_at_a_time:
        return choose_model(pipelines, photo, hole).name


def select(model: str, labels: np.ndarray, classes: Sequence[int], point: tuple[int, int] | None) -> np.ndarray:
    """The mask (H,W) bool for all things of some classes on a map (H,W) uint8, or for the one at a point (x, y)."""
    return load(model).select(labels, classes, point=point)


@gpu
def remove_classes(
    model: str, photo: Image.Image, classes: Sequence[int], rounds: int, grow: int | None, shadow: bool, retries: int
) -> "Removal":
    """What becomes of a photo without the classes of these ids; the rest as for `removal.remove`."""
    pipeline = load(model)
    from fbinpaint.removal import remove  # after `load`, as in `choose`

    settings = {"num_feedback_rounds": rounds, "grow": grow, "shadow": shadow, "retries": retries}
    return remove(pipeline, [photo], classes, **settings)[0]
