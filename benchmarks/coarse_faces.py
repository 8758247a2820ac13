"""Maps of real faces before and after feedback, against labels that know six groups of classes only.

    python -m benchmarks.coarse_faces --model checkpoints/faces --data faces/labeled_coarse --output coarse.json

The data folder holds images/ and labels/ with ids of GROUPS, 255 = ignore. Holes are the protocol's, from a fixed seed.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.reports import print_report
from fbinpaint.arguments import HelpWithDefaults, count, positive
from fbinpaint.cli import load_pipeline
from fbinpaint.errors import InputError
from fbinpaint.evaluation.methods import fill_with_pipeline
from fbinpaint.evaluation.metrics import confusion_matrix, iou_from_confusion, miou_from_confusion, paired_relative_miou
from fbinpaint.evaluation.photos import load_sample
from fbinpaint.images.folders import files_by_stem, pair_by_stem
from fbinpaint.labels import CELEBAMASK_HQ, IGNORE

SEED, BATCH_SIZE = 0, 8
GROUPS = {  # as FASSEG frontal has them (Khan et al., ICIP 2015): what it does not name is background, glasses are eyes
    "background": ("background", "hat", "cloth"),
    "skin": ("skin", "l_ear", "r_ear", "ear_r", "neck_l", "neck"),
    "hair": ("hair", "l_brow", "r_brow"),
    "eyes": ("l_eye", "r_eye", "eye_g"),
    "nose": ("nose",),
    "mouth": ("mouth", "u_lip", "l_lip"),
}
GROUP_OF = np.array([next(i for i, names in enumerate(GROUPS.values()) if n in names) for n in CELEBAMASK_HQ.classes])


def measure(model: str, data: Path, resolution: int, rounds: list[int]) -> dict:
    """The report. Raises InputError for a model of other classes, and for files that are missing or cannot be read."""
    pipe = load_pipeline(model)
    if pipe.label_space != CELEBAMASK_HQ:
        raise InputError(f"{model}: is of {pipe.label_space.name}; name a model of faces")
    photos, labels = (files_by_stem(data / name) for name in ("images", "labels"))
    pairs, problems = pair_by_stem(photos, labels)
    if problems or not pairs:
        raise InputError(problems[0] if problems else f"{data}/images: holds no photo")
    confusions: dict[int, list[np.ndarray]] = {k: [] for k in rounds}
    for start in tqdm(range(0, len(pairs), BATCH_SIZE), unit="batch"):
        samples = [
            load_sample(replace(pair, mask=None), Path(str(pair.mask)), start + i, resolution, SEED, CELEBAMASK_HQ)
            for i, pair in enumerate(pairs[start : start + BATCH_SIZE])
        ]
        for pair, sample in zip(pairs[start:], samples, strict=False):
            if sample.truth is not None and (sample.truth[sample.truth != IGNORE] >= len(GROUPS)).any():
                raise InputError(f"{pair.mask}: its ids are not those of groups; 0 to 5 are {', '.join(GROUPS)}")
        samples = [sample for sample in samples if sample.truth is not None]
        if not samples:
            continue
        for k, fills in fill_with_pipeline(pipe, samples, rounds, SEED).items():
            for sample, fill in zip(samples, fills, strict=True):
                assert sample.truth is not None, "the others were left out"
                predicted = GROUP_OF[fill.semantic_map]
                confusions[k].append(confusion_matrix(sample.truth, predicted, sample.hole, len(GROUPS)))
    if not any(confusions.values()):
        raise InputError(f"{data / 'labels'}: no pixel is labelled (all are 255); check them")
    counts = {k: np.stack(of_round) for k, of_round in confusions.items()}
    return {
        "model": model,
        "data": data.name,
        "n": max(map(len, confusions.values())),
        "resolution": resolution,
        "masks": f"protocol masks of fbinpaint, seed {SEED}, numbered as the photos are",
        "groups": {name: list(names) for name, names in GROUPS.items()},
        "miou_hole": {str(k): round(float(miou_from_confusion(c.sum(0))), 4) for k, c in counts.items()},
        "iou_hole": {
            str(k): dict(zip(GROUPS, iou_from_confusion(c.sum(0))[0].round(4).tolist(), strict=True))
            for k, c in counts.items()
        },
        "paired": {
            f"rounds={k} vs rounds=0": {"miou_hole": paired_relative_miou(counts[k], counts[0])} for k in rounds if k
        },
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Score maps of faces, in holes, on groups of classes.",
        epilog="example: python -m benchmarks.coarse_faces --model checkpoints/faces --data faces/labeled_coarse",
        formatter_class=HelpWithDefaults,
    )
    parser.add_argument("--model", required=True, metavar="DIR|HUB_ID")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="holds images/ and labels/ of groups")
    parser.add_argument("--output", type=Path, metavar="report.json", help="default: it is only printed")
    parser.add_argument("--resolution", type=positive, default=128, help="shorter side, pixels")
    parser.add_argument("--rounds", type=count, default=3, help="the highest number")
    args = parser.parse_args()
    return print_report(
        lambda: measure(args.model, args.data, args.resolution, list(range(args.rounds + 1))), args.output
    )


if __name__ == "__main__":
    raise SystemExit(main())
