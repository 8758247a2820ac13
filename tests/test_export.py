"""The loop as ONNX: the same as in torch, and what it is not made of is said in one line."""

import copy
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fbinpaint import FeedbackInpaintPipeline
from fbinpaint.cli import main
from fbinpaint.data.scenes import SCENES
from fbinpaint.errors import InputError
from fbinpaint.export import export_onnx
from fbinpaint.images.tensors import mask_to_tensor, to_tensor
from fbinpaint.loop import Networks, feedback_rounds
from fbinpaint.masks import free_form_mask
from fbinpaint.system.files import save_folder

from .conftest import labelled_scenes

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
onnx = pytest.importorskip("onnx")
from benchmarks import export as benchmark  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
SIZE = 64


@pytest.fixture(scope="module")
def saved_as_half(tiny_pipeline_dir, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("half") / "tiny"
    FeedbackInpaintPipeline.from_pretrained(tiny_pipeline_dir).to(torch.float16).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def exported(saved_as_half, tmp_path_factory) -> Path:
    """A folder of the command's, in a folder that was not there."""
    folder = tmp_path_factory.mktemp("onnx") / "new" / "streets-onnx"
    arguments = ["--model", saved_as_half, "--format", "onnx", "--output", folder, "--resolution", SIZE, "--rounds", 1]
    assert main(["export", *map(str, arguments)]) == 0
    return folder


def session_of(folder: Path):
    return onnxruntime.InferenceSession(folder / f"inpaint-{SIZE}.onnx", providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def session(exported):
    return session_of(exported)


def scenes_with_holes(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Procedural streets (B,3,SIZE,SIZE) and masks (B,1,SIZE,SIZE)."""
    generators = [np.random.default_rng(seed) for seed in range(count)]
    photos = [to_tensor(np.array(SCENES["cityscapes"]((SIZE, SIZE), generator)[0])) for generator in generators]
    holes = [mask_to_tensor(free_form_mask(SIZE, SIZE, generator)) for generator in generators]
    return torch.cat(photos), torch.cat(holes)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 3])
def test_the_graph_does_what_the_networks_do(session, saved_as_half, batch):
    """Weights saved as float16 are those of the float32 that they are loaded as."""
    assert_same(session, FeedbackInpaintPipeline.from_pretrained(saved_as_half).networks, batch)


@pytest.mark.slow
def test_exemplars_of_ones_own_are_heard_in_the_graph(tiny_pipeline, tmp_path):
    """Of what was photographed and of what is filled, each with its weight."""
    pipe = copy.deepcopy(tiny_pipeline)
    pipe.set_exemplars(*zip(*labelled_scenes("cityscapes", 4), strict=True))
    pipe.recorrector.set_bank(pipe.recorrector.bank, [0.3, 0.6])
    export_onnx(pipe, tmp_path / "onnx", sizes=(SIZE,), num_rounds=1)
    assert_same(session_of(tmp_path / "onnx"), pipe.networks, batch=2)


def assert_same(session, networks: Networks, batch: int) -> None:
    """A graph of one round gives what the networks give, of so many photos at once."""
    image, mask = scenes_with_holes(batch)
    with torch.no_grad():
        first, last = feedback_rounds(networks, image, mask, 1)
    fill, before, after = session.run(None, {"image": image.numpy(), "mask": mask.numpy()})
    np.testing.assert_allclose(fill, last.image.numpy(), atol=1e-4)
    known = np.broadcast_to(mask.numpy() == 0, fill.shape)
    assert np.array_equal(fill[known], image.numpy()[known])
    assert before.dtype == after.dtype == np.uint8
    assert (before != first.labels().numpy()).mean() < 1e-3 and (after != last.labels().numpy()).mean() < 1e-3
    assert (before != after).any()


def test_what_lies_under_the_mask_is_not_read(session):
    image, mask = scenes_with_holes(2)
    expected = session.run(None, {"image": image.numpy(), "mask": mask.numpy()})
    other = torch.where(mask > 0, -image, image)
    for got, want in zip(session.run(None, {"image": other.numpy(), "mask": mask.numpy()}), expected, strict=True):
        assert np.array_equal(got, want)


def test_a_picture_without_a_hole_comes_back(session):
    image, mask = scenes_with_holes(1)
    fill, _, _ = session.run(None, {"image": image.numpy(), "mask": np.zeros_like(mask.numpy())})
    assert np.array_equal(fill, image.numpy())


def test_the_folder_says_what_its_graphs_take_and_give(exported, session, tiny_pipeline):
    about = json.loads((exported / "inpaint.json").read_text())
    assert about["graphs"] == [{"file": f"inpaint-{SIZE}.onnx", "size": SIZE}] and about["rounds"] == 1
    assert sorted(path.name for path in exported.iterdir()) == [f"inpaint-{SIZE}.onnx", "inpaint.json"]
    opsets = {one.domain: one.version for one in onnx.load(exported / f"inpaint-{SIZE}.onnx").opset_import}
    assert opsets == {"": about["opset"]}
    space = tiny_pipeline.label_space
    assert (about["label_space"], tuple(about["classes"])) == (space.name, space.classes)
    assert about["palette"] == [list(colour) for colour in space.palette]
    assert list(about["inputs"]) == [one.name for one in session.get_inputs()]
    assert list(about["outputs"]) == [one.name for one in session.get_outputs()]
    assert [one.shape for one in session.get_inputs()] == [["batch", 3, SIZE, SIZE], ["batch", 1, SIZE, SIZE]]


def test_the_example_of_the_docs_needs_no_torch(exported, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    (script,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/onnx.md").read_text(), re.DOTALL)
    (tmp_path / "streets-onnx").symlink_to(exported)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    without = "import sys\nsys.modules['torch'] = sys.modules['fbinpaint'] = None\n"
    (tmp_path / "example.py").write_text(without + script)
    done = subprocess.run([sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    photo, restored = (np.asarray(Image.open(path)) for path in ("examples/street.png", tmp_path / "restored.png"))
    hole = np.asarray(Image.open("examples/street_mask.png").convert("L")) > 0
    assert np.array_equal(restored[~hole], photo[~hole]) and (restored[hole] != photo[hole]).any(-1).mean() > 0.9
    for name in ("before", "after"):
        semantic_map = Image.open(tmp_path / f"{name}.png")
        assert semantic_map.mode == "P" and semantic_map.size == (photo.shape[1], photo.shape[0])
        assert np.asarray(semantic_map).max() < 19


def test_the_benchmark_tells_another_graph_from_the_right_one(session, saved_as_half, tiny_networks):
    """Such as one of weights that were not rounded to float16."""
    networks = FeedbackInpaintPipeline.from_pretrained(saved_as_half).networks
    image, mask = benchmark.scenes_with_holes("cityscapes", 3, SIZE)
    right, *pixels = benchmark.disagreement(networks, session, 1, image, mask)
    assert right < 1e-4 and max(pixels) < 1e-3 * mask.numel()
    assert benchmark.disagreement(tiny_networks, session, 1, image, mask)[0] > 3 * right
    before, after = benchmark.disagreement(networks, session, 0, image, mask)[1:]
    assert before == pixels[0] and after > 0  # a map without feedback is another than one with it


def test_ratios_are_to_the_first():
    found = benchmark.in_turns({"short": lambda: time.sleep(0.001), "long": lambda: time.sleep(0.1)}, repeats=3)
    assert found["short"][1] == 1 and found["long"][0] >= 0.1 and found["long"][1] > 1


@pytest.mark.parametrize(
    "options, said",
    [
        (["--resolution", "100"], "resolution 100: must be a multiple of 16"),
        (["--resolution", "64", "0"], "resolution 0: must be a multiple of 16"),
        (["--resolution", "4112"], "resolution 4112: must be at most 4096"),
        (["--rounds", "101"], "rounds 101: must be a whole number, from 0 to 100"),
        (["--output", "{tmp}"], "{tmp}: is there already; move it away"),
        (["--output", "{tmp}/file/onnx"], "{tmp}/file: cannot be written to"),
        (["--model", "{tmp}"], "{tmp}/model_index.json"),
    ],
)
def test_what_cannot_be_exported_is_one_line(options, said, tiny_pipeline_dir, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    given = ["--model", str(tiny_pipeline_dir), "--output", f"{tmp_path}/onnx"]
    assert main(["export", *given, *(option.format(tmp=tmp_path) for option in options)]) == 1
    (line,) = capsys.readouterr().err.replace("\r", "\n").splitlines()
    assert line.startswith("error: ") and said.format(tmp=tmp_path) in line
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("options, said", [
    ({"sizes": []}, "no resolution"),
    ({"sizes": [64.0]}, "resolution 64.0: must be a multiple of 16"),
    ({"sizes": ["64"]}, "resolution 64: must be a multiple of 16"),
    ({"sizes": [64], "num_rounds": 1.5}, "rounds 1.5: must be a whole number"),
    ({}, "model: is there already"),
])  # fmt: skip
def test_in_python_a_folder_may_be_text_and_the_rest_is_checked(options, said, tiny_pipeline, tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(InputError, match=said):
        export_onnx(tiny_pipeline, str(tmp_path / ("graphs" if options else "model")), **options)
    with pytest.raises(InputError, match=f"{tmp_path}/file: cannot be written to"):
        (tmp_path / "file").touch()
        export_onnx(tiny_pipeline, f"{tmp_path}/file/graphs")


def test_another_format_is_refused(tiny_pipeline_dir, tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["export", "--model", str(tiny_pipeline_dir), "--output", str(tmp_path / "x"), "--format", "tflite"])
    assert exit_.value.code == 2 and "argument --format: invalid choice: 'tflite'" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_without_a_package_the_extra_is_named(package, tiny_pipeline_dir, tmp_path):
    script = f"import sys; sys.modules[{package!r}] = None; from fbinpaint.cli import main; raise SystemExit(main())"
    command = [sys.executable, "-c", script, "export", "--model", tiny_pipeline_dir, "--output", tmp_path / "onnx"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and not os.listdir(tmp_path)
    assert done.stderr == f"error: {package} is not installed, and ONNX needs it; pip install fbinpaint[onnx]\n"


@pytest.mark.parametrize("error, raised", [(OSError(28, "No space"), InputError), (KeyError(), KeyError)])
def test_a_folder_that_could_not_be_filled_leaves_the_old_one(error, raised, tmp_path):
    folder = tmp_path / "model"

    def write(target: Path) -> None:
        target.mkdir()
        (target / "new").write_text("half")
        raise error

    folder.mkdir()
    (folder / "old").write_text("whole")
    with pytest.raises(raised) as caught:
        save_folder(folder, write)
    assert raised is KeyError or str(caught.value).startswith(f"{folder}: could not be written (No space); ")
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["model", "model/old"]
