"""Fill the tables of README.md, model_card.md and docs/results.md from reports of `fbinpaint evaluate`.

    python -m benchmarks.table README.md model_card.md docs/results.md

A page says which report belongs where; whatever stands between these two lines is replaced:

    <!-- report docs/reports/streets.json -->
    <!-- /report -->
"""

import argparse
import json
import re
from pathlib import Path

from fbinpaint.errors import InputError
from fbinpaint.files import whole_file
from fbinpaint.report import harm_table, sentence, sizes, table

BLOCK = re.compile(r"(<!-- report (?P<path>\S+) -->\n).*?(<!-- /report -->)", re.DOTALL)


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Fill the tables of a page from reports of `fbinpaint evaluate`.",
        epilog="example: python -m benchmarks.table README.md",
    )
    parser.add_argument("page", type=Path, nargs="+", help="with lines <!-- report PATH --> and <!-- /report -->")
    try:
        for page in parser.parse_args().page:
            text = filled(page.read_text())
            with whole_file(page) as temporary:
                temporary.write_text(text)
    except (InputError, OSError) as error:
        print(f"error: {error}")
        return 1
    return 0


def filled(page: str) -> str:
    """The Markdown of a page with the tables of the reports it names. Raises InputError where it names none."""
    if not BLOCK.search(page):
        raise InputError("the page has no line <!-- report PATH -->; put one where a table belongs")
    return BLOCK.sub(lambda block: f"{block[1]}{figures(Path(block['path']))}{block[3]}", page)


def figures(path: Path) -> str:
    """A report's table; what two rounds change, with intervals; for a comparison also what became of the classes."""
    report = json.loads(path.read_text())
    protocol = report["protocol"]
    parts = [
        f"**{protocol['data']}**, {protocol['n']} photos, {sizes(protocol)}:",
        table(report),
        *(sentence(report, pair) for pair in report["paired"] if worth_telling(pair)),
    ]
    if isinstance(protocol["model"], dict) and (harm := harm_table(report)):
        parts += ["Labelled hole pixels whose class was fixed or broken since round 0:", harm]
    return "\n\n".join(parts) + "\n"


def worth_telling(pair: str) -> bool:
    """Two rounds against whatever has no rounds, fewer or as many; a control against as many rounds as it has."""
    ours, theirs = pair.split(" vs ")
    rounds, _, control = theirs.partition(", ")
    return ours == rounds if control else ours.endswith("rounds=2")


if __name__ == "__main__":
    raise SystemExit(main())
