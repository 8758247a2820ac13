"""What a run over a folder does a second, and what its photos take of memory.

    python -m benchmarks.folder [--before SNAPSHOT] [--model checkpoints/streets] [--small 60 --large 8 --many 60000]

Procedural streets, each with a mask of a twentieth: some of 640x480 pixels and some of 12 Mpx, each kind in a process
`fbinpaint run` of its own, whose start does not count: photos a second are those between the first result and the last.
Then links to a few small photos in one folder, where the process is ended at the first result; memory is what it held
at most until then, beyond what it holds with four photos. `--before` names a folder with another version of this
package; both then run in turns, and the best of each counts.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.large import make_mask, procedural_photo
from benchmarks.reports import exit_code
from fbinpaint.arguments import HelpWithDefaults, positive
from fbinpaint.data.scenes import street_scene
from fbinpaint.errors import InputError

SMALL, TINY = (640, 480), (64, 48)
LINKS = 20_000  # to one file; file systems allow 32,000 and more
FEW = 4


def make_photos(folder: Path, count: int, size: tuple[int, int] | None) -> Path:
    """A folder of `count` photos, size None = of 12 Mpx, and mask.png beside it."""
    folder.mkdir()
    photo = procedural_photo() if size is None else street_scene(size, np.random.default_rng(0))[0]
    Image.fromarray(make_mask(photo.size, 0.05)).save(folder.with_name(f"{folder.name}_mask.png"))
    for i in range(count):
        source = folder / f"{i - i % LINKS:06}.jpg"
        if i % LINKS:
            os.link(source, folder / f"{i:06}.jpg")
        else:
            photo.save(source, quality=92)
    return folder


def run(code: Path, photos: Path, model: str, enough: int) -> dict[str, float]:
    """One run of `code`, ended once so many results are there: seconds to the first, photos a second after it, and
    megabytes."""
    with tempfile.TemporaryDirectory() as results:
        mask = photos.with_name(f"{photos.name}_mask.png")
        command = [sys.executable, "-m", "fbinpaint", "run", f"--image={photos}", f"--mask={mask}"]
        command += [f"--output={results}", f"--model={Path(model).resolve()}"]
        began = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=code, env=os.environ | {"PYTHONPATH": str(code)}, stderr=subprocess.DEVNULL
        )
        try:
            times: list[float] = []
            while len(times) < enough:
                ended = process.poll() is not None
                whole = sum(entry.name.endswith(".png") for entry in os.scandir(results))
                times += [time.perf_counter() - began] * (whole - len(times))
                if ended and whole < enough:
                    raise InputError(f"{code}: a run ended with {process.returncode}; try it: {' '.join(command)}")
                time.sleep(0.01)
            memory = 0.0 if process.poll() is not None else peak_megabytes(process.pid)
        finally:
            process.kill()
            process.wait()
    later = enough - times.count(times[0])  # a first batch is there all at once
    rate = later / (times[enough - 1] - times[0]) if later > 0 else 0.0
    return {"first": times[0], "rate": rate, "megabytes": memory}


def peak_megabytes(pid: int) -> float:
    return int(Path(f"/proc/{pid}/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Photos a second of runs over folders.",
        epilog="example: python -m benchmarks.folder --small 60 --large 8",
        formatter_class=HelpWithDefaults,
    )
    parser.add_argument("--model", default="checkpoints/streets", help="pipeline folder")
    parser.add_argument("--before", type=Path, help="folder of another version of this package (default: none)")
    parser.add_argument("--small", type=positive, default=60, help="photos of 640x480")
    parser.add_argument("--large", type=positive, default=8, help="photos of 12 Mpx")
    parser.add_argument("--many", type=positive, default=60_000, help="photos of 64x48, to be found")
    parser.add_argument("--times", type=positive, default=2, help="runs of each")
    args = parser.parse_args()
    return exit_code(lambda: measure(args))


def measure(args: argparse.Namespace) -> None:
    versions = {"now": Path.cwd()} | ({} if args.before is None else {"before": args.before.resolve()})
    with tempfile.TemporaryDirectory() as folder:
        sets: dict[str, tuple[int, tuple[int, int] | None, int]] = {"few": (FEW, TINY, 1), "many": (args.many, TINY, 1)}
        sets |= {"small": (args.small, SMALL, args.small), "large": (args.large, None, args.large)}
        for name, (count, size, _) in sets.items():
            make_photos(Path(folder, name), count, size)
        found: dict[tuple[str, str], list[dict[str, float]]] = {}
        for _ in range(args.times):
            for name, (_, _, enough) in sets.items():
                for version, code in versions.items():
                    found.setdefault((name, version), []).append(run(code, Path(folder, name), args.model, enough))
    for version in versions:
        rates = {name: max(one["rate"] for one in found[name, version]) for name in ("small", "large")}
        first = {name: min(one["first"] for one in found[name, version]) for name in ("few", "many")}
        memory = {name: min(one["megabytes"] for one in found[name, version]) for name in ("few", "many")}
        each = (memory["many"] - memory["few"]) * 2**20 / (args.many - FEW)
        print(
            f"{version}: {rates['small']:.2f} photos/s of 640x480, {rates['large']:.3f} of 12 Mpx; first result after "
            f"{first['few']:.1f} s of {FEW}, {first['many']:.1f} s of {args.many} photos; {each:.0f} bytes a photo"
        )


if __name__ == "__main__":
    raise SystemExit(main())
