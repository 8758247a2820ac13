"""Whatever goes in: the right result or one clear line; no traceback, nothing half-written, no foreign code."""

import os
import re
import shutil
import subprocess
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fbinpaint import InputError
from fbinpaint.cli import main
from fbinpaint.images.convert import to_rgb
from fbinpaint.images.io import MAX_PROFILE, load_image

from .odd_inputs import HOLE, MASK, PHOTO, SCENE, OddInput, box, corpus, encoded, write_corpus

ROOT = Path(__file__).parents[1]
CORPUS = corpus()


def run(folder: Path, *arguments: object) -> tuple[int, list[str]]:
    """Exit code of `fbinpaint run` and what it says, without the bar; C libraries and `warnings` count too."""
    with open(folder / "stderr", "w+", encoding="utf-8") as said, redirect_stderr(said):
        saved = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            with warnings.catch_warnings(record=True) as warned:
                code = main(["run", *map(str, arguments)])
        finally:
            os.dup2(saved, 2)
            os.close(saved)
        said.seek(0)
        lines = said.read().replace("\r", "\n").splitlines()
    lines = [line for line in lines if line.strip() and not line.startswith("run:")]
    return code, lines + [f"warning: {warning.message}" for warning in warned]


def files_in(folder: Path) -> set[str]:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {path.relative_to(folder).as_posix() for path in files}


def check_result(path: Path, photo: np.ndarray, hole: np.ndarray) -> None:
    """A PNG of the photo's size, its known pixels bit for bit, something else in its hole, unless all is one colour."""
    assert path.is_file() and not path.is_symlink()
    with Image.open(path) as image:
        assert image.format == "PNG"
    result = to_rgb(load_image(path))
    assert result.shape == photo.shape and np.array_equal(result[~hole], photo[~hole])
    assert not hole.any() or (result != photo)[hole].any() or (photo == photo[0, 0]).all()


# ---------------------------------------------------------------------------------------------- files, by command line


@pytest.fixture(scope="module")
def restored(tmp_path_factory, tiny_pipeline_dir) -> tuple[Path, int, list[str]]:
    """The corpus after one call of the command line, its exit code and what it said."""
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder, CORPUS)
    folders = [f"--{kind}={folder / name}" for kind, name in (("image", "photos"), ("mask", "masks"))]
    return folder, *run(folder, *folders, f"--output={folder / 'restored'}", "--model", tiny_pipeline_dir, "--rounds=1")


@pytest.mark.filterwarnings("ignore")  # of PIL, while the test itself reads the photo
@pytest.mark.parametrize("odd", CORPUS, ids=lambda odd: f"{odd.family}/{ascii(odd.name)[1:-1]:.40}")
def test_odd_inputs(odd: OddInput, restored):
    folder, _, lines = restored
    result = folder / "restored" / odd.files["restored"]
    named = f"{folder}/{odd.blames}/{odd.family}/{odd.shown or Path(odd.files[odd.blames]).name}"
    about = [line for line in lines if named in line]
    if odd.expected == "refused":
        (line,) = about
        assert line.startswith("error: ") and odd.word in line and "; " in line
        assert odd.there or not os.path.lexists(result)
    elif odd.expected == "left alone":
        assert len(about) == bool(odd.word) and not os.path.lexists(result)
        assert all(line.startswith("note: ") and odd.word in line for line in about)
    else:
        assert all(line.startswith("note: ") for line in about)
        photo = to_rgb(load_image(folder / "photos" / odd.files["photos"]))
        check_result(result, photo, odd.hole)
        assert photo.shape == odd.pixels.shape
        assert np.abs(photo.astype(int) - odd.pixels).mean() <= odd.tolerance


def test_the_corpus_as_a_whole(restored, tell):
    folder, code, lines = restored
    assert code == 1
    # Nothing else is printed, but for what libtiff itself says of a broken file: PIL has no way to silence it.
    others = [line for line in lines if not re.match("(error|warning): .+; |note: .+, ", line)]
    assert all(re.match(r"(\w+Decode|JPEGLib|tempfile.tif): ", line) for line in others) and len(others) <= 3
    assert sum(line.startswith("error: ") for line in lines) == sum(odd.expected == "refused" for odd in CORPUS)
    # Nothing half-written, no temporary file, nothing beside the folder of results.
    assert files_in(folder / "restored") == {odd.files["restored"] for odd in CORPUS if odd.expected == "restored"}
    assert {path.name for path in folder.iterdir()} == {"photos", "masks", "restored", "stderr"}
    assert len(CORPUS) >= 150
    for family, count in Counter(odd.family for odd in CORPUS).items():
        kinds = Counter(odd.expected for odd in CORPUS if odd.family == family)
        said = ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
        tell(f"odd inputs, {family.replace('_', ' ')}: {count}: {said}")
    tell(f"odd inputs in all: {len(CORPUS)}")


