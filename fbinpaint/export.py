"""The loop as ONNX: one graph a size, with all its rounds and exemplars, for machines that have no torch.

A folder of `export_onnx` holds `inpaint-SIZE.onnx` for each size, `inpaint.json`, which says what they take and give,
and the model's `training.json`, as its licences go with it. docs/onnx.md restores a photo with them.
"""

import copy
import json
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fbinpaint.errors import InputError, check_whole
from fbinpaint.hub.origin import write_origin
from fbinpaint.loop import Networks, feedback_rounds
from fbinpaint.pipeline import FeedbackInpaintPipeline
from fbinpaint.pipeline.crop_jobs import STRIDE
from fbinpaint.pipeline.inputs import MAX_ROUNDS
from fbinpaint.system.files import check_output, save_folder
from fbinpaint.version import __version__

SIZES = (256, 512)
LARGEST = 4096
OPSET = 20  # ONNX Runtime reads it from 1.17 on
INPUTS = {
    "image": "(batch,3,size,size) float32 in [-1,1], RGB; what lies under the mask is never read",
    "mask": "(batch,1,size,size) float32, 1 = hole, 0 = known",
}
OUTPUTS = {
    "fill": "(batch,3,size,size) float32, RGB: painted in the hole, about [-1,1]; the image's own values outside",
    "semantic_before": "(batch,size,size) uint8: the map before feedback, class ids",
    "semantic_after": "(batch,size,size) uint8: the map after the last round, class ids",
}


class WholeLoop(nn.Module):
    """All rounds in one call: INPUTS -> OUTPUTS. Unlike the pipeline it never stops early, and always looks at the
    whole picture: a graph knows no values when it is made."""

    def __init__(self, networks: Networks, num_rounds: int):
        super().__init__()
        self.networks = networks
        self.num_rounds = num_rounds

    def forward(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rounds = list(feedback_rounds(self.networks, image, mask, self.num_rounds))
        before, after = (round_.labels().to(torch.uint8) for round_ in (rounds[0], rounds[-1]))
        return rounds[-1].image, before, after


def check_export(folder: Path, sizes: Sequence[int], num_rounds: int) -> None:
    """Raises InputError as `export_onnx` does, before any long work."""
    if os.path.lexists(folder):
        raise InputError(f"{folder}: is there already; move it away, or name another folder")
    if not sizes:
        raise InputError("no resolution: there would be no graph; give one or more, such as 256")
    for size in sizes:
        if not isinstance(size, Integral) or size < STRIDE or size % STRIDE:
            raise InputError(f"resolution {size}: must be a multiple of {STRIDE}, such as 256")
        if size > LARGEST:
            raise InputError(f"resolution {size}: must be at most {LARGEST}")
    check_whole("rounds", num_rounds, 0, MAX_ROUNDS)
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(f"{error.name} is not installed, and ONNX needs it; pip install fbinpaint[onnx]") from error
    check_output(folder)


def export_onnx(
    pipe: FeedbackInpaintPipeline, folder: str | os.PathLike, sizes: Sequence[int] = SIZES, num_rounds: int = 2
) -> list[Path]:
    """Writes a new folder, whole or not at all; the graphs in it, in the order of `sizes`.

    The weights are written as float32, whatever the pipeline's are.

    Args:
        sizes: of the square pictures that the graphs take, pixels, multiples of 16, at most 4096.
        num_rounds: K, of every graph; 0 = one-way.

    Raises:
        InputError: the folder is there already or cannot be written, sizes or rounds are none, or packages are missing
            (the extra `onnx` has them).
    """
    folder = Path(folder)
    check_export(folder, sizes, num_rounds)
    loop = WholeLoop(copy.deepcopy(pipe.networks).to("cpu", torch.float32), num_rounds).eval()
    names = {size: f"inpaint-{size}.onnx" for size in dict.fromkeys(sizes)}

    def write(target: Path) -> None:
        target.mkdir(parents=True)
        for size, name in names.items():
            to_onnx(loop, size).save(target / name, external_data=False)
        (target / "inpaint.json").write_text(json.dumps(about(pipe, names, num_rounds), indent=2) + "\n")
        if pipe.origin:
            write_origin(target, pipe.origin)

    save_folder(folder, write)
    return [folder / name for name in names.values()]


def about(pipe: FeedbackInpaintPipeline, names: dict[int, str], num_rounds: int) -> dict[str, Any]:
    """What inpaint.json says. names: of the files, by size."""
    space = pipe.label_space
    return {
        "graphs": [{"file": name, "size": size} for size, name in names.items()],
        "rounds": num_rounds,
        "opset": OPSET,
        "inputs": INPUTS,
        "outputs": OUTPUTS,
        "label_space": space.name,
        "classes": space.classes,
        "palette": space.palette,
        "fbinpaint": __version__,
    }


@torch.no_grad()
def to_onnx(loop: WholeLoop, size: int) -> "torch.onnx.ONNXProgram":
    """The graph for batches of squares of this size."""
    batch = torch.export.Dim("batch")
    # Two, as torch takes one for a constant. What the values are does not matter.
    image, mask = torch.zeros(2, 3, size, size), torch.zeros(2, 1, size, size)
    with quiet():
        program = torch.onnx.export(
            loop,
            (image, mask),
            dynamo=True,
            dynamic_shapes={name: {0: batch} for name in INPUTS},
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None, "`dynamo=True` makes one"
    return program


@contextmanager
def quiet() -> Iterator[None]:
    """Without the exporter's words about its own workings."""
    logger = logging.getLogger("onnxscript")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
