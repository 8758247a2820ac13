"""What exemplars are worth: the same photos with other banks, or with none.

    python -m benchmarks.exemplars --model checkpoints/streets --data facades/val --masks facades/val/masks \
        --exemplars facades/train --output exemplars.json

"own" is the bank saved with the model, "random" the same statistics with layouts of random exemplars. `--exemplars`
names folders of labelled photos; of each 5, 20 and 100, evenly spaced, stand in for the model's own, as
`FeedbackInpaintPipeline.set_exemplars` has it: the right domain should help, a wrong one should not. Each bank is
compared with none and with the model's own: mIoU and accuracy of intact photos' maps and, after two rounds, of the
pixels of the holes, and LPIPS of the fills, with paired 95 % intervals. `weights` are those of exemplars of one's own
in the segmenter's maps: of what was photographed, of what is filled.

`--segmenter` puts another one into the model, such as `benchmarks.judge` makes, with the labelled photos of `--bank`
for its own exemplars: to one that has learnt nothing of the kind of photos in question, exemplars have more to say.
"""

import argparse
import copy
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.removal import load_judge, short_name
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
from fbinpaint.evaluation.evaluation import Evaluation, evaluate
from fbinpaint.evaluation.summaries import BOOTSTRAP_RESAMPLES
from fbinpaint.pipeline.exemplars import make_exemplars

SEED, ROUNDS = 0, 2
NUMBERS = (5, 20, 100)


def read_labelled(folders: list[Path], pipe: FeedbackInpaintPipeline, number: int | None, resolution: int) -> list:
    """So many labelled photos and their maps, evenly spaced, at the size that photos of this resolution are worked on
    at; None = all. Raises InputError where there are too few."""
    photos = labelled_rows(load_photos([str(folder) for folder in folders]))
    if len(photos) < (number or 1):
        names = " ".join(map(str, folders))
        raise InputError(f"{names}: holds {len(photos)} labelled photos, not {number or 1}; name a larger one")
    rows = [photos[i] for i in evenly_spaced(len(photos), number or len(photos))]
    progress = tqdm(rows, desc=f"{len(rows)} of {short_name(str(folders[0]))}", unit="photo")
    return [read_photo(row, min(resolution, pipe.config.sample_size), pipe.label_space) for row in progress]


def with_photos_of(
    pipe: FeedbackInpaintPipeline, folder: Path, number: int, resolution: int
) -> FeedbackInpaintPipeline:
    """A copy that consults labelled photos of a folder."""
    adapted = copy.deepcopy(pipe)
    adapted.set_exemplars(*zip(*read_labelled([folder], pipe, number, resolution), strict=True))
    return adapted


def with_segmenter(pipe: FeedbackInpaintPipeline, folder: str, bank: list[Path], resolution: int) -> None:
    """Another segmenter and its own exemplars, in place."""
    if not bank:
        raise InputError("--segmenter: needs --bank, the photos that its own exemplars are made of")
    segmenter = load_judge(folder, pipe)
    pipe.register_modules(segmenter=segmenter)
    labelled = read_labelled(bank, pipe, None, resolution)
    pipe.recorrector.set_bank(make_exemplars(segmenter, pipe.label_space, labelled))


def accuracy(confusions: np.ndarray) -> np.ndarray:
    """Share of right pixels of confusions (...,N,C,C) summed over photos N."""
    total = confusions.sum(-3)
    return np.trace(total, axis1=-2, axis2=-1) / np.maximum(total.sum((-2, -1)), 1)


def against(maps: np.ndarray, others: np.ndarray) -> dict:
    """By how much maps are better than others of the same photos; confusions (N,C,C)."""
    draws = np.random.default_rng(SEED).integers(len(maps), size=(BOOTSTRAP_RESAMPLES, len(maps)))
    gains = [accuracy(maps[draw]) - accuracy(others[draw]) for draw in draws]
    return {
        "miou": metrics.paired_relative_miou(maps, others, SEED, BOOTSTRAP_RESAMPLES),
        "accuracy": {
            "difference": float(accuracy(maps) - accuracy(others)),
            "ci95": np.percentile(gains, [2.5, 97.5]).round(6).tolist(),
        },
    }


