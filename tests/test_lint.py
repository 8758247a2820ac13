"""What `make lint` and the hooks before a commit refuse; the settings behind `make coverage`."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

tomllib = pytest.importorskip("tomllib")  # from Python 3.11 on

ROOT = Path(__file__).resolve().parent.parent
CHECKED = sorted(path for folder in ("fbinpaint", "deploy", "benchmarks") for path in (ROOT / folder).rglob("*.py"))


@pytest.fixture
def repository(tmp_path) -> Path:
    """An empty one with the project's hooks."""
    for name in (".pre-commit-config.yaml", "pyproject.toml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / ".gitignore").write_text(".venv\n")
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    return tmp_path


def run_hooks(repository: Path, skipped: str = "mypy") -> subprocess.CompletedProcess:
    """On all that is there, as before its first commit."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    environment |= {"SKIP": skipped, "PRE_COMMIT_HOME": str(repository.parent / "hooks")}
    subprocess.run(["git", "add", "--all"], cwd=repository, env=environment, check=True)
    command = [sys.executable, "-m", "pre_commit", "run"]
    return subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True)


def test_a_sound_file_may_be_committed(repository):
    (repository / "sound.py").write_text("print(1)\n")
    done = run_hooks(repository)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "name, content, refusal",
    [
        ("unused.py", b"import os\n", "`os` imported but unused"),
        ("endless.txt", b"no newline", "Fixing endless.txt"),
        ("large.bin", bytes(25 * 2**20 + 1024), "large.bin (25601 KB) exceeds 25600 KB"),
    ],
)
def test_a_commit_is_refused(repository, name, content, refusal):
    (repository / name).write_bytes(content)
    done = run_hooks(repository)
    assert done.returncode == 1 and refusal in done.stdout, done.stdout


def check_types(tmp_path: Path, code: str) -> str:
    """What mypy says of a file of this code under the project's settings."""
    path = tmp_path / "checked.py"
    path.write_text(code)
    command = [sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml", "--cache-dir", os.devnull, path]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    "code, refusal",
    [
        ("def length(text: str | None) -> int:\n    return len(text)\n", "[arg-type]"),
        ("def wrong():\n    return 1 + ''\n", "[operator]"),  # also where nothing is annotated
        ("number: int = ''  # type: ignore\n", "[ignore-without-code]"),
        ("number: int = 1  # type: ignore[assignment]\n", "[unused-ignore]"),
    ],
)
def test_a_wrong_type_is_refused(tmp_path, code, refusal):
    assert refusal in check_types(tmp_path, code)


def test_what_is_ignored_is_named_with_its_reason():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
    assert "ignore_errors" not in str(settings) and "disable_error_code" not in settings and "exclude" not in settings
    ignored = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in CHECKED
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if "type: ignore" in line and not re.search(r"# type: ignore\[[\w, -]+\]  # \S+", line)
    ]
    assert ignored == []


def test_what_the_tests_need_is_pinned():
    """Each library of the extra `test`, and of those that it brings, in a version that pyproject.toml allows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {name: list(map(Requirement, lines)) for name, lines in project["optional-dependencies"].items()}
    lines = (ROOT / "requirements.txt").read_text() + (ROOT / "requirements-test.txt").read_text()
    pins = {pin.name: pin for line in lines.split() if "==" in line for pin in [Requirement(line)]}
    wanted = [*map(Requirement, project["dependencies"]), *extras["test"]]
    for requirement in wanted:
        if requirement.name == project["name"]:
            wanted += [one for extra in requirement.extras for one in extras[extra]]
        elif requirement.name in pins:
            (version,) = pins[requirement.name].specifier
            assert requirement.specifier.contains(version.version), f"{requirement}: pinned at {version}"
        else:
            assert requirement.name == "fsspec", f"{requirement}: not pinned"  # huggingface-hub and datasets choose it


def test_coverage_counts_branches_and_what_other_processes_ran(tmp_path):
    (tmp_path / "test_child.py").write_text(
        "import subprocess, sys\n\n\n"
        "def test_child():\n"
        "    subprocess.run([sys.executable, '-c', 'import fbinpaint.arguments'], check=True)\n"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("COV", "PYTEST"))}
    environment |= {"COVERAGE_FILE": str(tmp_path / ".coverage"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", tmp_path]
    command += ["--cov=fbinpaint.arguments", f"--cov-config={ROOT / 'pyproject.toml'}", "--cov-report=term"]
    command.append(tmp_path / "test_child.py")
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert re.search(r"^Name +Stmts +Miss +Branch +BrPart +Cover$", done.stdout, re.M), done.stdout
    ((lines, missed),) = re.findall(r"^fbinpaint/arguments\.py +(\d+) +(\d+) ", done.stdout, re.M)
    assert 0 < int(missed) < int(lines)  # imported, and none of its functions called
