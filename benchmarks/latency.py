"""How long a photo takes, as ratios in one run: against resnet50, round by round, and against the best convolution.

    python -m benchmarks.latency [--model checkpoints/streets] [--threads 2] [--repeats 20]

Everything is fp32 at batch 1, a centred square of a quarter missing. "loop" is the networks' part, "call" all that a
user waits for: a photo of that size in, worked on as the model does, a photo out. What is compared is timed in turns,
and ratios are taken within a turn, then the median: a machine that slows down for a while slows both sides. It is worth
something on a quiet machine only.

At the end as many loops run side by side as there are threads, each in a process and on a thread of its own: what the
machine sustains when there is more than one photo to restore.
"""

import argparse
import multiprocessing
import platform
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from statistics import median
from threading import Barrier

import numpy as np
import torch
from torch import nn
from torchvision.models import resnet50
from tqdm import tqdm

from benchmarks.cost import forward_flops
from benchmarks.reports import exit_code
from fbinpaint import FeedbackInpaintPipeline
from fbinpaint.arguments import HelpWithDefaults, positive
from fbinpaint.loop import Networks, feedback_rounds
from fbinpaint.masks import centre_mask
from fbinpaint.system.memory import keep_freed_memory

SIZES = (256, 512)
# (channels, side) of dense 3x3 convolutions: the fastest of them is taken for what the machine can do.
CONVOLUTIONS = ((32, 128), (64, 64), (64, 128), (128, 64), (256, 32), (256, 64))
SUSTAINED = 0.3  # seconds that work is repeated to tell its rate: a burst of a millisecond says little


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def sustained_rate(gflop: float, work: Callable[[], object], least: float = SUSTAINED) -> float:
    """GFLOP/s of some work, repeated for `least` seconds or a little more."""
    began, times = time.perf_counter(), 0
    while time.perf_counter() - began < least:
        work()
        times += 1
    return times * gflop / (time.perf_counter() - began)


def loop(networks: Networks, num_rounds: int, size: int) -> Callable[[], object]:
    image = torch.rand(1, 3, size, size) * 2 - 1
    mask = torch.from_numpy(centre_mask(size, size)).float()[None, None]
    return lambda: list(feedback_rounds(networks, image, mask, num_rounds))


def call(pipe: FeedbackInpaintPipeline, num_rounds: int, size: int) -> Callable[[], object]:
    photo = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    mask = centre_mask(size, size)
    return lambda: pipe(photo, mask, num_feedback_rounds=num_rounds).images[0]


def convolution_gflop(channels: int, side: int) -> float:
    return 2 * 9 * channels**2 * side**2 / 1e9


def convolution(channels: int, side: int) -> Callable[[], object]:
    layer = nn.Conv2d(channels, channels, 3, padding=1, bias=False).to(memory_format=torch.channels_last)
    x = torch.rand(1, channels, side, side).to(memory_format=torch.channels_last)
    return lambda: layer(x)


@torch.inference_mode()
def measure(pipe: FeedbackInpaintPipeline, size: int, repeats: int) -> dict[str, float]:
    """Medians over turns: milliseconds, and the ratios that the names say."""
    networks = pipe.networks
    yardstick = resnet50().eval().to(memory_format=torch.channels_last)
    photo = torch.rand(1, 3, size, size).to(memory_format=torch.channels_last)
    works = {f"loop, K={k}": loop(networks, k, size) for k in (0, 2)}
    works |= {f"call, K={k}": call(pipe, k, size) for k in (0, 2)} | {"resnet50": lambda: yardstick(photo)}
    layers = [convolution(*shape) for shape in CONVOLUTIONS]
    flops, _ = forward_flops(networks, 2, size)
    layer_flops = [convolution_gflop(*shape) for shape in CONVOLUTIONS]
    turns = []
    for turn in tqdm(range(repeats + 2), desc=f"{size}x{size}", unit="turn"):
        names = list(works)
        order = names[turn % len(names) :] + names[: turn % len(names)]  # whoever comes first finds cold caches
        taken = {name: seconds(works[name]) for name in order}
        taken["rate"] = sustained_rate(flops, works["loop, K=2"])
        taken["best rate"] = max(map(sustained_rate, layer_flops, layers))
        if turn >= 2:  # the first ones allocate
            turns.append(taken)
    return {
        **{f"{name}, ms": 1000 * median(turn[name] for turn in turns) for name in works},
        **{
            f"{name} / resnet50": median(turn[name] / turn["resnet50"] for turn in turns)
            for name in works
            if name != "resnet50"
        },
        "one more round / K=0": median(
            (turn["loop, K=2"] - turn["loop, K=0"]) / 2 / turn["loop, K=0"] for turn in turns
        ),
        "K=2, GFLOP/s": median(turn["rate"] for turn in turns),
        "best convolution, GFLOP/s": median(turn["best rate"] for turn in turns),
        "K=2 rate / best convolution": median(turn["rate"] / turn["best rate"] for turn in turns),
    }


@torch.inference_mode()
def one_of_many(model: str, start: Barrier) -> list[float]:
    """GFLOP/s of one process on one thread: the loop at each of SIZES, then CONVOLUTIONS, while others do the same."""
    keep_freed_memory()
    torch.set_num_threads(1)
    networks = FeedbackInpaintPipeline.from_pretrained(model).networks
    works = [(forward_flops(networks, 2, size)[0], loop(networks, 2, size)) for size in SIZES]
    works += [(convolution_gflop(*shape), convolution(*shape)) for shape in CONVOLUTIONS]
    found = []
    for gflop, work in works:
        work()
        start.wait(timeout=60)
        found.append(sustained_rate(gflop, work, 10 * SUSTAINED))
    return found


def side_by_side(model: str, processes: int) -> tuple[list[float], float]:
    """GFLOP/s of all processes together: of the loop at each of SIZES, and of the best convolution."""
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(processes, context) as pool:
        start = manager.Barrier(processes)
        rates = pool.map(one_of_many, [model] * processes, [start] * processes)
        together = [sum(rate) for rate in zip(*rates, strict=True)]
    return together[: len(SIZES)], max(together[len(SIZES) :])


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Time the loop against resnet50.",
        epilog="example: python -m benchmarks.latency --repeats 30",
        formatter_class=HelpWithDefaults,
    )
    parser.add_argument("--model", default="checkpoints/streets", help="pipeline folder")
    parser.add_argument("--threads", type=positive, default=2, help="of torch")
    parser.add_argument("--repeats", type=positive, default=20, help="turns")
    args = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(args.threads)
    return exit_code(lambda: print_times(args.model, args.threads, args.repeats))


def print_times(model: str, threads: int, repeats: int) -> None:
    pipe = FeedbackInpaintPipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)
    print(f"{platform.machine()}, {threads} threads, torch {torch.__version__}, fp32, batch 1")
    for size in SIZES:
        found = measure(pipe, size, repeats)
        print(f"{size}x{size}: " + ", ".join(f"{name} {value:.3g}" for name, value in found.items()))
    print(f"{threads} loops side by side:", flush=True)  # half a minute without a word
    rates, best = side_by_side(model, threads)
    for size, rate in zip(SIZES, rates, strict=True):
        print(
            f"{size}x{size}, {threads} loops side by side: K=2, GFLOP/s {rate:.3g}, best convolution, GFLOP/s "
            f"{best:.3g}, K=2 rate / best convolution {rate / best:.3g}"
        )


if __name__ == "__main__":
    raise SystemExit(main())
