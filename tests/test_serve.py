"""The API on Ray Serve: what it answers, that requests share batches unmixed, that a killed replica harms no others.

Real processes, in a folder of their own; nothing waits longer than `benchmarks.serve` says.
"""

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image

from benchmarks.serve import ANSWER, END, ROOT, START, crowd, png, served, task

pytest.importorskip("ray.serve", reason="the API wants Ray Serve: pip install ray[serve]")

from deploy.api import Inpaint, Remove, Segment, Task, run
from deploy.serve import share
from fbinpaint.demo.models import load
from fbinpaint.errors import InputError

pytestmark = pytest.mark.slow

MAX_REQUEST = 100_000_000


@pytest.fixture(scope="module")
def server(tiny_pipeline_dir):
    with served(str(tiny_pipeline_dir), 2) as server:
        yield server


@pytest.fixture
def post(server):
    def post(route: str, headers: dict | None = None, content: bytes | None = None, **fields):
        """The answer; of the fields, bytes are files."""
        files = {name: (f"{name}.png", value) for name, value in fields.items() if isinstance(value, bytes)}
        data = {name: value for name, value in fields.items() if not isinstance(value, bytes)}
        form = {"content": content} if content is not None else {"files": files, "data": data}
        return httpx.post(f"{server.url}{route}", headers=headers, timeout=ANSWER, **form)

    return post


def picture(answer: httpx.Response) -> np.ndarray:
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png"), answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def refused(answer: httpx.Response, status: int, words: str) -> None:
    """One line of JSON."""
    line = answer.json()["error"]
    assert answer.status_code == status and re.search(words, line), f"{answer.status_code} {line}"
    assert "\n" not in line and len(answer.json()) == 1


def test_a_cluster_that_was_killed_is_not_waited_for(tmp_path, tiny_pipeline_dir):
    """Comes first, as long as no cluster runs on this machine."""
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray/ray_current_cluster").write_text("127.0.0.1:1")
    done = command(tmp_path, "--model", tiny_pipeline_dir, "--address", "auto")
    assert done.returncode == 1 and "error: --address auto: no Ray cluster answers there" in done.stderr, done.stderr


def test_inpaint_fills_the_hole_and_nothing_else(post, tiny_pipeline):
    photo, hole = task(64, 0)
    answer = post("/inpaint", image=png(photo), mask=png(hole), rounds="1")
    result = picture(answer)
    alone = np.asarray(tiny_pipeline(photo, hole, 1).images[0])
    assert np.array_equal(result[~hole], photo[~hole]) and not np.array_equal(result[hole], photo[hole])
    assert np.abs(result.astype(int) - alone).max() <= 1  # other numbers of threads round otherwise
    told = json.loads(answer.headers["x-figures"])
    height, width = hole.shape
    assert (told["width"], told["height"], told["hole"]) == (width, height, round(float(hole.mean()), 6))
    assert b"DigitalSourceType" in answer.content


def test_a_photo_keeps_its_transparency(post):
    photo, hole = task(64, 1)
    alpha = np.full((*hole.shape, 1), 200, np.uint8)
    result = picture(post("/inpaint", image=png(np.concatenate([photo, alpha], axis=2)), mask=png(hole)))
    assert result.shape == (*hole.shape, 4)
    assert np.array_equal(result[~hole], np.concatenate([photo, alpha], axis=2)[~hole])


def test_segment_answers_class_ids(post, tiny_pipeline, own_photo):
    answer = post("/segment", image=own_photo.read_bytes())
    labels = picture(answer)
    assert np.array_equal(labels, tiny_pipeline.segment(Image.open(own_photo), output_type="np"))
    shown = json.loads(answer.headers["x-figures"])["classes"]
    assert {int(key): name for key, name in shown.items()} == {
        int(i): tiny_pipeline.label_space.classes[i] for i in np.unique(labels)
    }


def test_remove_fills_what_it_finds(post, tiny_pipeline, own_photo):
    photo = np.asarray(Image.open(own_photo).convert("RGB"))
    labels = tiny_pipeline.segment(photo, output_type="np")
    rarest = int(np.bincount(labels.ravel(), minlength=19)[np.unique(labels)].argmin())
    name = tiny_pipeline.label_space.classes[np.unique(labels)[rarest]]
    hole = tiny_pipeline.select(labels, name, grow=2)
    answer = post("/remove", image=own_photo.read_bytes(), classes=name, grow="2")
    result, told = picture(answer), json.loads(answer.headers["x-figures"])
    assert hole.any() and np.array_equal(result[~hole], photo[~hole])
    assert told["hole"] == round(float(hole.mean()), 6) and list(told["found"]) == [name]


