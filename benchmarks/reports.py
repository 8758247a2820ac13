"""The end of every command here: wrong input in one line, and, of those that leave one, the report."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fbinpaint.errors import InputError, printable
from fbinpaint.images.io import SAVE_FORMATS
from fbinpaint.system.files import strict, whole_file


def stacked(rows: list[np.ndarray]) -> np.ndarray:
    """Pictures (H,W,3) uint8 below each other, the narrower ones white at their right."""
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    return np.concatenate(padded)


def check_grid(grid: Path | None) -> None:
    """Raises InputError where a picture cannot be written there: before the long work, not after."""
    if grid and not grid.parent.is_dir():
        raise InputError(f"{grid.parent}: no such folder; make it, or name another --grid")
    if grid and grid.suffix.lower() not in SAVE_FORMATS:
        raise InputError(f"{grid}: is no picture by its suffix; write grid.png")


def exit_code(command: Callable[[], object]) -> int:
    """Of a command: 0, or 1 after an InputError, which is one line on stderr."""
    try:
        command()
    except InputError as error:
        print(printable(f"error: {error}"), file=sys.stderr)
        return 1
    return 0


def print_report(measure: Callable[[], dict], output: Path | None) -> int:
    """Measures, prints the report and writes it to `output`, if there is one; the exit code."""

    def command() -> None:
        if output and not os.path.isdir(output.parent):  # before the long work, not after
            raise InputError(f"{output.parent}: no such folder; make it, or name another --output")
        text = json.dumps(strict(measure()), indent=2, allow_nan=False) + "\n"
        print(text, end="")
        if output:
            with whole_file(output) as temporary:
                temporary.write_text(text)

    return exit_code(command)
