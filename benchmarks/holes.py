"""Holes that need no imagination: how far fills are off where the surroundings tell what belongs there.

    python -m benchmarks.holes --model checkpoints/streets checkpoints/faces

thin holes: lines, a grid, scan lines and text, 1 to 16 pixels thick, over procedural photos of the model's kind, of 640
to 4000 pixels. The mean absolute error in the hole, in grey levels, of the model, and that divided by Telea's and by
Navier-Stokes' (OpenCV): 1 = as good, less is better.

plain surroundings: a disc of 200 pixels in flat colours and in smooth gradients, in a photo of 640x480. The mean and
the maximum absolute error in the hole, grey levels.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from benchmarks.reports import print_report
from fbinpaint import FeedbackInpaintPipeline
from fbinpaint.arguments import HelpWithDefaults
from fbinpaint.cli import load_pipeline
from fbinpaint.data.scenes import SCENES
from fbinpaint.errors import InputError
from fbinpaint.evaluation.methods import BASELINE_RADIUS, BASELINES
from fbinpaint.images.crops import resize_image

SEED = 0
SIZES = ((640, 480), (1600, 1200), (4000, 3000))
THICKNESSES = (1, 4, 16)
DRAWN = (1000, 750)  # scenes are drawn at this size, as details of a photo are no finer than its lens
GRAIN = 4  # grey levels, of the photos that are larger than they were drawn
PLAIN_SIZE, DISC = (640, 480), 200


# ---------------------------------------------------------------------------------------------- thin holes


def thin_mask(pattern: str, thickness: int, size: tuple[int, int]) -> np.ndarray:
    """(H,W) bool for a (width, height); pattern is one of `PATTERNS`."""
    return PATTERNS[pattern](thickness, *size) > 0


def lines(thickness: int, width: int, height: int) -> np.ndarray:
    mask, generator = np.zeros((height, width), np.uint8), np.random.default_rng(SEED)
    for x0, y0, x1, y1 in generator.integers(0, [width, height, width, height], (12, 4)).tolist():
        cv2.line(mask, (x0, y0), (x1, y1), 1, thickness)
    return mask


def grid(thickness: int, width: int, height: int) -> np.ndarray:
    period = 6 * thickness + 12
    y, x = np.indices((height, width), np.int32) % period
    return (np.maximum(x, y) >= period - thickness).astype(np.uint8)


def scan_lines(thickness: int, width: int, height: int) -> np.ndarray:
    """Every eighth."""
    rows = np.arange(height)[:, None] // thickness % 8 == 4
    return np.broadcast_to(rows, (height, width)).astype(np.uint8)


def text(thickness: int, width: int, height: int) -> np.ndarray:
    """A watermark all over; the strokes of the font are about a twelfth of its size."""
    mask, size = Image.new("L", (width, height)), 12 * thickness
    font, draw = ImageFont.load_default(size), ImageDraw.Draw(mask)
    words = "Watermark 2026  " * (1 + width // (4 * size))
    for row, y in enumerate(range(0, height, 2 * size)):
        draw.text((-row % 3 * 3 * size, y), words, 255, font)
    return (np.asarray(mask) > 127).astype(np.uint8)


PATTERNS = {"lines": lines, "grid": grid, "scan lines": scan_lines, "text": text}


def photos(label_space: str) -> Iterator[np.ndarray]:
    """One scene at each of the sizes, (H,W,3) uint8."""
    scene = np.asarray(SCENES[label_space](DRAWN, np.random.default_rng(SEED))[0])
    for size in SIZES:
        photo = resize_image(scene, size)
        if size > DRAWN:
            noise = np.random.default_rng(SEED).normal(0, GRAIN, photo.shape).astype(np.float32)
            photo = np.clip(np.rint(photo + noise), 0, 255).astype(np.uint8)
        yield photo


def error(fill: np.ndarray, photo: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Absolute differences (N,3) in the hole, grey levels. fill, photo (H,W,3) uint8, hole (H,W) bool."""
    return np.abs(fill[hole].astype(np.float32) - photo[hole])