def test_a_profile_that_no_reader_takes_is_not_written(restored):
    folder, *_ = restored
    profiles = {}
    for name in ("half-a-megabyte", "3-megabytes", "header-only"):
        with Image.open(folder / f"restored/profiles/{name}.png") as image:
            profiles[name] = len(image.info.get("icc_profile", b""))
    assert profiles == {"half-a-megabyte": 128 + 500_000, "3-megabytes": 0, "header-only": 128}
    assert profiles["half-a-megabyte"] <= MAX_PROFILE


LONG = "n" * 300
CALLS = {  # of `run`: what differs from a good call, words of its one line (None = it works)
    "no photo": ({"image": "none.png"}, "none.png: no such file"),
    "no mask": ({"mask": "none.png"}, "none.png: no such file"),
    "photo of a name too long": ({"image": LONG}, "no such file"),
    "mask of a name too long": ({"mask": LONG}, "no such file"),
    "result of a name too long": ({"output": f"{LONG}.png"}, "could not be written"),
    "results in a name too long": ({"image": "photos", "output": LONG}, "cannot be made"),
    "photo below a file": ({"image": "photo.png/photo.png"}, "photo.png: no such file"),
    "folder of nothing": ({"image": "nothing", "output": "results"}, "nothing: holds no photo"),
    "one photo, many masks": ({"mask": "photos"}, "photos: is a folder"),
    "photo is a pipe": ({"image": "pipe.png"}, "pipe.png: is no file"),
    "mask is a pipe": ({"mask": "pipe.png"}, "pipe.png: is no file"),
    "photo is a link to itself": ({"image": "circle.png"}, "circle.png: no such file"),
    "result is a link to itself": ({"output": "circle.png"}, None),
    "results in a link to itself": ({"image": "photos", "output": "circle.png"}, "cannot be made"),
    "unknown suffix": ({"output": "result.gif"}, "result.gif: unknown suffix"),
    "result below a file": ({"output": "photo.png/result.png"}, "photo.png: folder cannot be made"),
    "results below a file": ({"image": "photos", "output": "photo.png/results"}, "photo.png/results: folder cannot"),
    "results in a file": ({"image": "photos", "output": "mask.png"}, "mask.png: is a file"),
    "result is the photo": ({"output": "photo.png"}, "overwrite"),
    "result is the photo, in other words": ({"output": "nothing/../photo.png"}, "overwrite"),
    "result is the mask": ({"output": "mask.png"}, "overwrite"),
    "results are the photos": ({"image": "photos", "output": "photos"}, "would mix"),
    "where nobody may write": ({"output": "/proc/result.png"}, "/proc/result.png: could not be written"),
    "where no folder may be": ({"image": "photos", "output": "/proc/results"}, "/proc/results: folder cannot be made"),
    "no model": ({"model": "nowhere"}, "nowhere: is"),
    "model of a name too long": ({"model": LONG}, "n: is"),
    "model is a file": ({"model": "photo.png"}, "photo.png: is"),
    "model is a folder of something else": ({"model": "photos"}, "photos/model_index.json"),
    "rounds beyond reason": ({"rounds": 10**9}, "num_feedback_rounds"),
    "names like options": ({"image": "--help.png", "mask": "-m.png", "output": "-o.png"}, None),
    "folder of a picture's name": ({"output": "folder.png"}, None),
    "new folders": ({"output": "new/folder/result.png"}, None),
}


@pytest.mark.parametrize("case", CALLS)
def test_odd_calls(case, tmp_path, tiny_pipeline_dir, monkeypatch):
    changes, words = CALLS[case]
    monkeypatch.chdir(tmp_path)
    for folder in ("photos", "nothing", "folder.png"):
        (tmp_path / folder).mkdir()
    for name in ("photo.png", "photos/photo.png", "--help.png"):
        (tmp_path / name).write_bytes(PHOTO)
    for name in ("mask.png", "-m.png"):
        (tmp_path / name).write_bytes(MASK)
    os.mkfifo("pipe.png")
    os.symlink("circle.png", "circle.png")
    before = files_in(tmp_path)

    good = {"image": "photo.png", "mask": "mask.png", "output": "result.png", "model": tiny_pipeline_dir, "rounds": 0}
    code, lines = run(tmp_path, *(f"--{name}={value}" for name, value in (good | changes).items()))
    written = files_in(tmp_path) - before - {"stderr"}
    if words is None:
        assert code == 0 and not lines and len(written) == 1
        check_result(tmp_path / written.pop(), SCENE, HOLE)
    else:
        (line,) = lines
        assert code == 1 and line.startswith("error: ") and words in line and not written
        assert (tmp_path / "photo.png").read_bytes() == PHOTO and (tmp_path / "mask.png").read_bytes() == MASK


