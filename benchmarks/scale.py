"""What `fbinpaint run --ray` does with very many photos: how soon the first result is there, whether memory stays flat,
and what two workers are worth against one process.

    python -m benchmarks.scale [--photos 100000] [--alone 2000]

The photos are procedural, 64 pixels wide, links to a few files; the model is the miniature one of the tests, so that
what is measured is what goes on around the model. Two workers of one thread share two cores. One process of one thread
does `--alone` of them before and after, as other programs may want the cores meanwhile.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import ray
from PIL import Image

from benchmarks.reports import exit_code
from fbinpaint.arguments import HelpWithDefaults, positive
from fbinpaint.data.scenes import street_scene
from fbinpaint.errors import InputError
from tests.conftest import make_tiny_networks, quiet_pipeline

SIZE = (64, 48)
SCENES = 8
IN_FOLDER = 1000  # photos
WORKERS = 2
MEGABYTE = 2**20
UP = "--ray: room for"  # what `run` says once it is connected


def write_photos(folder: Path, count: int) -> None:
    """photos/0000/000.png and so on, mask.png, and the model."""
    quiet_pipeline(make_tiny_networks()).save_pretrained(folder / "model")
    for i in range(SCENES):
        street_scene(SIZE, np.random.default_rng(i))[0].save(folder / f"scene{i}.png")
    for i in range(count):
        place = folder / f"photos/{i // IN_FOLDER:04}"
        place.mkdir(parents=True, exist_ok=True)
        os.link(folder / f"scene{i % SCENES}.png", place / f"{i % IN_FOLDER:03}.png")
    hole = np.zeros(SIZE[::-1], bool)
    hole[10:24, 8:30] = True
    Image.fromarray(hole).save(folder / "mask.png")


def start(folder: Path, photos: Path, output: Path, *options: str) -> subprocess.Popen:
    paths = {"image": photos, "mask": folder / "mask.png", "output": output, "model": folder / "model"}
    command = [sys.executable, "-m", "fbinpaint", "run", *(f"--{name}={path}" for name, path in paths.items())]
    with open(folder / "said", "w") as said:
        env = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.Popen([*command, "--rounds=0", *options], stdout=said, stderr=said, env=env)


def results(output: Path) -> Iterator[os.DirEntry]:
    for place in os.scandir(output) if output.exists() else ():
        yield from (entry for entry in os.scandir(place.path) if entry.name.endswith(".png"))


def times_of(output: Path) -> tuple[float, float, int]:
    """Of the first and the last result, and how many there are."""
    times = [entry.stat().st_mtime for entry in results(output)]
    return min(times), max(times), len(times)


def rate_of_one(folder: Path, count: int, name: str) -> float:
    """Photos a second of one process, from the first result on."""
    photos = folder / f"{name}-photos"
    for i in range(count):
        place = photos / f"{i // IN_FOLDER:04}"
        place.mkdir(parents=True, exist_ok=True)
        os.link(folder / f"scene{i % SCENES}.png", place / f"{i % IN_FOLDER:03}.png")
    if start(folder, photos, folder / name).wait():
        raise InputError(f"one process failed: {(folder / 'said').read_text()[-500:]}")
    first, last, made = times_of(folder / name)
    rate = (made - 1) / (last - first)
    print(f"one process, {name}: {rate:.1f} photos a second", flush=True)
    return rate


def measure(count: int, alone: int, every: float) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        began = time.time()
        write_photos(folder, count)
        print(f"{count} photos written in {time.time() - began:.0f} s", flush=True)
        before = rate_of_one(folder, alone, "before")
        os.environ |= {"OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}  # as that of one process, not 15
        up: Any = ray.init("local", num_cpus=WORKERS, include_dashboard=False, object_store_memory=256 * MEGABYTE)
        output = folder / "restored"
        run = start(folder, folder / "photos", output, f"--ray={up.address_info['gcs_address']}")
        driver, connected, told = psutil.Process(run.pid), None, time.monotonic()
        print("   time   photos  driver MB  store MB", flush=True)
        began, memory = time.monotonic(), []
        while run.poll() is None:
            if connected is None and UP in (folder / "said").read_text():
                connected = time.time()
            if time.monotonic() >= told:
                told += every
                used = ray.cluster_resources()["object_store_memory"]
                used -= ray.available_resources().get("object_store_memory", 0)
                memory.append((driver.memory_info().rss / MEGABYTE, used / MEGABYTE))
                made = sum(1 for _ in results(output))
                print(f"{told - every - began:7.0f}{made:9}{memory[-1][0]:11.0f}{memory[-1][1]:10.2f}", flush=True)
            time.sleep(0.05)
        ray.shutdown()
        if run.returncode:
            raise InputError(f"the run failed: {(folder / 'said').read_text()[-500:]}")
        first, last, made = times_of(output)
        rate = (made - 1) / (last - first)
        assert connected is not None, "a run with results was connected"
        print(f"{made} of {count} photos; the first result {first - connected:.1f} s after the cluster was connected")
        print(f"{WORKERS} workers: {rate:.1f} photos a second")
        half = [driver for driver, _ in memory[len(memory) // 2 :]]
        print(f"driver: {half[0]:.0f} MB at half time, {half[-1]:.0f} MB at the end; store at most "
              f"{max(store for _, store in memory):.2f} MB")  # fmt: skip
        after = rate_of_one(folder, alone, "after")
        print(f"{rate / np.mean([before, after]):.2f} times one process (before and after)")


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Measure runs on Ray over very many photos.",
        epilog="example: python -m benchmarks.scale --photos 4000 --alone 500",
        formatter_class=HelpWithDefaults,
    )
    parser.add_argument("--photos", type=positive, default=100_000, help="for two workers")
    parser.add_argument("--alone", type=positive, default=2000, help="for one process")
    parser.add_argument("--every", type=positive, default=30, help="seconds between two looks at memory")
    args = parser.parse_args()
    return exit_code(lambda: measure(args.photos, args.alone, args.every))


if __name__ == "__main__":
    raise SystemExit(main())
