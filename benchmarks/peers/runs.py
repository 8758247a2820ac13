"""The trainings of a comparison, listed in a file, one after the other."""

import argparse
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from fbinpaint.arguments import HelpWithDefaults
from fbinpaint.errors import InputError

FILE = Path(__file__).with_name("runs.txt")


@dataclass(frozen=True)
class Run:
    """arguments: of python, as words, with @out, @runs and @min for its folder, the folder of all runs, the minutes."""

    name: str
    arguments: tuple[str, ...]
    minutes: float

    def command(self, folder: Path) -> list[str]:
        words = {"@out": str(folder / self.name), "@runs": str(folder), "@min": f"{self.minutes:g}"}
        return [re.sub(r"@(out|runs|min)\b", lambda found: words[found[0]], word) for word in self.arguments]


def read_runs(path: Path) -> list[Run]:
    """Lines `name | arguments | minutes` and `@word = arguments`, which stands for them in the lines below it.

    Raises InputError, naming the line, for any other, for a second run of a name, and for an unknown @word.
    """
    words: dict[str, list[str]] = {}
    runs: dict[str, Run] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); name a file of runs") from error
    for number, line in enumerate(lines, 1):
        line = line.partition("#")[0].strip()
        try:
            if definition := re.fullmatch(r"(@[\w-]+)\s*=\s*(.+)", line):
                words[definition[1]] = expand(definition[2], words)
            elif line:
                name, arguments, minutes = (part.strip() for part in line.split("|"))
                if name in runs or not re.fullmatch(r"[\w.-]+", name) or not float(minutes) > 0:
                    raise ValueError("its name is taken or none, or its minutes are not above 0")
                runs[name] = Run(name, tuple(expand(arguments, words)), float(minutes))
        except ValueError as error:
            raise InputError(f"{path}, line {number}: {error}; write `name | arguments | minutes`") from error
    return list(runs.values())


def expand(arguments: str, words: dict[str, list[str]]) -> list[str]:
    expanded = []
    for word in shlex.split(arguments):
        if word.startswith("@") and not re.match(r"@(out|runs|min)\b", word):
            if word not in words:
                raise ValueError(f"{word} is defined nowhere above")
            expanded += words[word]
        else:
            expanded.append(word)
    return expanded


def parse_args(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers runs",
        description="Train what a file of runs lists, one after the other; what is finished is left alone, what was "
        "stopped goes on.",
        epilog="example: python -m benchmarks.peers runs --list",
        formatter_class=HelpWithDefaults,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="of runs; default: all")
    parser.add_argument("--file", type=Path, default=FILE, help="default: benchmarks/peers/runs.txt")
    parser.add_argument("--output", type=Path, default=Path("runs"), metavar="DIR", help="folder of all runs")
    parser.add_argument("--list", action="store_true", help="print the commands and which are finished, run nothing")
    return parser.parse_args(argv)


def run(argv: list[str]) -> None:
    args = parse_args(argv)
    runs = {run.name: run for run in read_runs(args.file)}
    if unknown := [name for name in args.names if name not in runs]:
        raise InputError(f"{args.file}: has no run {unknown[0]}; --list shows all")
    failed = []
    for name in args.names or runs:
        command = runs[name].command(args.output)
        finished = (args.output / name / "pipeline").is_dir()
        said = f"{name} ({runs[name].minutes:g} min): {'finished' if finished else 'waiting'}"
        print(f"{said}\n    python {shlex.join(command)}", flush=True)
        if not finished and not args.list:
            code = subprocess.run([sys.executable, *command, "--resume_from_checkpoint", "latest"]).returncode
            failed += [f"{name} ({code})"] if code else []
    if failed:
        raise InputError(f"these runs failed, with these exit codes: {', '.join(failed)}; see what they said above")