@pytest.mark.parametrize(
    "route, fields, words",
    [
        ("/inpaint", {"image": b"no picture"}, "mask: is missing; send it"),
        ("/inpaint", {"image": b"no picture", "mask": b"x"}, "^image.png: is not an image that can be read"),
        ("/inpaint", {"image": b"", "mask": b""}, r"^image.png: is empty \(zero bytes\)"),
        ("/inpaint", {"image": "text", "mask": b"x"}, "^image: is no file; send one"),
        ("/inpaint", {"rounds": "99"}, "^rounds 99: must be a whole number from 0 to 4"),
        ("/inpaint", {"rounds": "many"}, "^rounds 'many': "),
        ("/inpaint", {"model": "another"}, "^model 'another': is none of this server's; name one of "),
        ("/inpaint", {"forbidden": "unicorn"}, "unicorn"),
        ("/inpaint", {"mask": png(np.zeros((48, 64), np.uint8))}, "nothing is marked"),
        ("/inpaint", {"mask": png(np.full((48, 64), 255, np.uint8))}, "everything is marked"),
        ("/inpaint", {"mask": png(np.full((48, 48), 255, np.uint8))}, "^mask.png: is 48x48, the photo 64x48"),
        ("/inpaint", {"image": png(np.zeros((8, 8, 3), np.uint8))}, "give at least 16x16 pixels"),
        ("/remove", {"mask": b""}, "No class is named; send some of these as `classes`: .*road"),
        ("/remove", {"classes": "unicorn"}, "unicorn"),
        ("/remove", {"classes": "car", "grow": "65"}, "^grow 65: must be a whole number from 0 to 64"),
        ("/remove", {"classes": "car", "retries": "5"}, "^retries 5: must be"),
    ],
)  # fmt: skip
def test_wrong_input_is_one_line_of_json(route, fields, words, post):
    good = {"image": png(np.zeros((48, 64, 3), np.uint8)), "mask": png(np.eye(48, 64, dtype=np.uint8) * 255)}
    if "is missing" in words:
        good = {}
    refused(post(route, **good | fields), 400, words)


def test_what_is_no_request_of_ours_is_one_line_of_json(server, post):
    refused(httpx.get(f"{server.url}/inpaint"), 405, "GET /inpaint")
    refused(httpx.get(f"{server.url}/etc/passwd"), 404, "GET /etc/passwd")
    refused(post("/inpaint", content=b"x", headers={"Content-Type": "multipart/form-data"}), 400, "boundary")
    refused(httpx.post(f"{server.url}/inpaint", content=iter([b"x"]), timeout=ANSWER), 411, "Content-Length")


def test_a_body_that_is_too_long_is_refused_before_it_is_sent(server):
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=ANSWER) as connection:
        head = f"POST /inpaint HTTP/1.1\r\nHost: {host}\r\nContent-Length: {MAX_REQUEST + 1}\r\n\r\n"
        connection.sendall(head.encode())
        answer = b""
        while b"100 MB" not in answer and (more := connection.recv(65536)):
            answer += more
    assert answer.startswith(b"HTTP/1.1 413") and b"more than 100 MB" in answer


def test_health_and_metrics_are_there(server):
    assert httpx.get(f"{server.url}/health").json()["status"] == "ok"
    (metrics,) = re.findall(r"metrics: (http\S+)", server.log.read_text())
    missing = {"ray_serve_deployment_replica_healthy", "ray_serve_http_request_latency_ms_bucket"}
    deadline = time.monotonic() + 60
    while missing:  # Ray exports them every few seconds
        figures = httpx.get(metrics, timeout=ANSWER).text
        missing = {name for name in missing if not re.search(rf'^{name}{{.*application="fbinpaint"', figures, re.M)}
        assert not missing or time.monotonic() < deadline, missing


def test_a_killed_replica_loses_no_photo_and_mixes_none(server):
    """What it was at work on fails loudly and is sent again; the other goes on, and another takes its place."""
    before = {process.pid for process in server.replicas()}
    assert len(before) == 2
    tally, killed, _ = crowd(server, clients=8, requests=8, side=48, kill=True)
    assert (tally.right, tally.wrong, tally.lost) == (64, 0, 0)
    assert set(tally.loud) <= {"500", "503"}
    assert killed.pid in before and not psutil.pid_exists(killed.pid)
    assert killed.before < 64 and killed.after > 0 and killed.successor not in {None, *before}


