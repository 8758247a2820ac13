"""Fill the tables of our pages from reports of `fbinpaint evaluate` and of the benchmarks that leave reports.

    python -m benchmarks.table README.md model_card.md docs/results.md docs/scores.md docs/peers.md

A page says which reports belong where; whatever stands between these two lines is replaced:

    <!-- report docs/reports/streets.json -->     all scores of one report, and what two rounds change, with intervals
    <!-- methods docs/reports/a.json ... -->      a row for each report: a column for each method, the models' own last
    <!-- scores docs/reports/a.json ... -->       a row for each report: a classical method, no rounds, two rounds
    <!-- feedback docs/reports/a.json ... -->     a column for each report: two rounds against none, and every control
    <!-- classes docs/reports/a.json -->          IoU by class
    <!-- removal docs/reports/a.json ... -->      a row for each report and judge: what is still seen of what is removed
    <!-- peers docs/reports/a.json -->            what peers and ours score and cost, and two rounds against each
    <!-- exemplars docs/reports/a.json -->        a row for each bank of exemplars: maps and fills, against none
    <!-- /report -->
"""

import argparse
import re
from collections.abc import Callable
from pathlib import Path

from benchmarks.peers.evaluation import table as costs_table
from benchmarks.reports import exit_code
from fbinpaint.arguments import HelpWithDefaults
from fbinpaint.errors import InputError
from fbinpaint.evaluation.report import change, class_table, harm_table, markdown_table, sentence, sizes, table
from fbinpaint.system.files import read_json, whole_file

BLOCK = re.compile(
    r"(<!-- (?P<kind>report|methods|scores|feedback|classes|removal|peers|exemplars) (?P<paths>[^>]+) -->\n)"
    r".*?(<!-- /report -->)",
    re.DOTALL,
)
ROUNDS = 2  # the pipeline's own number
CLASSICAL = {"telea": "Telea", "navier-stokes": "Navier-Stokes"}
CONTROLS = {
    "frozen-map": "map frozen at round 0 (`frozen-map`)",
    "resegmented": "map of the segmenter alone, anew each round (`resegmented`)",
    "resegmented-mean": "mean of the segmenter's first and newest map (`resegmented-mean`)",
    "shuffled-map": "another photo's map (`shuffled-map`)",
    "oracle": "true map, labelled photos (`oracle`)",
    "random-exemplar": "layouts of random exemplars (`random-exemplar`)",
    "no-exemplars": "feedback without exemplars (`no-exemplars`)",
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Fill the tables of a page from reports of `fbinpaint evaluate`.",
        epilog="example: python -m benchmarks.table README.md",
        formatter_class=HelpWithDefaults,
    )
    parser.add_argument("page", type=Path, nargs="+", help="with lines <!-- report PATH --> and <!-- /report -->")
    pages = parser.parse_args().page

    def fill_all() -> None:
        for page in pages:
            fill(page)

    return exit_code(fill_all)


def fill(page: Path) -> None:
    """Brings a file up to date. Raises InputError for one that cannot be read, and as `filled`."""
    try:
        text = page.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{page}: cannot be read ({reason}); name a page in Markdown") from error
    try:
        text = filled(text)
    except InputError as error:
        raise InputError(f"{page}: {error}") from error
    with whole_file(page) as temporary:
        temporary.write_text(text, encoding="utf-8")


def filled(page: str) -> str:
    """The Markdown of a page with the tables of the reports it names. Raises InputError where it names none, and
    for a report that is missing, damaged, or lacks what its table shows."""
    if not BLOCK.search(page):
        raise InputError("the page has no line <!-- report PATH -->; put one where a table belongs")

    def tables(block: re.Match) -> str:
        reports = [read_json(Path(path)) for path in block["paths"].split()]
        try:
            return f"{block[1]}{KINDS[block['kind']](reports)}\n{block[4]}"
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{block['paths']}: cannot fill a table of {block['kind']} ({error}); it needs one report of one model "
                f"(methods, scores, feedback: some), with rounds=0, rounds={ROUNDS} as the highest, and telea; "
                "removal, peers, exemplars: of these benchmarks"
            ) from error

    return BLOCK.sub(tables, page)


