"""The figures on our pages are those of the reports that they name."""

import json
from pathlib import Path

import pytest

from benchmarks.table import filled
from fbinpaint.errors import InputError

ROOT = Path(__file__).parents[1]
PAGES = {"README.md": 2, "model_card.md": 2, "docs/results.md": 3}  # and how many reports each names


@pytest.mark.parametrize("name, reports", PAGES.items())
def test_tables_are_those_of_the_reports(name, reports, monkeypatch):
    monkeypatch.chdir(ROOT)
    page = (ROOT / name).read_text()
    assert page.count("<!-- report ") == reports
    assert filled(page) == page, f"{name} is out of date; run python -m benchmarks.table {name}"


def test_a_changed_figure_is_put_right(monkeypatch):
    monkeypatch.chdir(ROOT)
    lpips = json.loads(Path("docs/reports/streets.json").read_text())["variants"]["rounds=2"]["overall"]["lpips_alex"]
    page = "Before.\n\n<!-- report docs/reports/streets.json -->\n| rounds=2 | 0.0001 |\n<!-- /report -->\n\nAfter.\n"
    text = filled(page)
    assert f"| rounds=2 | {lpips:.4f} |" in text and "0.0001" not in text
    assert text.startswith("Before.\n") and text.endswith("\nAfter.\n") and filled(text) == text


def test_a_page_without_tables_is_refused():
    with pytest.raises(InputError, match="<!-- report PATH -->"):
        filled("No table here.\n")
