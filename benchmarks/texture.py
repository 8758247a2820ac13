"""How a fill feels to the eye: whether the cells it is painted in show, and whether it has the grain of the photo.

    python -m benchmarks.texture --model checkpoints/faces --data celebamask/val --masks celebamask/val/masks

squares: the networks decide in cells of 4x4 pixels. The mean absolute step between neighbouring pixels of two cells,
divided by that within cells, both pixels in the hole, counted from the corner of what is painted: for the restored
photos, for the photos themselves, and by how many per cent the first is more. Patterns within cells show by place: the
steps down and across to the first, second, third and fourth pixel of a cell, 1 = as in the photos.

grain: in a photo of 1600x1200 pixels, a gradient with noise of 4, 9 and 16 grey levels, a disc of 400 pixels is filled
on a small copy and enlarged. The standard deviation of its high frequencies (pixels minus the mean of the 3x3 around
them), divided by that of its surroundings.
"""

import argparse
import itertools
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from benchmarks.reports import print_report
from fbinpaint import FeedbackInpaintPipeline
from fbinpaint.arguments import HelpWithDefaults, positive
from fbinpaint.cli import load_pipeline
from fbinpaint.errors import InputError
from fbinpaint.evaluation.methods import fill_with_pipeline
from fbinpaint.evaluation.photos import load_sample
from fbinpaint.images.crops import plan_crops
from fbinpaint.images.folders import equal_size_batches, files_by_stem, pair_by_stem
from fbinpaint.pipeline.crop_jobs import CONTEXT

SEED, ROUNDS, BATCH_SIZE = 0, 2, 8
CELL = 4  # pixels
SIZE, DISC, SIGMAS = (1600, 1200), 400, (4, 9, 16)


# ---------------------------------------------------------------------------------------------- squares


