"""Runs read, work and write at once: what comes of it is what comes of one photo after the other."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from fbinpaint.batch import batch
from fbinpaint.batch.batch import Given, Memory, Removing, Restoration, Segmentation, run
from fbinpaint.batch.planning import Job, plan_restorations
from fbinpaint.cli import main
from fbinpaint.data.scenes import street_scene
from fbinpaint.images.io import load_image

ROOT = Path(__file__).parents[1]
PHOTOS = 14


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """photos/ of many sizes, a few of them broken; masks/, of which a few do not fit."""
    folder = tmp_path_factory.mktemp("batch")
    for name in ("photos", "masks"):
        (folder / name).mkdir()
    sizes = np.random.default_rng(0).integers(24, 130, (PHOTOS, 2)).tolist()
    for i, (width, height) in enumerate(sizes):
        street_scene((width, height), np.random.default_rng(i))[0].save(folder / f"photos/{i:02}.png")
        hole = np.zeros((height, width), bool)
        hole[4:16, 3:20] = True
        Image.fromarray(hole if i % 7 else np.ones((16, 160), bool)).save(folder / f"masks/{i:02}.png")
    for i in (3, 4, 11):
        data = (folder / f"photos/{i:02}.png").read_bytes()
        (folder / f"photos/{i:02}.png").write_bytes(data[: len(data) // 2] if i != 4 else b"")
    return folder


def jobs_of(folder: Path) -> list[Job]:
    return list(plan_restorations(folder / "photos", folder / "masks", Path("results"), True, save_masks=True))


@pytest.mark.parametrize("kind", ["restoration", "removal", "maps"])
@pytest.mark.parametrize("models", [1, 2])
def test_results_are_those_of_one_photo_at_a_time_in_the_order_of_the_jobs(kind, models, folder, tiny_pipeline):
    """Two models of one kind: photos are shared among them as by `--model auto`."""
    pipes = {name: tiny_pipeline for name in ("first", "second")[:models]}
    painters = dict.fromkeys(pipes, None)
    task = {
        "restoration": Restoration(pipes, 1, 0, painters),
        "removal": Removing(pipes, 0, painters, None, classes=["road"], num_feedback_rounds=0),
        "maps": Segmentation(pipes),
    }[kind]
    jobs = jobs_of(folder)
    assert len(jobs) == PHOTOS
    at_once, one_by_one = Memory(), Memory()
    done = list(run(task, jobs, 1, at_once))
    expected = [one for job in jobs for one in run(task, [job], 1, one_by_one)]
    assert [one.job for one in done] == jobs and done == expected and at_once == one_by_one
    failed = {int(one.job.image.stem) for one in done if one.error}
    assert failed == ({3, 4, 11} if kind == "maps" else {0, 3, 4, 7, 11})
    assert {one.model for one in done if one.error is None} <= pipes.keys()


class Slow(Segmentation):
    """Maps that take no model, but the time to read, to make or to write them.

    held: number of pixels that were read and are not yet written; most: the highest so far
    together: what was going on at once, at any moment
    """

    def __init__(self, read: float = 0, work: float = 0, write: float = 0):
        super().__init__({"none": None})
        self.seconds = {"read": read, "work": work, "write": write}
        self.lock, self.held, self.most = threading.Lock(), 0, 0
        self.going_on, self.together = Counter(), set()

    def read(self, job, file, warn):
        given = Given(file, load_image(file))
        self.hold(given.photo.width * given.photo.height)
        self.take_time("read")
        return given

    def results(self, pipe, given):
        self.take_time("work")
        return [one.photo for one in given]

    def write(self, done, given, made, output):
        self.take_time("write")
        self.hold(-given.photo.width * given.photo.height)

    def take_time(self, what: str) -> None:
        with self.lock:
            self.going_on[what] += 1
            self.together.add(frozenset(+self.going_on))
        time.sleep(self.seconds[what])
        with self.lock:
            self.going_on[what] -= 1

    def hold(self, pixels: int) -> None:
        with self.lock:
            self.held += pixels
            self.most = max(self.most, self.held)


@pytest.mark.parametrize("slow", ["read", "work", "write"])
@pytest.mark.parametrize("batch_size", [1, 16])
def test_large_photos_do_not_pile_up(slow, batch_size, tmp_path, no_hang, monkeypatch):
    """At most PIXELS of a batch, of those read ahead, and of those being written; and a photo more of each."""
    pixels = 40 * 30
    monkeypatch.setattr(batch, "PIXELS", 3 * pixels)
    Image.new("RGB", (40, 30)).save(tmp_path / "large.png")
    Image.new("RGB", (4, 3)).save(tmp_path / "small.png")
    names = ["large", "small", "large", "large"] * 15
    jobs = [Job(tmp_path / f"{name}.png", None, tmp_path / "result.png") for name in names]
    task = Slow(**{slow: 0.005})
    assert [one.error for one in run(task, jobs, batch_size)] == [None] * len(jobs)
    assert task.held == 0 and task.most <= 3 * (3 + 1) * pixels


def test_broken_photos_take_no_room_from_the_others(tmp_path, no_hang, monkeypatch):
    monkeypatch.setattr(batch, "PIXELS", 3 * 40 * 30)
    street_scene((40, 30), np.random.default_rng(0))[0].save(tmp_path / "whole.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "whole.png").read_bytes()[:-200])
    names = ["broken"] * 40 + ["whole", "broken"] * 10
    jobs = [Job(tmp_path / f"{name}.png", None, tmp_path / "result.png") for name in names]
    done = list(run(Slow(), jobs, 8))
    assert [one.error is None for one in done] == [name == "whole" for name in names]


def test_reading_and_writing_go_on_beside_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(batch, "THREADS", 2)
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    jobs = [Job(tmp_path / "a.png", None, tmp_path / "b.png")] * 20
    task = Slow(0.02, 0.02, 0.02)
    assert len(list(run(task, jobs, 1))) == 20
    for pair in ({"read", "work"}, {"work", "write"}):
        assert any(pair <= at_once for at_once in task.together)


def test_memory_is_flat_over_many_photos(tmp_path):
    """What 2,000 photos leave behind beyond what 1,000 do: a kilobyte each would be seen."""
    street_scene((64, 48), np.random.default_rng(0))[0].save(tmp_path / "a.png")
    process, held = psutil.Process(), {}
    jobs = (Job(tmp_path / "a.png", None, tmp_path / f"{i}.png") for i in range(2000))
    for i, _ in enumerate(run(Slow(), jobs, 4)):
        if i + 1 in (1000, 2000):
            held[i + 1] = process.memory_info().rss
    assert held[2000] - held[1000] < 3 * 2**20


@pytest.mark.slow
def test_a_hundred_thousand_names_are_listed_while_photos_are_done(tmp_path):
    """The first job is there long before the last, and memory holds no more than AHEAD of them."""
    program = """
