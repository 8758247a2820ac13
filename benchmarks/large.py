"""What a 12 Mpx photo costs, and how well its fill joins the photo, for a small and a large hole.

    python -m benchmarks.large [--model checkpoints/streets] [--image photo.jpg] [--rounds 2]

Every hole is filled in a process of its own: seconds from photo and mask to result, and the peak of its memory beyond
what it holds once everything is imported. Without --image the photo is a procedural street, enlarged, with grain.
Then two measures of the border, each the result's against the intact photo's own, 1 = no more than there was before:

- step: mean absolute difference of the pixels to both sides of the border.
- shift: the same of the means of 8x8 pixels that lie wholly inside or wholly outside: steps of colour, not grain.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from benchmarks.reports import exit_code
from fbinpaint import FeedbackInpaintPipeline
from fbinpaint.arguments import HelpWithDefaults, count
from fbinpaint.data.scenes import street_scene
from fbinpaint.errors import InputError
from fbinpaint.images.io import load_image
from fbinpaint.masks import free_form_mask

SIZE = (4000, 3000)
SHARES = (0.05, 0.5)
BLOCK = 8


def procedural_photo() -> Image.Image:
    generator = np.random.default_rng(0)
    scene = street_scene((SIZE[0] // 4, SIZE[1] // 4), generator)[0].resize(SIZE, Image.Resampling.BICUBIC)
    grain = cv2.resize(generator.normal(0, 6, (SIZE[1] // 2, SIZE[0] // 2, 3)).astype(np.float32), SIZE)
    return Image.fromarray(np.clip(np.asarray(scene) + grain, 0, 255).astype(np.uint8))


def make_mask(size: tuple[int, int], share: float) -> np.ndarray:
    """One box around the centre for a small share, strokes and boxes all over for a large one; (H,W) bool."""
    width, height = size
    if share > 0.2:
        return free_form_mask(height, width, np.random.default_rng(0), (share, share + 0.05))
    mask = np.zeros((height, width), bool)
    h, w = round(height * share**0.5), round(width * share**0.5)
    mask[(height - h) // 2 : (height + h) // 2, (width - w) // 2 : (width + w) // 2] = True
    return mask


def differences(pixels: np.ndarray, hole: np.ndarray) -> float:
    """Mean absolute difference of neighbours of which one is in the hole; pixels (H,W,3), hole (H,W) in [0,1], where
    cells that are neither wholly in it nor wholly outside do not count."""
    pixels = pixels.astype(np.float32)
    total = count = 0.0
    for axis in (0, 1):
        across = np.abs(np.diff(hole, axis=axis)) == 1
        total += np.abs(np.diff(pixels, axis=axis)).mean(2)[across].sum()
        count += across.sum()
    return total / max(count, 1)


def border(result: np.ndarray, photo: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Step and shift of a result (H,W,3), relative to those of the photo."""
    height, width = (side // BLOCK * BLOCK for side in mask.shape)
    small = (width // BLOCK, height // BLOCK)
    hole = mask.astype(np.float32)
    blocks = [cv2.resize(x[:height, :width], small, interpolation=cv2.INTER_AREA) for x in (result, photo, hole)]
    # Borders that lie inside a block leave a partial one between: compare those to both sides of it.
    strides = [blocks] + [[x[i::2, j::2] for x in blocks] for i in (0, 1) for j in (0, 1)]
    shifts = np.array([[differences(a, h), differences(b, h)] for a, b, h in strides])
    return {
        "step": differences(result, hole) / differences(photo, hole),
        "shift": float(shifts[:, 0].sum() / shifts[:, 1].sum()),
    }


def peak_megabytes() -> float:
    """Of this process alone: getrusage would count its parent's too."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def fill(args: argparse.Namespace) -> None:
    """The child: fills one hole and prints what it cost as JSON."""
    imported = peak_megabytes()
    pipe = FeedbackInpaintPipeline.from_pretrained(args.model)
    pipe.set_progress_bar_config(disable=True)
    photo, mask = load_image(args.image), load_image(args.mask)
    began = time.perf_counter()
    result = pipe(photo, mask, num_feedback_rounds=args.rounds).images[0]
    cost = {"seconds": time.perf_counter() - began, "megabytes": peak_megabytes() - imported}
    if args.output:
        result.save(args.output)
    print(json.dumps(cost))


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Cost and border of fills in a 12 Mpx photo.",
        epilog="example: python -m benchmarks.large",
        formatter_class=HelpWithDefaults,
    )
    parser.add_argument("--model", default="checkpoints/streets", help="pipeline folder")
    parser.add_argument("--image", help="a photo; default: a procedural street of 4000x3000 pixels")
    parser.add_argument("--rounds", type=count, default=2, help="of feedback")
    parser.add_argument("--mask", help=argparse.SUPPRESS)
    parser.add_argument("--output", help=argparse.SUPPRESS)
    args = parser.parse_args()
    return exit_code(lambda: fill(args) if args.mask else print_costs(args))


def print_costs(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        photo = load_image(args.image) if args.image else procedural_photo()
        names = {name: str(Path(folder) / f"{name}.png") for name in ("image", "mask", "output")}
        photo.save(names["image"])
        for share in tqdm(SHARES, desc="fill", unit="hole"):
            mask = make_mask(photo.size, share)
            Image.fromarray(mask).save(names["mask"])
            command = [sys.executable, "-m", "benchmarks.large", "--model", args.model, "--rounds", str(args.rounds)]
            command += [option for name, path in names.items() for option in (f"--{name}", path)]
            child = subprocess.run(command, capture_output=True, text=True)
            if child.returncode:
                said = child.stderr.strip() or f"a fill ended with {child.returncode}"
                raise InputError(said.splitlines()[-1].removeprefix("error: "))
            cost = json.loads(child.stdout.splitlines()[-1])
            found = cost | border(np.asarray(load_image(names["output"])), np.asarray(photo.convert("RGB")), mask)
            figures = ", ".join(f"{name} {value:.2f}" for name, value in found.items())
            tqdm.write(f"{photo.width}x{photo.height}, {mask.mean():.0%} hole: {figures}")


if __name__ == "__main__":
    raise SystemExit(main())
