"""The demo on the open internet: what strangers send to it by raw HTTP, refused; what visitors send, answered."""

import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image

from fbinpaint.data.scenes import street_scene

pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells the peak of memory")
ROOT = Path(__file__).resolve().parent.parent
SIZE = (96, 64)
SECONDS, MEMORY = 2, 300e6  # that an attack may take; of memory, at its peak, beyond what the server had before
NOT_UPLOADED = "This file did not arrive here"
FILE = {"_type": "gradio.FileData"}
SETTINGS = {"grow": 0, "feather": 0, "rounds": 1, "invert": False}
DRAWING = {"marks": [], "strokes": [], "forbidden": [], "allowed": [], "settings": SETTINGS}


class Server:
    """A demo in a process of its own, and what is in its folders."""

    def __init__(self, process: subprocess.Popen, url: str, cache: Path):
        self.process, self.url, self.cache = psutil.Process(process.pid), url, cache
        self.http = httpx.Client(base_url=url, timeout=60)
        config = self.http.get("/config").json()
        self.numbers = {x["api_name"]: x["id"] for x in config["dependencies"]}
        editor = next(x for x in config["components"] if x["props"].get("elem_id") == "editor")
        self.example = editor["props"]["value"]["view"]["examples"][0]["thumb"]

    def upload(self, data: bytes, name: str = "photo.png") -> str:
        answer = self.http.post("/gradio_api/upload", files={"files": (name, data)})
        assert answer.status_code == 200, answer.text
        return answer.json()[0]

    def call(self, name: str, data: list, **more) -> tuple[bool, str]:
        """Whether it was done, and what was answered."""
        answer = self.http.post(f"/gradio_api/call/{name}", json={"data": data} | more)
        if answer.status_code != 200:
            return False, answer.text
        text = self.http.get(f"/gradio_api/call/{name}/{answer.json()['event_id']}").text
        return "event: complete" in text, text

    def ask(self, value: object, session: str = "visitor") -> str:
        """What is answered to a question of the page."""
        body = {"data": [value, None], "fn_index": self.numbers["ask"], "session_hash": session}
        return self.http.post("/gradio_api/run/predict", json=body).text

    @property
    def memory(self) -> int:
        return self.process.memory_info().rss

    @property
    def peak(self) -> int:
        """Bytes of memory at the most since `forget_peak`."""
        return 1024 * int(self.of_linux("status").read_text().split("VmHWM:")[1].split()[0])

    def forget_peak(self) -> None:
        self.of_linux("clear_refs").write_text("5")

    def of_linux(self, name: str) -> Path:
        return Path(f"/proc/{self.process.pid}/{name}")

    @property
    def seconds(self) -> float:
        """Of computing: on a machine that others use, too, the clock says little."""
        return sum(self.process.cpu_times()[:2])

    @property
    def files(self) -> set[Path]:
        """But for Gradio's empty folders."""
        return {path for path in self.cache.rglob("*") if path.is_file()}


def png(array: np.ndarray, folder: Path) -> bytes:
    Image.fromarray(array).save(folder / "made.png")
    return (folder / "made.png").read_bytes()