import os, resource, sys, time
from pathlib import Path
from fbinpaint.batch.planning import AHEAD, Listing, plan_maps
folder = Path(sys.argv[1])
listing = Listing(plan_maps(folder, folder.parent / "maps", False), print)
assert not listing.is_empty() and listing.total is None
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
count = sum(1 for _ in listing)
print(count, listing.total, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    for place in range(100):
        folder = tmp_path / f"photos/{place:02}"
        folder.mkdir(parents=True)
        (folder / "000.png").touch()
        for i in range(1, 1000):
            os.link(folder / "000.png", folder / f"{i:03}.png")
    command = [sys.executable, "-c", program, str(tmp_path / "photos")]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    count, total, megabytes = map(int, said.stdout.split())
    assert count == total == 100_000 and megabytes < 40, said.stderr


@pytest.mark.slow
def test_an_interrupt_leaves_whole_files_and_ends_soon(tmp_path, tiny_pipeline_dir):
    """SIGINT while 1 Mpx results are written, several at once."""
    (tmp_path / "photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (800, 1250, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photos/00.png", compress_level=1)
    for i in range(1, 40):
        os.link(tmp_path / "photos/00.png", tmp_path / f"photos/{i:02}.png")
    hole = np.zeros((800, 1250), bool)
    hole[10:24, 8:30] = True
    Image.fromarray(hole).save(tmp_path / "mask.png")
    what = {"image": tmp_path / "photos", "mask": tmp_path / "mask.png", "output": tmp_path / "results"}
    command = [sys.executable, "-m", "fbinpaint", "run", *(f"--{name}={path}" for name, path in what.items())]
    command += [f"--model={tiny_pipeline_dir}", "--rounds=0", "--batch-size=4"]
    process = subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    try:
        started = time.monotonic()
        while len(list((tmp_path / "results").glob("*.png"))) < 3:
            assert process.poll() is None and time.monotonic() - started < 300
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130 and "interrupted: finished files are kept" in said and "Traceback" not in said
    left = sorted((tmp_path / "results").iterdir())
    assert 3 <= len(left) < 40 and all(re.fullmatch(r"\d\d\.png", path.name) for path in left)
    for path in left:
        assert np.array_equal(np.asarray(Image.open(path))[~hole], pixels[~hole])


def test_what_the_command_line_says_is_in_the_order_of_the_photos(folder, tiny_pipeline_dir, tmp_path, capsys):
    what = [f"--image={folder / 'photos'}", f"--mask={folder / 'masks'}", f"--output={tmp_path}"]
    assert main(["run", *what, f"--model={tiny_pipeline_dir}", "--rounds=0"]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert [int(re.search(r"photos/(\d\d)\.png", line)[1]) for line in errors] == [0, 3, 4, 7, 11]
