"""The Dockerfile: what it copies is there and nothing else goes to the builder, and its last steps run. That
deploy/install.sh, which it calls, does its work in an empty environment is seen by `make package`."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

from .test_demo_server import free_port

ROOT = Path(__file__).resolve().parent.parent
STEPS = re.findall(r"^([A-Z]+) (.+?)(?<!\\)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)


def steps(kind: str) -> list[str]:
    return [text for name, text in STEPS if name == kind]


@pytest.fixture(scope="module")
def app(tmp_path_factory) -> Path:
    """/app of the image, without models: what COPY puts there."""
    app = tmp_path_factory.mktemp("image") / "app"
    app.mkdir()
    for text in steps("COPY"):
        *sources, target = text.split()
        for source in sources:
            assert (ROOT / source).exists(), source
            if source == "checkpoints":
                continue
            place = app / target / ("" if target.endswith("/") else ".")
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, app / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                place.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, place)
    return app


def test_what_is_copied_is_sent_to_the_builder_and_little_else():
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {source for text in steps("COPY") for source in text.split()[:-1]}
    assert copied == sent and (ROOT / ".dockerignore").read_text().startswith("*\n")


def test_the_image_is_of_no_root_and_says_whether_it_is_well():
    kinds = [name for name, _ in STEPS]
    assert kinds.index("USER") > max(i for i, kind in enumerate(kinds) if kind in ("RUN", "COPY"))
    assert steps("USER") == ["visitor"] and kinds[-1] == "CMD" and "HEALTHCHECK" in kinds
    assert "deploy/install.sh /opt/fbinpaint . --extra-index-url \"$TORCH\"" in steps("RUN")


def test_the_installer_makes_an_environment_with_the_extra_of_the_page(app, tmp_path):
    """Of a pip that writes down what it is asked, as a real one would fetch gigabytes."""
    stub = tmp_path / "bin/python3"
    stub.parent.mkdir()
    stub.write_text(
        '#!/bin/sh\n[ "$1 $2" = "-m venv" ] && mkdir -p "$3/bin" && for name in pip fbinpaint; do\n'
        f'printf \'#!/bin/sh\\necho "$@" >> {tmp_path}/asked\\n\' > "$3/bin/$name"; chmod +x "$3/bin/$name"; done\n'
    )
    stub.chmod(0o755)
    environment = os.environ | {"PATH": f"{stub.parent}:{os.environ['PATH']}"}
    command = [app / "deploy/install.sh", tmp_path / "environment", ".", "--extra-index-url", "https://somewhere"]
    subprocess.run(command, cwd=app, env=environment, check=True)
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[0].endswith(" .[demo] --extra-index-url https://somewhere") and asked[1] == "--version"


@pytest.mark.slow
def test_the_image_serves_the_page_and_is_well(app, tiny_pipeline_dir, tmp_path):
    """Its command and its health check, with this environment's Python in the place of the image's."""
    port = str(free_port())
    environment = os.environ | {
        "GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": port, "GRADIO_TEMP_DIR": str(tmp_path),
        "FBINPAINT_MODELS": f"tiny={tiny_pipeline_dir}", "PYTHONPATH": str(app),
    }  # fmt: skip

    def command(text: str) -> list[str]:
        return [sys.executable if part.endswith("bin/python") else part for part in json.loads(text)]

    check = command(steps("HEALTHCHECK")[0].partition("CMD ")[2])
    assert subprocess.run(check, env=environment, capture_output=True).returncode != 0
    process = subprocess.Popen(command(steps("CMD")[0]), cwd=app, env=environment, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 180
        while subprocess.run(check, env=environment, capture_output=True).returncode != 0:
            assert process.poll() is None and time.monotonic() < deadline
        with urlopen(f"http://127.0.0.1:{port}/config", timeout=30) as answer:
            assert "fbinpaint" in answer.read().decode()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
