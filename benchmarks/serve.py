"""Many clients at once against the API on Ray Serve, and a replica killed meanwhile: does each get its own photo?

    python -m benchmarks.serve                                 # 64 clients x 20 photos, two replicas, one is killed
    python -m benchmarks.serve --clients 8 --requests 5 --side 256 --no-kill      # photos a second

Starts `python -m deploy.serve` in processes of its own, whose files lie in a folder that is deleted. Each client sends
photos of noise that nobody else has, in sizes of its own: a result is right if it has its photo's size, all of its
photo's pixels outside its hole, and others inside. What is answered with a status 5xx, or breaks off, is sent again.
"""

import argparse
import io
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import psutil
from PIL import Image

from fbinpaint.arguments import HelpWithDefaults, positive
from fbinpaint.errors import InputError
from fbinpaint.hub.model_names import CHECKPOINTS
from fbinpaint.masks import protocol_mask

from .reports import exit_code

ROOT = Path(__file__).resolve().parent.parent
START, ANSWER, END = 400, 120, 60  # seconds that the server may take to start, to answer, and to end
TRIES = 5


@dataclass
class Server:
    process: subprocess.Popen
    url: str
    log: Path

    def replicas(self) -> list[psutil.Process]:
        """The processes of its replicas; no other server's, for they descend from it."""
        found = []
        for process in self.processes():
            try:
                if "".join(process.cmdline()).startswith("ray::ServeReplica:"):
                    found.append(process)
            except psutil.Error:  # it has just ended
                continue
        return found

    def processes(self) -> list[psutil.Process]:
        """All that it has started, and these in turn."""
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []


@contextmanager
def served(model: str, replicas: int) -> Iterator[Server]:
    """A server of its own, once it has said where it answers, and does. Its processes and files end with it."""
    # A folder with a short path: Ray puts sockets there, whose paths may have 107 letters.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        with served_in(Path(folder), model, replicas) as server:
            yield server


