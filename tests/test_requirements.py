"""What is installed: pyproject.toml says from which version on, requirements*.txt which one, requirements-test.lock
which one of all that these bring."""

import re
from pathlib import Path

import pytest
import tomllib  # of Python 3.11, from which on the pinned versions are
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LISTS = ("requirements.txt", "requirements-test.txt")
LOCKED = (ROOT / "requirements-test.lock").read_text()
IN_MAKEFILE = re.search(r"^lock:.*\n\t.*\n\t.*", (ROOT / "Makefile").read_text(), re.MULTILINE)[0]


def pins(text: str) -> dict[str, set[str]]:
    """The versions of each package; several, where it depends on system or Python which one it is."""
    found: dict[str, set[str]] = {}
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith(("#", "-r ")):
            requirement = Requirement(line)
            assert requirement.url is None, line
            (version,) = requirement.specifier
            assert version.operator == "==", line
            found.setdefault(canonicalize_name(requirement.name), set()).add(version.version)
    return found


def declared() -> list[Requirement]:
    """What pyproject.toml asks for, with every extra but `test`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {name: wanted for name, wanted in project["optional-dependencies"].items() if name != "test"}
    return [Requirement(text) for text in sum(extras.values(), project["dependencies"])]


def test_what_is_pinned_is_what_pyproject_allows():
    pinned = pins("".join((ROOT / name).read_text() for name in LISTS))
    wanted = [requirement for requirement in declared() if requirement.name != "fsspec"]  # which datasets pins
    assert len(wanted) > 20
    for requirement in wanted:
        (version,) = pinned[canonicalize_name(requirement.name)]
        assert version in requirement.specifier, requirement


@pytest.mark.parametrize("name", LISTS)
def test_what_is_pinned_is_locked_in_this_version(name):
    pinned, locked = pins((ROOT / name).read_text()), pins(LOCKED)
    assert len(pinned) > 15 and len(locked) > 100
    assert {package: locked.get(package) for package in pinned} == pinned


def test_the_lock_file_tells_nothing_of_the_machine_it_was_made_on():
    assert LOCKED.splitlines()[1].strip() == "#    make lock" and "--custom-compile-command" in IN_MAKEFILE
    assert not re.findall(r"^\s*--.*|.*(?:file:|https?:|@|/).*", LOCKED, re.MULTILINE)
