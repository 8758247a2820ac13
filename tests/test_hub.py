"""Saved models: published, pushed and loaded again by processes that know nothing but a Hub; refused if broken."""

import base64
import io
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers.models.modeling_utils import ModelMixin
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import load_file, save_file

from fbinpaint import FeedbackInpaintPipeline, InputError
from fbinpaint.cli import main
from fbinpaint.hub.card import MARK, METRICS, model_card
from fbinpaint.hub.endpoint_handler import EndpointHandler
from fbinpaint.hub.saved import FORMAT_VERSION
from fbinpaint.models import InitialInpainter, Segmenter

from . import fake_hub
from .conftest import make_tiny_networks, quiet_pipeline
from .fake_hub import TOKEN, FakeHub, Repo

ROOT = Path(__file__).resolve().parent.parent
REPORT = ROOT / "docs/reports/streets.json"
WEIGHTS = "diffusion_pytorch_model"
COMPONENTS = ("initial_inpainter", "segmenter", "recorrector", "guided_inpainter")

PUSH = """
import sys, torch
from fbinpaint import FeedbackInpaintPipeline
from fbinpaint.models import Segmenter

pipe = FeedbackInpaintPipeline.from_pretrained(sys.argv[1])
pipe.save_pretrained("saved", push_to_hub=True, repo_id="user/saved")
pipe.push_to_hub("user/pushed")
pipe.segmenter.push_to_hub("user/segmenter")
pipe.push_to_hub("user/secret", private=True)
pipe.push_to_hub("user/mixed")
pipe.push_to_hub("named-alone")
pipe.recorrector.gates.bias.fill_(5)
pipe.push_to_hub("user/pushed")
pipe.to(torch.float16)
pipe.push_to_hub("user/pushed", variant="fp16")
pipe.push_to_hub("user/measured", variant="fp16")
pipe.segmenter.push_to_hub("user/mixed", subfolder="segmenter", variant="fp16")
"""

LOAD = """
import json, sys, torch
from PIL import Image
from fbinpaint import FeedbackInpaintPipeline, InputError
from fbinpaint.models import InitialInpainter, Segmenter

def refused(load, *args, **options):
    try:
        load(*args, **options)
    except InputError as error:
        return str(error)

def weight(**options):
    return FeedbackInpaintPipeline.from_pretrained("user/pushed", **options).recorrector.gates.bias[0].item()

def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))

pipe = FeedbackInpaintPipeline.from_pretrained("user/published")
pipe(Image.open("photo.png"), Image.open("mask.png")).images[0].save("result.png")
initial = InitialInpainter.from_pretrained("user/published", subfolder="initial_inpainter")
half = FeedbackInpaintPipeline.from_pretrained("user/pushed", variant="fp16", dtype=torch.float16, cache_dir="other")
mixed = FeedbackInpaintPipeline.from_pretrained("user/mixed", variant="fp16", revision="main")
json.dump({
    "initial is the same": same(initial, pipe.initial_inpainter),
    "segmenter is the same": same(Segmenter.from_pretrained("user/segmenter"), pipe.segmenter),
    "half": [str(half.segmenter.dtype), half.recorrector.gates.bias[0].item()],
    "mixed": [str(mixed.segmenter.dtype), same(mixed.initial_inpainter, pipe.initial_inpainter)],
    "origin": FeedbackInpaintPipeline.from_pretrained("user/pushed").origin,
    "weights": [weight(), weight(revision=sys.argv[1]), weight(revision="v1")],
    "no revision": refused(weight, revision="v2"),
    "not for all": refused(FeedbackInpaintPipeline.from_pretrained, "user/secret", token=False),
    "not for all, a network": refused(Segmenter.from_pretrained, "user/secret", subfolder="segmenter", token=False),
    "for me": str(type(FeedbackInpaintPipeline.from_pretrained("user/secret"))),
    "nobody": refused(FeedbackInpaintPipeline.from_pretrained, "user/nothing"),
}, open("said.json", "w"))
"""


ORIGIN = {"license": "mit", "data": [{"name": "procedural streets", "licence": "CC0"}]}


def photo_and_mask() -> tuple[Image.Image, Image.Image]:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    mask = np.zeros((48, 64), np.uint8)
    mask[12:30, 16:40] = 255
    return Image.fromarray(pixels), Image.fromarray(mask)


class Client:
    """Processes with a home of their own, to which `hub` is the Hub."""

    def __init__(self, hub: FakeHub, home: Path):
        home.mkdir()
        self.home, self.settings = home, {
            "HF_ENDPOINT": hub.url, "HF_HOME": str(home / "hf"), "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
            "PYTHONPATH": str(ROOT),
        }  # fmt: skip

    def python(self, *arguments: str | Path) -> subprocess.CompletedProcess:
        command = [sys.executable, *map(str, arguments)]
        return subprocess.run(
            command, cwd=self.home, env=os.environ | self.settings, capture_output=True, text=True, timeout=300
        )

    def publish(self, *arguments: str | Path) -> subprocess.CompletedProcess:
        return self.python("-m", "fbinpaint", "publish", *arguments)


@pytest.fixture(scope="module")
def hub():
    hub = FakeHub()
    yield hub
    hub.close()


@pytest.fixture(scope="module")
def client(hub, tmp_path_factory) -> Client:
    return Client(hub, tmp_path_factory.mktemp("client") / "home")