@contextmanager
def served_in(folder: Path, model: str, replicas: int) -> Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    own = {"HOME": str(folder), "RAY_TMPDIR": str(folder), "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    own["PYTHONPATH"] = os.pathsep.join(paths)
    command = [sys.executable, "-m", "deploy.serve", "--model", model, "--replicas", str(replicas), "--port", str(port)]
    log = folder / "log"
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | own, stdout=output, stderr=subprocess.STDOUT)
    server = Server(process, f"http://127.0.0.1:{port}", log)
    try:
        wait_until_answered(server)
        yield server
    finally:
        rest = server.processes()
        process.terminate()
        try:
            process.wait(END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for child in psutil.wait_procs(rest, END)[1]:
            child.kill()


def wait_until_answered(server: Server) -> None:
    deadline = time.monotonic() + START
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            if httpx.get(f"{server.url}/health", timeout=5).status_code == 200 and server.url in server.log.read_text():
                return  # its address is the last line of those that say where things are
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise InputError(f"the server did not start: {server.log.read_text()[-2000:]}")


@dataclass
class Tally:
    """right and wrong: answers with a picture; loud: failures that the client was told, by status or kind, each of
    which it sent again; lost: photos that it gave up."""

    right: int = 0
    wrong: int = 0
    lost: int = 0
    loud: Counter = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def count(self, outcome: str) -> None:
        with self.lock:
            setattr(self, outcome, getattr(self, outcome) + 1)

    def count_loud(self, why: str) -> None:
        with self.lock:
            self.loud[why] += 1


def task(side: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A photo of noise (H,W,3) uint8, three quarters of the side to all of it, and its hole (H,W) bool."""
    rng = np.random.default_rng(seed)
    height, width = (int(x) for x in rng.integers(3 * side // 4, side + 1, 2))
    hole = np.asarray(Image.fromarray(protocol_mask(side, side, seed)).resize((width, height)))
    return rng.integers(0, 256, (height, width, 3), np.uint8), hole


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def is_right(answer: bytes, photo: np.ndarray, hole: np.ndarray) -> bool:
    result = np.asarray(Image.open(io.BytesIO(answer)))
    if result.shape != photo.shape:
        return False
    return np.array_equal(result[~hole], photo[~hole]) and not np.array_equal(result[hole], photo[hole])


def visit(url: str, side: int, seeds: range, tally: Tally) -> None:
    """One client, one photo after the other."""
    with httpx.Client(timeout=ANSWER) as client:
        for seed in seeds:
            photo, hole = task(side, seed)
            files = {"image": ("photo.png", png(photo)), "mask": ("mask.png", png(hole))}
            for _ in range(TRIES):
                try:
                    answer = client.post(f"{url}/inpaint", files=files)
                except httpx.TransportError as error:
                    tally.count_loud(type(error).__name__)
                    continue
                if answer.status_code == 200:
                    tally.count("right" if is_right(answer.content, photo, hole) else "wrong")
                    break
                tally.count_loud(str(answer.status_code))
            else:
                tally.count("lost")


@dataclass(frozen=True)
class Kill:
    """pid: of the replica that was sent SIGKILL, and was gone then; before, after: right answers until then, and from
    then on; successor: pid of the replica in its place, None where there was none in time."""

    pid: int
    before: int
    after: int
    successor: int | None


def processor_time(processes: list[psutil.Process]) -> float:
    """Seconds of all cores."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def crowd(server: Server, clients: int, requests: int, side: int, kill: bool) -> tuple[Tally, Kill | None, float]:
    """What came of so many clients at once, and the seconds they took. The kill falls after a third of the answers."""
    tally, killed, began = Tally(), None, time.monotonic()
    with ThreadPoolExecutor(clients) as pool:
        seeds = (range(client * requests, (client + 1) * requests) for client in range(clients))
        visits = [pool.submit(visit, server.url, side, some, tally) for some in seeds]
        if kill:
            before = {process.pid for process in server.replicas()}
            while tally.right < clients * requests // 3 and not all(v.done() for v in visits):
                time.sleep(0.01)
            victim = server.replicas()[0]
            victim.send_signal(signal.SIGKILL)
            victim.wait(END)  # raises TimeoutExpired where it goes on
            answered = tally.right
        for done in visits:
            done.result()
    seconds = time.monotonic() - began
    if kill:
        killed = Kill(victim.pid, answered, tally.right - answered, successor(server, before))
    return tally, killed, seconds


def successor(server: Server, before: set[int]) -> int | None:
    deadline = time.monotonic() + ANSWER
    while time.monotonic() < deadline:
        if new := [process.pid for process in server.replicas() if process.pid not in before]:
            return new[0]
        time.sleep(0.2)
    return None


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serve", description="Many clients at once against the API, one replica killed.",
        epilog="example: python -m benchmarks.serve --clients 8 --requests 5", formatter_class=HelpWithDefaults,
    )  # fmt: skip
    parser.add_argument("--model", default=str(CHECKPOINTS / "streets"), metavar="DIR|HUB_ID", help="default: streets")
    parser.add_argument("--replicas", type=positive, default=2, help="of the API, on CPUs")
    parser.add_argument("--clients", type=positive, default=64, help="at once")
    parser.add_argument("--requests", type=positive, default=20, help="of each")
    parser.add_argument("--side", type=positive, default=64, help="pixels of the longest side of a photo")
    parser.add_argument("--no-kill", action="store_true", help="no replica is killed: for rates")
    args = parser.parse_args()

    def command() -> None:
        with served(args.model, args.replicas) as server:
            replicas = server.replicas()
            busy = processor_time(replicas)
            tally, killed, seconds = crowd(server, args.clients, args.requests, args.side, not args.no_kill)
            busy = None if killed else processor_time(replicas) - busy
        number = args.clients * args.requests
        loud = ", ".join(f"{count} x {why}" for why, count in tally.loud.items()) or "none"
        print(f"{args.clients} clients x {args.requests} photos of up to {args.side} pixels, {args.replicas} replicas:")
        print(f"{tally.right} of {number} right, {tally.wrong} wrong, {tally.lost} lost, in {seconds:.0f} s: ", end="")
        print(f"{tally.right / seconds:.1f} photos a second; failures that were told, and sent again: {loud}")
        if busy is not None:
            print(f"a photo takes the replicas {busy / tally.right:.2f} s of a core")  # whatever else the machine does
        if killed:
            print(
                f"replica {killed.pid} was killed, and gone, after {killed.before} answers; {killed.after} came then; "
                f"{killed.successor} took its place"
            )

    return exit_code(command)


if __name__ == "__main__":
    sys.exit(main())
