"""What a fill costs: parameters, FLOPs, milliseconds on this machine's CPU."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import flop_registry, register_flop_formula

from benchmarks.cost import flop_counter
from fbinpaint import FeedbackInpaintPipeline
from fbinpaint.evaluation.methods import BASELINE_RADIUS, BASELINES
from fbinpaint.loop import Networks, Round, feedback_rounds
from fbinpaint.masks import centre_mask

from .generator import Generator, masked_input


def all_rounds(networks: Networks, image: Tensor, hole: Tensor, num_rounds: int) -> list[Round]:
    return list(feedback_rounds(networks, image, hole, num_rounds))


def painted(peer: Generator, image: Tensor, hole: Tensor) -> Tensor:
    return peer(masked_input(image, hole))


def fourier_flop(shape: torch.Size, dims: list[int], *_args, out_shape: torch.Size, **_options) -> int:
    """Of n real values 5/2 n log2(n), as the FFTW project counts (https://www.fftw.org/speed/method.html); their other
    half is known by symmetry."""
    sizes = [max(shape[dim], out_shape[dim]) for dim in dims]  # one of the two is the half spectrum's
    n = int(np.prod(sizes))
    other = int(np.prod(shape)) // int(np.prod([shape[dim] for dim in dims]))
    return round(2.5 * other * n * np.log2(n))


# torch's counter knows no Fourier transforms, of which LaMa has eighteen.
for transform in (torch.ops.aten._fft_r2c, torch.ops.aten._fft_c2r):
    if transform not in flop_registry:
        register_flop_formula(transform)(fourier_flop)


@dataclass(frozen=True)
class Cost:
    """Of one photo with a quarter missing, resolution x resolution pixels, by the networks alone.

    parameters: None = a classical method, which has none to count, nor FLOPs
    gflop: a multiply-add counts as two
    cpu_ms: milliseconds, the median of the repeats, fp32, as many threads as torch has
    """

    parameters: int | None
    gflop: float | None
    cpu_ms: float


@torch.no_grad()
def costs(
    pipe: FeedbackInpaintPipeline,
    rounds: list[int],
    peers: dict[str, Generator],
    baselines: list[str],
    resolution: int,
    repeats: int,
) -> dict[str, Cost]:
    """By the names of a report. All are timed in turns: what slows the machine for a while slows all of them.

    resolution: a multiple of 16
    """
    mask = centre_mask(resolution, resolution)
    image, hole = torch.zeros(1, 3, resolution, resolution), torch.from_numpy(mask).float()[None, None]
    photo = np.random.default_rng(0).integers(0, 256, (resolution, resolution, 3), dtype=np.uint8)
    networks = pipe.networks.to("cpu", torch.float32).eval()
    calls: dict[str, Callable[[], object]] = {}
    modules: dict[str, nn.Module] = {}
    for k in rounds:
        calls[f"rounds={k}"] = partial(all_rounds, networks, image, hole, k)
        modules[f"rounds={k}"] = networks
    for name, peer in peers.items():
        modules[name] = peer = peer.cpu().float().eval()
        calls[name] = partial(painted, peer, image, hole)
    for name in baselines:
        calls[name] = partial(cv2.inpaint, photo, mask.astype(np.uint8), BASELINE_RADIUS, BASELINES[name])
    gflop = {}
    for name, call in calls.items():  # each once, which warms it up as well
        with flop_counter() as counter:
            call()
        gflop[name] = counter.get_total_flops() / 1e9
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            times[name].append(1000 * (time.perf_counter() - began))
    found = {}
    for name in calls:
        module = modules.get(name)
        parameters = None if module is None else sum(p.numel() for p in module.parameters())
        found[name] = Cost(parameters, None if module is None else gflop[name], median(times[name]))
    return found
