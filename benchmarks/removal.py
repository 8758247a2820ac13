"""Whether things that were removed by name are gone: an independent segmenter looks for them in what was painted.

    python -m benchmarks.removal --model checkpoints/streets --data streets/val --classes car --judge judges/streets

Of every photo whose label shows one of the classes, the things that the model's own map shows are taken out, as `run
--remove` does it: with these classes forbidden, without, and by Telea's method. The judge (`python -m benchmarks.judge`
makes one) is asked what share of the hole shows one of them. There is no truth behind a thing; what forbidding costs is
measured where nothing has to go: holes of the same shapes, moved to where the label shows none of the classes. What the
judge sees there in the photo itself is how often it is wrong.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from benchmarks.reports import check_grid, print_report, stacked
from fbinpaint import FeedbackInpaintPipeline
from fbinpaint.arguments import HelpWithDefaults, count, names, positive
from fbinpaint.cli import load_pipeline
from fbinpaint.data.photos import read_labels, read_photo
from fbinpaint.data.rows import evenly_spaced, labelled_rows
from fbinpaint.data.sources import load_photos
from fbinpaint.errors import InputError
from fbinpaint.evaluation.methods import fill_with_baseline
from fbinpaint.evaluation.metrics import LPIPS, LPIPS_MIN_SIDE, paired_relative
from fbinpaint.evaluation.photos import Sample
from fbinpaint.hub.saved import read_label_space
from fbinpaint.images.folders import naming
from fbinpaint.images.io import save_image
from fbinpaint.images.tensors import to_tensor
from fbinpaint.labels import IGNORE
from fbinpaint.models import Segmenter
from fbinpaint.pipeline.segmentation import segment_photos
from fbinpaint.removal import Removal, remove

SEED, ROUNDS = 0, 2
PLACES = 200  # tried for each hole that is moved
METHODS = ("forbidden", "not forbidden", "telea")
MAX_GRID_ROWS = 12


@dataclass
class Case:
    """A photo (H,W,3) uint8, and what was made of it: (H,W,3) uint8 by method."""

    photo: np.ndarray
    removal: Removal
    results: dict[str, np.ndarray]


def load_judge(folder: str, pipe: FeedbackInpaintPipeline) -> Segmenter:
    """The segmenter in a folder. Raises InputError where there is none, or one of other classes."""
    path = Path(folder) / "segmenter"
    if not path.is_dir():
        raise InputError(f"{path}: no such folder; make a judge with `python -m benchmarks.judge`, or name a model")
    judge = Segmenter.from_pretrained(path).eval().requires_grad_(False)
    space = judge.label_space or read_label_space(Path(folder))  # an older one does not say, its pipeline does
    if space != pipe.label_space:
        raise InputError(f"{folder}: is of {space.name}, the model of {pipe.label_space.name}")
    return judge.to(pipe.device)


def fill(pipe: FeedbackInpaintPipeline, photo: np.ndarray, hole: np.ndarray, forbidden: list[int]) -> np.ndarray:
    out = pipe(photo, hole, num_feedback_rounds=ROUNDS, forbidden=forbidden)
    return np.array(out.images[0])


def telea(photo: np.ndarray, hole: np.ndarray) -> np.ndarray:
    return fill_with_baseline("telea", Sample("", photo, hole, truth=None)).image


def move(hole: np.ndarray, taken: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The pieces of a hole, each at a random place where nothing is taken; those that fit nowhere are left out."""
    moved = np.zeros_like(hole)
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(hole.astype(np.uint8), connectivity=8)
    for piece in range(1, count):
        left, top, width, height, _ = stats[piece]
        shape = pieces[top : top + height, left : left + width] == piece
        for _ in range(PLACES):
            row = generator.integers(hole.shape[0] - height + 1)
            column = generator.integers(hole.shape[1] - width + 1)
            place = slice(row, row + height), slice(column, column + width)
            if not (shape & (taken | moved)[place]).any():
                moved[place] |= shape
                break
    return moved