@pytest.fixture(scope="module")
def story(hub, client, tiny_pipeline_dir, tiny_pipeline, tmp_path_factory) -> SimpleNamespace:
    """What happened: published (in shards, whole, with an upload that broke off), pushed, loaded by another client."""
    folder = tmp_path_factory.mktemp("story")
    tiny_pipeline.save_pretrained(folder / "shards", max_shard_size="20KB")
    shutil.copytree(tiny_pipeline_dir, folder / "broken-off")
    (folder / "broken-off/notes.txt").write_text("not to be seen")

    def publish(model: Path, *more: str | Path, name: str = "published"):
        return client.publish("--model", model, "--repo-id", f"user/{name}", *more)

    publish(tiny_pipeline_dir, "--report", REPORT, name="measured")
    sharded = publish(folder / "shards")
    in_shards = set(hub.repos["user/published"].files)
    whole = publish(tiny_pipeline_dir, "--report", REPORT)
    commits = list(hub.repos["user/published"].commits)
    hub.broken_commits = 1
    broken = publish(folder / "broken-off")

    licensed = shutil.copytree(tiny_pipeline_dir, folder / "licensed")
    (licensed / "training.json").write_text(json.dumps(ORIGIN))
    pushed = client.python("-c", PUSH, licensed)
    assert pushed.returncode == 0, pushed.stderr
    hub.repos["user/pushed"].tags["v1"] = first = list(hub.repos["user/pushed"].commits)[1]

    hub.sent.clear()
    other = Client(hub, folder / "other")
    image, mask = photo_and_mask()
    image.save(other.home / "photo.png"), mask.save(other.home / "mask.png")
    loaded = other.python("-c", LOAD, first)
    assert loaded.returncode == 0, loaded.stderr
    return SimpleNamespace(
        sharded=sharded, in_shards=in_shards, whole=whole, commits=commits, broken=broken, home=other.home,
        said=json.loads((other.home / "said.json").read_text()),
    )  # fmt: skip


@pytest.mark.slow
def test_licence_and_origin_are_pushed_and_loaded_again(hub, story):
    assert story.said["origin"] == ORIGIN
    for repo in ("user/pushed", "user/saved"):
        files = hub.repos[repo].files
        card = ModelCard(files["README.md"].decode())
        assert json.loads(files["training.json"]) == ORIGIN and card.data.license == "mit" and MARK in card.text
        assert not any(b"_name_or_path" in data for path, data in files.items() if path.endswith(".json"))
    card = hub.repos["user/named-alone"].files["README.md"].decode()  # of the one who pushes
    assert 'from_pretrained("user/named-alone")' in card and '"named-alone"' not in card


@pytest.mark.slow
def test_training_can_publish_its_result(hub, client, street_folder, tiny_pipeline_dir, vgg_file, tmp_path):
    """With the licence and the data of the model it started from, and no path of this machine."""
    base = shutil.copytree(tiny_pipeline_dir, tmp_path / "base")
    (base / "training.json").write_text(json.dumps(ORIGIN))
    run = client.python(
        ROOT / "train_accelerate.py", "--train_data_dir", street_folder, "--label_space", "cityscapes",
        "--pretrained_model", base, "--perceptual_weights", vgg_file, "--output_dir", tmp_path / "run",
        "--resolution", "32", "--perceptual_crop", "16", "--num_validation_images", "1", "--max_train_steps", "1",
        "--dataloader_num_workers", "0", "--push_to_hub", "--hub_model_id", "user/trained",
    )  # fmt: skip
    assert run.returncode == 0 and f"published {hub.url}/user/trained/commit/" in run.stdout, run.stdout + run.stderr
    weights = f"segmenter/{WEIGHTS}.safetensors"
    files = hub.repos["user/trained"].files
    assert files[weights] == (tmp_path / "run/pipeline" / weights).read_bytes()
    card, origin = ModelCard(files["README.md"].decode()), json.loads(files["training.json"])
    assert "Time: 0 minutes on 1 x" in card.text and "--max_train_steps 1 " in card.text
    assert card.data.license == "mit" and "Base model: base." in card.text
    assert origin["data"] == [{"name": "streets", "licence": "not stated"}, *ORIGIN["data"]]
    assert origin["base_model"] == "base" and "--pretrained_model base " in origin["command"]
    for path in (tmp_path / "run/pipeline").rglob("*.json"):
        text = path.read_text()
        assert not any(str(folder) in text for folder in (tmp_path, street_folder, vgg_file.parent, ROOT)), path


def fetched(hub: FakeHub, repo: str) -> list[str]:
    return sorted(path.removeprefix(f"{repo}/") for path in hub.sent if path.startswith(f"{repo}/"))


def test_published_and_loaded_elsewhere_it_gives_the_same_bits(hub, story, tiny_pipeline):
    assert story.whole.returncode == 0 and f"published: {hub.url}/user/published" in story.whole.stdout
    expected = tiny_pipeline(*photo_and_mask()).images[0]
    assert Image.open(story.home / "result.png").tobytes() == expected.tobytes()
    of_networks = (f"{n}/{file}" for n in COMPONENTS for file in ("config.json", f"{WEIGHTS}.safetensors"))
    assert fetched(hub, "user/published") == sorted(["config.json", "model_index.json", *of_networks])


