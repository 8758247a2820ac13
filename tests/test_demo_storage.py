"""What visitors leave on the server: how long it stays, how much of it there may be, what is left when it ends; and a
client that goes away, or wants all places."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import numpy as np
import pytest
from gradio_client import Client, handle_file
from PIL import Image

from fbinpaint.data.scenes import street_scene
from fbinpaint.demo import clients, session, storage
from fbinpaint.demo.downloads import export_map, export_picture
from fbinpaint.demo.files import to_cache
from fbinpaint.demo.handlers import Handlers
from fbinpaint.demo.models import load
from fbinpaint.demo.page import LIMITS, build_demo
from fbinpaint.demo.server import serving
from fbinpaint.demo.session import Recipe, Session
from fbinpaint.demo.session_files import BLOCK, size_of
from fbinpaint.demo.storage import FORGOTTEN, KEEP, NO_ROOM, PREFIX, Storage, own_folder
from fbinpaint.errors import InputError
from fbinpaint.labels import CITYSCAPES

from .conftest import full_disk
from .test_demo_handlers import BOX, SIZE, Visit

ROOT = Path(__file__).resolve().parent.parent
HOUR = 3600


@pytest.fixture
def photo(tmp_path) -> Path:
    street_scene(SIZE, np.random.default_rng(0))[0].save(tmp_path / "street.png")
    return tmp_path / "street.png"


@pytest.fixture
def store(tmp_path) -> Storage:
    (tmp_path / "cache").mkdir()
    return Storage(tmp_path / "cache")


def opened(store: Storage, photo: Path) -> Session:
    visit = Session.open(store.folder, photo, photo.name, "tiny")
    store.admit(visit)
    return visit


def put(store: Storage, name: str, size: int = 10, age: float = 0) -> Path:
    path = store.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    for aged in (path, path.parent) if path.parent != store.folder else (path,):
        os.utime(aged, (time.time() - age,) * 2)
    return path


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


# ---------------------------------------------------------------------------------------------- age


def test_what_nobody_used_for_an_hour_is_deleted_wherever_it_lies_and_nothing_else(store, photo):
    kept = opened(store, photo)
    idle = opened(store, photo)
    idle.last_used -= HOUR
    names = ("upload/street.png", "tmp1a2b3c4d", "gallery/image.png", "restored/restored.png")
    example = put(store, "examples/street.png", age=HOUR)
    old = [put(store, name, age=HOUR) for name in names]
    young = [put(store, f"young/{i}.png", age=HOUR - 2 * storage.SWEEP_EVERY) for i in range(3)]
    store.sweep()
    assert not any(path.exists() for path in old) and all(path.is_file() for path in young)
    assert idle.closed and not idle.folder.exists() and kept.now.pixels.is_file() and example.is_file()
    assert (store.folder / "gallery").is_dir()  # something may just be put there
    os.utime(store.folder / "gallery", (time.time() - HOUR,) * 2)
    store.sweep()
    assert not (store.folder / "gallery").exists()


def test_nothing_is_left_of_the_promised_hour_when_the_next_sweep_comes(store, photo):
    left = put(store, "upload/a.png", age=KEEP - storage.SWEEP_EVERY)
    store.sweep()
    assert not left.exists() and "an hour" in LIMITS and KEEP == HOUR


def test_a_session_that_is_used_keeps_its_files_however_old_they_are(store, photo):
    visit = opened(store, photo)
    for path in files(visit.folder):
        os.utime(path, (time.time() - 5 * HOUR,) * 2)
    visit.last_used -= 5 * HOUR
    store.use(visit)
    store.sweep()
    assert visit.now.pixels.is_file() and not visit.closed


def test_the_sweep_goes_on_by_itself(store):
    store.keep = 0.4
    left = put(store, "upload/a.png")
    store.watch()
    deadline = time.monotonic() + 30
    while left.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def visit(tiny_pipeline_dir, tmp_path, monkeypatch) -> Visit:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    return Visit(Handlers({"streets": str(tiny_pipeline_dir)}))


def test_a_visitor_whose_photo_was_forgotten_is_told_and_can_open_it_again(visit, photo):
    visit.open(photo)
    visit.session.last_used -= HOUR
    visit.handlers.storage.sweep()
    view = visit.ask("random")
    assert visit.told == FORGOTTEN and visit.session is None and view["history"] == []
    os.utime(photo)
    visit.open(photo)
    closed = visit.session
    closed.last_used -= HOUR
    visit.handlers.storage.sweep()
    views = visit.restore(visit.drawing([BOX]))
    assert views[-1]["message"]["text"] == FORGOTTEN
    visit.session = closed
    lost = str(photo.with_name("lost.png"))
    assert "lost.png" in visit.ask("open", path=lost, name="lost.png")["message"]["text"]


# ---------------------------------------------------------------------------------------------- size


def test_where_room_is_wanted_the_oldest_unused_files_and_sessions_go_first(store, photo):
    oldest = put(store, "a/1.png", 50_000, age=900)
    idle, used = opened(store, photo), opened(store, photo)
    idle.last_used -= 600
    newer = put(store, "b/2.png", 50_000, age=300)
    store.measure()
    store.quota = store.size
    store.make_room(10_000)
    assert not oldest.exists() and newer.exists() and not idle.closed
    store.make_room(60_000)
    assert idle.closed and not idle.folder.exists() and not used.closed


def test_where_all_is_in_use_more_is_refused_in_a_line_and_nothing_is_lost(store, photo):
    visit, upload = opened(store, photo), put(store, "a/1.png", 50_000)
    store.measure()
    store.quota = store.size + 1000
    with pytest.raises(InputError) as error:
        store.make_room(2000)
    assert str(error.value) == NO_ROOM and str(store.folder) not in NO_ROOM
    assert upload.is_file() and visit.now.pixels.is_file()
    store.make_room(500)
    with pytest.raises(InputError):
        store.make_room(600)  # the first 500 are on their way


def test_the_quota_leaves_the_disk_a_half_of_what_is_free(store):
    store.quota = float("inf")
    with pytest.raises(InputError):
        store.make_room(2**60)


def test_many_small_files_count_as_what_they_take_of_the_disk(store):
    for i in range(20):
        put(store, f"{i}/a", 1)
    store.measure()
    assert store.size == 20 * BLOCK


def test_the_page_says_that_there_is_no_room(visit, tmp_path, photo):
    visit.open(photo)
    before = files(visit.session.folder)
    visit.handlers.storage.quota, visit.handlers.storage.measured = 1000, -HOUR
    asked = ("random", {}), ("open", {"path": str(photo), "name": "a.png"}), ("download", {"format": "png"})
    for kind, request in asked:
        assert visit.ask(kind, **request)["message"] == {"text": NO_ROOM, "kind": "error"}
    assert visit.restore(visit.drawing([BOX]))[-1]["message"]["text"] == NO_ROOM
    assert files(visit.session.folder) == before
    assert visit.ask("close")["message"]["kind"] == "info" and not before & files(tmp_path)


@pytest.mark.parametrize("step", ["append", "see", "add_mask", "export", "export_map", "open", "to_cache"])
def test_a_full_disk_leaves_no_partial_file_and_shows_no_path(store, photo, step):
    visit = opened(store, photo)
    noise = np.random.default_rng(0).integers(0, 256, (*SIZE[::-1], 3), dtype=np.uint8)
    labels = noise[..., 0] % 19
    visit.see(visit.now, labels, "tiny", CITYSCAPES)
    before, row = files(store.folder), list(visit.versions)
    mask = noise[..., 0] > 128
    steps = {
        "append": lambda: visit.append(noise, "x", Recipe(visit.now, [], [], [], "tiny", {}), mask),
        "see": lambda: visit.see(visit.now, labels, "other", CITYSCAPES),
        "add_mask": lambda: visit.add_mask(mask),
        "export": lambda: export_picture(visit, ".png", {}),
        "export_map": lambda: export_map(visit, CITYSCAPES),
        "open": lambda: opened(store, photo),
        "to_cache": lambda: to_cache(bytes(5000), str(store.folder), "a.png"),
    }
    with full_disk(), pytest.raises(Exception, match="server") as error:
        steps[step]()
    assert str(store.folder) not in str(error.value) and "\n" not in str(error.value)
    assert files(store.folder) == before and visit.versions == row
    steps[step]()  # with room again, the same goes well


# ---------------------------------------------------------------------------------------------- sessions


def test_of_too_many_sessions_the_one_unused_the_longest_goes(store, photo):
    store.max_sessions = 3
    first, second, third = (opened(store, photo) for _ in range(3))
    store.use(first)
    fourth = opened(store, photo)
    assert second.closed and not second.folder.exists()
    assert not any(visit.closed for visit in (first, third, fourth)) and len(store.sessions) == 3
    with pytest.raises(InputError, match="forgotten"):
        store.use(second)


def test_masks_of_many_clicks_are_bounded_and_the_newest_stay(store, photo, monkeypatch):
    monkeypatch.setattr(session, "MAX_FILES", 20)
    visit = opened(store, photo)
    mask = np.zeros(SIZE[::-1], bool)
    mask[3:9] = True
    strokes = [visit.add_mask(mask) for _ in range(40)]
    assert len(files(visit.folder)) <= 20 + 2 + 4  # of one more mask, and those of the photo
    assert np.array_equal(visit.mask(strokes[-1]["mask"]), mask)
    with pytest.raises(InputError, match="is gone"):
        visit.mask(strokes[0]["mask"])


def test_a_session_is_bounded_in_bytes_and_keeps_photo_and_newest(store, photo, monkeypatch):
    monkeypatch.setattr(session, "MAX_BYTES", 400_000)
    visit = opened(store, photo)
    mask = np.zeros(SIZE[::-1], bool)
    mask[3:9] = True
    for turn in range(15):
        pixels = np.random.default_rng(turn).integers(0, 256, (*SIZE[::-1], 3), dtype=np.uint8)
        visit.append(pixels, "x", Recipe(visit.now, [BOX], [], [], "tiny", {}), mask)
        assert size_of(visit.folder) <= 400_000
    assert 2 < len(visit.versions) < 15 and np.array_equal(np.load(visit.now.pixels), pixels)
    assert np.array_equal(np.load(visit.versions[0].pixels), np.asarray(Image.open(photo)))
    assert visit.recipe(visit.now).marks == [BOX] and visit.recipe(visit.versions[0]) is None


def test_masks_that_are_drawn_with_outlast_restorations_of_a_photo_that_fills_its_share(visit, photo, monkeypatch):
    visit.open(photo)
    for _ in range(3):
        visit.restore(visit.drawing([BOX]))
    assert len(visit.session.versions) == 4
    monkeypatch.setattr(session, "MAX_BYTES", size_of(visit.session.folder))
    marks: list[dict] = []
    for _ in range(3):
        marks.append(visit.ask("random", visit.drawing(marks))["add"])
    visit.ask("preview", visit.drawing(marks, grow=2))
    visit.ask("download", visit.drawing(marks), format="png")
    assert all(Path(mark["url"]).is_file() for mark in marks) and len(visit.session.versions) < 4
    assert "Restored" in visit.restore(visit.drawing(marks))[-1]["message"]["text"]
    # Painted on the map, the same marks are restored again.
    for _ in range(3):
        visit.ask("random")
    sky = BOX | {"label": CITYSCAPES.classes.index("sky")}
    assert "Restored" in visit.restore(visit.drawing(strokes=[sky]))[-1]["message"]["text"]


def test_what_was_drawn_is_on_the_disk_and_not_in_memory(store, photo):
    visit, mask = opened(store, photo), np.ones(SIZE[::-1], bool)
    stroke = {"kind": "line", "points": [[1.5, 2.5]] * 1000, "size": 3}
    visit.append(np.zeros((*SIZE[::-1], 3), np.uint8), "x", Recipe(visit.now, [stroke], [stroke], [], "m", {}), mask)
    assert visit.now.recipe.marks == visit.now.recipe.strokes == []
    assert visit.recipe(visit.now).marks == visit.recipe(visit.now).strokes == [stroke]


def test_a_thousand_sessions_take_little_memory(store, photo):
    import tracemalloc

    store.max_sessions = 1000
    opened(store, photo)
    tracemalloc.start()
    try:
        for _ in range(100):
            opened(store, photo)
        each = tracemalloc.get_traced_memory()[0] / 100
    finally:
        tracemalloc.stop()
    assert each < 20_000  # bytes


# ---------------------------------------------------------------------------------------------- the server


def test_the_demo_has_a_folder_of_its_own_and_leaves_those_of_others_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    (tmp_path / "of another program").mkdir()
    alike = tmp_path / f"{PREFIX}{'0' * 32}"  # called like ours, but without a lock
    alike.mkdir()
    folder = own_folder()
    assert folder.parent == tmp_path and folder.stat().st_mode & 0o777 == 0o700
    assert own_folder() == folder == Path(os.environ["GRADIO_TEMP_DIR"])
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    other = own_folder()  # a second demo does not take the first one for a leftover
    assert other != folder and folder.is_dir() and alike.is_dir() and (tmp_path / "of another program").is_dir()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def server(base: Path, model: Path):
    """`app.py` in a process of its own, once it answers; its address."""
    port = free_port()
    environment = os.environ | {"GRADIO_TEMP_DIR": str(base), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "app.py", "--model", str(model), "--port", str(port)]
    with open(base.with_name(f"{base.name}.txt"), "w+") as said:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=said, stderr=said)
        try:
            deadline = time.monotonic() + 300
            while True:
                assert process.poll() is None and time.monotonic() < deadline, Path(said.name).read_text()
                try:
                    urlopen(f"http://127.0.0.1:{port}/", timeout=5).close()
                    break
                except (URLError, TimeoutError):
                    time.sleep(0.1)
            yield process, f"http://127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait(60)


def visit_server(url: str, photo: Path, downloads: Path) -> None:
    Image.fromarray(np.eye(*SIZE[::-1]) > 0).save(photo.with_name("mask.png"))
    client = Client(url, verbose=False, download_files=downloads)
    client.predict(handle_file(photo), handle_file(photo.with_name("mask.png")), api_name="/inpaint")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_ended_deletes_all_that_visitors_left(number, tiny_pipeline_dir, tmp_path, photo):
    base = tmp_path / "gradio"
    base.mkdir()
    (base / "of another program.png").write_bytes(b"x")
    with server(base, tiny_pipeline_dir) as (process, url):
        visit_server(url, photo, tmp_path)
        (folder,) = base.glob(f"{PREFIX}*/")
        assert len(files(folder)) > 3
        process.send_signal(number)
        assert process.wait(120) == 0
    assert not list(base.glob(f"{PREFIX}*")) and (base / "of another program.png").is_file()


@pytest.mark.slow
def test_what_a_killed_server_left_goes_when_the_next_one_starts(tiny_pipeline_dir, tmp_path, photo, monkeypatch):
    base = tmp_path / "gradio"
    base.mkdir()
    with server(base, tiny_pipeline_dir) as (process, url):
        visit_server(url, photo, tmp_path)
        monkeypatch.setenv("GRADIO_TEMP_DIR", str(base))
        own_folder()
        assert len(list(base.glob(f"{PREFIX}*/"))) == 2  # that of a server that runs stays
        process.kill()
        process.wait(60)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(base))
    folder = own_folder()
    assert len(list(base.glob(f"{PREFIX}*/"))) == 2 and not files(folder)


@pytest.fixture(scope="module")
def demo(tiny_pipeline_dir, tmp_path_factory):
    """A demo in this process, and its address."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        demo = build_demo({"streets": str(tiny_pipeline_dir)})
        _, url, _ = demo.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, **serving())
        yield demo, url.rstrip("/")
        demo.close()


