"""Installed by pip: as a wheel without the clone, and editable, from the folder that the clone lies in."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """What is built from, in a folder of the name that git gives it."""
    clone = tmp_path_factory.mktemp("parent") / "fbinpaint"
    clone.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, clone)
    shutil.copytree(ROOT / "fbinpaint", clone / "fbinpaint", ignore=shutil.ignore_patterns("__pycache__"))
    return clone


def build(clone: Path, kind: str, folder: Path) -> Path:
    """A wheel, as pip has it built, unpacked into `folder`."""
    command = [sys.executable, "-c", BUILD, kind, str(folder)]
    done = subprocess.run(command, cwd=clone, capture_output=True, text=True, check=True)
    with zipfile.ZipFile(folder / done.stdout.splitlines()[-1]) as wheel:
        wheel.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def installed(clone, tmp_path_factory) -> Path:
    return build(clone, "build_wheel", tmp_path_factory.mktemp("site"))


def python(folder: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    """A Python that finds what is installed in `folder` before anything else."""
    environment = os.environ | {"PYTHONPATH": str(folder)}
    return subprocess.run([sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True)


def test_a_wheel_holds_every_module_and_the_command(installed):
    def names(folder: Path) -> list[str]:
        files = (path for pattern in ("*.py", "*.safetensors") for path in (folder / "fbinpaint").rglob(pattern))
        return sorted(path.relative_to(folder).as_posix() for path in files)

    assert names(installed) == names(ROOT)
    (entry_points,) = installed.glob("*.dist-info/entry_points.txt")
    assert "[console_scripts]\nfbinpaint = fbinpaint.cli:main" in entry_points.read_text()


@pytest.mark.parametrize("command", ["segment --image photo.png --output map.png", "demo"])
def test_without_a_clone_a_model_is_asked_for(command, installed, tmp_path):
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "photo.png")
    done = python(installed, "-m", "fbinpaint", *command.split(), cwd=tmp_path)
    assert done.returncode == 1 and not (tmp_path / "map.png").exists()
    assert done.stderr == (
        "error: no --model given, and the bundled ones are only in a clone; name a folder or a Hub id\n"
    )


def test_an_editable_installation_is_found_from_the_folder_above_the_clone(clone, tmp_path):
    editable = build(clone, "build_editable", tmp_path)
    script = f"import site; site.addsitedir({str(editable)!r}); import fbinpaint; print(fbinpaint.__file__)"
    # -S: not what is installed already, which may be editable as well.
    done = python(tmp_path / "nothing", "-S", "-c", script, cwd=clone.parent)
    assert done.stdout.strip() == str(clone / "fbinpaint/__init__.py"), done.stderr
