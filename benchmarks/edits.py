"""How far a drawn map is followed: another photo's map is drawn into the hole, and the result is segmented anew.

    python -m benchmarks.edits --model checkpoints/streets --data streets/val --output edits.json --grid edits.png

Nobody knows what the photo would look like with other things in it, so the judge is a segmenter that sees the result as
an intact photo (as in SPADE, Park et al., CVPR 2019, "segmentation accuracy"): its own, or another model's, to compare
models by. Counted are the pixels that it did not take for the drawn class before. Holes are the protocol's.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from benchmarks.reports import check_grid, print_report, stacked
from fbinpaint import FeedbackInpaintPipeline
from fbinpaint.arguments import HelpWithDefaults, positive
from fbinpaint.cli import load_pipeline
from fbinpaint.errors import InputError
from fbinpaint.evaluation.methods import fill_with_pipeline
from fbinpaint.evaluation.photos import load_sample
from fbinpaint.images.folders import files_by_stem, pair_by_stem
from fbinpaint.images.io import save_image
from fbinpaint.labels import IGNORE

SEED, ROUNDS, BATCH_SIZE = 0, 2, 8
GRID_ROWS = 12


def segment(judge: FeedbackInpaintPipeline, photos: list[np.ndarray]) -> list[np.ndarray]:
    """Maps (H,W) of photos (H,W,3) without holes."""
    nothing = [np.zeros(photo.shape[:2], np.uint8) for photo in photos]
    found = judge([Image.fromarray(photo) for photo in photos], nothing, num_feedback_rounds=0)
    return [np.asarray(semantic_map) for semantic_map in found.semantic_before]


def measure(model: str, judge: str, data: Path, resolution: int, grid: Path | None) -> dict:
    """The report. Raises InputError for models of different classes, and for files that are missing or unreadable."""
    pipe = load_pipeline(model)
    eyes = pipe if judge == model else load_pipeline(judge)
    if pipe.label_space != eyes.label_space:
        raise InputError(f"{judge}: is of {eyes.label_space.name}, {model} of {pipe.label_space.name}")
    check_grid(grid)
    pairs, problems = pair_by_stem(files_by_stem(data / "images"), None)
    if problems:
        raise InputError(problems[0])
    if len(pairs) < 2:
        raise InputError(f"{data}/images: holds {len(pairs)} photos, but each has another one's map drawn into it")
    samples = [
        load_sample(pair, None, i, resolution, SEED, pipe.label_space)
        for i, pair in enumerate(tqdm(pairs, desc="read", unit="photo"))
    ]
    batches = [range(i, min(i + BATCH_SIZE, len(samples))) for i in range(0, len(samples), BATCH_SIZE)]
    maps = []
    for batch in tqdm(batches, desc="segment", unit="batch"):
        maps += segment(eyes, [samples[i].photo for i in batch])
    classes = len(pipe.label_space.classes)
    drawn_pixels, followed, unasked = (np.zeros((len(samples), classes), np.int64) for _ in range(3))
    rows = []
    for batch in tqdm(batches, desc="edit", unit="batch"):
        drawn = []
        for i in batch:
            other = maps[(i + len(maps) // 2) % len(maps)]  # far away: next to it lies the same street
            other = cv2.resize(other, samples[i].hole.shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
            drawn.append(np.where(samples[i].hole, other, IGNORE).astype(np.uint8))
        chosen = [samples[i] for i in batch]
        plain, edited = (
            [fill.image for fill in fill_with_pipeline(pipe, chosen, [ROUNDS], SEED, semantic_maps)[ROUNDS]]
            for semantic_maps in (None, drawn)
        )
        for i, layout, before, after, seen_before, seen_after in zip(
            batch, drawn, plain, edited, segment(eyes, plain), segment(eyes, edited), strict=True
        ):
            hole = samples[i].hole
            asked = hole & (layout != maps[i])
            wish = layout[asked]
            drawn_pixels[i] = np.bincount(wish, minlength=classes)
            followed[i] = np.bincount(wish[seen_after[asked] == wish], minlength=classes)
            unasked[i] = np.bincount(wish[seen_before[asked] == wish], minlength=classes)
            if grid and i % max(1, len(samples) // GRID_ROWS) == 0:
                masked = np.where(hole[..., None], 255, samples[i].photo)
                wished = pipe.label_space.colorize(np.where(hole, layout, maps[i]))
                rows.append(np.concatenate([masked, before, wished, after], axis=1).astype(np.uint8))
    if grid:
        save_image(Image.fromarray(stacked(rows)), grid)
    total = max(drawn_pixels.sum(), 1)
    return {
        "model": model,
        "judge": judge,
        "data": "/".join(data.resolve().parts[-2:]),
        "n": len(pairs),
        "resolution": resolution,
        "rounds": ROUNDS,
        "masks": f"protocol masks of fbinpaint, seed {SEED}, numbered as the photos are",
        "followed": round(float(followed.sum() / total), 4),
        "unasked": round(float(unasked.sum() / total), 4),
        "by_class": {
            name: {
                "share": round(float(drawn_pixels[:, c].sum() / total), 4),
                "followed": round(float(followed[:, c].sum() / drawn_pixels[:, c].sum()), 4),
                "unasked": round(float(unasked[:, c].sum() / drawn_pixels[:, c].sum()), 4),
            }
            for c, name in enumerate(pipe.label_space.classes)
            if drawn_pixels[:, c].any()
        },
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Draw other photos' maps into holes, and tell how much of them a segmenter finds in the result.",
        epilog="example: python -m benchmarks.edits --model checkpoints/streets --data streets/val",
        formatter_class=HelpWithDefaults,
    )
    parser.add_argument("--model", required=True, metavar="DIR|HUB_ID")
    parser.add_argument("--judge", metavar="DIR|HUB_ID", help="whose segmenter looks at the results; default: its own")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="holds images/")
    parser.add_argument("--output", type=Path, metavar="report.json", help="default: it is only printed")
    parser.add_argument(
        "--grid", type=Path, metavar="grid.png", help="masked, restored, map drawn, restored with it (default: none)"
    )
    parser.add_argument("--resolution", type=positive, default=256, help="shorter side, pixels")
    args = parser.parse_args()
    return print_report(
        lambda: measure(args.model, args.judge or args.model, args.data, args.resolution, args.grid), args.output
    )


if __name__ == "__main__":
    raise SystemExit(main())