def upload(url: str, data: bytes) -> str:
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n' + data + b"\r\n--x--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    with urlopen(Request(f"{url}/gradio_api/upload", body, headers), timeout=60) as answer:
        return json.load(answer)[0]


def test_an_upload_that_does_not_fit_is_refused_in_a_line_and_not_written(demo, photo):
    demo, url = demo
    before, quota = files(demo.storage.folder), demo.storage.quota
    demo.storage.quota, demo.storage.measured = 1000, -HOUR
    try:
        with pytest.raises(HTTPError) as error:
            upload(url, photo.read_bytes())
        assert error.value.code == 507 and error.value.read().decode() == NO_ROOM
    finally:
        demo.storage.quota = quota
    assert files(demo.storage.folder) <= before
    assert Path(upload(url, photo.read_bytes())).is_relative_to(demo.storage.folder)


def test_an_aborted_upload_is_swept_up(demo):
    demo, url = demo
    before = files(demo.storage.folder)
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        head = "POST /gradio_api/upload HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n"
        head += "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        part = '--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        connection.sendall(f"{head}{part}".encode() + bytes(100_000))
        deadline = time.monotonic() + 60
        while not (left := files(demo.storage.folder) - before):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    for path in left:
        if path.exists():
            os.utime(path, (time.time() - HOUR,) * 2)
    demo.storage.sweep()
    assert not files(demo.storage.folder) - before


