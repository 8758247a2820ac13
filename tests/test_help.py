"""What the command lines say of themselves is true, and the commands of our pages are such as they take."""

import importlib
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

import app
import train_accelerate
from fbinpaint import cli

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if "def main" in path.read_text())
COMMANDS = ("run", "segment", "exemplars", "evaluate", "export", "publish")


def silent_options(text: str) -> list[str]:
    """The options in a help text that take a value and may be left out, and do not say what happens then."""
    usage, _, options = text.partition("\noptions:\n")
    found = re.findall(r"^  (?:-\w.*?, )?(--[\w-]+)(.*?)(?=^  -|^\S|\Z)", options, re.MULTILINE | re.DOTALL)
    assert found
    return [name for name, help in found if re.search(rf"\[{name}\s[^\]]", usage) and "default" not in help]


def help_of(main: Callable, arguments: list[str], capsys, monkeypatch) -> str:
    monkeypatch.setattr("sys.argv", ["command", *arguments, "--help"])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_commands_says_defaults(command, capsys, monkeypatch):
    assert silent_options(help_of(cli.main, [command], capsys, monkeypatch)) == []


@pytest.mark.parametrize("program", [app, train_accelerate], ids=["app", "train"])
def test_help_of_programs_says_defaults(program, capsys, monkeypatch):
    text = help_of(program.main, [], capsys, monkeypatch)
    assert silent_options(text) == []
    assert ("(default: 7860)" if program is app else "(default: 256 128)") in " ".join(text.split())


@pytest.mark.parametrize("command", [*COMMANDS, "demo", "train"])
def test_help_calls_a_command_as_it_is_typed(command, capsys, monkeypatch):
    usage = " ".join(help_of(cli.main, [command], capsys, monkeypatch).split())
    assert usage.startswith(f"usage: python -m fbinpaint {command} [-h] ")


@pytest.mark.parametrize("name", [name for name in BENCHMARKS if name != "table"])
def test_help_of_benchmarks_says_defaults(name, capsys, monkeypatch):
    main = importlib.import_module(f"benchmarks.{name}").main
    assert silent_options(help_of(main, [], capsys, monkeypatch)) == []


def test_an_option_without_its_default_is_found():
    text = "usage: x [--size N] [--flag] --data DIR\n\noptions:\n  --size N    pixels\n  --flag\n  --data DIR  photos\n"
    assert silent_options(text) == ["--size"]


DOCS = ("command-line", "evaluation", "hub", "training")
PAGES = ("README.md", "CONTRIBUTING.md", *(f"docs/{name}.md" for name in DOCS))


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_our_pages_are_understood(page):
    text = re.sub(r" \\\n\s+", " ", (ROOT / page).read_text())
    commands = [shlex.split(line, comments=True) for line in text.splitlines() if line.startswith("    ")]
    found = [command[3:] for command in commands if command[:3] == ["python", "-m", "fbinpaint"]]
    launched = [command[command.index("train_accelerate.py") + 1 :] for command in commands if "launch" in command]
    assert found or launched
    for arguments in found:
        assert cli._parser().parse_args(arguments).name == arguments[0]
    for arguments in launched:
        assert train_accelerate.parse_args(arguments).label_space