def measure(
    model: str,
    judge_folders: list[str],
    folders: list[str],
    classes: list[str],
    resolution: int,
    shadow: bool,
    retries: int,
    grid: Path | None,
) -> dict:
    """The report. Raises InputError for models of different classes, and for files that are missing or unreadable."""
    check_grid(grid)
    if resolution < LPIPS_MIN_SIDE:
        raise InputError(f"--resolution {resolution}: LPIPS needs {LPIPS_MIN_SIDE} pixels or more")
    if not classes:
        raise InputError("--classes: names no class; name one or more, with commas between")
    pipe = load_pipeline(model)
    judges = load_judges(judge_folders, pipe)
    ids = pipe.label_space.class_ids(classes)
    rows = labelled_rows(load_photos(folders))
    rows = [row for row in rows if np.isin(read_labels(row, pipe.label_space), ids).any()]
    if not rows:
        raise InputError(f"{' '.join(folders)}: no label shows {', '.join(classes)}; name other photos or classes")

    def seen_by(judge: Segmenter, image: np.ndarray) -> np.ndarray:
        """Where the judge sees one of the classes, (H,W) bool."""
        labels = segment_photos(judge, [image], pipe.label_space, pipe.config.sample_size, pipe.device)[0]
        return np.isin(labels, ids)

    lpips = LPIPS("alex", device=pipe.device)
    cases, moved, moved_pixels, seen_by_itself = [], [], 0, []
    seen: dict[str, dict[str, list]] = {folder: {name: [] for name in ("intact", *METHODS)} for folder in judges}
    wrong: dict[str, list[int]] = {folder: [] for folder in judges}
    for number, row in enumerate(tqdm(rows, desc="remove", unit="photo")):
        photo, label = read_photo(row, resolution, pipe.label_space)
        with naming(row["name"]):
            (removal,) = remove(pipe, Image.fromarray(photo), ids, None, ROUNDS, shadow=shadow, retries=retries)
        if not removal.found:
            continue
        hole = removal.mask
        results = {
            "forbidden": np.array(removal.image),
            "not forbidden": fill(pipe, photo, hole, []),
            "telea": telea(photo, hole),
        }
        cases.append(Case(photo, removal, results))
        elsewhere = move(hole, np.isin(label, [*ids, IGNORE]) | hole, np.random.default_rng([SEED, number]))
        moved_pixels += int(elsewhere.sum())
        for folder, judge in judges.items():
            where = {name: seen_by(judge, image) for name, image in {"intact": photo, **results}.items()}
            for name in where:
                seen[folder][name].append(int(where[name][hole].sum()))
            wrong[folder].append(int(where["intact"][elsewhere].sum()))
        seen_by_itself.append(sum(removal.seen_again.values()) * int(hole.sum()))
        if elsewhere.any():
            images = [fill(pipe, photo, elsewhere, ids), fill(pipe, photo, elsewhere, []), telea(photo, elsewhere)]
            truth = lpips.features(to_tensor(photo))
            moved.append([float(lpips.distance(lpips.features(to_tensor(image)), truth)) for image in images])
    pixels = sum(int(case.removal.mask.sum()) for case in cases)
    if grid and cases:
        save_image(Image.fromarray(draw(cases, pipe)), grid)
    report = {
        "model": model,
        "data": [short_name(folder) for folder in folders],
        "classes": [pipe.label_space.classes[i] for i in ids],
        "resolution": resolution,
        "rounds": ROUNDS,
        "shadow": shadow,
        "retries": retries,
        "photos": len(rows),
        "found": len(cases),
        "hole": round(pixels / max(1, sum(case.removal.mask.size for case in cases)), 4),
        "judges see in the hole": {
            judge: {name: round(sum(counts) / max(1, pixels), 4) for name, counts in of_judge.items()}
            for judge, of_judge in seen.items()
        },
        "the model itself sees": round(sum(seen_by_itself) / max(1, pixels), 4),
    }
    if moved:
        report["moved holes"] = moved_holes(np.array(moved), moved_pixels, wrong)
    return report


def load_judges(folders: list[str], pipe: FeedbackInpaintPipeline) -> dict[str, Segmenter]:
    """By short name. Raises InputError where two have the same."""
    judges = {short_name(folder): load_judge(folder, pipe) for folder in folders}
    if len(judges) < len(folders):
        raise InputError(f"--judge: two are called {' or '.join(judges)}; rename one, as the report calls them so")
    return judges


def moved_holes(scores: np.ndarray, pixels: int, wrong: dict[str, list[int]]) -> dict:
    """What is reported of holes that were moved to where no such thing is.

    scores: (photos, METHODS), LPIPS; pixels: of all these holes; wrong: of each judge, the pixels of each hole that it
        takes for one of the classes in the intact photo
    """
    return {
        "photos": len(scores),
        "judges see in the intact photo": {judge: round(sum(counts) / pixels, 4) for judge, counts in wrong.items()},
        "lpips_alex": {name: round(float(scores[:, i].mean()), 5) for i, name in enumerate(METHODS)},
        "forbidden vs not": paired_relative(scores[:, 0], scores[:, 1], SEED),
    }


def short_name(folder: str) -> str:
    return "/".join(Path(folder).resolve().parts[-2:])


def draw(cases: list[Case], pipe: FeedbackInpaintPipeline) -> np.ndarray:
    """Some of the cases, a row each: photo, map, photo with its hole, forbidden, not forbidden, Telea."""
    rows = []
    for case in (cases[i] for i in evenly_spaced(len(cases), MAX_GRID_ROWS)):
        colours = pipe.label_space.colorize(np.asarray(case.removal.semantic_before))
        masked = np.where(case.removal.mask[..., None], np.uint8(255), case.photo)
        rows.append(np.concatenate([case.photo, colours, masked, *case.results.values()], axis=1))
    return stacked(rows)


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Remove things by name, and tell how much of them an independent segmenter still sees.",
        epilog="example: python -m benchmarks.removal --model checkpoints/streets --data streets/val --classes car "
        "--judge judges/streets",
        formatter_class=HelpWithDefaults,
    )
    parser.add_argument("--model", required=True, metavar="DIR|HUB_ID")
    parser.add_argument(
        "--judge", nargs="+", required=True, metavar="DIR", help="models whose segmenter/ looks at the results"
    )
    parser.add_argument("--data", nargs="+", required=True, metavar="DIR", help="labelled photos, as for training")
    parser.add_argument("--classes", type=names, required=True, metavar="NAME,...", help="what is removed, together")
    parser.add_argument("--resolution", type=positive, default=256, help="shorter side, pixels")
    parser.add_argument("--shadow", action="store_true", help="as of `run`")
    parser.add_argument("--retries", type=count, default=0, help="as of `run`")
    parser.add_argument("--output", type=Path, metavar="report.json", help="default: it is only printed")
    parser.add_argument(
        "--grid", type=Path, metavar="grid.png",
        help="photo, map, hole, forbidden, not forbidden, Telea (default: none)",
    )  # fmt: skip
    args = parser.parse_args()
    return print_report(
        lambda: measure(
            args.model, args.judge, args.data, args.classes, args.resolution, args.shadow, args.retries, args.grid
        ),
        args.output,
    )


if __name__ == "__main__":
    raise SystemExit(main())