def bomb(width: int, height: int) -> bytes:
    """A PNG file of a few kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    pixels = zlib.compress(bytes((width + 7) // 8 + 1) * height, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def png_of_chunks(count: int) -> bytes:
    picture = bomb(64, 64)
    return picture[:33] + (b"\0\0\0\0abCd" + struct.pack(">I", zlib.crc32(b"abCd"))) * count + picture[33:]


def gif_of_comments(count: int) -> bytes:
    """Pieces of one comment."""
    return b"GIF89a" + struct.pack("<HH", 64, 64) + b"\0\0\0" + b"\x21\xfe" + (b"\xff" + b"x" * 255) * (count // 8)


def tiff_of_strips(count: int) -> bytes:
    """Of one row each."""
    at = 8 + 2 + 12 * 9 + 4
    tags = ((256, 16), (257, count), (258, 8), (259, 1), (262, 1), (273, at), (277, 1), (278, 1), (279, at))
    entries = b"".join(struct.pack("<HHII", tag, 4, count if value == at else 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, 9) + entries + bytes(4) + struct.pack("<I", 8) * count


@pytest.fixture(scope="module")
def server(tiny_pipeline_dir, tmp_path_factory) -> Iterator[Server]:
    cache = tmp_path_factory.mktemp("cache")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"GRADIO_TEMP_DIR": str(cache), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "app.py", "--model", str(tiny_pipeline_dir), "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while True:
            assert process.poll() is None and time.monotonic() < deadline
            try:
                httpx.get(f"http://127.0.0.1:{port}/config", timeout=5)
                break
            except httpx.HTTPError:
                time.sleep(0.2)
        yield Server(process, f"http://127.0.0.1:{port}", cache)
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def photo(server, tmp_path_factory) -> str:
    """Uploaded, as is the mask; with them everything was done once, so that the server holds what it holds for long."""
    street = np.array(street_scene(SIZE, np.random.default_rng(0))[0])
    return server.upload(png(street, tmp_path_factory.mktemp("photo")))


@pytest.fixture(scope="module")
def mask(server, photo, tmp_path_factory) -> str:
    hole = np.zeros(SIZE[::-1], np.uint8)
    hole[20:40, 30:60] = 255
    path = server.upload(png(hole, tmp_path_factory.mktemp("mask")), "mask.png")
    done, answer = server.call("inpaint", [file(photo), file(path), "auto", 1, None, ""])
    assert done, answer
    return path


def file(path: object) -> dict:
    return {"path": path, "meta": FILE}


@contextmanager
def attack(server: Server) -> Iterator[None]:
    """It is soon over, takes no memory, not even for a moment, and leaves no file."""
    files, before, start = server.files, server.memory, server.seconds
    server.forget_peak()
    yield
    assert server.seconds - start < SECONDS
    assert server.peak - before < MEMORY
    assert server.files == files


@pytest.fixture
def refused(server, photo, mask) -> Iterator[None]:
    """Around an attack; and the next visitor is served."""
    with attack(server):
        yield
    done, answer = server.call("inpaint", [file(photo), file(mask), "auto", 0, None, ""])
    assert done, answer


# ------------------------------------------------------------------------------- 1: files that are not the visitor's


@pytest.mark.parametrize("marked", [True, False], ids=["marked", "unmarked"])
@pytest.mark.parametrize(
    "path",
    [
        "{root}/examples/street.png", "{root}/examples", "/etc/passwd", "/etc", "/no/such/file.png", "~/photo.png",
        "examples/street.png", "{photo}/../photo.png", "file://{photo}", "http://127.0.0.1:9/photo.png", "",
        "https://example.com/photo.png", "/dev/zero", "{photo}\x00.png", "{example}", "{folder}",
    ],
)  # fmt: skip
def test_a_file_that_was_not_uploaded_is_refused_alike(server, photo, refused, path, marked):
    example = server.example
    path = path.format(root=ROOT, photo=photo, example=example, folder=Path(photo).parent)
    given = file(path) if marked else {"path": path}
    for name, data in (("segment", [given, "auto"]), ("inpaint", [file(photo), given, "auto", 1, None, ""])):
        done, answer = server.call(name, data)
        assert not done and NOT_UPLOADED in answer and (not path or path not in answer)


def test_a_link_and_another_visitors_files_are_refused_alike(server, photo, mask, tmp_path, refused):
    answer = server.ask({"request": {"kind": "open", "path": photo, "name": "mine.png"}, "drawing": DRAWING}, "mine")
    preview = json.loads(answer)["data"][0]["view"]["photo"]
    assert Path(preview).is_file()
    link = server.cache / "link.png"
    link.symlink_to(ROOT / "examples/street.png")
    try:
        for path in (preview, str(Path(preview).with_name("given")), str(link)):
            done, answer = server.call("segment", [file(path), "auto"])
            assert not done and NOT_UPLOADED in answer
    finally:
        link.unlink()
        server.ask({"request": {"kind": "close"}, "drawing": DRAWING}, "mine")


@pytest.mark.parametrize("given", ["photo.png", 7, [1], {"url": "http://a.b/x"}, {"path": 7}, {"path": None}, {}])
def test_what_is_no_file_is_refused_alike(server, refused, given):
    done, answer = server.call("segment", [given, "auto"])
    assert not done and NOT_UPLOADED in answer


@pytest.mark.parametrize("kind", ["open", "mask"])
@pytest.mark.parametrize("path", ["/etc/passwd", "/no/such", "/etc", "http://a.b/x", "{root}/examples/street.png"])
def test_the_page_opens_no_other_file_either(server, refused, kind, path):
    answer = server.ask({"request": {"kind": kind, "path": path.format(root=ROOT), "name": "x"}, "drawing": DRAWING})
    assert NOT_UPLOADED in answer


@pytest.mark.parametrize("place", ["forbidden", "model", "rounds"])
def test_files_are_refused_where_none_belong(server, photo, mask, refused, place):
    """Gradio would fetch them whatever the component."""
    data = [file(photo), file(mask), "auto", 1, None, ""]
    data[{"forbidden": 5, "model": 2, "rounds": 3}[place]] = [{"deep": file("https://example.com/photo.png")}]
    done, answer = server.call("inpaint", data)
    assert not done and NOT_UPLOADED in answer


def test_an_error_names_models_as_they_can_be_asked_for_and_no_folder(server, photo, tiny_pipeline_dir):
    done, answer = server.call("segment", [file(photo), "another"])
    assert not done and f"name one of {tiny_pipeline_dir.name}" in answer
    assert server.call("segment", [file(photo), tiny_pipeline_dir.name])[0]
    assert str(tiny_pipeline_dir) not in server.http.get("/config").text


@pytest.mark.parametrize("session", [{}, {"session_hash": "mine"}], ids=["alone", "in-session"])
def test_an_uploaded_file_is_worked_on(server, photo, mask, session):
    for given in (file(photo), {"path": photo}, file(photo) | {"url": "http://127.0.0.1:9/x", "orig_name": "a.png"}):
        done, answer = server.call("segment", [given, "auto"], **session)
        assert done and '"width": 96' in answer


@pytest.mark.parametrize("path", ["/etc/passwd", "//etc/passwd", "http://a.b/", "{cache}/../x", "{root}/README.md"])
def test_no_other_file_is_sent(server, refused, path):
    path = path.format(cache=server.cache, root=ROOT)
    for asked in (path, path.replace("/", "%2F"), path.replace(".", "%2E")):
        answer = server.http.get(f"/gradio_api/file={asked}")
        assert answer.status_code in (403, 404) and str(server.cache) not in answer.text


# ------------------------------------------------------------------------------- 3: pictures and values


@pytest.mark.parametrize(
    "data",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\nshowpage\n", b"", b"\x89PNG\r\n\x1a\n", b"<svg/>",
        bomb(13_000, 13_000), bomb(400_000, 400), bomb(2**31 - 1, 1), b"P6 99999 99999 255\n",
        b"GIF89a\xff\xff\xff\xff", b"P6\n#" + b"x" * 50_000_000 + b"\n16 16\n255\n" + bytes(768),
        b"P3\n99 99\n255\n" + b"#x\n" * 300_000 + b"1 2 3\n" * 9801, b"P3\n2000 2000\n255\n" + b"1 2 3\n" * 4_000_000,
        png_of_chunks(2_000_000), gif_of_comments(400_000), tiff_of_strips(3_000_000),
        b"\xff\xd8" + b"\xff\xfe\0\2" * 5_000_000, b"\xff\xd8" + b"\xff" * 20_000_000,
    ],
    ids=["eps", "empty", "cut", "svg", "bomb", "wide-bomb", "overflow", "ppm", "gif", "ppm-comment", "ppm-comments",
         "ppm-text", "png-chunks", "gif-comments", "tiff-strips", "jpeg-comments", "jpeg-filled"],
)  # fmt: skip
def test_a_broken_or_monstrous_picture_is_refused_in_a_line(server, photo, mask, data):
    path = server.upload(data, "photo.png")
    page = {"request": {"kind": "open", "path": path, "name": "mine.png"}, "drawing": DRAWING}
    with attack(server):
        done, answer = server.call("segment", [file(path), "auto"])
        assert not done and "photo.png: " in answer and str(server.cache) not in answer
    with attack(server):
        done, answer = server.call("inpaint", [file(photo), file(path), "auto", 1, None, ""])
        assert not done and "photo.png: " in answer and str(server.cache) not in answer
    with attack(server):
        answer = server.ask(page)
        assert "mine.png: " in answer and '"kind":"error"' in answer


@pytest.mark.parametrize("value", [1.5, -1, 99, "2", True, [], {}, 10**30, "x" * 100_000])
@pytest.mark.parametrize("name", ["rounds", "grow", "retries", "model", "shadow"])
def test_a_value_of_another_kind_is_refused_in_a_line(server, photo, refused, name, value):
    data = [file(photo), "car", "auto", 1, None, False, 0]
    data[{"rounds": 3, "grow": 4, "retries": 6, "model": 2, "shadow": 5}[name]] = value
    if (name, value) == ("shadow", True) or (name, value) == ("grow", 99):
        data[3] = "two"  # these are right
        name = "rounds"
    done, answer = server.call("remove", data)
    assert not done and f'"{name} ' in answer and len(answer) < 1000


@pytest.mark.parametrize("value", ["x" * 1_000_000, ["car"], {"car": 1}, 7, True])
def test_classes_that_are_no_text_are_refused_in_a_line(server, photo, mask, refused, value):
    for name, argument, data in (
        ("remove", "classes", [file(photo), value, "auto", 1, None, False, 0]),
        ("inpaint", "forbidden", [file(photo), file(mask), "auto", 1, None, value]),
    ):
        done, answer = server.call(name, data)
        assert not done and f'"{argument} ' in answer and len(answer) < 1000


@pytest.mark.parametrize(
    "value",
    [
        None, 7, "x", [], {}, {"request": 1, "drawing": 2}, {"request": {}, "drawing": DRAWING},
        {"request": {"kind": "__init__"}, "drawing": DRAWING}, {"request": {"kind": ["open"]}, "drawing": DRAWING},
        {"request": {"kind": "go", "index": "0"}, "drawing": DRAWING}, {"request": {"kind": "random"}, "drawing": {}},
        {"request": {"kind": "random"}, "drawing": DRAWING | {"marks": "x" * 100_000}},
        {"request": {"kind": "random"}, "drawing": DRAWING | {"marks": [[]] * 20_000}},
    ],
)  # fmt: skip
def test_a_question_that_no_page_asks_is_refused_in_a_line(server, refused, value):
    answer = server.ask(value)
    assert "did not arrive as it was sent" in answer and '"kind":"error"' in answer


@pytest.mark.parametrize(
    "body",
    [
        b'{"data": [NaN, Infinity]}', b"[" * 100_000, b'{"data": ' + b"[" * 50 + b"]" * 50 + b"}", b"{", b"[]", b"\xff",
        b'{"data": {}}', b'{"data": [], "session_hash": 7}', b'{"data": [], "fn_index": 99}',
        b'{"data": [' + b"9" * 9999, b'{"data": [' + b"[]," * 99_999 + b"[]]}",
        b'{"data": [], "session_hash": "../x"}', b'{"data": [], "fn_index": "ask"}', b"",
    ],
)  # fmt: skip
@pytest.mark.parametrize("route", ["call/inpaint", "queue/join", "run/predict"])
def test_a_body_that_is_no_call_is_refused_in_a_line(server, refused, route, body):
    headers = {"Content-Type": "application/json"}
    answer = server.http.post(f"/gradio_api/{route}", content=body, headers=headers)
    assert answer.status_code == 400 and answer.json()["error"].startswith("The request is no")


@pytest.mark.parametrize("count", [0, 1, 7, 1000])
def test_another_number_of_values_is_refused_in_a_line(server, refused, count):
    done, answer = server.call("inpaint", [None] * count)
    assert not done and f"{count} values arrived where 6 belong" in answer


# ------------------------------------------------------------------------------- 4: past the queue


@pytest.mark.parametrize(
    "route", ["run/inpaint", "api/inpaint", "run/segment", "run/remove/", "api/predict", "run/restore"]
)
def test_no_route_leads_past_the_queue(server, photo, mask, refused, route):
    answer = server.http.post(f"/gradio_api/{route}", json={"data": [file(photo), file(mask), "auto", 1, None, ""]})
    assert answer.status_code == 404 and "\n" not in answer.text


@pytest.mark.parametrize("name", ["inpaint", "segment", "remove", "restore"])
def test_no_number_leads_past_the_queue(server, photo, mask, refused, name):
    body = {"data": [file(photo), file(mask), "auto", 1, None, ""], "fn_index": server.numbers[name]}
    answer = server.http.post("/gradio_api/run/predict", json=body)
    assert answer.status_code == 404 and "queue" in answer.text


def test_many_large_photos_at_once_take_the_memory_of_few(server, mask, tmp_path):
    """On the page, where questions skip the queue."""
    large = server.upload(png(np.full((3000, 4000, 3), 99, np.uint8), tmp_path), "large.png")
    question = {"request": {"kind": "open", "path": large, "name": "large.png"}, "drawing": DRAWING}
    server.ask(question, "first")
    before, most, over = server.memory, 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not over.wait(0.02):
            most = max(most, server.memory)

    watching = threading.Thread(target=watch)
    watching.start()
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda k: server.ask(question, f"many{k}"), range(12)))
    over.set()
    watching.join()
    for k in range(12):
        server.ask({"request": {"kind": "close"}, "drawing": DRAWING}, f"many{k}")
    assert all("4000 × 3000" in answer or "busy" in answer for answer in answers)
    assert any("4000 × 3000" in answer for answer in answers)
    assert most - before < 1e9


# ------------------------------------------------------------------------------- 5: what is of Gradio alone


@pytest.mark.parametrize(
    ("method", "route"),
    [
        ("POST", "/gradio_api/component_server"), ("POST", "/gradio_api/component_server/"),
        ("POST", "/gradio_api/process_recording"), ("GET", "/gradio_api/deep_link?session_hash=mine"),
        ("GET", "/monitoring"), ("GET", "/monitoring/summary"), ("GET", "/monitoring/x"), ("GET", "/gradio_api/runs"),
        ("GET", "/gradio_api/proxy=http://example.com/"), ("GET", "/gradio_api/proxy=https://x.hf.space/"),
        ("GET", "/gradio_api/custom_component/x/client/component/index.js"), ("GET", "/gradio_api/dev/reload"),
        ("POST", "/gradio_api/stream/x"), ("POST", "/gradio_api/stream/x/close"), ("GET", "/gradio_api/token"),
        ("GET", "/gradio_api/stream/a/b/1/playlist.m3u8"), ("GET", "/gradio_api/file/etc/passwd"), ("POST", "/login"),
        ("GET", "/logout"), ("GET", "/pwa_icon/9999999"), ("POST", "/gradio_api/run-history/connect"), ("GET", "/docs"),
        ("GET", "/gradio_api/run-history/buckets"), ("GET", "/gradio_api/mcp"), ("GET", "/openapi.json"),
        ("GET", "/gradio_api/user"), ("GET", "/../etc/passwd"), ("POST", "/gradio_api/vibe-edit/"),
        ("POST", "/gradio_api/call/ask"), ("POST", "/gradio_api/call/v2/restore"), ("GET", "/no/such/page"),
    ],
)  # fmt: skip
def test_what_the_demo_does_not_use_is_not_there(server, refused, method, route):
    answer = server.http.request(method, route, json={"data": []} if method == "POST" else None)
    assert answer.status_code == 404 and answer.json() == {"error": "There is nothing here."}


@pytest.mark.parametrize(
    ("method", "route"),
    [
        ("PUT", "/gradio_api/upload"), ("DELETE", "/gradio_api/upload"), ("POST", "/"), ("PATCH", "/config"),
        ("TRACE", "/"), ("POST", "/gradio_api/file=/etc/passwd"), ("GET", "/gradio_api/run/predict"),
    ],
)  # fmt: skip
def test_another_method_is_refused_in_a_line(server, refused, method, route):
    answer = server.http.request(method, route)
    assert answer.status_code == 405 and "is not answered here" in answer.json()["error"]


@pytest.mark.parametrize("route", ["call/inpaint", "queue/join", "run/predict", "cancel", "reset", "call/v2/segment"])
@pytest.mark.parametrize("told", [True, False], ids=["length-told", "in-pieces"])
def test_a_body_that_is_too_long_is_refused_before_it_is_read(server, refused, route, told):
    pieces = (b"x" * 100_000 for _ in range(30))
    body = b"".join(pieces) if told else pieces
    headers = {"Content-Type": "application/json"}
    try:
        answer = server.http.post(f"/gradio_api/{route}", content=body, headers=headers)
    except (httpx.WriteError, httpx.RemoteProtocolError, httpx.ReadError):
        return  # the server hung up while it was being sent
    assert answer.status_code == 413 and "longer than" in answer.json()["error"]


def raw(server: Server, request: bytes) -> bytes:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(request)
        return connection.recv(2000)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (b"Content-Length: 200000000", b" 413 "), (b"Content-Length: 99999999999999999999", b" 4"),
        (b"Transfer-Encoding: chunked", b" 411 "), (b"Content-Length: -1", b" 400 "), (b"Content-Length: x", b" 400 "),
    ],
)  # fmt: skip
def test_an_upload_that_is_too_long_or_does_not_say_so_is_refused_at_once(server, refused, headers, status):
    form = b"Content-Type: multipart/form-data; boundary=x"
    answer = raw(server, b"POST /gradio_api/upload HTTP/1.1\r\nHost: x\r\n" + form + b"\r\n" + headers + b"\r\n\r\n")
    assert status in answer.splitlines()[0]


def test_websockets_are_refused(server, refused):
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    request = b"GET /gradio_api/queue/join HTTP/1.1\r\nHost: x\r\n" + upgrade
    answer = raw(server, request + b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n")
    assert b" 101 " not in answer.splitlines()[0]


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", "file://"])
@pytest.mark.parametrize("host", ["127.0.0.1", "demo.example"])
def test_no_answer_is_readable_from_elsewhere_with_the_visitors_cookies(server, refused, origin, host):
    asked = {"Origin": origin, "Host": host}
    for answer in (
        server.http.get("/config", headers=asked),
        server.http.get("/nothing", headers=asked),
        server.http.options("/gradio_api/queue/join", headers=asked | {"Access-Control-Request-Method": "POST"}),
    ):
        assert "access-control-allow-credentials" not in answer.headers


def test_what_a_page_and_programs_need_is_there(server, photo):
    for route in ("/", "/config", "/theme.css", "/gradio_api/info", "/gradio_api/openapi.json", "/manifest.json",
                  "/gradio_api/startup-events", f"/gradio_api/file={photo}", "/robots.txt"):  # fmt: skip
        assert server.http.get(route).status_code == 200, route