def test_one_commit_replaces_the_weights(hub, story):
    assert story.sharded.returncode == 0 and len(story.commits) == 3  # the empty one, in shards, whole
    assert f"segmenter/{WEIGHTS}.safetensors.index.json" in story.in_shards
    assert not any("-of-" in path or ".index." in path for path in hub.repos["user/published"].files)


def test_an_upload_that_breaks_off_changes_nothing(hub, story):
    """The bits of the first test were loaded after it."""
    kept, line = story.broken.stderr.splitlines()
    assert kept.startswith("user/published: its card is kept")
    assert story.broken.returncode == 1 and line.startswith("error: user/published: not published (")
    assert list(hub.repos["user/published"].commits) == story.commits


def test_networks_are_pushed_and_loaded_alone(story):
    assert story.said["initial is the same"] and story.said["segmenter is the same"]


def test_variants(hub, story):
    assert story.said["half"] == ["torch.float16", 5.0] and story.said["mixed"] == ["torch.float32", True]
    assert {f"{n}/{WEIGHTS}{v}.safetensors" for n in COMPONENTS for v in ("", ".fp16")} < set(
        hub.repos["user/pushed"].files
    )
    weights = [path for path in fetched(hub, "user/mixed") if path.endswith(".safetensors")]
    assert weights == sorted(
        f"{name}/{WEIGHTS}{'.fp16' if name == 'segmenter' else ''}.safetensors" for name in COMPONENTS
    )
    measured = hub.repos["user/measured"].files  # a variant that joins other weights leaves their card as it is
    assert f"segmenter/{WEIGHTS}.fp16.safetensors" in measured and b"| telea |" in measured["README.md"]
    by_variant = [path for path in fetched(hub, "user/pushed") if ".fp16" in path]
    assert len(by_variant) == 4


def test_revisions(story, tiny_pipeline):
    before = tiny_pipeline.recorrector.gates.bias[0].item()
    assert story.said["weights"] == [5.0, before, before] and before != 5
    assert story.said["no revision"] == "user/pushed: has no revision v2; name a branch, tag or commit"


PINNED = """
import sys
from PIL import Image
from fbinpaint import FeedbackInpaintPipeline, cli
from fbinpaint.hub import model_names
from fbinpaint.models import Segmenter
from fbinpaint.hub.origin import named_origin

def refused(load, *args, **options):
    try:
        load(*args, **options)
    except cli.InputError as error:
        print(error)

def weight(pipe):
    return pipe.recorrector.gates.bias[0].item()

first = "user/pushed@" + sys.argv[1]
print(weight(cli.load_pipeline("user/pushed@v1")), weight(cli.load_pipeline("user/pushed")))
print(weight(FeedbackInpaintPipeline.from_pretrained(first)), named_origin(first)[0])
print(model_names.label_space_of_model("user/pushed@v1").name)
print(type(Segmenter.from_pretrained(first, "segmenter")).__name__)
code = cli.main(["run", "--image", "photo.png", "--mask", "mask.png", "--output", "first.png", "--model", first])
print(code, first in Image.open("first.png").info["xmp"].decode())
refused(cli.load_pipeline, "user/pushed@v2")
refused(cli.load_pipeline, "user/pushed@../../secret")
refused(cli.load_pipeline, "user/pushed@")
refused(FeedbackInpaintPipeline.from_pretrained, first, revision="main")
"""


@pytest.mark.slow
def test_a_hub_id_may_name_its_revision(hub, story, tiny_pipeline, tmp_path):
    client, before = Client(hub, tmp_path / "home"), tiny_pipeline.recorrector.gates.bias[0].item()
    for picture, name in zip(photo_and_mask(), ("photo.png", "mask.png"), strict=True):
        picture.save(client.home / name)
    first = hub.repos["user/pushed"].tags["v1"]
    done = client.python("-c", PINNED, first)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{before} 5.0",
        f"{before} user/pushed",
        "cityscapes",
        "Segmenter",
        "0 True",
        "user/pushed: has no revision v2; name a branch, tag or commit",
        "user/pushed@../../secret: has no revision behind the @; name a branch, tag or commit",
        "user/pushed@: has no revision behind the @; name a branch, tag or commit",
        f"user/pushed@{first}: and revision='main' name two revisions; leave one out",
    ]


MOVED = """
import sys, urllib.request
from fbinpaint import cli
from fbinpaint.hub import model_names
from fbinpaint.hub.origin import named_origin

before = model_names.label_space_of_model("user/moving").classes
print(named_origin("user/moving")[1]["time"])
urllib.request.urlopen(urllib.request.Request(sys.argv[1] + "/moved", method="PUT"))
pipe = cli.load_pipeline("user/moving")
print(pipe.label_space.classes == before, named_origin("user/moving")[1]["time"], pipe.origin["time"])
"""


