"""Whether the tests would notice: small faults are planted one at a time, and the tests of their module run.

    python -m benchmarks.mutants [--only WORDS] [--module FILE] [--list] [--output mutants.csv]

The faults are in `benchmarks/mutants/faults.py`. Each is planted in a copy of the tree, never in the tree itself. A
fault is caught when a test fails; one that breaks the import, or that no test survives within the time there is, is
caught too, but marked, as any test would do. Exit code 1 where a fault survives.

Every test process is a fork of one that has loaded the libraries: loading them takes longer than most of the tests.
There are as many at once as there are cores, each with a copy of its own.
"""

import argparse
import compileall
import csv
import importlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from py_compile import PycInvalidationMode

import pytest

from fbinpaint.errors import InputError, printable
from fbinpaint.system.files import whole_file

from .faults import FAULTS, Fault

ROOT = Path(__file__).resolve().parents[2]
# What the package and its tests import and what takes time: none of our own, which the copy has.
LIBRARIES = (
    "accelerate", "cv2", "datasets", "diffusers.pipelines.pipeline_utils", "hypothesis", "lpips", "scipy.optimize",
    "timm", "torchmetrics.functional.image", "torchvision.models.vgg", "torchvision.transforms.v2",
)  # fmt: skip
OURS = ("benchmarks", "fbinpaint", "tests", "train_accelerate")
SECONDS = 600  # that the tests of one fault may take, many times what they do on a machine at rest
PASSED, FAILED = 0, 1  # exit codes of pytest; others say that it could not run the tests
HUNG = -1
OUTCOMES: dict[int | None, str] = {PASSED: "SURVIVED", FAILED: "caught", HUNG: "caught (it hangs)"}
BROKEN = "caught (it does not import)"


def copy_tree(folder: Path) -> None:
    """The files of this tree that git knows or would take, as they are now."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)


def planted(fault: Fault, text: str) -> str:
    """The text of the fault's file with the fault in it. Raises InputError where it is not clear where it belongs."""
    if (count := text.count(fault.old)) != 1:
        raise InputError(f"{fault.file}: {fault.name!r}: {fault.old!r} is there {count} times; mend the table")
    return text.replace(fault.old, fault.new)


class Run:
    """The tests of a fault in a copy of the tree, in a process of its own; fault None = the copy as it is.

    folder: the copy, which `end` leaves as it was; what pytest prints is in the file `folder`.txt
    code: pytest's exit code, or HUNG; None while it runs; seconds: that it took, once it has ended
    """

    code: int | None = None
    seconds: float

    def __init__(self, folder: Path, tests: Sequence[str], fault: Fault | None):
        self.folder, self.fault, self.output = folder, fault, folder.with_suffix(".txt")
        self.began = time.monotonic()
        if fault is not None:
            self.text = (folder / fault.file).read_text(encoding="utf-8")
            (folder / fault.file).write_text(planted(fault, self.text), encoding="utf-8")
        self.child = os.fork()
        if self.child == 0:
            try:
                os._exit(run_pytest(folder, tests, self.output))
            finally:  # whatever happens, not into what the parent does
                os._exit(pytest.ExitCode.INTERNAL_ERROR)

    @property
    def outcome(self) -> str:
        return OUTCOMES.get(self.code, BROKEN)

    def is_over(self, seconds: float) -> bool:
        """Whether it ended by itself or has taken so long."""
        over, status = os.waitpid(self.child, os.WNOHANG)
        if over:
            self.code = os.waitstatus_to_exitcode(status)
        elif time.monotonic() > self.began + seconds:
            self.code = HUNG
        return self.code is not None

    def end(self) -> None:
        self.seconds = time.monotonic() - self.began
        with suppress(ProcessLookupError):  # nothing may be left
            os.killpg(self.child, signal.SIGKILL)
        with suppress(ChildProcessError):  # it has been waited for
            os.waitpid(self.child, 0)
        if self.fault is not None:
            (self.folder / self.fault.file).write_text(self.text, encoding="utf-8")


def run_pytest(folder: Path, tests: Sequence[str], output: Path) -> int:
    """pytest's exit code for some tests of a copy of the tree. For a process that is a fork and ends with this."""
    os.setsid()  # so that what the tests start ends with them
    streams = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(streams, 1), os.dup2(streams, 2)
    os.chdir(folder)
    for name in [name for name in sys.modules if name.split(".")[0] in OURS]:
        del sys.modules[name]
    sys.path[0] = os.environ["PYTHONPATH"] = str(folder)
    code = pytest.main([*tests, "-x", "-q", "-o", "addopts=", "-p", "no:cacheprovider"])
    sys.stdout.flush()
    return code


