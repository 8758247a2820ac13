"""What exemplars are worth: the same photos with other banks, or with none.

    python -m benchmarks.exemplars --model checkpoints/streets --data facades/val --masks facades/val/masks \
        --exemplars facades/train --output exemplars.json

"own" is the bank saved with the model, "random" the same statistics with layouts of random exemplars. `--exemplars`
names folders of labelled photos; of each 5, 20 and 100, evenly spaced, stand in for the model's own, as
`FeedbackInpaintPipeline.set_exemplars` has it: the right domain should help, a wrong one should not. Each bank is
compared with none: mIoU and accuracy of the pixels of the holes after two rounds, and LPIPS of the fills, with paired
95 % intervals.
"""

import argparse
import copy
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.reports import print_report
from fbinpaint import FeedbackInpaintPipeline
from fbinpaint.arguments import HelpWithDefaults, positive
from fbinpaint.cli import load_pipeline
from fbinpaint.data.photos import read_photo
from fbinpaint.data.rows import evenly_spaced, labelled_rows
from fbinpaint.data.sources import load_photos
from fbinpaint.errors import InputError
from fbinpaint.evaluation import metrics
from fbinpaint.evaluation.controls import control_pipelines
from fbinpaint.evaluation.evaluation import evaluate
from fbinpaint.evaluation.scoring import PhotoScore
from fbinpaint.evaluation.summaries import BOOTSTRAP_RESAMPLES

SEED, ROUNDS = 0, 2
NUMBERS = (5, 20, 100)


def with_photos_of(pipe: FeedbackInpaintPipeline, folder: Path, number: int) -> FeedbackInpaintPipeline:
    """A copy that consults labelled photos of a folder. Raises InputError where there are too few."""
    photos = labelled_rows(load_photos([str(folder)]))
    if len(photos) < number:
        raise InputError(f"{folder}: holds {len(photos)} labelled photos, not {number}; name a larger one")
    rows = [photos[i] for i in evenly_spaced(len(photos), number)]
    size = pipe.config.sample_size
    read = [read_photo(row, size, pipe.label_space) for row in tqdm(rows, desc=f"{number} of {folder}", unit="photo")]
    adapted = copy.deepcopy(pipe)
    adapted.set_exemplars(*zip(*read, strict=True))
    return adapted


def accuracy(confusions: np.ndarray) -> np.ndarray:
    """Share of right pixels of confusions (...,N,C,C) summed over photos N."""
    total = confusions.sum(-3)
    return np.trace(total, axis1=-2, axis2=-1) / np.maximum(total.sum((-2, -1)), 1)


def compared(scores: list[PhotoScore], without: list[PhotoScore]) -> dict:
    """A bank's scores, and by how much they differ from those without exemplars, on the labelled photos."""
    pairs = [(a, b) for a, b in zip(scores, without, strict=True) if a.after is not None]
    after, before = (np.array([pair[side].after for pair in pairs]) for side in (0, 1))
    draws = np.random.default_rng(SEED).integers(len(pairs), size=(BOOTSTRAP_RESAMPLES, len(pairs)))
    gains = [accuracy(after[draw]) - accuracy(before[draw]) for draw in draws]
    of_bank, of_none = (np.array([one.lpips_alex for one in side]) for side in (scores, without))
    return {
        "miou": float(metrics.miou_from_confusion(after.sum(0))),
        "accuracy": float(accuracy(after)),
        "lpips_alex": float(np.mean(of_bank)),
        "against none": {
            "miou": metrics.paired_relative_miou(after, before, SEED, BOOTSTRAP_RESAMPLES),
            "accuracy": {
                "difference": float(accuracy(after) - accuracy(before)),
                "ci95": np.percentile(gains, [2.5, 97.5]).round(6).tolist(),
            },
            "lpips_alex": metrics.paired_relative(of_bank, of_none, SEED, BOOTSTRAP_RESAMPLES),
        },
    }


def measure(
    model: str, data: Path, masks: Path | None, folders: list[Path], resolution: int, limit: int | None
) -> dict:
    """The report. Raises InputError for files that are missing or unreadable, and for photos without labels."""
    pipe = load_pipeline(model)
    pipes = {"own": pipe}
    controls = control_pipelines(pipe, ["no-exemplars", "random-exemplar"], SEED)
    pipes |= {"none": controls["no-exemplars"], "random": controls["random-exemplar"]}
    for folder in folders:
        for number in NUMBERS:
            pipes[f"{number} of {'/'.join(folder.resolve().parts[-2:])}"] = with_photos_of(pipe, folder, number)
    settings: dict[str, Any] = {"masks": masks, "resolution": resolution, "rounds": (ROUNDS,), "limit": limit}
    settings["baselines"] = ()
    found = {name: evaluate(one, data, **settings) for name, one in pipes.items()}
    scores = {name: evaluation.scores[f"rounds={ROUNDS}"] for name, evaluation in found.items()}
    if not any(score.after is not None for score in scores["none"]):
        raise InputError(f"{data}: has no labelled photo, so no map to score")
    return {
        "protocol": found["own"].report["protocol"],
        "exemplars": {name: len(one.recorrector.bank) for name, one in pipes.items()},
        "banks": {name: compared(of_bank, scores["none"]) for name, of_bank in scores.items()},
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Score a model with its own exemplars, none, random ones, and those of other folders.",
        epilog="example: python -m benchmarks.exemplars --model checkpoints/streets --data streets/val",
        formatter_class=HelpWithDefaults,
    )
    parser.add_argument("--model", required=True, metavar="DIR|HUB_ID")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="holds images/ and labels/")
    parser.add_argument("--masks", type=Path, metavar="DIR", help="masks by name (default: made, from a fixed seed)")
    parser.add_argument("--exemplars", type=Path, nargs="+", default=[], metavar="DIR", help="labelled (default: none)")
    parser.add_argument("--resolution", type=positive, default=256, help="shorter side, pixels")
    parser.add_argument("--limit", type=positive, metavar="N", help="only the first N photos (default: all)")
    parser.add_argument("--output", type=Path, metavar="report.json", help="default: it is only printed")
    args = parser.parse_args()
    return print_report(
        lambda: measure(args.model, args.data, args.masks, args.exemplars, args.resolution, args.limit), args.output
    )


if __name__ == "__main__":
    raise SystemExit(main())