# ---------------------------------------------------------------------------------------------- batches


def tasks(model: str, work, count: int = 3) -> list[Task]:
    made = [task(48, seed) for seed in range(count)]
    return [Task(model, work, Image.fromarray(photo), hole) for photo, hole in made]


def test_requests_of_other_settings_in_one_batch_come_back_in_order(tiny_pipeline_dir):
    model, works = str(tiny_pipeline_dir), [Inpaint(0, ()), Segment(), Inpaint(1, (13,)), Inpaint(0, ())]
    mixed = [tasks(model, work, 4)[place] for place, work in enumerate(works)]
    together, alone = run(mixed), [run([one])[0] for one in mixed]
    for one, result, expected in zip(mixed, together, alone, strict=True):
        assert result.size == one.photo.size and np.abs(np.asarray(result, int) - np.asarray(expected, int)).max() <= 1


def test_a_photo_that_cannot_be_done_spares_the_others_of_its_batch(tiny_pipeline_dir):
    some = tasks(str(tiny_pipeline_dir), Inpaint(0, ()))
    some[1] = Task(some[1].model, some[1].work, some[1].photo, np.ones_like(some[1].mask))
    first, second, third = run(some)
    assert isinstance(second, InputError) and "everything is marked" in str(second)
    assert first.size == some[0].photo.size and third.size == some[2].photo.size


def test_a_removal_takes_its_settings(tiny_pipeline_dir):
    photo = Image.fromarray(task(48, 0)[0])
    names = range(load(str(tiny_pipeline_dir)).label_space.num_classes)
    work = Remove(tuple(names)[:-1], num_feedback_rounds=0, grow=200, shadow=False, retries=0)
    (result,) = run([Task(str(tiny_pipeline_dir), work, photo)])
    assert isinstance(result, InputError) and "all of it would be filled" in str(result)


# ---------------------------------------------------------------------------------------------- the command


def test_a_replica_a_gpu_or_parts_of_the_cpus():
    gpu = {"num_gpus": 1, "num_cpus": 1}
    node, large, small = {"GPU": 8.0, "CPU": 64.0}, {"CPU": 8.0}, {"CPU": 4.0}
    assert share([node, node, large], None) == (16, gpu)
    assert share([node], 3) == (3, gpu)
    assert share([large], None) == (1, {"num_cpus": 8})
    assert share([large], 3) == (3, {"num_cpus": 2})
    assert share([large, small], None) == (2, {"num_cpus": 4})  # of one machine each
    assert share([large, small], 1) == (1, {"num_cpus": 8})


@pytest.mark.parametrize(
    "machines", [[{"CPU": 2.0}], [{"CPU": 1.0}] * 2, [{"GPU": 2.0, "CPU": 9.0}], [{"GPU": 9.0, "CPU": 2.0}]]
)
def test_a_cluster_too_small_is_refused_in_one_line(machines):
    with pytest.raises(InputError, match="3 replicas want a .*, room for 2: ask for fewer --replicas, or add machines"):
        share(machines, 3)


def test_gpus_without_cpus_are_refused():
    with pytest.raises(InputError, match="2 replicas want a GPU and a CPU each; .* room for 1"):
        share([{"GPU": 2.0, "CPU": 1.0}], None)


def command(tmp_path, *arguments) -> subprocess.CompletedProcess:
    environment = os.environ | {"HOME": str(tmp_path), "RAY_TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "deploy.serve", *map(str, arguments)], cwd=ROOT, env=environment, timeout=START,
        capture_output=True, text=True,
    )  # fmt: skip


def test_what_cannot_be_served_is_told_in_one_line(tmp_path, tiny_pipeline_dir):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for words, *arguments in (
            (f"127.0.0.1:{port} is taken", "--model", tiny_pipeline_dir, "--port", port),
            (str(tmp_path), "--model", tmp_path),
            ("no Ray cluster answers", "--model", tiny_pipeline_dir, "--port", 0, "--address", "127.0.0.1:1"),
        ):
            done = command(tmp_path, *arguments)
            lines = done.stderr.strip().splitlines()
            assert done.returncode == 1 and lines[-1].startswith("error: ") and words in lines[-1], done.stderr
            assert "Traceback" not in done.stderr


def test_sigterm_ends_all_processes(tiny_pipeline_dir):
    with served(str(tiny_pipeline_dir), 1) as server:
        processes = server.processes()
        assert len(processes) > 3 and len(server.replicas()) == 1
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(END) == 0
        assert not psutil.wait_procs(processes, END)[1]
