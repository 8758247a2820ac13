"""The page that asks which of two results people prefer."""

import csv

import numpy as np
import pytest
from gradio_client import Client
from PIL import Image

from benchmarks.preference import COLUMNS, SIDES, THANKS, add_answer, build_page, draw_visit, pairs_of, tally
from fbinpaint.errors import InputError

COLOURS = {"ours": (200, 0, 0), "other": (0, 0, 200)}


@pytest.fixture
def folders(tmp_path):
    """Three results of two tools, by whose colour a test tells them apart."""
    for side, colour in COLOURS.items():
        for name in ("a", "b", "more/c"):
            (tmp_path / side / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 16), colour).save(tmp_path / side / f"{name}.png")
    return tmp_path / "ours", tmp_path / "other"


def test_answers_of_a_visitor_are_rows_that_say_what_was_seen_and_chosen(folders, tmp_path):
    page = build_page(*folders, tmp_path / "answers.csv")
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True)
    try:
        client = Client(url, verbose=False)
        left, right, progress = client.predict(api_name="/start")
        seen = []
        for endpoint in ("/choose_left", "/choose_right", "/choose_left"):
            colours = [Image.open(place).convert("RGB").getpixel((3, 3)) for place in (left, right)]
            assert sorted(colours) == sorted(COLOURS.values()) and f"{len(seen) + 1} of 3" in progress
            seen.append(next(side for side in SIDES if COLOURS[side] == colours[0]))
            left, right, progress = client.predict(api_name=endpoint)
        assert progress == THANKS and left is right is None
        assert client.predict(api_name="/choose_left")[2] == THANKS  # and no fourth row
    finally:
        page.close()
    rows = list(csv.DictReader((tmp_path / "answers.csv").open()))
    assert tuple(rows[0]) == COLUMNS and len({row["visitor"] for row in rows}) == 1
    assert [row["left"] for row in rows] == seen and {row["photo"] for row in rows} == {"a", "b", "more/c"}
    right = next(side for side in SIDES if side != seen[1])
    assert [row["preferred"] for row in rows] == [seen[0], right, seen[2]]
    assert "3 answers, ours preferred in" in tally(tmp_path / "answers.csv")


def test_order_and_sides_are_drawn_at_random():
    visits = [draw_visit(["a", "b", "c", "d"], np.random.default_rng(seed)) for seed in range(200)]
    assert len({tuple(visit["photos"]) for visit in visits}) == 24
    assert len({visit["visitor"] for visit in visits}) == 200
    assert 0.4 < np.mean([side == "ours" for visit in visits for side in visit["left"]]) < 0.6


def test_the_tally_has_wilsons_interval(tmp_path):
    rows = [["t", "v", "a", "ours", "ours"]] * 8 + [["t", "v", "a", "ours", "other"]] * 2
    (tmp_path / "answers.csv").write_text("\n".join(",".join(row) for row in [COLUMNS, *rows]) + "\n")
    assert tally(tmp_path / "answers.csv").endswith("10 answers, ours preferred in 80.0% [49.0%, 94.3%]")
    assert tally(tmp_path / "none.csv").endswith("no answers yet")
    (tmp_path / "empty.csv").touch()  # whoever made it was interrupted before the first answer
    assert tally(tmp_path / "empty.csv").endswith("no answers yet")
    add_answer(tmp_path / "empty.csv", ["", "", "a", "ours", "ours"])
    assert "1 answers, ours preferred in 100.0%" in tally(tmp_path / "empty.csv")


def test_folders_and_files_that_do_not_fit_are_one_line(folders, tmp_path):
    ours, other = folders
    (tmp_path / "notes.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="notes.csv: is no file of answers"):
        build_page(ours, other, tmp_path / "notes.csv")
    with pytest.raises(InputError, match="no such folder; make it"):
        build_page(ours, other, tmp_path / "nowhere/answers.csv")
    Image.new("RGB", (20, 16)).save(ours / "b.jpg")
    with pytest.raises(InputError, match="have the same name"):
        pairs_of(ours, other)
    (other / "b.png").unlink()
    with pytest.raises(InputError, match="other: lacks b;"):
        pairs_of(ours, other)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no picture"):
        pairs_of(tmp_path / "empty", tmp_path / "empty")