def test_an_upload_that_breaks_off_is_no_error_of_the_server(demo):
    demo, _ = demo
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\nabc'
    coming = [{"type": "http.request", "body": part, "more_body": True}, {"type": "http.disconnect"}]
    headers = [(b"content-type", b"multipart/form-data; boundary=x"), (b"content-length", b"9000")]
    scope = {"type": "http", "method": "POST", "path": "/gradio_api/upload", "query_string": b"", "headers": headers}

    async def receive() -> dict:
        return coming.pop(0)

    async def send(message: dict) -> None:
        pytest.fail(f"nobody is there to be sent {message}")

    asyncio.run(demo.app(scope, receive, send))
    assert not coming


@contextmanager
def slow(model: Path, seconds: float):
    """The segmenter takes so long each time; how often it was asked."""
    calls = []

    def wait(*_):
        calls.append(time.monotonic())
        time.sleep(seconds)

    hook = load(str(model)).segmenter.register_forward_hook(wait)
    try:
        yield calls
    finally:
        hook.remove()


def join(url: str, photo: str, rounds: int = 4, **headers: str) -> str:
    """Asks for a restoration; the id of its event."""
    picture = {"path": photo, "meta": {"_type": "gradio.FileData"}}
    body = json.dumps({"data": [picture, "car,road,sky,building", "auto", rounds, None, False, 4]}).encode()
    headers |= {"Content-Type": "application/json"}
    with urlopen(Request(f"{url}/gradio_api/call/remove", body, headers), timeout=60) as answer:
        return json.load(answer)["event_id"]


