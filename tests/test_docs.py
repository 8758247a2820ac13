"""The figures on our pages are those of the reports that they name."""

import json
from pathlib import Path

import pytest

from benchmarks.table import filled
from fbinpaint.errors import InputError

ROOT = Path(__file__).parents[1]
PAGES = {"README.md": 2, "model_card.md": 2, "docs/results.md": 16}  # and how many tables each has


@pytest.mark.parametrize("name, tables", PAGES.items())
def test_tables_are_those_of_the_reports(name, tables, monkeypatch):
    monkeypatch.chdir(ROOT)
    page = (ROOT / name).read_text()
    assert page.count("<!-- /report -->") == tables
    assert filled(page) == page, f"{name} is out of date; run python -m benchmarks.table {name}"


def test_a_changed_figure_is_put_right(monkeypatch):
    monkeypatch.chdir(ROOT)
    lpips = json.loads(Path("docs/reports/streets.json").read_text())["variants"]["rounds=2"]["overall"]["lpips_alex"]
    page = "Before.\n\n<!-- report docs/reports/streets.json -->\n| rounds=2 | 0.0001 |\n<!-- /report -->\n\nAfter.\n"
    text = filled(page)
    assert f"| rounds=2 | {lpips:.4f} |" in text and "0.0001" not in text
    assert text.startswith("Before.\n") and text.endswith("\nAfter.\n") and filled(text) == text


def test_a_table_of_several_reports(monkeypatch):
    """A row, or a column, for each: what is shown is what the reports say."""
    monkeypatch.chdir(ROOT)
    names = ["docs/reports/celebamask.json", "docs/reports/faces-128.json"]
    reports = [json.loads(Path(name).read_text()) for name in names]
    scores, feedback = (
        filled(f"<!-- {kind} {' '.join(names)} -->\n<!-- /report -->\n") for kind in ("scores", "feedback")
    )
    for report in reports:
        two = report["variants"]["rounds=2"]["overall"]
        assert f"| {two['lpips_alex']:.4f} / {two['psnr']:.2f} |" in scores
        assert f"| {report['intact']['miou']:.3f} |" in scores
        frozen = report["paired"]["rounds=2 vs rounds=2, frozen-map"]["lpips_alex"]
        (row,) = [line for line in feedback.splitlines() if line.startswith("| map frozen at round 0 ")]
        change, low = (round(100 * x, 1) + 0 for x in (frozen["relative"], frozen["ci95"][0]))  # -0.0 is shown as +0.0
        assert f"LPIPS {change:+.1f} % [{low:+.1f}," in row
    (oracle,) = [line for line in feedback.splitlines() if line.startswith("| true map, ")]
    assert oracle.endswith("| - |")  # which faces/val has not: its labels are partial


@pytest.mark.parametrize("kind", ["scores", "feedback", "classes"])
def test_a_report_that_lacks_what_a_table_needs_is_refused(kind, monkeypatch):
    monkeypatch.chdir(ROOT)
    comparison = "docs/reports/ablation-streets.json"
    with pytest.raises(InputError, match=comparison):
        filled(f"<!-- {kind} {comparison} {comparison} -->\n<!-- /report -->\n")


def test_a_page_without_tables_is_refused():
    with pytest.raises(InputError, match="<!-- report PATH -->"):
        filled("No table here.\n")
