"""A page that asks people which of two results they prefer: ours, or another tool's, without saying which is which.

    python -m benchmarks.preference --ours filled/ours --other filled/lama --output answers.csv

Both folders hold results of the same photos under the same names, such as other tools save after `fbinpaint evaluate
--export-protocol`. Every visitor sees the photos in an order of their own, each with sides drawn at random, and must
choose one. An answer is a row of the CSV file the moment it is given: a later run adds to it, and says how it stands.
"""

import argparse
import csv
import secrets
import threading
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import gradio as gr
import numpy as np
from scipy.stats import binomtest

from benchmarks.reports import exit_code
from fbinpaint.arguments import HelpWithDefaults, positive
from fbinpaint.errors import InputError
from fbinpaint.images.convert import to_rgb
from fbinpaint.images.folders import files_by_stem
from fbinpaint.images.io import load_image

COLUMNS = ("time", "visitor", "photo", "left", "preferred")  # of the CSV file; the last two are "ours" or "other"
SIDES = ("ours", "other")
THANKS = "That was the last one. Thank you!"


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Ask people which of two results they prefer.",
        epilog="example: python -m benchmarks.preference --ours filled/ours --other filled/lama --output answers.csv",
        formatter_class=HelpWithDefaults,
    )
    add = parser.add_argument
    add("--ours", type=Path, required=True, metavar="DIR", help="results")
    add("--other", type=Path, required=True, metavar="DIR", help="another tool's, with the same names")
    add("--output", type=Path, required=True, metavar="answers.csv", help="rows are added to it")
    add("--host", default="127.0.0.1", help="where the page listens")
    add("--port", type=positive, default=7861, help="where the page listens")
    args = parser.parse_args()

    def serve() -> None:
        page = build_page(args.ours, args.other, args.output)
        print(tally(args.output))
        page.launch(server_name=args.host, server_port=args.port, show_error=True)

    return exit_code(serve)


def build_page(ours: Path, other: Path, output: Path) -> gr.Blocks:
    """The page. Raises InputError for folders whose names differ, and for a CSV file that is another."""
    files = pairs_of(ours, other)
    check_answers(output)
    lock = threading.Lock()  # visitors answer at the same time

    def show(visit: dict) -> tuple[dict, np.ndarray | None, np.ndarray | None, str]:
        if visit["at"] == len(visit["photos"]):
            return visit, None, None, THANKS
        photo, left = visit["photos"][visit["at"]], visit["left"][visit["at"]]
        one, other = (to_rgb(load_image(files[photo][SIDES.index(side)])) for side in (left, opposite(left)))
        return visit, one, other, f"{visit['at'] + 1} of {len(visit['photos'])}"

    def start() -> tuple[dict, np.ndarray | None, np.ndarray | None, str]:
        return show(draw_visit(list(files), np.random.default_rng()))

    def answer(visit: dict, chose_left: bool) -> tuple[dict, np.ndarray | None, np.ndarray | None, str]:
        if visit["at"] == len(visit["photos"]):
            return show(visit)
        photo, left = visit["photos"][visit["at"]], visit["left"][visit["at"]]
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        with lock:
            add_answer(output, [now, visit["visitor"], photo, left, left if chose_left else opposite(left)])
        return show(visit | {"at": visit["at"] + 1})

    def choose_left(visit: dict) -> tuple[dict, np.ndarray | None, np.ndarray | None, str]:
        return answer(visit, True)

    def choose_right(visit: dict) -> tuple[dict, np.ndarray | None, np.ndarray | None, str]:
        return answer(visit, False)

    with gr.Blocks(title="Which one?", analytics_enabled=False) as page:
        gr.Markdown("## Which picture looks more like an untouched photo?")
        visit, progress = gr.State(), gr.Markdown()
        with gr.Row():
            pictures = [gr.Image(label=side, format="png", interactive=False) for side in ("left", "right")]
        with gr.Row():
            buttons = [gr.Button(f"The {side} one", variant="primary") for side in ("left", "right")]
        shown = [visit, *pictures, progress]
        page.load(start, None, shown, api_name="start")
        for button, chosen in zip(buttons, (choose_left, choose_right), strict=True):
            button.click(chosen, visit, shown, api_name=chosen.__name__)
    return page


def pairs_of(ours: Path, other: Path) -> dict[str, tuple[Path, Path]]:
    """Stem -> our result and the other. Raises InputError for what one folder alone has, or has twice, and for none."""
    found = of_us, of_other = files_by_stem(ours), files_by_stem(other)
    for mine, theirs, folder in ((of_us, of_other, other), (of_other, of_us, ours)):
        if lacking := sorted(mine.keys() - theirs.keys()):
            more = f" and {len(lacking) - 1} more" if lacking[1:] else ""
            raise InputError(f"{folder}: lacks {lacking[0]}{more}; put the same results into both folders")
        if twice := [paths for paths in mine.values() if len(paths) > 1]:
            raise InputError(f"{', '.join(map(str, twice[0]))}: have the same name; keep one")
    if not found[0]:
        raise InputError(f"{ours}: holds no picture; name a folder of results")
    return {stem: (found[0][stem][0], found[1][stem][0]) for stem in found[0]}


def draw_visit(photos: Sequence[str], generator: np.random.Generator) -> dict:
    """What a visitor will see: photos in random order, and whose result is on the left."""
    order = generator.permutation(len(photos))
    return {
        "visitor": secrets.token_hex(4),
        "photos": [photos[i] for i in order],
        "left": [SIDES[i] for i in generator.integers(2, size=len(photos))],
        "at": 0,
    }


def opposite(side: str) -> str:
    return SIDES[1 - SIDES.index(side)]


def add_answer(path: Path, row: Sequence[str]) -> None:
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([row] if file.tell() else [COLUMNS, row])


def check_answers(path: Path) -> list[dict[str, str]]:
    """The rows of the CSV file, none where it is not there or empty. Raises InputError where it is not one of ours."""
    if not path.exists():
        if not path.parent.is_dir():
            raise InputError(f"{path.parent}: no such folder; make it, or name another --output")
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            columns, rows = reader.fieldnames, list(reader)
    except (OSError, UnicodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error}); name a new --output") from error
    if columns is None:  # no line in it
        return []
    if tuple(columns) != COLUMNS or any(row["preferred"] not in SIDES for row in rows):
        raise InputError(f"{path}: is no file of answers; name a new --output")
    return rows


def tally(path: Path) -> str:
    """How often ours was preferred, with Wilson's 95 % interval, which takes answers of one visitor as independent."""
    preferred = [row["preferred"] for row in check_answers(path)]
    if not preferred:
        return f"{path}: no answers yet"
    test = binomtest(preferred.count("ours"), len(preferred))
    low, high = test.proportion_ci(method="wilson")
    return f"{path}: {len(preferred)} answers, ours preferred in {test.statistic:.1%} [{low:.1%}, {high:.1%}]"


if __name__ == "__main__":
    raise SystemExit(main())
