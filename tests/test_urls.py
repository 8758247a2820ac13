"""Photos, masks and results by URL: what is made of them is what is made of the same files of this machine."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

from fbinpaint import InputError, Restorer
from fbinpaint.batch.planning import Job, plan_restorations
from fbinpaint.cli import main
from fbinpaint.data.scenes import street_scene
from fbinpaint.system.urls import Url, place, without_file_scheme
from tests.fake_hub import TOKEN, FakeHub

ROOT = Path(__file__).parents[1]
NAMES = ["a", "b", "deep/a", "deep/deeper/c"]
SIZES = [(64, 48), (48, 64), (64, 48), (90, 40)]


class Watched(MemoryFileSystem):
    """Files in memory, of a kind that is written under another name first.

    asked: the requests so far; fails: whether a file is cut off in its middle
    """

    protocol = "watched"
    store: dict = {}
    pseudo_dirs = [""]
    asked: list[str] = []
    fails = False

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace("watched://", "memory://"))

    def ls(self, path, detail=True, **options):
        self.asked.append(f"ls {self._strip_protocol(path)}")
        return super().ls(path, detail, **options)

    def info(self, path, **options):
        self.asked.append(f"info {self._strip_protocol(path)}")
        return super().info(path, **options)

    def pipe_file(self, path, value, **options):
        self.asked.append(f"write {self._strip_protocol(path)}")
        super().pipe_file(path, value[: len(value) // 2] if self.fails else value, **options)
        if self.fails:
            raise OSError("the line is dead")


fsspec.register_implementation("watched", Watched)
fsspec.register_implementation("undriven", "no_such_module.FileSystem", errtxt="Please install no_such_module")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_pipeline_dir) -> Path:
    """photos/, masks/, and in expected/ what `run` makes of them, with all that goes beside a result."""
    folder = tmp_path_factory.mktemp("by-url")
    for i, (name, size) in enumerate(zip(NAMES, SIZES, strict=True)):
        for kind in ("photos", "masks"):
            (folder / kind / name).parent.mkdir(parents=True, exist_ok=True)
        street_scene(size, np.random.default_rng(i))[0].save(folder / f"photos/{name}.png")
        hole = np.zeros(size[::-1], bool)
        hole[10:24, 8:30] = True
        Image.fromarray(hole).save(folder / f"masks/{name}.png")
    assert run(folder / "photos", folder / "masks", folder / "expected", tiny_pipeline_dir) == 0
    return folder


@pytest.fixture(params=["memory", "watched"])
def store(request, folder) -> str:
    """URL of a folder that holds photos/ and masks/, and the markers of folders that stores have."""
    files = fsspec.filesystem(request.param)
    files.store.clear()
    files.pseudo_dirs[:] = [""]
    Watched.fails = False
    for path in (path for kind in ("photos", "masks") for path in (folder / kind).rglob("*.png")):
        files.pipe_file(f"/data/{path.relative_to(folder).as_posix()}", path.read_bytes())
    files.pipe_file("/data/photos/.hidden.png", b"")
    files.store["/data/photos/deep/"] = files.store["/data/photos/.hidden.png"]
    Watched.asked.clear()
    return f"{request.param}://data"


def run(image, mask, output, model: Path, *options: str) -> int:
    what = [f"--image={image}", f"--mask={mask}", f"--output={output}", f"--model={model}", "--rounds=1"]
    return main(["run", *what, "--save-semantics", "--save-masks", *options])


def contents(where: Path | str) -> dict[str, bytes]:
    """What the files below a folder hold, by their path below it."""
    if isinstance(where, Path):
        return {path.relative_to(where).as_posix(): path.read_bytes() for path in where.rglob("*") if path.is_file()}
    files, root = fsspec.url_to_fs(where)
    return {name.removeprefix(f"{root}/"): files.cat_file(name) for name in files.find(root) if not name.endswith("/")}


def without(where: Path, *names: str) -> dict[str, bytes]:
    return {name: data for name, data in contents(where).items() if not name.startswith(names)}


@pytest.mark.parametrize(
    "text, expected",
    [
        ("photos/a.png", Path("photos/a.png")),
        ("C:/photos", Path("C:/photos")),
        ("file:///photos/a b#1.png", Path("/photos/a b#1.png")),
        (Path("/my photos/100% é.png").as_uri(), Path("/my photos/100% é.png")),
        ("s3://bucket/photos/", Url("s3://bucket/photos")),
        ("S3A://bucket/a.png", Url("s3://bucket/a.png")),
        ("gcs://bucket/a.png", Url("gs://bucket/a.png")),
        ("https://host/a.png?size=1/", Url("https://host/a.png?size=1/")),
        (Path("a"), Path("a")),
    ],
)
def test_a_text_is_a_path_or_a_url(text, expected):
    assert place(text) == expected
    if str(text).startswith("file://"):
        assert without_file_scheme(text) == str(expected)


@pytest.mark.parametrize("text", ["s3://", "s3:///", "file://host/a", "s3://b/../a", "s3://b/./a", "zip://a::s3://b"])
def test_a_url_of_nothing_is_one_line_and_bad_usage(text, capsys):
    with pytest.raises(InputError, match=re.escape(text)):
        place(text)
    with pytest.raises(SystemExit) as exit_:
        main(["segment", "--image", text, "--output", "maps"])
    assert exit_.value.code == 2 and text in capsys.readouterr().err.splitlines()[-1]


def test_a_url_is_taken_apart_and_put_together_as_a_path():
    url, folder = place("s3://bucket/a/b.c.jpg"), place("s3://bucket")
    assert (url.scheme, url.name, url.stem, url.suffix) == ("s3", "b.c.jpg", "b.c", ".jpg")
    assert url.parent == folder / "a" and url.with_name("d.png") == folder / "a" / "d.png" == folder / Path("a/d.png")
    assert url.relative_to(folder) == PurePosixPath("a/b.c.jpg") and folder.relative_to(folder) == PurePosixPath(".")
    assert folder / PurePosixPath(".") == folder
    assert (place("http://host/a.png?b=c.d/e").name, place("http://host/a.png?b=c.d/e").suffix) == ("a.png", ".png")


def test_a_folder_by_url_is_as_one_of_this_machine(folder, store, tiny_pipeline_dir, capsys):
    assert run(f"{store}/photos/", f"{store}/masks", f"{store}/results", tiny_pipeline_dir) == 0
    assert contents(f"{store}/results") == contents(folder / "expected")
    assert len(contents(folder / "expected")) == 4 * len(NAMES)
    said = [line for line in capsys.readouterr().err.splitlines() if re.match("error|warning|note", line)]
    assert said == []


@pytest.mark.parametrize("local", ["photos", "masks", "results"])
def test_urls_and_folders_of_this_machine_mix(local, folder, store, tiny_pipeline_dir, tmp_path):
    places = {kind: f"{store}/{kind}" for kind in ("photos", "masks", "results")}
    places[local] = f"file://{tmp_path if local == 'results' else folder / local}"
    assert run(*places.values(), tiny_pipeline_dir) == 0
    assert contents(tmp_path if local == "results" else places["results"]) == contents(folder / "expected")


def test_one_photo_by_url(folder, store, tiny_pipeline_dir):
    photo, mask = f"{store}/photos/b.png", f"{store}/masks/b.png"
    assert run(photo, mask, f"{store}/new/x.png", tiny_pipeline_dir) == 0
    assert contents(f"{store}/new")["x.png"] == (folder / "expected/b.png").read_bytes()
    Watched.asked.clear()
    assert run(photo, mask, f"{store}/new/x.png", "/no/such/model", "--resume") == 0
    assert not any(asked.startswith("write") for asked in Watched.asked)


def test_a_run_by_url_is_resumed_by_one_listing_of_each_folder(folder, store, tiny_pipeline_dir, capsys):
    places = [f"{store}/photos", f"{store}/masks", f"{store}/results"]
    assert run(*places, tiny_pipeline_dir) == 0
    files, root = fsspec.url_to_fs(store)
    files.rm_file(f"{root}/results/deep/a_after.png")
    Watched.asked.clear()
    capsys.readouterr()
    assert run(*places, tiny_pipeline_dir, "--resume") == 0
    asked = list(Watched.asked)
    assert f"note: {store}/results: 3 of 4 photos are done already, left alone" in capsys.readouterr().err
    assert contents(f"{store}/results") == contents(folder / "expected")
    if store.startswith("watched"):
        listed = [line for line in asked if line.startswith("ls /data/results")]
        assert sorted(listed) == [f"ls /data/results{below}" for below in ("", "/deep", "/deep/deeper")]
        assert not any(line.startswith("info /data/results/b") for line in asked)
        assert sum(line.startswith("write") for line in asked) == 4


@pytest.mark.parametrize("store", ["watched"], indirect=True)
def test_folders_by_url_are_listed_when_their_turn_comes(store):
    plan = plan_restorations(place(f"{store}/photos"), "alpha", place(f"{store}/results"), False)
    assert isinstance(next(plan), Job)
    assert [asked for asked in Watched.asked if asked.startswith("ls")] == ["ls /data/photos"]
    assert len(list(plan)) == len(NAMES) - 1
    assert "ls /data/photos/deep/deeper" in Watched.asked and "ls /data/results" not in Watched.asked


def test_masks_beside_photos_and_results_among_them_by_url(store, folder, tiny_pipeline_dir, capsys):
    files, root = fsspec.url_to_fs(store)
    for name in NAMES:
        files.pipe_file(f"{root}/photos/{name}_mask.png", (folder / f"masks/{name}.png").read_bytes())
    assert run(f"{store}/photos", f"{store}/photos", f"{store}/photos/out", tiny_pipeline_dir) == 0
    assert contents(f"{store}/photos/out") == contents(folder / "expected")
    assert run(f"{store}/photos", f"{store}/photos", f"{store}/photos/", tiny_pipeline_dir) == 1
    assert "results would mix with the input" in capsys.readouterr().err
    before = contents(store)
    assert run(f"{store}/photos/a.png", f"{store}/masks/a.png", f"{store}/photos/a.png", tiny_pipeline_dir) == 1
    assert "would overwrite" in capsys.readouterr().err and contents(store) == before


def test_what_fails_by_url_is_one_line_and_the_others_are_done(store, folder, tiny_pipeline_dir, capsys):
    files, root = fsspec.url_to_fs(store)
    files.pipe_file(f"{root}/photos/b.png", (folder / "photos/b.png").read_bytes()[:300])
    files.pipe_file(f"{root}/photos/e.png", b"")
    files.pipe_file(f"{root}/masks/e.png", (folder / "masks/a.png").read_bytes())
    files.rm_file(f"{root}/masks/deep/a.png")
    assert run(f"{store}/photos", f"{store}/masks", f"{store}/results", tiny_pipeline_dir) == 1
    errors = sorted(line for line in capsys.readouterr().err.splitlines() if line.startswith("error"))
    assert len(errors) == 3 and f"{store}/photos/b.png: the image data is broken" in errors[0]
    assert f"{store}/photos/deep/a.png: has no mask" in errors[1]
    assert f"{store}/photos/e.png: is empty" in errors[2]
    assert contents(f"{store}/results") == without(folder / "expected", "b", "deep/a")


def test_maps_and_removals_by_url(store, folder, tiny_pipeline_dir, tmp_path):
    local, model = {"photos": folder / "photos", "maps": tmp_path / "maps"}, f"--model={tiny_pipeline_dir}"
    for places in (local, {"photos": f"{store}/photos", "maps": f"{store}/maps"}):
        assert main(["segment", f"--image={places['photos']}", f"--output={places['maps']}", "--colour", model]) == 0
    assert contents(f"{store}/maps") == contents(tmp_path / "maps")
    remove = ["run", "--remove=road", "--rounds=0", model]
    main([*remove, f"--image={folder / 'photos'}", f"--output={tmp_path / 'emptied'}"])
    main([*remove, f"--image={store}/photos", f"--output={store}/emptied"])
    assert contents(f"{store}/emptied") == contents(tmp_path / "emptied") != {}


def test_a_photo_by_url_that_shows_nothing_of_it_is_copied(store, folder, tiny_pipeline, tiny_pipeline_dir):
    photo = Image.open(folder / "photos/a.png")
    shown = set(np.unique(tiny_pipeline.segment(photo)))
    absent = next(i for i in range(tiny_pipeline.label_space.num_classes) if i not in shown)
    command = ["run", f"--remove={absent}", f"--image={store}/photos/a.png", f"--output={store}/x.png"]
    assert main([*command, f"--model={tiny_pipeline_dir}"]) == 0
    assert contents(store)["x.png"] == (folder / "photos/a.png").read_bytes()


def test_rows_of_urls(store, folder, tiny_pipeline_dir):
    rows = {kind: [f"{store}/{kind}s/{name}.png" for name in NAMES] for kind in ("photo", "mask")}
    rows = {"image": rows["photo"], "mask": rows["mask"], "result": [f"{store}/results/{name}.png" for name in NAMES]}
    rows["image"][1], rows["mask"][2] = f"{store}/photos/none.png", "s3://"
    made = Restorer(str(tiny_pipeline_dir), rounds=1, extras=("before", "after", "mask"))(rows)
    assert [error and error.partition(": ")[::2] for error in made["error"]] == [
        None,
        (f"{store}/photos/none.png", "no such file or folder; check the URL"),
        ("s3://", "names no file or folder; add its path"),
        None,
    ]
    assert contents(f"{store}/results") == without(folder / "expected", "b", "deep/a")


@pytest.mark.parametrize("store", ["watched"], indirect=True)
def test_a_file_that_is_cut_off_leaves_nothing(store, tiny_pipeline_dir, capsys):
    before = contents(store)
    Watched.fails = True
    assert run(f"{store}/photos/a.png", f"{store}/masks/a.png", f"{store}/new/a.png", tiny_pipeline_dir) == 1
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert f"{store}/new/a_" in error and "cannot be written (the line is dead)" in error
    assert contents(store) == before


@contextmanager
def serving(handler: Callable) -> Iterator[str]:
    """Address of a server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


