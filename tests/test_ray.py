"""Runs on a Ray cluster on this machine, of a head and two nodes of one CPU each: workers, a node and the driver are
killed, and each photo is there in the end, once, whole, and bit-identical to what one process makes of it."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from fbinpaint import cli
from fbinpaint.data.scenes import street_scene

pytestmark = pytest.mark.slow

ray = pytest.importorskip("ray")
pytest.importorskip("ray.data")

ROOT = Path(__file__).parents[1]
PHOTOS, DIFFERENT = 90, 6
ROWS, BROKEN = 300, 70  # one row of them
PARTS = 6  # files of 50 rows, as row groups have
SIZE = (64, 48)
PATIENCE = 240  # seconds; a small shared machine is slow, not broken
# A lost node is noticed as soon as it refuses five connections; one that is only slow has its ten seconds.
HEALTH = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 200,
    "health_check_failure_threshold": 5,
    "health_check_timeout_ms": 10_000,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_pipeline_dir) -> Path:
    """photos/, links to a few scenes and one that is broken; mask.png; photos.parquet; in expected/ what one process
    of one thread makes of each scene."""
    folder = tmp_path_factory.mktemp("ray")
    for name in ("photos", "scenes"):
        (folder / name).mkdir()
    for i in range(DIFFERENT):
        street_scene(SIZE, np.random.default_rng(i))[0].save(folder / f"scenes/{i}.png")
    for i in range(PHOTOS):
        os.link(folder / f"scenes/{i % DIFFERENT}.png", folder / f"photos/{i:02}.png")
    (folder / "photos/cut.png").write_bytes((folder / "scenes/0.png").read_bytes()[:300])
    hole = np.zeros(SIZE[::-1], bool)
    hole[10:24, 8:30] = True
    Image.fromarray(hole).save(folder / "mask.png")
    scenes = [(folder / f"scenes/{i}.png").read_bytes() for i in range(DIFFERENT)]
    images = [scenes[i % DIFFERENT] for i in range(ROWS)]
    images[BROKEN] = images[BROKEN][:300]
    columns = {"id": list(range(ROWS)), "image": images, "mask": [(folder / "mask.png").read_bytes()] * ROWS}
    pq.write_table(pa.table(columns), folder / "photos.parquet", row_group_size=50)
    paths = {"image": "scenes", "mask": "mask.png", "output": "expected"}
    options = [f"--{name}={folder / path}" for name, path in paths.items()]
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert cli.main(["run", f"--model={tiny_pipeline_dir}", "--rounds=0", *options]) == 0
    finally:
        torch.set_num_threads(threads)
    return folder


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A head, where the driver is, and two nodes of one CPU each."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        # Sockets have short names only, and pytest's folders long ones.
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("RAY_worker_niceness", "0")  # not 15, by which they wait for whatever else the machine does
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.delenv("RAY_ADDRESS", raising=False)
        cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 0, "object_store_memory": 80 * 2**20, "include_dashboard": False}
            | {"_system_config": HEALTH},
        )
        try:
            for _ in range(2):
                cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
            yield cluster
        finally:
            cluster.shutdown()


def start(folder: Path, model: Path, image: Path, output: Path, *options) -> subprocess.Popen:
    """A run in a process of one thread that hears SIGINT."""
    paths = {"image": image, "output": output, "model": model}
    command = [*(f"--{name}={path}" for name, path in paths.items()), "--rounds=0", *map(str, options)]
    with open(folder / "stderr", "w") as said:
        run = subprocess.Popen(
            [sys.executable, "-m", "fbinpaint", "run", *command], cwd=ROOT, stdout=said, stderr=said,
            env=os.environ | {"OMP_NUM_THREADS": "1"}, preexec_fn=hear_interrupts,
        )  # fmt: skip
    run.said = folder / "stderr"
    return run


def hear_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def said_by(run: subprocess.Popen) -> str:
    return run.said.read_text()


def wait_until(condition, run: subprocess.Popen) -> None:
    """While the run goes on."""
    began = time.monotonic()
    while not condition():
        assert run.poll() is None, f"over too soon:\n{said_by(run)}"
        assert time.monotonic() - began < PATIENCE, said_by(run)
        time.sleep(0.005)


def workers_of(node) -> list[psutil.Process]:
    """The processes of a node that hold a model."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    found = []
    for process in raylet.children(recursive=True):
        try:
            found += [process] if "MapWorker" in " ".join(process.cmdline()) else []
        except psutil.NoSuchProcess:
            pass
    return found


def kill(process: psutil.Process) -> None:
    process.kill()
    psutil.wait_procs([process], timeout=10)
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def results(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if not name.startswith(".")) if folder.exists() else []