def whole_report(reports: list[dict]) -> str:
    """A report's table; what two rounds change, with intervals; for a comparison also what became of the classes."""
    (report,) = reports
    protocol = report["protocol"]
    parts = [
        f"**{protocol['data']}**, {protocol['n']} photos, {sizes(protocol)}:",
        table(report),
        *(sentence(report, pair) for pair in report["paired"] if worth_telling(pair)),
    ]
    if isinstance(protocol["model"], dict) and (harm := harm_table(report)):
        parts += ["Labelled hole pixels whose class was fixed or broken since round 0:", harm]
    return "\n\n".join(parts)


def worth_telling(pair: str) -> bool:
    """Two rounds against whatever has no rounds, fewer or as many; a control against as many rounds as it has."""
    ours, theirs = pair.split(" vs ")
    rounds, _, control = theirs.partition(", ")
    return ours == rounds if control else ours.split(": ")[-1] == f"rounds={ROUNDS}"


def methods_table(reports: list[dict]) -> str:
    """LPIPS-Alex / PSNR of every method, a row for each report. Peers and other tools of a report have columns of their
    own, with "-" in the rows of reports that lack them; controls have none."""
    ours = {"rounds=0": "fbinpaint, one pass", f"rounds={ROUNDS}": f"fbinpaint, {ROUNDS} rounds of feedback"}
    scored = [name for report in reports for name in report["variants"]]
    others = {name: name for name in scored if not name.startswith("rounds=") and name not in CLASSICAL}
    columns = CLASSICAL | others | ours
    rows = [["photos", *columns.values()], ["---"] * (len(columns) + 1)]
    for report in reports:
        scores = {name: variant["overall"] for name, variant in report["variants"].items()}
        shown = [scores[name] if name in ours else scores.get(name) for name in columns]
        rows.append([of_photos(report), *(scores_cell(one) if one else "-" for one in shown)])
    return markdown_table(rows)


def scores_table(reports: list[dict]) -> str:
    """LPIPS-Alex / PSNR of a classical method and of the model, and the model's hole mIoU, a row for each report."""
    titles = ["photos", "Telea", "rounds=0", f"rounds={ROUNDS}", "mIoU in the hole, before", "after", "intact photos"]
    rows = [titles, ["---"] * len(titles)]
    for report in reports:
        variants = {name: variant["overall"] for name, variant in report["variants"].items()}
        shown = [variants[name] for name in ("telea", "rounds=0", f"rounds={ROUNDS}")]
        maps = [shown[-1]["miou_hole_before"], shown[-1]["miou_hole_after"], (report["intact"] or {}).get("miou")]
        rows.append(
            [of_photos(report)]
            + [scores_cell(one) for one in shown]
            + ["-" if value is None else f"{value:.3f}" for value in maps]
        )
    return markdown_table(rows)


def scores_cell(scores: dict) -> str:
    return f"{scores['lpips_alex']:.4f} / {scores['psnr']:.2f}"


def feedback_table(reports: list[dict]) -> str:
    """By how much two rounds differ from what they are measured against, in LPIPS-Alex, PSNR and hole mIoU."""
    against = {"rounds=0": "no rounds"} | {f"rounds={ROUNDS}, {name}": text for name, text in CONTROLS.items()}
    rows = [[f"{ROUNDS} rounds against", *map(of_photos, reports)], ["---"] * (len(reports) + 1)]
    for other, text in against.items():
        cells = [changes(report, other) for report in reports]
        if any(cell != "-" for cell in cells):  # a control that was not run anywhere has no row
            rows.append([text, *cells])
    return markdown_table(rows)


def of_photos(report: dict) -> str:
    protocol = report["protocol"]
    return f"{protocol['data']}, {protocol['n']}, at {protocol['resolution']}"


def changes(report: dict, other: str) -> str:
    """Of two rounds against another method, with intervals; "-" where there is none, as an oracle without labels."""
    if (method := other.partition(", ")[2]) and method not in report_methods(report):
        return "-"
    compared = report["paired"][f"rounds={ROUNDS} vs {other}"]
    names = {"lpips_alex": "LPIPS", "psnr": "PSNR", "miou_hole_after": "mIoU"}
    if method == "oracle":
        del names["miou_hole_after"]  # the labels against themselves
    found = {name: change(compared[key]) for key, name in names.items()}
    return "<br>".join(f"{name} {text}" for name, text in found.items() if text)


