"""A Space that was uploaded to a Hub, started as Hugging Face starts it: by user 1000, from a folder of which nothing
may be changed, with a home elsewhere and its models on the Hub."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from fbinpaint.hub.space import MODELS

from .demo_browser import DESKTOP, Visitor
from .fake_hub import FakeHub
from .space_hub import settings, space_hub
from .test_demo_server import free_port

# It may read everything, as Python and what is installed may lie in root's own folders, but write nowhere.
AS_USER_1000 = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "--inh-caps=+dac_read_search",
                "--ambient-caps=+dac_read_search"]  # fmt: skip


class Space:
    """The files of a Space in a folder that nobody may write to, started by user 1000 with a home of its own."""

    def __init__(self, hub: FakeHub, folder: Path):
        self.hub, self.app, self.home = hub, folder / "app", folder / "home"
        for name, data in hub.repos["spaces/user/page"].files.items():
            path = self.app / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        self.home.mkdir()
        self.as_user = []
        if os.getuid() == 0:
            os.chown(self.home, 1000, 1000)
            self.as_user = AS_USER_1000
        for path in self.app.rglob("*"):
            path.chmod(0o555 if path.is_dir() else 0o444)

    def start(self, models: str) -> tuple[subprocess.Popen, int]:
        port = free_port()
        environment = {
            "PATH": os.environ["PATH"], "HOME": str(self.home), "SPACE_ID": "user/page", "SYSTEM": "spaces",
            "GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(port), MODELS: models,
            "GRADIO_TEMP_DIR": str(self.home / "tmp"), "GRADIO_ANALYTICS_ENABLED": "False", "OMP_NUM_THREADS": "2",
            **settings(self.hub, self.home),
        }  # fmt: skip
        process = subprocess.Popen(
            [*self.as_user, sys.executable, "app.py"], cwd=self.app, env=environment, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )  # fmt: skip
        return process, port


def wait_for(process: subprocess.Popen, port: int) -> None:
    deadline = time.monotonic() + 180
    while True:
        assert process.poll() is None, process.stderr.read().decode()
        try:
            with urlopen(f"http://127.0.0.1:{port}/", timeout=5):
                return
        except (URLError, TimeoutError):
            assert time.monotonic() < deadline
            time.sleep(0.3)


@pytest.fixture(scope="module")
def hub(tiny_pipeline_dir, tmp_path_factory):
    with space_hub(tiny_pipeline_dir, tmp_path_factory.mktemp("home")) as hub:
        yield hub


@pytest.fixture(scope="module")
def space(hub, tmp_path_factory) -> Space:
    return Space(hub, tmp_path_factory.mktemp("space"))


@pytest.mark.slow
def test_a_space_starts_and_restores_a_photo_and_so_after_two_restarts(space, browser, own_photo):
    models = space.hub.repos["spaces/user/page"].variables[MODELS]
    for _ in range(3):
        process, port = space.start(models)
        errors: list[str] = []
        page = browser.new_page(viewport=DESKTOP)
        try:
            wait_for(process, port)
            with urlopen(f"http://127.0.0.1:{port}/gradio_api/info", timeout=30) as answer:
                assert set(json.load(answer)["named_endpoints"]) == {"/inpaint", "/segment", "/remove"}
            visitor = Visitor(page, f"http://127.0.0.1:{port}", errors)
            visitor.expected = ("Space not found",)  # by Gradio, which asks huggingface.co about it
            visitor.visit()
            visitor.open(own_photo)
            visitor.draw((0.2, 0.4), (0.7, 0.4))
            visitor.restore()
            assert "Restored" in visitor.status
        finally:
            page.close()
            process.terminate()
            process.wait(60)
        assert not errors
    assert not list(space.app.rglob("__pycache__"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "models, words",
    [
        ("user/none", "user/none: is neither a folder nor a repository that you can see on the Hub"),
        ("user/tiny@v7", "user/tiny: has no revision v7"),
        ("user/tiny user/tiny@v1", "FBINPAINT_MODELS: user/tiny@v1 has no name, or that of another"),
    ],
)
def test_a_model_that_is_not_there_is_a_plain_line(space, models, words):
    process, _ = space.start(models)
    _, said = process.communicate(timeout=180)
    (line,) = said.decode().splitlines()
    assert process.returncode == 1 and line.startswith("error: ") and words in line