class Refusing(Quiet):
    def do_GET(self):
        self.send_error(403)

    do_HEAD = do_GET


@pytest.fixture
def web(folder):
    """Address of a server of the files in `folder`."""
    with serving(partial(Quiet, directory=folder)) as address:
        yield address


def test_photos_of_the_web(web, folder, tiny_pipeline_dir, tmp_path, capsys):
    assert run(f"{web}/photos/a.png?size=full", f"{web}/masks/a.png", tmp_path, tiny_pipeline_dir) == 0
    expected = {name: data for name, data in contents(folder / "expected").items() if re.match(r"a[._]", name)}
    assert contents(tmp_path) == expected and len(expected) == 4
    assert run(f"{web}/photos/none.png", f"{web}/masks/a.png", tmp_path, tiny_pipeline_dir) == 1
    assert f"error: {web}/photos/none.png: no such file or folder; check the URL\n" in capsys.readouterr().err
    assert run(f"{web}/photos/a.png", f"{web}/masks/a.png", f"{web}/x.png", tiny_pipeline_dir) == 1
    assert f"error: {web}/x.png: a web address cannot be written to" in capsys.readouterr().err
    assert contents(tmp_path) == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    "url, words",
    [
        ("undriven://x/a.png", r"has no driver here \(Please install no_such_module\)"),
        ("unheard://x/a.png", "is no kind of URL that fsspec knows"),
        ("memory://nothing/here.png", "no such file or folder"),
        ("s3://bucket/a.png", "cannot be read"),  # nobody listens
        ("http://127.0.0.1:9/a.png", "cannot be read"),
        ("hf://datasets/user/photos/a.png", "cannot be read"),
    ],
)
def test_what_cannot_be_opened_is_one_line(url, words, tmp_path, tiny_pipeline_dir):
    check_refusal(url, words, "http://127.0.0.1:9", tmp_path, tiny_pipeline_dir)


