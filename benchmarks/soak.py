"""Whether the demo stays small, clean and right while clients of all kinds come and go for half an hour.

    python -m benchmarks.soak [--restorations 500] [--clients 4]

Starts `app.py` with the bundled models in a process of its own and asks it for restorations: by the page's own events
and by the endpoints, of photos from 100 to 1600 pixels a side, every twentieth of 4000x3000. A tenth of the requests is
broken or hostile, and of a tenth the client leaves while it is worked for. Fails unless, at the end, memory and folder
are as small as promised, nothing is older than promised, and every result was right: of its photo's size and equal to
it outside the hole, which another photo is not.
"""

import argparse
import json
import os
import secrets
import tempfile
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

import numpy as np
from PIL import Image
from tqdm import tqdm

from benchmarks.demo import gigabytes, start
from benchmarks.memory import free_port, size_of
from fbinpaint.arguments import HelpWithDefaults, positive
from fbinpaint.data.scenes import street_scene
from fbinpaint.demo.models import BUSY
from fbinpaint.demo.storage import KEEP, PREFIX, QUOTA, SWEEP_EVERY
from fbinpaint.masks import protocol_mask

MEMORY = 2.0  # GB
SCENE = (400, 300)  # drawn so large, for drawing must not keep the server waiting
SIDES = (100, 1600)
LARGEST_EVERY = 20  # requests
EVERY = 10  # requests, of which one is hostile and one is left
PATIENCE = 600  # seconds that a client waits for an answer
SETTINGS = {"invert": False, "grow": 0, "feather": 0, "rounds": 1}
HOSTILE = (
    ("cut.png", lambda picture: picture[: len(picture) // 2]),
    ("eps.png", lambda picture: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"),
    ("empty.png", lambda picture: b""),
    ("noise.png", lambda picture: secrets.token_bytes(10_000)),
)


class Answers:
    """The server as programs see it, without a library that hides what is sent."""

    def __init__(self, port: int):
        self.root = f"http://127.0.0.1:{port}"
        self.session = secrets.token_hex(8)
        with urlopen(f"{self.root}/config", timeout=PATIENCE) as answer:
            functions = json.load(answer)["dependencies"]
        # The page's two events have targets; the endpoints have none, but names.
        self.functions = {event: x["id"] for x in functions for _, event in x["targets"] if event in ("ask", "restore")}
        self.functions |= {x["api_name"]: x["id"] for x in functions if not x["targets"]}

    def upload(self, name: str, data: bytes) -> str:
        mark = secrets.token_hex(16)
        head = f'--{mark}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
        body = head.encode() + data + f"\r\n--{mark}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={mark}"}
        with self.post("upload", body, headers) as answer:
            return json.load(answer)[0]

    def call(self, function: str, data: list, leave: bool = False) -> list | None:
        """What a function gives back last; None where it refuses, or the client leaves."""
        session = self.session if function in ("ask", "restore") else secrets.token_hex(8)
        body = {"fn_index": self.functions[function], "session_hash": session, "data": data}
        body, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
        if function == "ask":  # skips the queue
            with self.post("run/predict", body, headers) as answer:
                return json.load(answer)["data"]
        while True:
            try:
                self.post("queue/join", body, headers).close()
                break
            except HTTPError as error:
                if error.code != 503:  # the queue is full
                    return None
                time.sleep(1)
        last = None
        stream = urlopen(f"{self.root}/gradio_api/queue/data?session_hash={session}", timeout=PATIENCE)
        with stream:
            for line in stream:
                if not line.startswith(b"data: "):
                    continue
                message = json.loads(line[6:])
                if leave and message["msg"] == "process_starts":
                    time.sleep(0.2)
                    return None
                if message["msg"] == "process_generating" and message["success"]:
                    last = apply(last, message["output"]["data"])
                if message["msg"] == "process_completed":
                    if not message["success"]:
                        if BUSY in str(message):
                            return self.call(function, data, leave)
                        return None
                    data = message["output"].get("data")
                    return last if last is not None and not data else data
        return last

    def get(self, path: str, to: Path) -> Path:
        with urlopen(f"{self.root}/gradio_api/file={quote(path)}", timeout=PATIENCE) as answer:
            to.write_bytes(answer.read())
        return to

    def post(self, route: str, body: bytes, headers: dict):
        return urlopen(Request(f"{self.root}/gradio_api/{route}", body, headers), timeout=PATIENCE)


def apply(before: list | None, data: list) -> list:
    """Values of a generator: the first are whole, those that follow say what changed."""
    if before is None:
        return data
    after = []
    for value, changes in zip(before, data, strict=True):
        for action, path, new in changes or []:
            if not path:
                value = new
                continue
            parent = value
            for key in path[:-1]:
                parent = parent[key]
            if action == "append":
                parent[path[-1]] += new
            elif action == "delete":
                del parent[path[-1]]
            elif action == "add" and isinstance(parent, list):
                parent.insert(path[-1], new)
            else:
                parent[path[-1]] = new
        after.append(value)
    return after


def is_right(result: Path, photo: Path, hole: np.ndarray) -> bool:
    """Of the photo's size, equal to it outside the hole (H,W) bool, and not inside."""
    with Image.open(result) as given, Image.open(photo) as known:
        if given.size != known.size:
            return False
        given, known = np.asarray(given.convert("RGB")), np.asarray(known.convert("RGB"))
    return np.array_equal(given[~hole], known[~hole]) and not np.array_equal(given[hole], known[hole])


def by_endpoint(server: Answers, folder: Path, photo: Path, hole: np.ndarray, leave: bool) -> Path | None:
    mask = folder / f"{photo.stem}_mask.png"
    Image.fromarray(hole).save(mask)
    paths = (server.upload(path.name, path.read_bytes()) for path in (photo, mask))
    pictures = [{"path": path, "meta": {"_type": "gradio.FileData"}} for path in paths]
    answer = server.call("inpaint", [*pictures, "auto", 1, None, ""], leave)
    return server.get(answer[0]["path"], folder / f"{photo.stem}_restored.png") if answer else None


def by_page(server: Answers, folder: Path, photo: Path, hole: np.ndarray, leave: bool) -> Path | None:
    """As the editor does: open, look, mark from a file, restore, download, close."""
    mask = folder / f"{photo.stem}_mask.png"
    empty = {"marks": [], "strokes": [], "forbidden": [], "allowed": [], "settings": SETTINGS}
    Image.fromarray(hole).save(mask)

    def ask(kind: str, drawing: dict, **request) -> dict:
        value = {"request": {"id": 1, "kind": kind} | request, "drawing": drawing}
        while True:
            answer = server.call("ask", [value, None])
            view = answer[0]["view"] if answer else {}
            if view.get("message", {}).get("text") != BUSY:
                return view
            time.sleep(1)

    ask("open", empty, path=server.upload(photo.name, photo.read_bytes()), name=photo.name)
    ask("look_at_photo", empty)
    marked = ask("mask", empty, path=server.upload(mask.name, mask.read_bytes()), name=mask.name)
    if "add" not in marked:
        return None
    request = {"id": 2, "kind": "restore", "session": marked["session"], "model": marked["model"]}
    drawing = empty | {"marks": [marked["add"]]}
    if server.call("restore", [{"request": request, "drawing": drawing}, None], leave) is None:
        return None
    download = ask("download", empty, format="png").get("download")
    result = download and server.get(download["path"], folder / f"{photo.stem}_restored.png")
    ask("close", empty)
    return result


def restore(port: int, folder: Path, request: int, size: tuple[int, int]) -> str:
    """What became of a request: "right", "wrong", "refused", "left"; of a hostile one, "refused" is right."""
    generator, kind = np.random.default_rng(request), request % EVERY
    photo = folder / f"{request}.png"
    street_scene(SCENE, generator)[0].resize(size).save(photo, compress_level=1)
    hole = protocol_mask(*size[::-1], request)
    server = Answers(port)
    if kind == 3:
        name, spoil = HOSTILE[request // EVERY % len(HOSTILE)]
        path = server.upload(name, spoil(photo.read_bytes())) if request % 20 == 3 else "/etc/hostname"
        picture = {"path": path, "meta": {"_type": "gradio.FileData"}}
        return "wrong" if server.call("inpaint", [picture, picture, "auto", 1, None, ""]) else "refused"
    way, leave = (by_page, by_endpoint)[request % 2], kind == 7
    result = way(server, folder, photo, hole, leave)
    if leave and result is None:
        return "left"
    return "right" if result and is_right(result, photo, hole) else "wrong"


def largest_and_oldest(base: Path) -> tuple[int, float]:
    """Bytes in the demo's folder, and seconds since the last use of what was not used the longest outside sessions."""
    total, oldest = 0, time.time()
    for parent, _, names in os.walk(base):
        for name in names:
            try:
                status = Path(parent, name).lstat()
            except FileNotFoundError:
                continue
            total += status.st_size
            if f"{os.sep}visits{os.sep}" not in parent + os.sep:
                oldest = min(oldest, status.st_mtime)
    return total, time.time() - oldest


def main() -> None:
    parser = argparse.ArgumentParser(
        description="See whether the demo stays small, clean and right.",
        epilog="example: python -m benchmarks.soak --restorations 500",
        formatter_class=HelpWithDefaults,
    )
    parser.add_argument("--restorations", type=positive, default=500, help="that are asked for")
    parser.add_argument("--clients", type=positive, default=4, help="at once")
    args = parser.parse_args()
    peak: dict[str, float] = defaultdict(float)
    in_work: dict[int, tuple[int, int]] = {}
    in_work_at_peak: list[tuple[int, int]] = []
    over = threading.Event()
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder, "cache")
        os.environ["GRADIO_TEMP_DIR"] = str(cache)  # of the process that is started
        process, _ = start(port := free_port())

        def watch() -> None:
            while not over.wait(1):
                (own,) = cache.glob(f"{PREFIX}*/")
                for name, value in zip(("bytes", "age"), largest_and_oldest(own), strict=True):
                    peak[name] = max(peak[name], value)
                if (memory := gigabytes(process, "VmHWM")) > peak["memory"]:
                    peak["memory"], in_work_at_peak[:] = memory, in_work.values()

        def send(request: int) -> str:
            size = in_work[request] = size_of(request, LARGEST_EVERY, SIDES)
            try:
                return restore(port, Path(folder), request, size)
            finally:
                del in_work[request]

        try:
            threading.Thread(target=watch, daemon=True).start()
            began = time.perf_counter()
            with ThreadPoolExecutor(args.clients) as pool:
                sent = pool.map(send, range(args.restorations))
                outcomes = Counter(tqdm(sent, total=args.restorations, unit="photo"))
            seconds, memory = time.perf_counter() - began, gigabytes(process, "VmHWM")
            print(f"{args.restorations} requests in {seconds:.0f} s: {dict(outcomes)}")
            sizes = ", ".join(f"{width}x{height}" for width, height in in_work_at_peak)
            print(f"memory {memory:.2f} GB at its peak (with {sizes} in work), {gigabytes(process):.2f} GB at the end")
            print(f"folder {peak['bytes'] / 1e9:.2f} GB at its peak; oldest file {peak['age']:.0f} s")
        finally:
            over.set()
            process.terminate()
            process.wait()
        left = list(cache.glob(f"{PREFIX}*"))
    failures = {
        "wrong or foreign results": outcomes["wrong"] > 0,
        f"memory above {MEMORY} GB": memory > MEMORY,
        "folder above its quota": peak["bytes"] > QUOTA,
        "files older than promised": peak["age"] > KEEP + SWEEP_EVERY,
        "files left when the server ended": bool(left),
    }
    if failed := [name for name, is_so in failures.items() if is_so]:
        raise SystemExit(f"error: {'; '.join(failed)}")


if __name__ == "__main__":
    main()