def test_a_client_that_goes_away_stops_its_run_and_frees_the_queue(demo, tiny_pipeline_dir, photo):
    demo, url = demo
    path = upload(url, photo.read_bytes())
    host, port = url.removeprefix("http://").split(":")
    with slow(tiny_pipeline_dir, 0.5) as calls:
        event = join(url, path)
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(f"GET /gradio_api/call/remove/{event} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            deadline = time.monotonic() + 60
            while not calls:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        while any(demo._queue.active_jobs):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        done = len(calls)
        time.sleep(1.2)
        assert len(calls) == done <= 4  # of some twenty


def test_no_client_fills_the_queue_and_others_still_get_places(demo, tiny_pipeline_dir, photo):
    """A proxy on this machine, which is trusted, tells the address of another client."""
    demo, url = demo
    path = upload(url, photo.read_bytes())
    with slow(tiny_pipeline_dir, 0.2):
        for _ in range(clients.PLACES + 1):  # one of them may be running
            join(url, path, 0)
        with pytest.raises(HTTPError) as error:
            for _ in range(3):
                join(url, path, 0)
        assert error.value.code == 503 and clients.TOO_MANY in error.value.read().decode()
        assert len(demo._queue) == clients.PLACES
        join(url, path, 0, **{"X-Forwarded-For": "203.0.113.7"})
        assert len(demo._queue) == clients.PLACES + 1
        for waiting in demo._queue.event_queue_per_concurrency_id.values():
            waiting.queue.clear()
        deadline = time.monotonic() + 120
        while any(demo._queue.active_jobs):
            assert time.monotonic() < deadline
            time.sleep(0.05)
