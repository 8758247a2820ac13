"""Print reports of `fbinpaint evaluate` as Markdown: the tables of README.md and model_card.md.

    python -m benchmarks.table docs/reports/streets.json docs/reports/faces.json
"""

import argparse
import json
from pathlib import Path

from fbinpaint.report import sentence, table


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Print reports of `fbinpaint evaluate` as Markdown.",
        epilog="example: python -m benchmarks.table docs/reports/streets.json",
    )
    parser.add_argument("report", type=Path, nargs="+")
    for path in parser.parse_args().report:
        report = json.loads(path.read_text())
        protocol = report["protocol"]
        print(f"**{path.stem}**, {protocol['n']} photos, shorter side {protocol['resolution']} pixels:\n")
        print(table(report) + "\n")
        for pair in report["paired"]:
            if "rounds=2 vs" in pair:
                print(sentence(report, pair) + "\n")


if __name__ == "__main__":
    main()