def steps(picture: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """picture (H,W,3) uint8, hole (H,W) bool -> (2,CELL,2): sum and number of the absolute steps between neighbouring
    pixels of the hole, down and across, by the second pixel's place in its cell: 0 = the first is in another cell."""
    found = np.zeros((2, CELL, 2))
    for axis, (pixels, inside) in enumerate(((picture, hole), (picture.swapaxes(0, 1), hole.T))):
        change = np.abs(np.diff(pixels.astype(np.float32), axis=0)).mean(2)
        both = inside[1:] & inside[:-1]
        for place in range(CELL):
            first = (place - 1) % CELL  # the step to pixel i lies in row i - 1
            some = both[first::CELL]
            found[axis, place] += change[first::CELL][some].sum(), some.sum()
    return found


def squares(found: np.ndarray) -> float:
    """The mean step between cells over that within, of the sum of `steps`."""
    if not found.all():
        raise InputError("the holes are too small, or nothing changes in them; use more photos")
    between, within = found[:, 0].sum(0), found[:, 1:].sum((0, 1))
    return float(between[0] / between[1] / (within[0] / within[1]))


def by_place(found: np.ndarray) -> np.ndarray:
    """(2,CELL), the mean step at each place over that at all of them, of the sum of `steps`."""
    mean = found[..., 0] / found[..., 1]
    return mean / mean.mean(1, keepdims=True)


def measure_squares(
    pipe: FeedbackInpaintPipeline, data: Path, masks: Path | None, resolution: int, limit: int | None
) -> dict:
    """Of the photos at the size they are painted at; `measure` says what is refused."""
    if resolution > pipe.config.sample_size:
        raise InputError(f"resolution {resolution}: the model paints at {pipe.config.sample_size} at most; name that")
    photos = dict(itertools.islice(files_by_stem(data / "images").items(), limit))
    pairs, problems = pair_by_stem(photos, None if masks is None else files_by_stem(masks))
    if problems or not pairs:
        raise InputError(problems[0] if problems else f"{data}/images: holds no photo")
    index = {pair.stem: i for i, pair in enumerate(pairs)}
    of_fills, of_photos = np.zeros((2, 2, CELL, 2))
    for batch in tqdm(equal_size_batches(pairs, BATCH_SIZE, resolution), desc="squares", unit="batch"):
        samples = [load_sample(pair, None, index[pair.stem], resolution, SEED, pipe.label_space) for pair in batch]
        fills = fill_with_pipeline(pipe, samples, [ROUNDS], SEED)[ROUNDS]
        for sample, fill in zip(samples, fills, strict=True):
            for crop in plan_crops(sample.hole, pipe.config.sample_size, CONTEXT):  # each has cells of its own
                of_fills += steps(fill.image[crop.slices], sample.hole[crop.slices])
                of_photos += steps(sample.photo[crop.slices], sample.hole[crop.slices])
    restored, own = squares(of_fills), squares(of_photos)
    down, across = (by_place(of_fills) / by_place(of_photos)).round(4).tolist()
    return {
        "n": len(pairs),
        "resolution": resolution,
        "rounds": ROUNDS,
        "masks": masks.name if masks else f"protocol masks of fbinpaint, seed {SEED}, numbered as the photos are",
        "restored": round(restored, 4),
        "photos": round(own, 4),
        "excess_percent": round(100 * (restored / own - 1), 2),
        "by_place": {"down": down, "across": across},
    }


# ---------------------------------------------------------------------------------------------- grain


def noisy_gradient(size: tuple[int, int], disc: int, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """A photo (H,W,3) uint8 of (width, height) pixels, slopes of colour with white noise of `sigma` grey levels, and a
    disc (H,W) bool of `disc` pixels across in its middle."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    slopes = np.stack([60 + 140 * x / width, 60 + 120 * y / height, 180 - 60 * x / width], axis=2)
    noise = np.random.default_rng(SEED).normal(0, sigma, slopes.shape)
    hole = (2 * x - width) ** 2 + (2 * y - height) ** 2 < disc**2
    return np.clip(np.rint(slopes + noise), 0, 255).astype(np.uint8), hole


def high_frequencies(picture: np.ndarray, hole: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The standard deviation, for each channel, of pixels minus the mean of the 3x3 around them: in the hole and
    outside it, but for two pixels along its border. picture (H,W,3) uint8, hole (H,W) bool."""
    pixels = picture.astype(np.float64)
    fine = pixels - cv2.blur(pixels, (3, 3))
    inside, around = (cv2.erode(part.astype(np.uint8), np.ones((5, 5))) > 0 for part in (hole, ~hole))
    return fine[inside].std(0), fine[around].std(0)


def measure_grain(pipe: FeedbackInpaintPipeline) -> dict:
    """High frequencies of fills over those of their surroundings, mean over the channels, by level of noise."""
    ratios = {}
    for sigma in tqdm(SIGMAS, desc="grain", unit="photo"):
        photo, hole = noisy_gradient(SIZE, DISC, sigma)
        result = np.asarray(pipe(photo, hole, num_feedback_rounds=ROUNDS).images[0])
        inside, around = high_frequencies(result, hole)
        ratios[str(sigma)] = round(float((inside / around).mean()), 4)
    return ratios


# ---------------------------------------------------------------------------------------------- the command


def measure(model: str, data: Path, masks: Path | None, resolution: int, limit: int | None) -> dict:
    """The report. Raises InputError for a resolution that the model does not paint at, a photo without mask, and files
    that are missing or cannot be read."""
    pipe = load_pipeline(model)
    return {
        "model": model,
        "data": "/".join(data.resolve().parts[-2:]),
        "squares": measure_squares(pipe, data, masks, resolution, limit),
        "grain": measure_grain(pipe),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Tell whether fills show the cells they are painted in, and whether they have the photo's grain.",
        epilog="example: python -m benchmarks.texture --model checkpoints/faces --data celebamask/val",
        formatter_class=HelpWithDefaults,
    )
    parser.add_argument("--model", required=True, metavar="DIR|HUB_ID")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="holds images/")
    parser.add_argument("--masks", type=Path, metavar="DIR", help="masks by name (default: made, from a fixed seed)")
    parser.add_argument("--output", type=Path, metavar="report.json", help="default: it is only printed")
    parser.add_argument("--resolution", type=positive, default=256, metavar="N", help="shorter side, pixels")
    parser.add_argument("--limit", type=positive, metavar="N", help="only the first N photos (default: all)")
    args = parser.parse_args()
    return print_report(
        lambda: measure(args.model, args.data, args.masks, args.resolution, args.limit), args.output
    )


if __name__ == "__main__":
    raise SystemExit(main())
