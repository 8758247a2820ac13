"""The figures on our pages are those of the reports that they name."""

import json
import re
import shlex
from pathlib import Path

import pytest
from accelerate.commands.launch import launch_command_parser

from benchmarks.table import filled
from fbinpaint.errors import InputError

ROOT = Path(__file__).parents[1]
# And how many tables each has.
PAGES = {"README.md": 1, "model_card.md": 2, "docs/results.md": 6, "docs/scores.md": 13, "docs/peers.md": 1}


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


def test_other_methods_have_columns_of_their_own(tmp_path):
    """Of peers and of other tools, in the table of methods; controls have none, and a report may lack a method."""
    score = {"lpips_alex": 0.1, "psnr": 20.0}
    ours = {"rounds=0": {"overall": score}, "rounds=2": {"overall": {"lpips_alex": 0.25, "psnr": 21.5}}}
    telea = {"telea": {"overall": {"lpips_alex": 0.5, "psnr": 19.0}}}
    more = {"lama": {"overall": {"lpips_alex": 0.3, "psnr": 22.0}}, "rounds=2, frozen-map": {"overall": score}}
    for name, variants in (("a", ours | telea), ("b", ours | telea | more)):
        report = {"protocol": {"data": name, "n": 3, "resolution": 64}, "variants": variants}
        (tmp_path / f"{name}.json").write_text(json.dumps(report))
    page = filled(f"<!-- methods {tmp_path}/a.json {tmp_path}/b.json -->\n<!-- /report -->\n").splitlines()
    assert page[1:-1] == [
        "| photos | Telea | Navier-Stokes | lama | fbinpaint, one pass | fbinpaint, 2 rounds of feedback |",
        "| --- | --- | --- | --- | --- | --- |",
        "| a, 3, at 64 | 0.5000 / 19.00 | - | - | 0.1000 / 20.00 | 0.2500 / 21.50 |",
        "| b, 3, at 64 | 0.5000 / 19.00 | - | 0.3000 / 22.00 | 0.1000 / 20.00 | 0.2500 / 21.50 |",
    ]


@pytest.mark.parametrize("kind", ["methods", "scores", "feedback", "classes"])
def test_a_report_that_lacks_what_a_table_needs_is_refused(kind, monkeypatch):
    monkeypatch.chdir(ROOT)
    comparison = "docs/reports/ablation-streets.json"
    with pytest.raises(InputError, match=comparison):
        filled(f"<!-- {kind} {comparison} {comparison} -->\n<!-- /report -->\n")


def test_a_page_without_tables_is_refused():
    with pytest.raises(InputError, match="<!-- report PATH -->"):
        filled("No table here.\n")


DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_links_of_our_pages_lead_somewhere(page):
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()) if "://" not in link]
    for link in links:
        place, _, anchor = link.partition("#")
        target = page.parent / place if place else page
        assert target.exists(), f"{page.name} links to {link}"
        assert not anchor or anchor in anchors(target), f"{page.name} links to {link}"


def test_examples_that_pages_and_commands_name_are_there():
    code = [path for folder in ("fbinpaint", "benchmarks", "deploy") for path in (ROOT / folder).rglob("*.py")]
    named = {name for path in DOCUMENTS + code for name in re.findall(r"\bexamples/[\w./]*\w", path.read_text())}
    assert named and [name for name in named if not (ROOT / name).exists()] == []


def test_accelerate_takes_what_our_pages_start_it_with():
    pages = [re.sub(r"\s\\\n\s*", " ", page.read_text()) for page in DOCUMENTS]
    commands = [command for page in pages for command in re.findall(r"accelerate launch\s+([^`\n]+)", page)]
    assert len(commands) > 10
    for command in commands:
        launch_command_parser().parse_args(shlex.split(command))  # exits where it knows an option not


def test_the_index_names_every_document():
    index = (ROOT / "docs/README.md").read_text()
    for page in DOCUMENTS:
        name = page.name if page.parent.name == "docs" else f"../{page.name}"
        assert page == ROOT / "docs/README.md" or f"]({name})" in index, f"docs/README.md does not name {name}"
