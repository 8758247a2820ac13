"""`make test`: a browser is fetched where there is none, and what was not run is said."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def path(tmp_path) -> Path:
    """A folder for PATH, on which there is no browser."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "id"):
        (folder / name).symlink_to(shutil.which(name))
    return folder


def make_browser(path: Path, answers: int) -> tuple[int, str]:
    """`make browser` in an environment that is set up; what was asked of a playwright that answers so."""
    venv, asked = path.parent / "venv", path.parent / "asked"
    (venv / "bin").mkdir(parents=True)
    (venv / ".installed").touch()
    (venv / "bin/playwright").write_text(f'#!/bin/sh\necho "$@" >> {asked}\nexit {answers}\n')
    (venv / "bin/playwright").chmod(0o755)
    command = [shutil.which("make"), "browser", f"VENV={venv}"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PATH": str(path)}, capture_output=True, text=True)
    return done.returncode, asked.read_text() if asked.exists() else done.stderr


def test_a_browser_is_fetched_where_there_is_none(path):
    code, asked = make_browser(path, answers=0)
    assert code == 0 and asked in ("install chromium\n", "install --with-deps chromium\n")


def test_a_browser_on_the_path_is_enough(path):
    (path / "chromium").symlink_to(shutil.which("true"))
    assert make_browser(path, answers=0) == (0, "")


def test_without_network_the_other_tests_still_run(path):
    code, asked = make_browser(path, answers=1)
    assert code == 0 and asked.splitlines()[-1] == "install chromium"


@pytest.mark.slow
def test_the_last_line_says_what_was_not_run(path):
    environment = os.environ | {"PATH": str(path), "PLAYWRIGHT_BROWSERS_PATH": str(path), "CI": ""}
    tests = ["tests/test_page_marks.py", "-k", "reloaded_page or random_hole"]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1] == (
        "2 tests were not run (2: the page wants a browser: make browser, or Debian's apt-get install chromium)"
    )
