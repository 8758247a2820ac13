"""A Space: its card, what is uploaded, and that ZeroGPU is used where it exists."""

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from huggingface_hub import metadata_load

from fbinpaint.cli import main
from fbinpaint.hub.space import MODELS, ZERO_PINS, requirements, space_files

from .space_hub import settings, space_hub

ROOT = Path(__file__).resolve().parent.parent


def test_the_card_names_what_is_installed():
    card = metadata_load(ROOT / "README.md")
    assert card["sdk"] == "gradio" and (ROOT / card["app_file"]).is_file()
    requirements = dict(line.split("==") for line in (ROOT / "requirements.txt").read_text().split())
    assert card["sdk_version"] == requirements["gradio"]
    assert tuple(map(int, card["python_version"].split("."))) >= (3, 10)
    assert {"title", "tags", "license", "models"} <= set(card)


def test_the_gpu_of_a_space_is_asked_for(tmp_path):
    """Where there is a `spaces` package, it is imported before torch and wraps the functions that run the networks."""
    (tmp_path / "spaces.py").write_text(
        "import sys\nearly = 'torch' not in sys.modules\nwrapped = {}\n"
        "def GPU(duration):\n    return lambda function: wrapped.setdefault(function.__name__, duration) and function\n"
    )
    code = "import app, fbinpaint.demo.page, spaces; print(spaces.early, spaces.wrapped)"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True,
    )  # fmt: skip
    wrapped = {"restore": 60, "segment_photo": 30, "choose": 30, "remove_classes": 60}
    assert run.stdout.strip() == f"True {wrapped}", run.stderr


@pytest.fixture(scope="module")
def hub(tiny_pipeline_dir, tmp_path_factory):
    with space_hub(tiny_pipeline_dir, tmp_path_factory.mktemp("home")) as hub:
        yield hub


@pytest.mark.slow
def test_a_space_is_the_page_its_card_and_the_names_of_its_models(hub):
    space = hub.repos["spaces/user/page"]
    assert space.variables == {MODELS: "user/tiny@v1"} and space.hardware == "zero-a10g" and not space.private
    first, second = list(space.commits.values())[1:]
    files = space_files("user/page", ["user/tiny@v1"])
    assert first.keys() == second.keys() and second == {".gitattributes": b""} | files
    places = {path.split("/")[0] for path in second}
    assert places == {".gitattributes", "README.md", "app.py", "requirements.txt", "fbinpaint"}
    assert max(map(len, second.values())) < 10 * 2**20 and not any("weights" in path for path in second)
    pins = {name: dict(re.findall(r"^([\w.-]+)(.*)$", files["requirements.txt"].decode(), re.MULTILINE))
            for name, files in (("zero", first), ("own", second))}  # fmt: skip
    assert pins["zero"].keys() == pins["own"].keys() >= {"torch", "diffusers", "timm", "filelock"}
    # Another Python has no wheels of the versions that are installed here.
    assert {name for name, pin in pins["zero"].items() if pin.startswith("==")} == set(ZERO_PINS)
    assert all(pin.startswith("==") for pin in pins["own"].values()) and pins["zero"]["torch"] == "==2.8.0"
    assert not {"datasets", "accelerate", "lpips", "matplotlib", "pytest", "gradio"} & set(pins["own"])


@pytest.mark.slow
def test_a_space_gets_the_hardware_that_is_asked_for_and_keeps_its_models_where_an_upload_fails(
    tiny_pipeline_dir, tmp_path
):
    with space_hub(tiny_pipeline_dir, tmp_path) as hub:
        publish = [sys.executable, "-m", "fbinpaint", "publish", "--space", "user/page", "--models", "user/tiny"]
        environment, space = os.environ | settings(hub, tmp_path), hub.repos["spaces/user/page"]
        hub.broken_commits = 1
        assert subprocess.run(publish, env=environment, capture_output=True).returncode == 1
        assert space.variables == {MODELS: "user/tiny@v1"}
        subprocess.run([*publish, "--hardware", "t4-small"], env=environment, check=True)
        assert space.variables == {MODELS: "user/tiny"} and space.hardware == "t4-small"


def test_versions_of_pytorchs_own_index_are_named_as_pypi_has_them(monkeypatch):
    known = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: known(name) + ("+cpu" if name == "torch" else ""))
    assert "+" not in requirements() and f"torch=={known('torch').partition('+')[0]}" in requirements().split()


def test_what_would_go_is_shown_and_what_cannot_be_meant_is_one_line(hub, tmp_path, capsys):
    assert main(["publish", "--space", "user/new", "--models", "user/tiny", "--dry-run"]) == 0
    shown = {line.split()[-1] for line in capsys.readouterr().out.splitlines()[1:-1]}
    assert shown == set(space_files("user/new", ["user/tiny"])) and "spaces/user/new" not in hub.repos
    for options, words in (
        (["--space", "user/new"], "the page has no model"),
        (["--space", "user/new", "--model", "m"], "publish each"),
        (["--space", "../new", "--models", "user/tiny"], "USER/NAME"),
        (["--model", "m"], "nothing says what goes where"),
        (["--model", "m", "--repo-id", "user/m", "--hardware", "t4-small"], "name it with --space"),
    ):
        assert main(["publish", *options]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and words in line
    files = dict(hub.repos["spaces/user/page"].commits)
    for options, said in (
        (["user/new", "--models", "user/tiny@v7"], "user/tiny: has no revision v7; name a branch, tag or commit"),
        (["user/page", "--models", "user/tiny", "--private"],
         "user/page: exists and is public; make it private on the Hub or name another"),
    ):  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "fbinpaint", "publish", "--space", *options],
            env=os.environ | settings(hub, tmp_path), capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 1 and done.stderr == f"error: {said}\n"
    assert "spaces/user/new" not in hub.repos and hub.repos["spaces/user/page"].commits == files