@pytest.mark.slow
@pytest.mark.parametrize(
    "url, words",
    [
        ("s3://bucket/a.png", "; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"),
        ("hf://datasets/user/photos/a.png", "; set HF_TOKEN, or run `hf auth login`"),
        ("ADDRESS/a.png", "; ask for access"),
    ],
)
def test_who_is_refused_is_told_what_to_set(url, words, tmp_path, tiny_pipeline_dir):
    with serving(Refusing) as address:
        check_refusal(url.replace("ADDRESS", address), words, address, tmp_path, tiny_pipeline_dir)


def check_refusal(url: str, words: str, store: str, tmp_path: Path, model: Path) -> None:
    """In a process of its own, as stores are set up by the environment."""
    env = os.environ | {"AWS_ENDPOINT_URL": store, "HF_ENDPOINT": store}
    env |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "us-east-1", "HF_HUB_OFFLINE": "0"}
    program = "import sys; from tests import test_urls; from fbinpaint.cli import main; sys.exit(main(sys.argv[1:]))"
    command = ["segment", f"--image={url}", f"--output={tmp_path / 'x.png'}", f"--model={model}"]
    ended = subprocess.run(
        [sys.executable, "-c", program, *command], cwd=ROOT, env=env, capture_output=True, text=True, timeout=300
    )
    lines = [line for line in ended.stderr.splitlines() if line.startswith("error")]
    assert ended.returncode == 1 and len(lines) == 1 and "Traceback" not in ended.stderr
    assert re.search(f"error: {re.escape(url)}: .*{words}", lines[0])
    assert not any(tmp_path.iterdir())