def states(folder: Path) -> dict[str, tuple[int, int]]:
    found = {name: (folder / name).stat() for name in results(folder)}
    return {name: (status.st_ino, status.st_mtime_ns) for name, status in found.items()}


def check_photos(folder: Path, output: Path) -> None:
    assert results(output) == [f"{i:02}.png" for i in range(PHOTOS)]
    expected = [(folder / f"expected/{i}.png").read_bytes() for i in range(DIFFERENT)]
    for i in range(PHOTOS):
        assert (output / f"{i:02}.png").read_bytes() == expected[i % DIFFERENT]


def check_table(folder: Path, output: Path) -> None:
    expected = [(folder / f"expected/{i}.png").read_bytes() for i in range(DIFFERENT)]
    rows = [row for name in results(output) for row in pq.read_table(output / name).to_pylist()]
    assert [row["id"] for row in rows] == list(range(ROWS))
    for i, row in enumerate(rows):
        if i == BROKEN:
            assert row["image"] is None and "the image data is broken" in row["error"]
        else:
            assert row["image"]["bytes"] == expected[i % DIFFERENT] and row["error"] is None


def test_a_cluster_that_was_killed_is_not_waited_for(folder, tiny_pipeline_dir, tmp_path, monkeypatch):
    """Comes first, as long as no cluster runs: a run on a new one is the answer to an address where nobody is."""
    with TemporaryDirectory(prefix="ray") as place, socket.socket() as silent:  # a short name, as sockets have
        silent.bind(("127.0.0.1", 0))
        (Path(place) / "ray").mkdir()
        (Path(place) / "ray/ray_current_cluster").write_text(f"127.0.0.1:{silent.getsockname()[1]}")
        for name, value in (("RAY_TMPDIR", place), ("HOME", place), ("PYTHONPATH", str(ROOT))):
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        arguments = folder, tiny_pipeline_dir, folder / "scenes", tmp_path / "restored"
        run = start(*arguments, "--mask", folder / "mask.png", "--ray")
        try:
            assert run.wait(PATIENCE) == 0, said_by(run)
        finally:
            run.kill()
    for i in range(DIFFERENT):
        assert (tmp_path / f"restored/{i}.png").read_bytes() == (folder / f"expected/{i}.png").read_bytes()


def test_a_run_whose_worker_node_and_driver_are_killed_is_resumed(folder, cluster, tiny_pipeline_dir):
    output = folder / "restored"
    arguments = folder, tiny_pipeline_dir, folder / "photos", output, *options(folder, cluster)
    run = start(*arguments)
    try:
        wait_until(lambda: results(output), run)
        kill(next(worker for node in cluster.worker_nodes for worker in workers_of(node)))
        killed_at = len(results(output))
        wait_until(lambda: len(results(output)) > killed_at, run)
        lost, workers = next((node, workers) for node in list(cluster.worker_nodes) if (workers := workers_of(node)))
        cluster.remove_node(lost, allow_graceful=False)
        psutil.wait_procs(workers, timeout=PATIENCE)
        assert not any(worker.is_running() for worker in workers) and run.poll() is None
        removed_at = len(results(output))
        cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
        wait_until(lambda: len(results(output)) > removed_at, run)
        run.kill()
        assert run.wait(PATIENCE) == -signal.SIGKILL
    finally:
        run.kill()
    wait_for_workers_to_end(cluster)
    before = states(output)
    assert 0 < killed_at <= removed_at < len(before) < PHOTOS and not list(folder.glob("restored.errors.txt"))

    run = start(*arguments, "--resume")
    assert run.wait(PATIENCE) == 1, said_by(run)
    assert before.items() < states(output).items()  # what was there is left as it is
    assert "photos are done already, left alone" in said_by(run)
    check_photos(folder, output)
    check_told(folder, output, run)


def test_a_table_whose_worker_and_driver_are_killed_is_resumed(folder, cluster, tiny_pipeline_dir):
    output = folder / "restored.parquet"
    address = f"--ray={cluster.address}"
    run = start(folder, tiny_pipeline_dir, folder / "photos.parquet", output, address)
    try:
        wait_until(lambda: results(output), run)
        kill(next(worker for node in cluster.worker_nodes for worker in workers_of(node)))
        killed_at = len(results(output))
        wait_until(lambda: len(results(output)) > killed_at, run)
        run.kill()
        assert run.wait(PATIENCE) == -signal.SIGKILL
    finally:
        run.kill()
    wait_for_workers_to_end(cluster)
    before = states(output)
    assert 0 < len(before) < PARTS
    run = start(folder, tiny_pipeline_dir, folder / "photos.parquet", output, address, "--resume")
    assert run.wait(PATIENCE) == 1, said_by(run)
    # Rows that failed are tried again, and so are those beside them.
    broken = f"photos-{BROKEN // 50 * 50:09}.parquet"
    assert {name: state for name, state in before.items() if name != broken}.items() <= states(output).items()
    assert len(results(output)) == PARTS
    check_table(folder, output)
    assert (folder / "restored.parquet.errors.txt").read_text().count("\n") == 1


