"""The models that the demo serves, and what they do to a photo: these functions run where the GPU is."""

import functools
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from fbinpaint.errors import InputError
from fbinpaint.hub import model_names
from fbinpaint.hub.model_names import AUTO, bundled_models, by_name, load_pipeline  # noqa: F401  the page takes all from here

from .clients import stop_for_nobody

if TYPE_CHECKING:
    from fbinpaint.pipeline import FeedbackInpaintPipeline
    from fbinpaint.pipeline.outputs import FeedbackInpaintPipelineOutput
    from fbinpaint.removal import Removal

MAX_ROUNDS = 4
MAX_RETRIES = 4  # of a removal; each takes as long as the first fill


def gpu(seconds: int) -> Callable[[Callable], Callable]:
    """On ZeroGPU, a function that is given a GPU for at most so many seconds; elsewhere as it is."""
    try:
        import spaces
    except ImportError:
        return lambda function: function
    return spaces.GPU(duration=seconds)


class Busy(InputError):
    """Nothing is wrong with the input; it is to come again later."""


class Places:
    """Room for so many pixels at once, of all that is being worked on, whatever way it came in: the memory that is
    needed follows them (`needed`). Who comes when there is no room waits for those before him.

    waiting: how many may; seconds: how long. Whoever would be one more, or waits longer, is told to come back.
    """

    def __init__(self, pixels: int, waiting: int, seconds: float):
        self.free, self.pixels, self.waiting, self.seconds = pixels, pixels, waiting, seconds
        self.line: deque[object] = deque()
        self.changed = threading.Condition()

    @contextmanager
    def take(self, pixels: int) -> Iterator[None]:
        """Raises Busy where there is no room in time. Not to be taken again by who has taken it."""
        pixels = min(needed(pixels), self.pixels)  # the largest goes alone
        me = object()
        with self.changed:
            if len(self.line) >= self.waiting:
                raise Busy(BUSY)
            self.line.append(me)
            try:
                if not self.changed.wait_for(lambda: self.line[0] is me and self.free >= pixels, self.seconds):
                    raise Busy(BUSY)
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


def needed(pixels: int) -> int:
    """What a photo needs room for: the networks take as much for each pixel that they work on, 1.4 million of 4:3, as
    three of the photo itself take (docs/performance.md)."""
    return pixels + 3 * min(pixels, 1_400_000)


class Devices:
    """Where the networks run, a copy of each model on each.

    names: as torch has them, each once; None = where `load_pipeline` puts it, the GPU if there is one
    """

    def __init__(self, names: Sequence[str | None]):
        self.names = tuple(names)
        self.users = dict.fromkeys(self.names, 0)
        self.one_at_a_time = {name: threading.Lock() for name in self.names}  # of what skips the queue
        self.counting = threading.Lock()

    def __len__(self) -> int:
        return len(self.names)

    @contextmanager
    def take(self) -> Iterator[str | None]:
        """The device that the fewest use. Nobody waits here: the queue lets in as many as there are devices."""
        with self.counting:
            name = min(self.names, key=self.users.__getitem__)
            self.users[name] += 1
        try:
            yield name
        finally:
            with self.counting:
                self.users[name] -= 1


@functools.cache
def devices() -> Devices:
    """All GPUs; or one place, wherever that is: nobody without a GPU's driver waits for torch to count them, which
    takes seconds to import."""
    if not any(map(os.path.exists, DRIVERS)):
        return Devices([None])
    import torch

    count = torch.cuda.device_count()
    return Devices([f"cuda:{index}" for index in range(count)] if count > 1 else [None])


DRIVERS = ("/dev/nvidiactl", "/dev/kfd")  # of GPUs that torch knows as cuda: NVIDIA's, AMD's
BUSY = "The server is busy with the photos of others; try again in a minute."
places = Places(pixels=16_000_000, waiting=16, seconds=50)  # a photo of 12 megapixels goes alone
loading = threading.Lock()
label_space_of_model = functools.cache(model_names.label_space_of_model)


@functools.cache  # on first use, then kept
def loaded(model: str) -> "dict[str | None, FeedbackInpaintPipeline]":
    """A copy on each device, by its name."""
    return {name: loaded_on(name, model) for name in devices().names}


def loaded_on(device: str | None, model: str) -> "FeedbackInpaintPipeline":
    pipe = load_pipeline(model)
    if device is not None:
        pipe.to(device)
    for network in pipe.networks.children():
        stop_for_nobody(network)
    return pipe


def load(model: str, device: str | None = None) -> "FeedbackInpaintPipeline":
    """The pipeline of a folder or Hub id, its copy on a device, None = on the first; who comes while it is being loaded
    waits, and does not load it again."""
    with loading:
        return loaded(model)[device or devices().names[0]]


@gpu(seconds=60)
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
    with devices().take() as device:
        pipe = load(model, device)
        yield from pipe.stream(photo, hole, rounds, semantic_map=semantic_map, forbidden=forbidden)


@gpu(seconds=30)
def segment_photo(model: str, photo: np.ndarray) -> np.ndarray:
    """photo (H,W,3) uint8 -> its map, (H,W) uint8 ids."""
    with devices().take() as device, devices().one_at_a_time[device]:
        return load(model, device).segment(photo, output_type="np")


@gpu(seconds=30)
def choose(models: dict[str, str], photo: np.ndarray, hole: np.ndarray | None = None) -> str:
    """Which of these (name -> folder or Hub id) a photo (H,W,3) uint8 is for; what is in its hole (H,W) bool says
    nothing."""
    if len(models) == 1:
        return next(iter(models))
    with devices().take() as device:
        pipelines = {name: load(model, device) for name, model in models.items()}
        from fbinpaint.pipeline.model_choice import (
            choose_model,  # after `load`, which lets one thread alone import torch and diffusers
        )

        with devices().one_at_a_time[device]:
            return choose_model(pipelines, photo, hole).name


def select(model: str, labels: np.ndarray, classes: Sequence[int], point: tuple[int, int] | None) -> np.ndarray:
    """The mask (H,W) bool for all things of some classes on a map (H,W) uint8, or for the one at a point (x, y)."""
    return load(model).select(labels, classes, point=point)


@gpu(seconds=60)
def remove_classes(
    model: str, photo: Image.Image, classes: Sequence[int], rounds: int, grow: int | None, shadow: bool, retries: int
) -> "Removal":
    """What becomes of a photo without the classes of these ids; the rest as for `removal.remove`."""
    settings: dict[str, Any] = {"num_feedback_rounds": rounds, "grow": grow, "shadow": shadow, "retries": retries}
    with devices().take() as device:
        pipeline = load(model, device)
        from fbinpaint.removal import remove  # after `load`, as in `choose`

        return remove(pipeline, [photo], classes, **settings)[0]