def test_label_space_origin_and_weights_are_of_one_commit(hub, tiny_pipeline_dir, tmp_path, monkeypatch):
    """Also where the branch moves on between them."""
    old = {path.relative_to(tiny_pipeline_dir).as_posix(): path.read_bytes()
           for path in tiny_pipeline_dir.rglob("*") if path.is_file()}  # fmt: skip
    old["training.json"] = b'{"time": "an hour"}'
    repo = hub.repos["user/moving"] = Repo(False, {"1" * 40: old})

    def move(handler) -> None:
        repo.commits["2" * 40] = old | {"training.json": b'{"time": "a day"}'}
        handler.answer(200, {})

    monkeypatch.setattr(fake_hub, "ROUTES", [*fake_hub.ROUTES, (("PUT",), "/moved", move)])
    done = Client(hub, tmp_path / "home").python("-c", MOVED, hub.url)
    assert done.stdout.splitlines() == ["an hour", "True an hour an hour"], done.stderr
    assert len(repo.commits) == 2


def test_a_private_repository_needs_the_token(hub, story):
    assert hub.repos["user/secret"].private and not hub.repos["user/pushed"].private
    assert "FeedbackInpaintPipeline" in story.said["for me"]
    for case, name in (("not for all", "secret"), ("not for all, a network", "secret"), ("nobody", "nothing")):
        assert story.said[case].startswith(f"user/{name}: is neither") and "hf auth login" in story.said[case]


def test_what_was_downloaded_needs_no_hub(story, tiny_pipeline):
    """This very process may not go online."""
    options = {"cache_dir": story.home / "hf/hub", "local_files_only": True}
    pipe = FeedbackInpaintPipeline.from_pretrained("user/published", **options)
    pipe.set_progress_bar_config(disable=True)
    expected = tiny_pipeline(*photo_and_mask()).images[0]
    assert pipe(*photo_and_mask()).images[0].tobytes() == expected.tobytes()
    with pytest.raises(InputError, match="user/published: is not a folder and was not fetched") as error:
        FeedbackInpaintPipeline.from_pretrained("user/published", variant="fp16", revision="v1", **options)
    assert "\n" not in str(error.value)


UNREACHABLE = """
import sys, time
from fbinpaint.demo.models import label_space_of_model
from fbinpaint import FeedbackInpaintPipeline, InputError
from fbinpaint.hub import saved
from fbinpaint.models import Segmenter

saved.ANSWER = 1
for load in (FeedbackInpaintPipeline.from_pretrained, Segmenter.from_pretrained, label_space_of_model):
    for name in sys.argv[1:]:
        began = time.monotonic()
        try:
            load(name)
        except InputError as error:
            print(name, time.monotonic() - began, error, sep="|")
"""


@pytest.mark.slow
@pytest.mark.parametrize("answers", ["refuses", "is silent"])
def test_a_mistyped_model_fails_fast_where_the_hub(answers, hub, tmp_path):
    client = Client(hub, tmp_path / "home")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if answers == "is silent":
            silent.listen()
        client.settings["HF_ENDPOINT"] = f"http://127.0.0.1:{silent.getsockname()[1]}"
        done = client.python("-c", UNREACHABLE, "no/such", "no/such/folder")
    lines = done.stdout.splitlines()
    assert len(lines) == 6 and "Retrying" not in done.stderr, done.stderr
    for name, seconds, error in (line.split("|") for line in lines):
        assert float(seconds) < 3
        problem = "is not a folder and was not fetched" if name == "no/such" else "is neither a folder nor of the form"
        assert error.startswith(f"{name}: {problem}")


def test_commands_tell_of_a_mistyped_model_before_torch_is_imported(hub, tmp_path):
    code = "import sys, fbinpaint.cli as cli\ntry: cli.load_pipeline('no/such')\nexcept cli.InputError as e: print(e)\n"
    done = Client(hub, tmp_path / "home").python("-c", code + "print({'torch', 'diffusers'} & set(sys.modules))")
    error, imported = done.stdout.splitlines()
    assert error.startswith("no/such: is neither a folder nor a repository") and imported == "set()", done.stderr


@pytest.mark.slow
def test_publishing_needs_a_token_and_keeps_what_is_private(hub, story, tiny_pipeline_dir, tmp_path):
    stranger = Client(hub, tmp_path / "stranger")
    stranger.settings["HF_TOKEN"] = "hf_bad"
    assert stranger.publish("--model", tiny_pipeline_dir, "--repo-id", "user/stolen").returncode == 1
    assert "user/stolen" not in hub.repos
    stranger.settings |= {"HF_TOKEN": TOKEN, "HF_ENDPOINT": "http://127.0.0.1:9"}
    unreachable = stranger.publish("--model", tiny_pipeline_dir, "--repo-id", "user/unreachable")
    stranger.settings["HF_ENDPOINT"] = hub.url
    public = stranger.publish("--model", tiny_pipeline_dir, "--repo-id", "user/pushed", "--private")
    for done, said in ((unreachable, "unreachable: not published"), (public, "pushed: exists and is public")):
        (line,) = done.stderr.splitlines()
        assert done.returncode == 1 and line.startswith(f"error: user/{said}")


# ---------------------------------------------------------------------------------------------- cards


