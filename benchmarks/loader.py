"""How fast training data is made, and how long a training step waits for it.

    python -m benchmarks.loader --train_data_dir examples/streets --label_space cityscapes [--step_seconds 0.2]

The steps are real ones, with the recipe's default options and random weights, which cost the same; so they compete with
the workers for the processor, as in training. With `--step_seconds` a step is a pause of that length instead: that of a
graphics card, or one measured before. It is worth something on a quiet machine only.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from accelerate import Accelerator
from tqdm import tqdm

from benchmarks.cost import write_random_backbones
from benchmarks.reports import exit_code
from fbinpaint.arguments import HelpWithDefaults, positive
from fbinpaint.data.loader import BadPhotos, BatchLoader
from fbinpaint.data.photos import Batch, MixedBatches
from fbinpaint.training import command
from fbinpaint.training.output import OutputFolder
from fbinpaint.training.trainer import Trainer

WARM_UP = 3  # batches: the workers start, the first steps allocate


def measure(loader: BatchLoader, step: Callable[[Batch, int], object], steps: int) -> tuple[float, float]:
    """Seconds that the loop waited for data and seconds that it took in all, over `steps` steps."""
    waited = 0.0
    with closing(iter(loader)) as batches:  # its workers end with it, and leave the processor to what is timed next
        for number in tqdm(range(WARM_UP + steps), unit="step"):
            if number == WARM_UP:
                began, waited = time.perf_counter(), 0.0
            asked = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - asked
            step(batch, number)
        seconds = time.perf_counter() - began
    return waited, seconds


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Print how fast training data is made and how long a step waits for it.",
        epilog="example: python -m benchmarks.loader --train_data_dir examples/streets --label_space cityscapes",
        formatter_class=HelpWithDefaults,
    )
    parser.add_argument("--step_seconds", type=float, help="length of a step; default: real steps are made")
    parser.add_argument("--steps", type=positive, default=20, help="steps to time")
    args, of_training = parser.parse_known_args()  # the rest are options of train_accelerate.py
    return exit_code(lambda: print_rates(args.step_seconds, args.steps, of_training))


def print_rates(step_seconds: float | None, steps: int, of_training: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        encoder, vgg = Path(folder) / "encoder.safetensors", Path(folder) / "vgg.safetensors"
        write_random_backbones(encoder, vgg)
        options = command.parse_args(
            ["--encoder_weights", str(encoder), "--perceptual_weights", str(vgg), "--output_dir", f"{folder}/run"]
            + ["--adversarial_start", "0", "--num_validation_images", "1", *of_training]
        )
        accelerator = Accelerator()
        trainer = Trainer(options, accelerator, OutputFolder(options.output_dir, accelerator))

    def load(num_workers: int) -> BatchLoader:
        plan = MixedBatches(trainer.crops.labelled, options.train_batch_size, options.labelled_ratio, options.seed)
        return BatchLoader(trainer.crops, plan, num_workers, BadPhotos())

    def train(batch: Batch, number: int) -> None:
        trainer.train_step(batch.to(accelerator.device), number, number, 0.5)

    def pause(batch: Batch, number: int) -> None:
        time.sleep(step_seconds or 0)

    for num_workers in (1, 2):
        _, seconds = measure(load(num_workers), lambda batch, number: None, steps)
        speed = steps * options.train_batch_size / seconds
        waited, seconds = measure(load(num_workers), pause if step_seconds else train, steps)
        step = (seconds - waited) / steps
        print(
            f"{num_workers} worker(s): {speed:.1f} crops a second at full speed; "
            f"a step of {step:.3f} s waits {waited / steps:.3f} s for data, {waited / seconds:.1%} of the time"
        )


if __name__ == "__main__":
    raise SystemExit(main())