def run_all(
    folders: Sequence[Path], wanted: Sequence[tuple[Sequence[str], Fault | None]], seconds: float = SECONDS
) -> Iterator[Run]:
    """The runs of (tests, fault), one at a time in each folder, each as soon as it has ended or has taken so long."""
    waiting, free = deque(wanted), list(folders)
    running: list[Run] = []
    try:
        while waiting or running:
            while waiting and free:
                running.append(Run(free.pop(), *waiting.popleft()))
            time.sleep(0.05)
            for run in [run for run in running if run.is_over(seconds)]:
                run.end()
                running.remove(run)
                yield run  # before the next one of its folder writes over what it printed
                free.append(run.folder)
    finally:
        for run in running:
            run.end()


def check_copies(folders: Sequence[Path], faults: Sequence[Fault]) -> None:
    """Raises InputError unless each fault has its place and the tests pass without any."""
    for fault in faults:
        planted(fault, (folders[0] / fault.file).read_text(encoding="utf-8"))
    tests: dict[str, dict[str, None]] = {}  # those of a file in one process
    for test in (test for fault in faults for test in fault.tests):
        tests.setdefault(test.partition("::")[0], {})[test] = None
    for run in run_all(folders, [(list(some), None) for some in tests.values()]):
        if run.code != PASSED:
            print(run.output.read_text(encoding="utf-8", errors="replace")[-2000:], file=sys.stderr)
            raise InputError("without any fault the tests do not pass either; mend what is said above")


def measure(faults: Sequence[Fault]) -> list[tuple[Fault, str, float]]:
    """Each fault with its outcome and the seconds that this took."""
    os.environ |= {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}  # the latter is read when torch is loaded
    sys.dont_write_bytecode = True
    for library in LIBRARIES:
        importlib.import_module(library)
    rows = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as temporary:
        folders = [Path(temporary).resolve() / f"tree{core}" for core in range(len(os.sched_getaffinity(0)))]
        for folder in folders:
            copy_tree(folder)
            # By what a file holds: one that was changed and restored within a second looks the same by its time.
            compileall.compile_dir(folder, quiet=2, invalidation_mode=PycInvalidationMode.CHECKED_HASH)
        check_copies(folders, faults)
        ordered = sorted(faults, key=lambda fault: fault.file)
        for run in run_all(folders, [(fault.tests, fault) for fault in ordered]):
            assert run.fault is not None, "a fault was planted"
            rows.append((run.fault, run.outcome, run.seconds))
            print(f"{run.outcome:9}  {run.fault.file}: {run.fault.name}  ({run.seconds:.0f} s)", flush=True)
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.mutants", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", metavar="WORDS", default="", help="the faults whose names hold these words")
    parser.add_argument("--module", metavar="FILE", default="", help="the faults of this file, or of this folder")
    parser.add_argument("--list", action="store_true", help="name the faults and plant none")
    parser.add_argument("--output", metavar="CSV", type=Path, help="a table: file, fault, outcome, seconds")
    args = parser.parse_args(arguments)
    faults = [fault for fault in FAULTS if args.only in fault.name and args.module in fault.file]
    if not faults:
        raise InputError("there is no such fault; --list names them")
    if args.list:
        for fault in faults:
            print(f"{fault.file}: {fault.name}")
        return 0
    began = time.monotonic()
    rows = measure(faults)
    survivors = [fault for fault, outcome, _ in rows if outcome == OUTCOMES[PASSED]]
    if args.output:
        with whole_file(args.output) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("file", "fault", "outcome", "seconds"))
            writer.writerows((fault.file, fault.name, outcome, round(seconds, 1)) for fault, outcome, seconds in rows)
    caught, minutes = len(rows) - len(survivors), (time.monotonic() - began) / 60
    print(f"{caught} of {len(rows)} faults are caught ({caught / len(rows):.0%}), in {minutes:.0f} minutes")
    for fault in survivors:
        print(f"survives: {fault.file}: {fault.name}")
    return 1 if survivors else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InputError as error:
        sys.exit(printable(f"error: {error}"))
