"""A fake Hub with a model and a Space of it, for the tests of what is uploaded and of how it starts."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .fake_hub import TOKEN, FakeHub


@contextmanager
def space_hub(model: Path, home: Path) -> Iterator[FakeHub]:
    """With the model user/tiny, of which v1 is a tag, and the Space user/page, made for ZeroGPU and then anew for
    hardware of one's own."""
    hub = FakeHub()
    environment = os.environ | settings(hub, home)
    publish = [sys.executable, "-m", "fbinpaint", "publish"]
    subprocess.run([*publish, "--model", str(model), "--repo-id", "user/tiny"], env=environment, check=True)
    hub.repos["user/tiny"].tags["v1"] = hub.repos["user/tiny"].head
    made = [*publish, "--space", "user/page", "--models", "user/tiny@v1"]
    for hardware in (["--hardware", "zero-a10g"], []):
        subprocess.run([*made, *hardware], env=environment, check=True)
    try:
        yield hub
    finally:
        hub.close()


def settings(hub: FakeHub, home: Path) -> dict[str, str]:
    """The environment of a process to which `hub` is the Hub."""
    return {
        "HF_ENDPOINT": hub.url, "HF_HOME": str(home / "hf"), "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
    }  # fmt: skip
