"""Print reports of `fbinpaint evaluate` as Markdown: the tables of README.md and model_card.md.

    python -m benchmarks.table docs/reports/streets.json docs/reports/faces.json
"""

import argparse
import json
from pathlib import Path

COLUMNS = {
    "lpips_alex": ("LPIPS-Alex", "{:.4f}"),
    "lpips_vgg": ("LPIPS-VGG", "{:.4f}"),
    "psnr": ("PSNR", "{:.2f}"),
    "ssim": ("SSIM", "{:.4f}"),
    "psnr_hole": ("PSNR in hole", "{:.2f}"),
    "miou_hole_after": ("mIoU in hole", "{:.3f}"),
}


def table(report: dict) -> str:
    rows = [["variant", *(title for title, _ in COLUMNS.values())], ["---"] * (len(COLUMNS) + 1)]
    for name, variant in report["variants"].items():
        scores = variant["overall"]
        cells = ["-" if scores[key] is None else form.format(scores[key]) for key, (_, form) in COLUMNS.items()]
        rows.append([name, *cells])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def comparison(report: dict, pair: str) -> str:
    """One sentence: the relative change of each metric with its 95 % interval."""
    changes = [
        f"{COLUMNS[key][0]} {100 * x['relative']:+.1f} % [{100 * x['ci95'][0]:+.1f}, {100 * x['ci95'][1]:+.1f}]"
        for key, x in report["paired"][pair].items()
        if x is not None
    ]
    return f"{pair}: " + ", ".join(changes) + "."


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
                print(comparison(report, pair) + "\n")


if __name__ == "__main__":
    main()