def test_odd_calls_are_told(tell):
    tell(f"odd calls of the command line: {len(CALLS)}")


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A file system of 64 KB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not shutil.which("mount"):
        pytest.skip("nothing to mount a small disk with")
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no small disk may be mounted here ({done.stderr.strip()})")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def noise(seed: int, width: int = 96, height: int = 80) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_a_full_disk(disk, tmp_path, tiny_pipeline_dir):
    """Of six results of 20 KB the first ones fit; the others are a line each, and what was written is whole."""
    (tmp_path / "photos").mkdir()
    for i in range(6):
        Image.fromarray(noise(i)).save(tmp_path / f"photos/{i}.png")
    Image.fromarray(box(96, 80)).save(tmp_path / "mask.png")
    arguments = [f"--image={tmp_path / 'photos'}", f"--mask={tmp_path / 'mask.png'}", "--rounds=0"]
    code, lines = run(tmp_path, *arguments, f"--output={disk}", "--model", tiny_pipeline_dir)
    written = files_in(disk)
    assert code == 1 and 0 < len(written) < 6 and len(lines) == 6 - len(written)
    for i in range(6):
        if f"{i}.png" in written:
            check_result(disk / f"{i}.png", noise(i), box(96, 80))
        else:
            (line,) = [line for line in lines if f"{disk / str(i)}.png" in line]
            assert line.startswith("error: ") and "No space left on device" in line
    assert written <= {f"{i}.png" for i in range(6)}


def test_a_read_only_disk(disk, tmp_path, tiny_pipeline_dir):
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    (tmp_path / "photo.png").write_bytes(PHOTO), (tmp_path / "mask.png").write_bytes(MASK)
    paths = {"image": tmp_path / "photo.png", "mask": tmp_path / "mask.png", "output": disk / "result.png"}
    code, (line,) = run(tmp_path, *(f"--{name}={path}" for name, path in paths.items()), "--model", tiny_pipeline_dir)
    assert code == 1 and line.startswith(f"error: {paths['output']}: could not be written (Read-only file system)")
    assert not list(disk.iterdir())


# ---------------------------------------------------------------------------------------------- arrays, by Python


def closed() -> Image.Image:
    image = Image.fromarray(SCENE)
    image.close()
    return image