def test_the_card_is_valid_and_its_figures_are_those_of_the_report(hub, story):
    card = ModelCard(hub.repos["user/published"].files["README.md"].decode())
    assert card.data.library_name == "fbinpaint" and card.data.pipeline_tag == "image-to-image"
    assert card.data.license == "unknown" and "cityscapes" in card.data.tags and MARK in card.text
    report = json.loads(REPORT.read_text())
    figures = {result.metric_name: result.metric_value for result in card.data.eval_results}
    measured = [key for key in METRICS if report["variants"]["rounds=0"]["overall"][key] is not None]
    assert len(measured) >= 5 and len(figures) == len(measured) * len(report["protocol"]["rounds"])
    for k in report["protocol"]["rounds"]:
        scores = report["variants"][f"rounds={k}"]["overall"]
        assert figures[f"LPIPS-Alex, rounds={k}"] == scores["lpips_alex"]
        assert figures[f"mIoU in hole, rounds={k}"] == scores["miou_hole_after"]
        assert f"| rounds={k} | {scores['lpips_alex']:.4f} |" in card.text
    assert "| telea |" in card.text and 'from_pretrained("user/published")' in card.text
    assert "Licence of the model: not stated" in card.text


@pytest.mark.parametrize(
    "name, report",
    [
        ("streets", "streets"),
        ("faces", "celebamask"),
        ("small/streets", "small-streets"),
        ("small/faces", "small-celebamask"),
    ],
)
def test_the_bundled_models_have_their_facts_on_file(name, report):
    training = json.loads((ROOT / "checkpoints" / name / "training.json").read_text())
    card = model_card(ROOT / "checkpoints" / name, f"user/{name}", [ROOT / f"docs/reports/{report}.json"])
    licences = [data["licence"] for data in training["data"]]
    assert all(text in card.text for text in (training["time"], training["command"], *licences))
    assert card.data.license == training["license"] and "ot stated" not in card.text
    assert card.data.co2_eq_emissions == training["co2_eq_emissions"]


@pytest.mark.slow
def test_cards_by_hand_are_kept(hub, client, tiny_pipeline_dir, tmp_path):
    """In the folder: published as it is. In the repository: not replaced, unless fbinpaint wrote it."""
    folder = shutil.copytree(tiny_pipeline_dir, tmp_path / "model")

    def publish(*more: str | Path) -> str:
        done = client.publish("--model", folder, "--repo-id", "user/cards", *more)
        assert done.returncode == 0, done.stderr
        return hub.repos["user/cards"].files["README.md"].decode()

    assert MARK in publish()
    assert "| telea |" in publish("--report", REPORT)
    done = client.publish("--model", folder, "--repo-id", "user/cards")  # a worse one is not written over it
    assert "| telea |" in hub.repos["user/cards"].files["README.md"].decode() and done.returncode == 0
    assert done.stderr.startswith("user/cards: its card is kept") and len(done.stderr.splitlines()) == 1
    (folder / "README.md").write_text("---\nlicense: mit\n---\nBy hand.\n")
    assert publish().endswith("By hand.\n")
    (folder / "README.md").unlink()
    assert publish("--report", REPORT).endswith("By hand.\n")


def test_a_card_and_a_report_are_one_too_many(tiny_pipeline_dir, tmp_path, capsys):
    folder = shutil.copytree(tiny_pipeline_dir, tmp_path / "model")
    (folder / "README.md").write_text("By hand.\n")
    assert main(["publish", "--model", str(folder), "--repo-id", "u/n", "--dry-run", "--report", str(REPORT)]) == 1
    assert f"error: {folder / 'README.md'}: is published as it is" in capsys.readouterr().err


def test_a_dry_run_shows_what_would_go(tiny_pipeline_dir, tmp_path, capsys):
    """Without a network: this process may not go online."""
    folder = shutil.copytree(tiny_pipeline_dir, tmp_path / "model")
    (folder / ".cache").mkdir(), (folder / ".cache/secret").touch()
    arguments = ["publish", "--model", str(folder), "--repo-id", "user/name", "--dry-run", "--report", str(REPORT)]
    assert main(arguments) == 0
    files, _, card = capsys.readouterr().out.partition("\n\n")
    for path in folder.rglob("*.*"):
        if path.is_file():
            assert f"{path.stat().st_size:,}  {path.relative_to(folder).as_posix()}\n" in files
    assert "secret" not in files and "in 11 files" in files
    assert ModelCard(card).data.eval_results[0].dataset_type == "streets/val"


