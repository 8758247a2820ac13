"""OpenMP's threads sleep while they wait, in the programs: OpenMP itself is asked what it was told."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fbinpaint.threads import openmp_settings

ROOT = Path(__file__).resolve().parent.parent
COMMAND = ["-m", "fbinpaint", "segment", "--image", "no.png", "--output", "map.png"]


@pytest.mark.parametrize(
    ("program", "chosen", "policy"),
    [
        (COMMAND, {}, "PASSIVE"),
        (["-c", "import app"], {}, "PASSIVE"),
        (COMMAND, {"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE"),
    ],
    ids=["command line", "demo", "the user's choice"],
)
def test_threads_sleep_while_they_wait(program, chosen, policy):
    ours = {key: value for key, value in os.environ.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    done = subprocess.run(
        [sys.executable, *program], cwd=ROOT, env=ours | chosen | {"OMP_DISPLAY_ENV": "true"}, capture_output=True,
        text=True,
    )  # fmt: skip
    if "OPENMP DISPLAY ENVIRONMENT" not in done.stderr:
        pytest.skip("torch brings an OpenMP that does not show its settings")
    assert f"OMP_WAIT_POLICY = '{policy}'" in done.stderr


def test_other_choices_are_left_alone(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    assert openmp_settings() == {"OMP_WAIT_POLICY": "PASSIVE"}
    monkeypatch.setenv("GOMP_SPINCOUNT", "1000")
    assert openmp_settings() == {}


def test_once_torch_is_there_it_is_too_late():
    import torch  # noqa: F401

    assert openmp_settings() == {}
