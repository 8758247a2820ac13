"""Where the networks run, and how: on which device, in which precision, compiled or not."""

import re
from typing import TYPE_CHECKING

from fbinpaint.errors import InputError, one_line

if TYPE_CHECKING:
    import torch

    from fbinpaint.pipeline import FeedbackInpaintPipeline

AUTO_DEVICE = "auto"  # instead of a device: a CUDA GPU if there is one, else the CPU
FORM = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
DTYPES = ("float32", "float16", "bfloat16")


def check_device(name: str) -> None:
    """Raises InputError for a device that is not there. Of auto nothing is asked, as torch takes seconds to import."""
    if name != AUTO_DEVICE:
        find_device(name)


def find_device(name: str) -> "torch.device":
    """The device of a name: auto, cpu, cuda (the GPU of this process), cuda:N or mps.

    Raises InputError for any other name, and for a device that is not there.
    """
    if not FORM.fullmatch(name):
        raise InputError(f"device {name!r}: is no name of one; give auto, cpu, cuda, cuda:1 or mps")
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == AUTO_DEVICE:
        return torch.device("cuda" if gpus else "cpu")
    there = ["cpu", *(f"cuda:{index}" for index in range(gpus))]
    there += ["mps"] if torch.backends.mps.is_available() else []
    if name not in there and not (name == "cuda" and gpus):
        found = f"torch {torch.__version__} finds {', '.join(there)}"
        raise InputError(f"device {name}: is not there; {found}; name one of these, or auto")
    return torch.device(name)


def compile_networks(pipe: "FeedbackInpaintPipeline") -> None:
    """Has torch compile each network when it first runs. Raises InputError where torch.compile finds no compiler."""
    import torch

    try:  # now, and not at the first photo
        torch.compile(torch.neg)(torch.zeros(1, device=pipe.device))
    except (ImportError, OSError, RuntimeError) as error:
        raise InputError(
            f"compile: torch.compile does not work here ({one_line(error)}); install a C++ compiler, as g++, and for "
            "GPUs Triton, or do without"
        ) from error
    for network in pipe.networks.children():
        network.compile()