@pytest.mark.slow
def test_only_the_files_of_the_model_go_up(hub, client, tiny_pipeline_dir, tmp_path, capsys):
    """Not what else lies in its folder: keys, notes, caches, links to other places."""
    folder = shutil.copytree(tiny_pipeline_dir, tmp_path / "model")
    theirs = [path.relative_to(folder).as_posix() for path in folder.rglob("*.*") if path.is_file()]
    theirs = sorted([*theirs, "config.json", "example.png"])  # these are made
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/token.txt").write_text("hf_secret")
    for name in ("id_rsa", "server.pem", "segmenter/.env", "segmenter/notes.txt", "__pycache__/a.pyc", "cache/b.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("secret")
    (folder / "token.txt").symlink_to(tmp_path / "secret/token.txt")
    (folder / "segmenter/more.json").symlink_to(tmp_path / "secret/token.txt")
    (folder / "exemplars").symlink_to(tmp_path / "secret")
    (folder / "segmenter/round").symlink_to(folder)
    assert main(["publish", "--model", str(folder), "--repo-id", "user/name", "--dry-run"]) == 0
    listed, _, card = capsys.readouterr().out.partition("with this card")
    rows = [line.split(maxsplit=1) for line in listed.splitlines() if line.startswith(" ")]
    total, rest = [name for _, name in rows if "/" not in name and " " in name]
    assert [name for _, name in rows[: len(theirs)]] == theirs and len(rows) == len(theirs) + 2
    assert total == f"bytes in {len(theirs)} files" and rest.startswith("other files") and rows[-1][0] == "7"
    done = client.publish("--model", folder, "--repo-id", "user/kept-clean")
    assert done.returncode == 0, done.stderr
    assert sorted(hub.repos["user/kept-clean"].files) == sorted([".gitattributes", "README.md", *theirs])


@pytest.mark.parametrize("name", ["README.md", "training.json", f"segmenter/{WEIGHTS}.safetensors", "recorrector"])
def test_a_link_in_a_models_place_is_not_published(name, tiny_pipeline_dir, tmp_path, capsys):
    folder = shutil.copytree(tiny_pipeline_dir, tmp_path / "model")
    (folder / "README.md").write_text("By hand.\n"), (folder / "training.json").write_text("{}")
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    for more in ([], ["--dry-run"]):
        assert main(["publish", "--model", str(folder), "--repo-id", "user/name", *more]) == 1
        out, err = capsys.readouterr()
        assert err.startswith(f"error: {folder / name}: is a link; ") and not out


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("report.json", lambda r: r.pop("variants"), "not a report"),
        ("report.json", lambda r: r["protocol"].update(label_space="celebamask-hq"), "celebamask-hq"),
        ("report.json", lambda r: r["protocol"].update(model={"a": "b"}), "several models"),
        ("model/training.json", lambda t: t.update(data=["photos"]), "licence"),
        ("model/training.json", lambda t: t.update(time=51), "must be text"),
        ("model/training.json", lambda t: t.update(co2_eq_emissions=12), "grams"),
        ("model/training.json", lambda t: t.update(co2_eq_emissions=None), "grams"),
        ("model/training.json", lambda t: t.update(co2_eq_emissions={"emissions": 12}), "must be text"),
    ],
)
def test_a_card_is_not_made_of_anything_else(tiny_pipeline_dir, tmp_path, name, change, said):
    folder = shutil.copytree(tiny_pipeline_dir, tmp_path / "model")
    (folder / "training.json").write_text("{}")
    shutil.copy(REPORT, tmp_path / "report.json")
    content = json.loads((tmp_path / name).read_text())
    change(content)
    (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(InputError, match=said) as error:
        model_card(folder, "user/name", [tmp_path / "report.json"])
    assert str(tmp_path / name) in str(error.value)


# ---------------------------------------------------------------------------------------------- broken folders


def edit(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def without_number(folder: Path) -> None:
    """As models were saved before there was a format_version, of networks without `depth8`."""
    for name, gone in (("model_index.json", "format_version"), ("initial_inpainter/config.json", "depth8")):
        path = folder / name
        path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != gone}))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def pipe_at(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def link(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


def set_weight(path: Path, value: float) -> None:
    weights = load_file(path)
    weights[sorted(weights)[-1]].view(-1)[0] = value
    save_file(weights, path, {"format": "pt"})


SEGMENTER = f"segmenter/{WEIGHTS}.safetensors"
INDEX = f"{SEGMENTER}.index.json"
BROKEN = {
    "no folder of a pipeline": ("model_index.json", lambda f: (f / "model_index.json").unlink()),
    "broken index": ("model_index.json", lambda f: (f / "model_index.json").write_text("{")),
    "a list": ("model_index.json", lambda f: (f / "model_index.json").write_text("[]")),
    "another pipeline": ("model_index.json", lambda f: edit(f / "model_index.json", _class_name="DDPMPipeline")),
    "foreign code": ("model_index.json", lambda f: edit(f / "model_index.json", segmenter=["os", "system"])),
    "an earlier version": ("model_index.json", lambda f: without_number(f)),
    "a later version": ("model_index.json", lambda f: edit(f / "model_index.json", format_version=FORMAT_VERSION + 1)),
    "an odd version": ("model_index.json", lambda f: edit(f / "model_index.json", format_version="one")),
    "missing component": ("segmenter", lambda f: shutil.rmtree(f / "segmenter")),
    "broken config": ("segmenter/config.json", lambda f: (f / "segmenter/config.json").write_text("{")),
    "another network": ("recorrector/config.json", lambda f: shutil.copytree(
        f / "segmenter", f / "recorrector", dirs_exist_ok=True)),
    "no weights": ("segmenter", lambda f: (f / SEGMENTER).unlink()),
    "pickle": (f"segmenter/{WEIGHTS}.bin", lambda f: (f / f"segmenter/{WEIGHTS}.bin").touch()),
    "cut short": (SEGMENTER, lambda f: cut(f / SEGMENTER)),
    "LFS pointer": (SEGMENTER, lambda f: (f / SEGMENTER).write_text("version https://git-lfs.github.com/spec/v1\n")),
    "other widths": ("segmenter", lambda f: edit(f / "segmenter/config.json", channels=24)),
    "nonsense widths": ("segmenter", lambda f: edit(f / "segmenter/config.json", channels="wide")),
    "a pipe for an index": ("model_index.json", lambda f: pipe_at(f / "model_index.json")),
    "an endless configuration": ("segmenter/config.json", lambda f: link(f / "segmenter/config.json", "/dev/zero")),
    "a configuration of 20 MB": (
        "segmenter/config.json", lambda f: os.truncate(f / "segmenter/config.json", 2 * 10**7)),
    "a pipe for an origin": ("training.json", lambda f: pipe_at(f / "training.json")),
    "a pipe for weights": (SEGMENTER, lambda f: pipe_at(f / SEGMENTER)),
    "endless weights": (SEGMENTER, lambda f: link(f / SEGMENTER, "/dev/zero")),
    "shards that lie elsewhere": (INDEX, lambda f: (f / INDEX).write_text('{"weight_map": {"a": "/dev/zero"}}')),
    "NaN": (SEGMENTER, lambda f: set_weight(f / SEGMENTER, float("nan"))),
    "infinity": (SEGMENTER, lambda f: set_weight(f / SEGMENTER, float("-inf"))),
    "weights of another network": ("recorrector", lambda f: shutil.copy(
        f / SEGMENTER, f / f"recorrector/{WEIGHTS}.safetensors")),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_folder_is_one_line(case, tiny_pipeline_dir, tmp_path, capsys, no_hang):
    named, breaks = BROKEN[case]
    folder = shutil.copytree(tiny_pipeline_dir, tmp_path / "model")
    breaks(folder)
    no_hang()
    with pytest.raises(InputError) as error:
        FeedbackInpaintPipeline.from_pretrained(folder)
    message = str(error.value)
    assert str(folder / named) in message and "\n" not in message and "; " in message
    for picture, name in zip(photo_and_mask(), ("p.png", "m.png"), strict=True):
        picture.save(tmp_path / name)
    arguments = ["--image", tmp_path / "p.png", "--mask", tmp_path / "m.png", "--output", tmp_path / "o.png"]
    capsys.readouterr()
    assert main(["run", *map(str, arguments), "--model", str(folder)]) == 1
    assert capsys.readouterr().err == f"error: {message}\n"


def test_an_earlier_model_is_told_which_commit_loads_it(tiny_pipeline_dir, tmp_path):
    assert json.loads((tiny_pipeline_dir / "model_index.json").read_text())["format_version"] == FORMAT_VERSION
    folder = shutil.copytree(tiny_pipeline_dir, tmp_path / "model")
    without_number(folder)
    for load in (FeedbackInpaintPipeline.from_pretrained, lambda f: Segmenter.from_pretrained(f / "segmenter"),
                 lambda f: Segmenter.from_pretrained(f, subfolder="segmenter")):  # fmt: skip
        with pytest.raises(InputError, match="earlier fbinpaint; commit 82617c5 is the last that loads it") as error:
            load(folder)
        assert "\n" not in str(error.value)
    for version, commit in ((1, "a4fb447"), (2, "9046780")):
        edit(folder / "model_index.json", format_version=version)
        with pytest.raises(InputError, match=f"commit {commit} is the last"):
            load(folder)
    edit(folder / "model_index.json", format_version=FORMAT_VERSION + 1)
    with pytest.raises(InputError, match="newer"):
        FeedbackInpaintPipeline.from_pretrained(folder)


@pytest.mark.parametrize("case", ["another pipeline", "missing component", "pickle", "cut short"])
def test_a_broken_folder_is_not_published(case, tiny_pipeline_dir, tmp_path, capsys):
    named, breaks = BROKEN[case]
    folder = shutil.copytree(tiny_pipeline_dir, tmp_path / "model")
    breaks(folder)
    assert main(["publish", "--model", str(folder), "--repo-id", "user/name"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and str(folder / named) in line


@pytest.mark.parametrize("name", ["no/such/folder", "no-such-folder", "/no/such", ""])
def test_a_missing_folder_is_one_line(name):
    with pytest.raises(InputError) as error:
        FeedbackInpaintPipeline.from_pretrained(name)
    assert str(error.value).startswith(name) and "\n" not in str(error.value)


def test_networks_load_from_a_folder(tiny_pipeline, tiny_pipeline_dir, tmp_path):
    network = InitialInpainter.from_pretrained(tiny_pipeline_dir, subfolder="initial_inpainter", dtype=torch.bfloat16)
    assert network.dtype == torch.bfloat16 and not network.training
    assert Segmenter.from_pretrained(tiny_pipeline_dir / "segmenter", subfolder=None).config.num_classes == 19
    with pytest.raises(InputError, match=f'^{tiny_pipeline_dir}: is a whole pipeline; .*subfolder="segmenter"'):
        Segmenter.from_pretrained(tiny_pipeline_dir)
    with pytest.raises(InputError, match="config.json: is of InitialInpainter"):
        Segmenter.from_pretrained(tiny_pipeline_dir / "initial_inpainter")
    for saved in (tiny_pipeline, tiny_pipeline.segmenter):
        with pytest.raises(InputError, match="safe_serialization=False"):
            saved.save_pretrained(tmp_path / "pickled", safe_serialization=False)
    assert not (tmp_path / "pickled").exists()
    ModelMixin.save_pretrained(tiny_pipeline.segmenter, tmp_path / "pickled", safe_serialization=False)
    with pytest.raises(InputError, match=f"{WEIGHTS}.bin: may hold pickled code"):
        Segmenter.from_pretrained(tmp_path / "pickled")
    with pytest.raises(InputError, match="no fp16 weights"):
        Segmenter.from_pretrained(tiny_pipeline_dir, subfolder="segmenter", variant="fp16")
    with pytest.raises(InputError, match="no fp16 weights"):
        FeedbackInpaintPipeline.from_pretrained(tiny_pipeline_dir, variant="fp16")


def test_a_model_saved_over_one_in_shards_loads(tiny_pipeline, tmp_path):
    tiny_pipeline.save_pretrained(tmp_path / "model", max_shard_size="20KB")
    assert list((tmp_path / "model").rglob("*.index.json"))
    tiny_pipeline.save_pretrained(tmp_path / "model")
    assert not list((tmp_path / "model").rglob("*.index.json"))
    FeedbackInpaintPipeline.from_pretrained(tmp_path / "model")


@pytest.mark.parametrize("max_shard_size", [None, "20KB"])
def test_a_pipeline_is_saved_whole_or_not_at_all(max_shard_size, tiny_pipeline, tiny_pipeline_dir, tmp_path):
    """Over another one; what is not the model's stays."""
    folder, other = shutil.copytree(tiny_pipeline_dir, tmp_path / "model"), quiet_pipeline(make_tiny_networks(seed=1))
    (folder / "notes.txt").write_text("by hand")

    def files() -> dict[Path, bytes]:
        return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    before, limits = files(), resource.getrlimit(resource.RLIMIT_FSIZE)
    usual = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))  # as a disk that is full before the segmenter is
    try:
        with pytest.raises(InputError, match=f"^{folder}: could not be written .*File too large"):
            other.save_pretrained(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits), signal.signal(signal.SIGXFSZ, usual)
    assert files() == before and not any(path.name.startswith(".") for path in folder.iterdir())
    other.save_pretrained(folder, max_shard_size=max_shard_size)
    loaded = FeedbackInpaintPipeline.from_pretrained(folder)
    for name in COMPONENTS:
        saved = getattr(loaded, name).state_dict()
        assert all(torch.equal(saved[key], value) for key, value in getattr(other, name).state_dict().items())
    assert (folder / "notes.txt").read_text() == "by hand"
    assert (folder / f"segmenter/{WEIGHTS}.safetensors").exists() == (max_shard_size is None)


def test_a_place_that_no_pipeline_can_be_saved_to_is_one_line(tiny_pipeline, tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(InputError, match=f"^{place}: could not be written .Not a directory"):
            tiny_pipeline.save_pretrained(place)


@pytest.mark.parametrize(("dtype", "close"), [(torch.float16, 4), (torch.bfloat16, 24)])
def test_half_precision_gives_the_same_picture(dtype, close, tiny_pipeline, tiny_pipeline_dir):
    pipe = FeedbackInpaintPipeline.from_pretrained(tiny_pipeline_dir, dtype=dtype)
    pipe.set_progress_bar_config(disable=True)
    for reference in (tiny_pipeline, pipe):
        assert reference.segmenter.dtype == (dtype if reference is pipe else torch.float32)
    ours, theirs = (np.asarray(p(*photo_and_mask()).images[0], int) for p in (pipe, tiny_pipeline))
    assert abs(ours - theirs).max() <= close
    assert pipe.to(torch.float32).recorrector.bank.means.dtype == torch.float32


def test_the_bundled_models_load_fast():
    started = time.thread_time()  # the processor's, whatever else it has to do meanwhile
    for name in ("streets", "faces"):
        FeedbackInpaintPipeline.from_pretrained(ROOT / "checkpoints" / name)
    assert time.thread_time() - started < 4


def test_the_handler_answers_with_pictures_that_tell_their_origin(tiny_pipeline_dir):
    """As Inference Endpoints call it; a CMYK photo becomes one of a mode that PNG files hold."""
    handler = EndpointHandler(str(tiny_pipeline_dir))
    hole = np.zeros((48, 64), bool)
    hole[10:30, 10:40] = True
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8))
    for mode in ("RGB", "CMYK", "L"):
        answer = handler({"inputs": photo.convert(mode), "parameters": {"mask": Image.fromarray(hole), "rounds": 0}})
        restored = Image.open(io.BytesIO(base64.b64decode(answer["image"])))
        assert restored.format == "PNG" and restored.size == (64, 48) and answer["notes"] == []
        assert restored.mode == {"CMYK": "RGB"}.get(mode, mode)
        assert b"compositeWithTrainedAlgorithmicMedia" in restored.info["xmp"]
    with_nothing = handler({"inputs": photo, "parameters": {"mask": Image.new("L", photo.size), "rounds": 0}})
    untouched = Image.open(io.BytesIO(base64.b64decode(with_nothing["image"])))
    assert np.array_equal(untouched, photo) and "xmp" not in untouched.info and len(with_nothing["notes"]) == 1
    sent = io.BytesIO()
    photo.save(sent, "PNG")
    in_lines = base64.encodebytes(sent.getvalue()).decode()  # as `base64 photo.png` has it
    same = handler({"inputs": in_lines, "parameters": {"mask": Image.fromarray(hole), "rounds": 0}})
    assert same == handler({"inputs": photo, "parameters": {"mask": Image.fromarray(hole), "rounds": 0}})
    assert handler({"inputs": photo})["error"].startswith("nothing says what to fill")
    assert handler({"inputs": "%", "parameters": {}})["error"].startswith("inputs: is not base64 text")