def restore(pipe: FeedbackInpaintPipeline, photo: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """(H,W,3) uint8, one-way, for rounds hardly move the picture, and without grain, which is nobody's guess of the
    noise that was there; the hole is blanked out before."""
    blank = np.where(hole[..., None], np.array([255, 0, 255], np.uint8), photo)
    return np.asarray(pipe(Image.fromarray(blank), hole, num_feedback_rounds=0, grain=False).images[0])


def measure_thin(pipe: FeedbackInpaintPipeline) -> list[dict]:
    """A row for each size, pattern and thickness; printed as it comes."""
    rows = []
    print("| thin holes | pixels | photo | error | / Telea | / Navier-Stokes |\n| --- | --- | --- | --- | --- | --- |")
    with tqdm(total=len(SIZES) * len(PATTERNS) * len(THICKNESSES), desc="thin holes", unit="hole") as progress:
        for photo in photos(pipe.label_space.name):
            size = photo.shape[1::-1]
            for pattern in PATTERNS:
                for thickness in THICKNESSES:
                    hole = thin_mask(pattern, thickness, size)
                    row: dict[str, Any] = {"pattern": pattern, "thickness": thickness, "size": "{}x{}".format(*size)}
                    row["error"] = round(float(error(restore(pipe, photo, hole), photo, hole).mean()), 3)
                    for name, flag in BASELINES.items():
                        theirs = cv2.inpaint(photo, hole.astype(np.uint8), BASELINE_RADIUS, flag)
                        row[name] = round(row["error"] / max(float(error(theirs, photo, hole).mean()), 1e-3), 3)
                    rows.append(row)
                    figures = f"{row['error']:.2f} | {row['telea']:.2f} | {row['navier-stokes']:.2f}"
                    tqdm.write(f"| {pattern} | {thickness} | {row['size']} | {figures} |")
                    progress.update()
    return rows


# ---------------------------------------------------------------------------------------------- plain surroundings


def plain_photos() -> dict[str, np.ndarray]:
    """Photos (H,W,3) uint8 by the name of their surface."""
    width, height = PLAIN_SIZE
    y, x = np.mgrid[:height, :width].astype(np.float64)

    def blend(share: np.ndarray, one: tuple[int, ...], other: tuple[int, ...]) -> np.ndarray:
        mixed = np.asarray(one) + share[..., None] * np.subtract(other, one)
        return np.rint(mixed).astype(np.uint8)

    flat = {"grey": (128, 128, 128), "red": (220, 30, 40), "green": (20, 180, 70), "white": (255, 255, 255)}
    centred, aside = np.hypot(x - width / 2, y - height / 2), np.hypot(x - 0.2 * width, y - 0.3 * height)
    return {name: blend(0 * x, colour, colour) for name, colour in flat.items()} | {
        "linear gradient": blend(x / width, (10, 60, 200), (250, 200, 30)),
        "slanted gradient": blend((x + y) / (width + height), (0, 0, 0), (255, 255, 255)),
        "radial gradient": blend(centred / centred.max(), (255, 255, 255), (0, 40, 90)),
        "radial gradient, aside": blend(aside / aside.max(), (250, 240, 200), (60, 20, 30)),
    }


def measure_plain(pipe: FeedbackInpaintPipeline) -> dict[str, dict[str, float]]:
    """Mean and maximum error by surface; printed as they come."""
    width, height = PLAIN_SIZE
    y, x = np.mgrid[:height, :width]
    hole = (2 * x - width) ** 2 + (2 * y - height) ** 2 < DISC**2
    found = {}
    print("| plain surroundings | mean error | maximum |\n| --- | --- | --- |")
    for name, photo in tqdm(plain_photos().items(), desc="plain surroundings", unit="photo"):
        off = error(restore(pipe, photo, hole), photo, hole)
        found[name] = {"mean": round(float(off.mean()), 3), "maximum": float(off.max())}
        tqdm.write(f"| {name} | {off.mean():.2f} | {off.max():.0f} |")
    return found


# ---------------------------------------------------------------------------------------------- the command


def measure(models: list[str]) -> dict:
    """The report, by model. Raises InputError for a model that is not there or broken."""
    report: dict[str, dict] = {}
    for model in models:
        pipe = load_pipeline(model)
        if pipe.label_space.name not in SCENES:
            raise InputError(f"{model}: is of {pipe.label_space.name}; scenes are drawn of {', '.join(SCENES)}")
        pipe.set_progress_bar_config(disable=True)
        print(f"\n{model}\n")
        report[model] = {"plain_surroundings": measure_plain(pipe)}
        print()
        report[model]["thin_holes"] = measure_thin(pipe)
    return report


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Tell how far fills of thin holes and of holes in plain surroundings are off.",
        epilog="example: python -m benchmarks.holes --model checkpoints/streets",
        formatter_class=HelpWithDefaults,
    )
    parser.add_argument("--model", required=True, nargs="+", metavar="DIR|HUB_ID")
    parser.add_argument("--output", type=Path, metavar="report.json", help="default: it is only printed")
    args = parser.parse_args()
    return print_report(lambda: measure(args.model), args.output)


if __name__ == "__main__":
    raise SystemExit(main())