def report_methods(report: dict) -> set[str]:
    """The controls of a report, whatever their number of rounds."""
    return {name.partition(", ")[2] for name in report["variants"]}


def classes(reports: list[dict]) -> str:
    (report,) = reports
    protocol = report["protocol"]
    title = f"{protocol['data']}, {report['intact']['n']} labelled photos, at {protocol['resolution']}"
    return f"**{title}**\n\n{class_table(report)}"


def removal_table(reports: list[dict]) -> str:
    """What share of the hole a judge takes for what was removed, and what forbidding costs where nothing has to go."""
    titles = ["removed", "found in", "of the photos filled", "judge", "seen in the hole: intact", "forbidden",
              "not forbidden", "Telea", "seen where there is none", "LPIPS there, forbidden against not"]  # fmt: skip
    rows = [titles, ["---"] * len(titles)]
    for report in reports:
        what = f"{', '.join(report['classes'])} ({', '.join(report['data'])})"
        for judge, seen in report["judges see in the hole"].items():
            rows.append(
                [what, f"{report['found']} of {report['photos']}", f"{report['hole']:.1%}", judge.split("/")[-1]]
                + [f"{seen[name]:.2%}" for name in ("intact", "forbidden", "not forbidden", "telea")]
                + [f"{report['moved holes']['judges see in the intact photo'][judge]:.2%}"]
                + [change(report["moved holes"]["forbidden vs not"])]
            )
    return markdown_table(rows)


def peers_table(reports: list[dict]) -> str:
    (report,) = reports
    protocol = report["protocol"]
    against = [pair for pair in report["paired"] if worth_telling(pair) and "frozen-map" not in pair]
    return "\n\n".join(
        [
            f"**{protocol['data']}**, {protocol['n']} photos, {sizes(protocol)}; {protocol['costs']}:",
            costs_table(report),
            "\n".join(f"- {sentence(report, pair)}" for pair in against),
        ]
    )


def exemplars_table(reports: list[dict]) -> str:
    """What each bank's maps and fills score, and their change against those without exemplars."""
    (report,) = reports
    protocol = report["protocol"]
    titles = ["exemplars", "weights", "mIoU, intact", "accuracy, intact", "mIoU in the hole", "accuracy in the hole",
              "LPIPS-Alex"]  # fmt: skip
    rows = [titles, ["---"] * len(titles)]
    for name, bank in report["banks"].items():
        cells = [name, ", ".join(f"{weight:g}" for weight in bank["weights"])]
        for part in ("intact", "hole"):
            against = bank[part].get("against none")
            cells.append(with_change(f"{bank[part]['miou']:.3f}", against and change(against["miou"])))
            cells.append(with_change(f"{bank[part]['accuracy']:.3f}", against and points(against["accuracy"])))
        fills = bank["lpips_alex"]
        cells.append(with_change(f"{fills['mean']:.4f}", change(fills.get("against none"))))
        rows.append(cells)
    title = f"**{protocol['data']}**, {protocol['n']} photos, {sizes(protocol)}"
    return f"{title}; in brackets the change against no exemplars:\n\n{markdown_table(rows)}"


def with_change(value: str, changed: str | None) -> str:
    return f"{value} ({changed})" if changed else value


def points(gain: dict) -> str:
    difference, low, high = (round(100 * x, 1) + 0.0 for x in (gain["difference"], *gain["ci95"]))  # no "-0.0"
    return f"{difference:+.1f} points [{low:+.1f}, {high:+.1f}]"


KINDS: dict[str, Callable[[list[dict]], str]] = {
    "report": whole_report,
    "methods": methods_table,
    "scores": scores_table,
    "feedback": feedback_table,
    "classes": classes,
    "removal": removal_table,
    "peers": peers_table,
    "exemplars": exemplars_table,
}


if __name__ == "__main__":
    raise SystemExit(main())