def test_photos_of_a_data_set_on_the_hub(folder, tiny_pipeline_dir, tmp_path):
    """In a process of its own, as the Hub's address is read when its library is imported."""
    hub = FakeHub()
    names = [f"{kind}/{name}.png" for kind in ("photos", "masks") for name in ("a", "b")]
    hub.add_dataset("user/streets", {name: (folder / name).read_bytes() for name in names}, tag="v1")
    where = "hf://datasets/user/streets@v1"
    env = os.environ | {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    what = [f"--image={where}/photos", f"--mask={where}/masks", f"--output={tmp_path / 'out'}", "--rounds=1"]
    command = [sys.executable, "-m", "fbinpaint", "run", *what, f"--model={tiny_pipeline_dir}"]
    ended = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
    hub.close()
    assert ended.returncode == 0, ended.stderr
    for name in ("a", "b"):
        assert (tmp_path / f"out/{name}.png").read_bytes() == (folder / f"expected/{name}.png").read_bytes()


@pytest.mark.parametrize("url", ["hf://datasets/user/results", "hf://user/model/x"])
def test_repositories_take_no_results(url, folder, capsys):
    assert run(folder / "photos", folder / "masks", url, "/no/such/model") == 1
    assert "each file would be a commit; name a bucket" in capsys.readouterr().err


def test_drivers_are_imported_for_urls_alone(folder, tmp_path):
    program = (
        "import sys\nfrom fbinpaint.batch.planning import plan_restorations\nfrom fbinpaint.system.urls import place\n"
        "jobs = list(plan_restorations(*map(place, sys.argv[1:]), False, resume=True))\n"
        "print(len(jobs), sorted({'fsspec', 'pyarrow'} & sys.modules.keys()))"
    )
    places = [str(folder / "photos"), str(folder / "masks"), str(tmp_path)]
    said = subprocess.run([sys.executable, "-c", program, *places], cwd=ROOT, capture_output=True, text=True)
    assert said.stdout == f"{len(NAMES) + 1} []\n", said.stderr