TENSOR = torch.zeros(1, 3, 40, 48)
HOLES = torch.from_numpy(HOLE)[None, None]
ARRAYS = {  # of a call of the pipeline: what differs from a good one, words of the InputError (None = it works)
    "float": ({"image": SCENE / 255}, None),
    "half precision": ({"image": (SCENE / 255).astype(np.float16)}, None),
    "float beyond 1": ({"image": SCENE * 1.0}, "value_range"),
    "float below 0": ({"image": SCENE / 127.5 - 1}, "value_range"),
    "float, two channels": ({"image": SCENE[..., :2] / 255}, "shape"),
    "NaN": ({"image": np.full(SCENE.shape, np.nan)}, "finite"),
    "int16": ({"image": SCENE.astype(np.int16)}, "uint8"),
    "bool": ({"image": SCENE > 9}, "uint8"),
    "complex": ({"image": SCENE * 1j}, "uint8"),
    "objects": ({"image": SCENE.astype(object)}, "uint8"),
    "texts": ({"image": SCENE.astype(str)}, "uint8"),
    "two channels": ({"image": SCENE[..., :2]}, "shape"),
    "five channels": ({"image": np.zeros((40, 48, 5), np.uint8)}, "shape"),
    "a row": ({"image": SCENE[0, :, 0]}, "shape"),
    "four axes": ({"image": SCENE[None]}, None),
    "five axes": ({"image": SCENE[None, None]}, "shape"),
    "no pixels": ({"image": SCENE[:0]}, "16x16"),
    "no pixels, PIL": ({"image": Image.new("RGB", (0, 0))}, "16x16"),
    "15 columns": ({"image": SCENE[:, :15]}, "16x16"),
    "a path": ({"image": "photo.png"}, "str"),
    "bytes": ({"image": PHOTO}, "bytes"),
    "nothing": ({"image": None}, "NoneType"),
    "one of two is nothing": ({"image": [SCENE, None]}, "NoneType"),
    "a generator": ({"image": (x for x in [SCENE])}, "generator"),
    "a closed file": ({"image": closed()}, "closed"),
    "tensor of integers": ({"image": TENSOR.int()}, "floating"),
    "tensor of NaN": ({"image": TENSOR * np.nan}, "finite"),
    "tensor of infinity": ({"image": TENSOR + np.inf}, "finite"),
    "tensor of one channel": ({"image": TENSOR[:, :1]}, r"\(B,3,H,W\)"),
    "tensor of three axes": ({"image": torch.from_numpy(SCENE).movedim(2, 0) / 255}, None),
    "tensor of bytes": ({"image": torch.from_numpy(SCENE).movedim(2, 0)[None]}, None),
    "tensor of two axes": ({"image": TENSOR[0, 0]}, r"\(B,3,H,W\)"),
    "tensor of five axes": ({"image": TENSOR[None]}, r"\(B,3,H,W\)"),
    "tensor of 15 columns": ({"image": TENSOR[..., :15]}, "16x16"),
    "tensor of no rows": ({"image": TENSOR[:, :, :0]}, "16x16"),
    "mask of NaN": ({"mask": HOLE * np.nan}, "NaN"),
    "mask tensor of NaN": ({"mask": HOLES * np.nan}, "NaN"),
    "mask of texts": ({"mask": HOLE.astype(str)}, "mask"),
    "mask of objects": ({"mask": HOLE.astype(object)}, "mask"),
    "mask of complex numbers": ({"mask": HOLE * 1j}, "complex"),
    "mask tensor of complex numbers": ({"mask": HOLES * 1j}, "complex"),
    "mask of dates": ({"mask": np.zeros((40, 48), "M8[s]")}, "mask"),
    "mask of two channels": ({"mask": np.dstack([HOLE] * 2)}, "shape"),
    "mask tensor of two channels": ({"mask": HOLES.expand(1, 2, 40, 48)}, "shape"),
    "mask of no pixels": ({"mask": HOLE[:0]}, "shape"),
    "mask is a path": ({"mask": "mask.png"}, "str"),
    "mask is nothing": ({"mask": None}, "no mask"),
    "two masks for one photo": ({"mask": [HOLE, HOLE]}, "2 masks"),
    "no masks": ({"mask": []}, "0 masks"),
    "map of floats": ({"semantic_map": HOLE * 1.0}, "semantic map"),
    "map tensor of floats": ({"semantic_map": HOLES[0] * 1.0}, "semantic map"),
    "map of colours": ({"semantic_map": SCENE}, "semantic map"),
    "map of an unknown class": ({"semantic_map": HOLE * 40}, "class id 40"),
    "map of negative classes": ({"semantic_map": HOLE * -1}, "class id -1"),
    "map is a path": ({"semantic_map": "map.png"}, "str"),
    "two maps for one photo": ({"semantic_map": [HOLE * 1] * 2}, "2 semantic maps"),
    "half a round": ({"num_feedback_rounds": 0.5}, "num_feedback_rounds"),
    "rounds as text": ({"num_feedback_rounds": "1"}, "num_feedback_rounds"),
    "endless rounds": ({"num_feedback_rounds": 10**9}, "num_feedback_rounds"),
    "rounds are nothing": ({"num_feedback_rounds": None}, "num_feedback_rounds"),
    "unknown output": ({"output_type": None}, "output_type"),
    "mask of infinities": ({"mask": np.where(HOLE, -np.inf, 0)}, "infinity"),
    "mask from -1 to 1": ({"mask": HOLE * 2.0 - 1}, "contains -1"),
    "mask of 20 bits": ({"mask": HOLE * 2**20}, "contains 1.04858e\\+06, above 65535"),
    "mask of everything": ({"mask": HOLE | True}, "everything is marked"),
    "mask of another shape": ({"mask": HOLE.T}, "is 40x48, the photo 48x40"),
    "opaque photo as its own mask": ({"mask": "alpha"}, "no part of it is transparent"),
    "mask of half precision": ({"mask": HOLE.astype(np.float16)}, None),
    "mask tensor of integers": ({"mask": HOLES.long()}, None),
    "mask tensor of bfloat16": ({"mask": HOLES.bfloat16()}, None),
    "mask of four axes in a list": ({"mask": [HOLES[0]]}, None),
    "columns first in memory": ({"image": np.asfortranarray(SCENE), "mask": np.asfortranarray(HOLE)}, None),
    "backwards in memory": ({"image": SCENE[::-1].copy()[::-1], "mask": HOLE[:, ::-1].copy()[:, ::-1]}, None),
    "map tensor": ({"semantic_map": HOLES[0].long()}, None),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_odd_arrays(case, tiny_pipeline):
    changes, words = ARRAYS[case]
    arguments = {"image": SCENE, "mask": HOLE, "num_feedback_rounds": 0, "output_type": "np"} | changes
    if words is None:
        (result,) = tiny_pipeline(**arguments).images
        result = np.rint(result * 255)
        assert np.array_equal(result[~HOLE], SCENE[~HOLE]) and not np.array_equal(result[HOLE], SCENE[HOLE])
    else:
        with pytest.raises(InputError, match=words) as caught:
            tiny_pipeline(**arguments)
        assert len(str(caught.value).splitlines()) == 1


def test_no_photos_give_no_results(tiny_pipeline):
    assert tiny_pipeline([], []).images == [] and tiny_pipeline(TENSOR[:0], HOLES).images == []


def test_odd_arrays_are_told(tell):
    tell(f"odd arrays: {len(ARRAYS)}")


# ---------------------------------------------------------------------------------------------- no foreign code

RISKS = (
    r"\bpickle\.", r"\bimport pickle\b", r"\btorch\.load\(", r"(?<![.\w])eval\(", r"(?<![.\w])exec\(",
    r"trust_remote_code\s*=\s*True", r"allow_pickle\s*=\s*True", r"shell\s*=\s*True", r"\bos\.system\(",
)  # fmt: skip
ALLOWED = {  # torchvision's own backbone files for LPIPS, torch-fidelity's for FID; weights_only: tensors, no code
    ("fbinpaint/evaluation/metrics.py", 'return torch.load(path, map_location="cpu", weights_only=True)'),
}


def test_nothing_in_the_source_runs_what_a_file_says(tell):
    sources = [*sorted((ROOT / "fbinpaint").rglob("*.py")), ROOT / "app.py", ROOT / "train_accelerate.py"]
    found = {
        (path.relative_to(ROOT).as_posix(), line.strip())
        for path in sources
        for line in path.read_text(encoding="utf-8").splitlines()
        if any(re.search(risk, line) for risk in RISKS)
    }
    assert found == ALLOWED
    tell(f"sources without pickle, eval, exec and remote code: {len(sources)}")


def test_a_postscript_file_starts_no_program(tmp_path, tiny_pipeline_dir, monkeypatch):
    """PIL would hand it to Ghostscript, whatever its suffix says; here that would leave a trace."""
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path / 'harm'}\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "photo.png").write_bytes(encoded(SCENE, "EPS"))
    (tmp_path / "mask.png").write_bytes(MASK)
    with Image.open(tmp_path / "photo.png") as image:
        assert image.format == "EPS"
    paths = {"image": tmp_path / "photo.png", "mask": tmp_path / "mask.png", "output": tmp_path / "result.png"}
    code, (line,) = run(tmp_path, *(f"--{name}={path}" for name, path in paths.items()), "--model", tiny_pipeline_dir)
    assert code == 1 and "photo.png: is not an image that can be read" in line
    assert not (tmp_path / "harm").exists()


def test_code_in_a_model_folder_is_not_run(tmp_path, tiny_pipeline_dir, tiny_pipeline):
    """diffusers looks for a component's module in the component's own folder first."""
    folder = shutil.copytree(tiny_pipeline_dir, tmp_path / "model")
    code = folder / "segmenter/fbinpaint.models.segmenter.py"
    code.write_text(f"open({str(tmp_path / 'harm')!r}, 'w')\nclass Segmenter: pass\n")
    for options in ({}, {"trust_remote_code": True}):
        with pytest.raises(InputError, match=f"{code}: is code"):
            type(tiny_pipeline).from_pretrained(folder, **options)
    assert not (tmp_path / "harm").exists()


def test_an_encoder_is_not_fetched_because_a_configuration_names_it(tmp_path, tiny_pipeline_dir, tiny_pipeline):
    folder = shutil.copytree(tiny_pipeline_dir, tmp_path / "model")
    config = folder / "segmenter/config.json"
    config.write_text(config.read_text().replace('"test_efficientnet"', '"hf-hub:somebody/something"'))
    with pytest.raises(InputError, match=f"{config}: .*hf-hub"):
        type(tiny_pipeline).from_pretrained(folder)
