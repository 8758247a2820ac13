"""What a training step costs: photos a second, where its time goes, operations dispatched, FLOP/s.

    python -m benchmarks.training [--steps 20] [--resolution 256 128 --train_batch_size 8 ...]

Whatever else is given are options of train_accelerate.py; without data and weights of one's own, procedural scenes and
random weights, which cost the same. The step is the recipe's own, discriminator included, on whatever device there is,
on batches that are at hand: `benchmarks.loader` tells how long a step waits for them.

Three runs over the same steps: as they are (photos a second), with a clock around each part, which on a GPU is waited
for (where the time goes), and under counters. Operations are those that torch dispatches, views left out: on a GPU
about as many launches, each of which takes a core of the host. FLOPs are those of convolutions, products and attention,
a multiply-add counting as two. Times are worth something on a quiet machine only.
"""

import argparse
import os
import platform
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from tqdm import tqdm

from benchmarks.cost import flop_counter, write_random_backbones
from benchmarks.reports import print_report
from fbinpaint.arguments import HelpWithDefaults, positive
from fbinpaint.data.photos import Batch, collate
from fbinpaint.data.scenes import write_scenes
from fbinpaint.errors import InputError
from fbinpaint.system.memory import keep_freed_memory
from fbinpaint.training import command
from fbinpaint.training.output import OutputFolder
from fbinpaint.training.trainer import Trainer

SCENES = 16
REST = "rest of the step"


class Operations(TorchDispatchMode):
    """Counts what is dispatched, by the part of the step that `part` names."""

    def __init__(self):
        super().__init__()
        self.part = REST
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.counts[self.part] += not function.is_view
        return function(*args, **(kwargs or {}))


def make_trainer(folder: Path, options: list[str]) -> Trainer:
    """A trainer of these options of train_accelerate.py, with scenes and weights of its own where none are named."""
    given = {option.split("=")[0] for option in options}
    own = {"--label_space": "cityscapes", "--adversarial_start": "0", "--output_dir": str(folder / "run")}
    if not given >= {"--pretrained_model", "--perceptual_weights"}:
        encoder, vgg = folder / "encoder.safetensors", folder / "vgg.safetensors"
        write_random_backbones(encoder, vgg)
        own |= {"--encoder_weights": str(encoder), "--perceptual_weights": str(vgg)}
    if not given & {"--train_data_dir", "--dataset_name"}:
        write_scenes(folder / "data", "cityscapes", count=SCENES, size=(384, 288), seed=0)
        own |= {"--train_data_dir": str(folder / "data"), "--num_validation_images": "1"}
    added = [word for option, value in own.items() if option not in given for word in (option, value)]
    args = command.parse_args([*options, *added])
    if args.streaming:
        raise InputError("--streaming: a step is measured on photos at hand; leave it out")
    accelerator = command.start(args)
    return Trainer(args, accelerator, OutputFolder(args.output_dir, accelerator))


def measure(trainer: Trainer, batches: list[Batch]) -> dict:
    """Photos a second, and of each part of a step its share of the time, its operations and its GFLOP."""
    device, size = trainer.accelerator.device, sum(len(batch.image) for batch in batches)

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    def run(name: str) -> float:
        wait()
        began = time.perf_counter()
        for step, batch in enumerate(tqdm(batches, desc=name, unit="step")):
            trainer.train_step(batch, step, step, 0.5)
        wait()
        return time.perf_counter() - began

    run("warm-up")  # the first steps allocate, choose kernels and compile
    seconds = run("as they are")
    times: dict[str, float] = defaultdict(float)
    flops: dict[str, float] = defaultdict(float)
    operations = Operations()

    @contextmanager
    def timed(name: str):
        wait()
        began = time.perf_counter()
        yield
        wait()
        times[name] += time.perf_counter() - began

    trainer.part = timed
    times[REST] = run("by the clock") - sum(times.values())

    @contextmanager
    def counted(name: str):
        operations.part, before = name, counter.get_total_flops()
        yield
        operations.part = REST
        flops[name] += counter.get_total_flops() - before

    trainer.part = counted
    with flop_counter() as counter, operations:
        run("counted")
    return {
        "photos_per_second": round(size / seconds, 2),
        "seconds_per_step": round(seconds / len(batches), 4),
        "operations_per_step": round(operations.counts.total() / len(batches)),
        "gflop_per_photo": round(counter.get_total_flops() / size / 1e9, 2),
        "gflop_per_second": round(counter.get_total_flops() / seconds / 1e9, 1),
        "parts": {
            name: {
                "share_of_time": round(times[name] / sum(times.values()), 3),
                "operations_per_step": round(operations.counts[name] / len(batches)),
                "gflop_per_photo": round(flops[name] / size / 1e9, 2),
            }
            for name in times
        },
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Tell what a training step costs and where its time goes.",
        epilog="example: python -m benchmarks.training --resolution 256 128 --train_batch_size 8",
        formatter_class=HelpWithDefaults,
    )
    parser.add_argument("--steps", type=positive, default=20, help="steps of each run")
    parser.add_argument("--output", type=Path, metavar="report.json", help="default: it is only printed")
    args, options = parser.parse_known_args()
    keep_freed_memory()

    def report() -> dict:
        with tempfile.TemporaryDirectory() as folder:
            trainer = make_trainer(Path(folder), options)
            crops: Any = trainer.crops  # of folders
            count = trainer.args.train_batch_size
            batches = [
                collate([crops[i % len(crops), i] for i in range(first, first + count)])
                for first in range(0, args.steps * count, count)
            ]
            device = trainer.accelerator.device
            gpu = device.type == "cuda"
            machine = torch.cuda.get_device_name() if gpu else f"{platform.machine()}, {os.cpu_count()} cores"
            setting = {
                "device": f"{machine}, {torch.get_num_threads()} threads, torch {torch.__version__}",
                "resolution": trainer.args.resolution,
                "batch": count,
                "steps": args.steps,
            }
            return setting | measure(trainer, [batch.to(device) for batch in batches])

    return print_report(report, args.output)


if __name__ == "__main__":
    raise SystemExit(main())
