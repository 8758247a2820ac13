"""OpenMP's threads soon sleep while they wait, in the programs: OpenMP itself is asked what it was told."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fbinpaint.system.threads import SPINCOUNT, openmp_settings

ROOT = Path(__file__).resolve().parent.parent
COMMAND = "from fbinpaint.cli import main; main(['segment', '--image', 'no.png', '--output', 'map.png']); import torch"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "chosen", "told"),
    [
        (COMMAND, {}, SPINCOUNT),
        ("import app, fbinpaint.demo.page, torch", {}, SPINCOUNT),
        (COMMAND, {"GOMP_SPINCOUNT": "77"}, "77"),
    ],
    ids=["command line", "demo", "the user's choice"],
)
def test_threads_soon_sleep_while_they_wait(program, chosen, told):
    ours = {key: value for key, value in os.environ.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=ours | chosen | {"OMP_DISPLAY_ENV": "verbose"},
        capture_output=True, text=True,
    )  # fmt: skip
    if "GOMP_SPINCOUNT" not in done.stderr:
        pytest.skip("torch brings another OpenMP than GNU's")
    assert f"GOMP_SPINCOUNT = '{told}'" in done.stderr


def test_other_choices_are_left_alone(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    assert openmp_settings() == {"GOMP_SPINCOUNT": SPINCOUNT}
    monkeypatch.setenv("GOMP_SPINCOUNT", "1000")
    assert openmp_settings() == {}


def test_once_torch_is_there_it_is_too_late():
    import torch  # noqa: F401

    assert openmp_settings() == {}