class Scores:
    """Of one bank: confusions (N,C,C) of the labelled photos, "intact" and in the "hole", and LPIPS of all."""

    def __init__(self, found: Evaluation):
        scores = found.scores[f"rounds={ROUNDS}"]
        self.lpips = np.array([score.lpips_alex for score in scores])
        self.maps = {
            "intact": np.array([found.intact[stem] for stem in sorted(found.intact)]),
            "hole": np.array([score.after for score in scores if score.after is not None]),
        }

    def described(self, others: dict[str, "Scores"]) -> dict:
        """The means, and what they are against each of the others."""
        of_maps = {
            part: {"miou": float(metrics.miou_from_confusion(maps.sum(0))), "accuracy": float(accuracy(maps))}
            | {f"against {name}": against(maps, other.maps[part]) for name, other in others.items()}
            for part, maps in self.maps.items()
        }
        return of_maps | {
            "lpips_alex": {"mean": float(self.lpips.mean())}
            | {
                f"against {name}": metrics.paired_relative(self.lpips, other.lpips, SEED, BOOTSTRAP_RESAMPLES)
                for name, other in others.items()
            }
        }


def measure(
    model: str,
    data: Path,
    masks: Path | None,
    folders: list[Path],
    resolution: int,
    limit: int | None,
    segmenter: str | None,
    bank: list[Path],
) -> dict:
    """The report. Raises InputError for files that are missing or unreadable, and for photos without labels."""
    pipe = load_pipeline(model)
    if segmenter is not None:
        with_segmenter(pipe, segmenter, bank, resolution)
    controls = control_pipelines(pipe, ["no-exemplars", "random-exemplar"], SEED)
    pipes = {"none": controls["no-exemplars"], "own": pipe, "random": controls["random-exemplar"]}
    for folder in folders:
        name = short_name(str(folder))
        if f"{NUMBERS[0]} of {name}" in pipes:
            raise InputError(f"{folder}: another of --exemplars is called {name}, too; link one under another name")
        pipes |= {f"{number} of {name}": with_photos_of(pipe, folder, number, resolution) for number in NUMBERS}
    settings: dict[str, Any] = {"masks": masks, "resolution": resolution, "rounds": (ROUNDS,), "limit": limit}
    settings["baselines"] = ()
    scores: dict[str, Scores] = {}
    banks = {}
    for name, one in pipes.items():
        found = evaluate(one, data, **settings)
        if not found.intact:
            raise InputError(f"{data}: has no labelled photo, so no map to score")
        others = {other: score for other, score in scores.items() if other in ("none", "own")}
        scores[name] = Scores(found)
        recorrector = one.recorrector.config
        banks[name] = {"exemplars": recorrector.num_exemplars, "weights": list(recorrector.exemplar_weights)}
        banks[name] |= scores[name].described(others)
    return {
        "protocol": found.report["protocol"],
        "segmenter": segmenter and short_name(segmenter),  # None = the model's own
        "bank": [short_name(str(folder)) for folder in bank],
        "banks": banks,
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
    parser.add_argument("--segmenter", metavar="DIR", help="another one, in DIR/segmenter (default: the model's)")
    parser.add_argument("--bank", type=Path, nargs="+", default=[], metavar="DIR", help="its exemplars (default: none)")
    args = parser.parse_args()
    return print_report(
        lambda: measure(
            args.model,
            args.data,
            args.masks,
            args.exemplars,
            args.resolution,
            args.limit,
            args.segmenter,
            args.bank,
        ),
        args.output,
    )


if __name__ == "__main__":
    raise SystemExit(main())
