"""The end of every command here that leaves a report."""

import json
from collections.abc import Callable
from pathlib import Path

from fbinpaint.errors import InputError
from fbinpaint.files import whole_file


def print_report(measure: Callable[[], dict], output: Path | None) -> int:
    """Measures, prints the report and writes it to `output`, if there is one; the exit code, 1 after an InputError."""
    try:
        report = measure()
    except InputError as error:
        print(f"error: {error}")
        return 1
    text = json.dumps(report, indent=2) + "\n"
    print(text, end="")
    if output:
        with whole_file(output) as temporary:
            temporary.write_text(text)
    return 0