def test_an_interrupted_run_keeps_what_is_done_and_leaves_the_cluster(folder, cluster, tiny_pipeline_dir):
    output = folder / "interrupted"
    run = start(folder, tiny_pipeline_dir, folder / "photos", output, *options(folder, cluster))
    try:
        wait_until(lambda: results(output), run)
        run.send_signal(signal.SIGINT)
        assert run.wait(PATIENCE) == 130, said_by(run)
    finally:
        run.kill()
    assert "interrupted: finished files are kept" in said_by(run) and "Traceback" not in said_by(run)
    wait_for_workers_to_end(cluster)
    done = results(output)
    assert 0 < len(done) < PHOTOS and not list(folder.glob("interrupted.errors.txt"))
    for name in done:
        i = int(Path(name).stem) % DIFFERENT
        assert (output / name).read_bytes() == (folder / f"expected/{i}.png").read_bytes()


def test_what_cannot_be_is_refused_in_a_line(folder, cluster, tiny_pipeline_dir):
    with socket.socket() as silent:  # nobody listens
        silent.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{silent.getsockname()[1]}"
        for given, words in [
            ([f"--ray={nobody}"], f"--ray {nobody}: no answer"),
            (["--ray=cluster"], "--ray cluster: is not of the form HOST:PORT"),
            ([f"--ray={cluster.address}", "--gpus-per-worker=1"], "no node of the cluster has the 1 CPU and 1 GPUs"),
            (["--gpus-per-worker=1"], "--gpus-per-worker: only for workers of Ray; add --ray"),
        ]:
            mask = ("--mask", folder / "mask.png")
            run = start(folder, tiny_pipeline_dir, folder / "photos", folder / "none", *mask, *given)
            assert run.wait(PATIENCE) == 1
            lines = [line for line in said_by(run).splitlines() if line.startswith("error: ")]
            assert len(lines) == 1 and words in lines[0], said_by(run)
            assert "Traceback" not in said_by(run) and not list(folder.glob("none*"))


def test_without_ray_a_line_says_what_to_install(folder, tiny_pipeline_dir):
    program = "import sys; sys.modules['ray'] = None; from fbinpaint.cli import main; sys.exit(main(sys.argv[1:]))"
    paths = [f"--image={folder}/photos", f"--mask={folder}/mask.png", f"--output={folder}/none", "--ray"]
    command = [sys.executable, "-c", program, "run", *paths, f"--model={tiny_pipeline_dir}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 1 and done.stderr.startswith("error: --ray: Ray is not installed")
    assert "pip install 'fbinpaint[ray]'" in done.stderr and done.stderr.count("\n") == 1


def options(folder: Path, cluster) -> tuple:
    return "--mask", folder / "mask.png", f"--ray={cluster.address}"


def check_told(folder: Path, output: Path, run: subprocess.Popen) -> None:
    """The broken photo is named on stderr and in the file."""
    broken = f"{folder}/photos/cut.png: the image data is broken or truncated"
    assert said_by(run).count(broken) == 1 and "(raylet)" not in said_by(run) and "Deprecat" not in said_by(run)
    (line,) = output.with_name(f"{output.name}.errors.txt").read_text().splitlines()
    assert line.startswith(broken)


def wait_for_workers_to_end(cluster) -> None:
    """The run is over for the cluster as well, and nothing is written any more."""
    began = time.monotonic()
    while any(map(workers_of, cluster.worker_nodes)):
        assert time.monotonic() - began < PATIENCE
        time.sleep(0.05)


def test_the_snippet_of_the_docs_runs_as_it_stands(folder, tiny_pipeline_dir, tmp_path, monkeypatch):
    page = (ROOT / "docs/scale.md").read_text()
    (snippet,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/streets").symlink_to(tiny_pipeline_dir)
    pq.write_table(pq.read_table(folder / "photos.parquet").slice(BROKEN - 4, 8), tmp_path / "photos.parquet")
    own = "import ray; ray.init('local', num_cpus=2, include_dashboard=False, object_store_memory=80 * 2**20)\n"
    env = os.environ | {"HOME": str(tmp_path), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", own + snippet], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    rows = [row for path in (tmp_path / "restored").iterdir() for row in pq.read_table(path).to_pylist()]
    assert sorted(row["id"] for row in rows) == list(range(BROKEN - 4, BROKEN + 4))
    for row in rows:
        assert (row["image"] is None) == (row["error"] is not None) == (row["id"] == BROKEN)
