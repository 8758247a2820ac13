"""Where networks run, and how: --device, --dtype and --compile of the commands, and the same of `Restorer`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fbinpaint import InputError, Restorer, cli
from fbinpaint.system.devices import find_device

from .conftest import make_tiny_networks, quiet_pipeline

ROOT = Path(__file__).parents[1]
HOLE = np.zeros((48, 64), bool)
HOLE[12:30, 16:40] = True
COMMANDS = ("run", "segment", "evaluate")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, street_folder) -> Path:
    """photo.png, 64x48, and mask.png."""
    folder = tmp_path_factory.mktemp("devices")
    Image.open(street_folder / "images/0000.png").resize((64, 48)).save(folder / "photo.png")
    Image.fromarray(HOLE).save(folder / "mask.png")
    return folder


def command(name: str, folder: Path, model: Path | str, output: Path | str) -> list[str]:
    """Of one photo; `evaluate` is given a folder that is not there."""
    inputs = {
        "run": ["--image", folder / "photo.png", "--mask", folder / "mask.png"],
        "segment": ["--image", folder / "photo.png"],
        "evaluate": ["--data", folder / "nothing"],
    }[name]
    return [str(word) for word in (name, *inputs, "--model", model, "--output", output)]


def restored(folder: Path, model: Path, output: Path, *options: str) -> np.ndarray:
    assert cli.main([*command("run", folder, model, output), *options]) == 0
    return np.asarray(Image.open(output), int)


def refused(arguments: list[str], capsys) -> str:
    """The one line that a command answers."""
    assert cli.main(arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


# ---------------------------------------------------------------------------------------------- --device


@pytest.mark.skipif(torch.cuda.is_available(), reason="auto is the GPU here")
def test_without_a_gpu_auto_is_the_cpu(folder, tiny_pipeline_dir, tmp_path):
    files = [tmp_path / f"{name}.png" for name in ("plain", "auto", "cpu")]
    for file, options in zip(files, ([], ["--device=auto"], ["--device=cpu"]), strict=True):
        restored(folder, tiny_pipeline_dir, file, *options)
    assert len({file.read_bytes() for file in files}) == 1
    assert find_device("auto") == find_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("device", ["cuda:99", "cuda", "mps"])
def test_a_device_that_is_not_there_is_a_line_before_anything_is_read(device, name, tmp_path, capsys):
    """Neither photos nor model are there, and nobody gets as far as to say so."""
    if device == "cuda" and torch.cuda.is_available() or device == "mps" and torch.backends.mps.is_available():
        pytest.skip(f"there is {device} here")
    line = refused([*command(name, tmp_path, tmp_path / "model", tmp_path / "out.json"), f"--device={device}"], capsys)
    assert line.startswith(f"device {device}: is not there; torch {torch.__version__}")
    assert line.endswith("name one of these, or auto") and "finds cpu" in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cpu:0", ""])
def test_what_is_no_name_of_a_device_is_bad_usage(device, folder, capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main([*command("segment", folder, "model", "map.png"), f"--device={device}"])
    assert exit_.value.code == 2 and "is no name of a device" in capsys.readouterr().err
    with pytest.raises(InputError, match="is no name of one"):
        find_device(device)


def test_workers_of_ray_get_their_device_from_the_cluster(folder, tmp_path, capsys):
    line = refused([*command("run", folder, "model", tmp_path / "out"), "--ray", "--device=cpu"], capsys)
    assert line == "--device cpu: with --ray the cluster gives each worker its device; leave it out"


def test_precision_and_compiling_go_to_the_workers_of_ray(folder):
    arguments = [*command("run", folder, "model", "out"), "--ray", "--dtype=bfloat16", "--compile"]
    options = cli.restorer_options(cli._parser().parse_args(arguments), 1)
    assert {name: options[name] for name in ("device", "dtype", "compile")} == {
        "device": "auto", "dtype": "bfloat16", "compile": True
    }  # fmt: skip


def test_on_the_cpu_photos_are_worked_on_one_by_one(folder):
    """Also where there is a GPU that would take sixteen."""
    arguments = [*command("run", folder, "model", "out"), "--device=cpu"]
    sizes = [cli.batch_size(cli._parser().parse_args(arguments + more)) for more in ([], ["--batch-size=3"])]
    assert sizes == [1, 3]


# ---------------------------------------------------------------------------------------------- --dtype


@pytest.mark.parametrize(("dtype", "close"), [("float16", 4), ("bfloat16", 24)])
def test_in_half_precision_known_pixels_stay_and_the_fill_is_close(dtype, close, folder, tiny_pipeline_dir, tmp_path):
    photo = np.asarray(Image.open(folder / "photo.png"), int)
    half, whole = (
        restored(folder, tiny_pipeline_dir, tmp_path / f"{name}.png", f"--dtype={name}") for name in (dtype, "float32")
    )
    assert (half[~HOLE] == photo[~HOLE]).all() and (whole[~HOLE] == photo[~HOLE]).all()
    difference = abs(half - whole)[HOLE]
    assert 0 < difference.max() <= close  # 0 would be the same networks
    maps = []
    for name in (dtype, "float32"):
        arguments = command("segment", folder, tiny_pipeline_dir, tmp_path / f"{name}-map.png")
        assert cli.main([*arguments, f"--dtype={name}"]) == 0
        maps.append(np.asarray(Image.open(tmp_path / f"{name}-map.png")))
    assert (maps[0] == maps[1]).mean() > 0.8


def test_rows_are_restored_in_half_precision_as_files_are(folder, tiny_pipeline_dir, tmp_path):
    expected = restored(folder, tiny_pipeline_dir, tmp_path / "file.png", "--dtype=bfloat16")
    rows = {"image": [str(folder / "photo.png")], "mask": [str(folder / "mask.png")],
            "result": [str(tmp_path / "row.png")]}  # fmt: skip
    made = Restorer(str(tiny_pipeline_dir), device="cpu", dtype="bfloat16")(rows)
    assert made["error"] == [None] and np.array_equal(Image.open(tmp_path / "row.png"), expected)
    for options, words in (({"dtype": "half"}, "dtype 'half': must be"), ({"device": "cuda:99"}, "device cuda:99: is")):
        with pytest.raises(InputError, match=words):
            Restorer(str(tiny_pipeline_dir), **options)


def test_a_report_says_in_which_precision_and_batches_it_was_made(street_folder, tiny_pipeline_dir, tmp_path):
    """The scores do not depend on the batches, and hardly on the precision."""

    def report(name: str, *options: str) -> dict:
        path = tmp_path / f"{name}.json"
        arguments = ["--data", street_folder, "--model", tiny_pipeline_dir, "--output", path, "--resolution=48"]
        arguments += ["--rounds=1", "--baselines=", "--limit=4", "--device=cpu", *options]
        assert cli.main(["evaluate", *map(str, arguments)]) == 0
        return json.loads(path.read_text())

    made = [report("plain"), report("batches", "--batch-size=3"), report("half", "--dtype=bfloat16")]
    settings = [tuple(one["protocol"][key] for key in ("dtype", "batch_size")) for one in made]
    assert settings == [("float32", 8), ("float32", 3), ("bfloat16", 8)]
    plain, batches, half = (one["variants"]["rounds=1"]["overall"]["psnr"] for one in made)
    assert batches == pytest.approx(plain, abs=1e-3)
    assert half != plain and half == pytest.approx(plain, abs=1)


# ---------------------------------------------------------------------------------------------- --compile


@pytest.mark.slow
def test_compiled_networks_see_the_same(folder, tiny_pipeline_dir, tmp_path, monkeypatch):
    """Of the segmenter alone: on two quiet cores half a minute goes into making the program of a network."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    maps = []
    for name, options in (("plain", []), ("compiled", ["--compile"])):
        arguments = command("segment", folder, tiny_pipeline_dir, tmp_path / f"{name}.png")
        with torch._inductor.config.patch(compile_threads=1):  # more are processes, which import torch first
            assert cli.main([*arguments, *options]) == 0
        maps.append(np.asarray(Image.open(tmp_path / f"{name}.png")))
    assert (maps[0] == maps[1]).mean() > 0.999  # classes that are as likely may trade places
    assert any((tmp_path / "cache").rglob("*.so"))  # there are programs, not the networks as they were


def test_compiled_networks_restore_the_same_photo_and_another_hole_takes_no_other_program(folder):
    """As torch traces them, without what it makes of the traces."""
    torch._dynamo.reset()  # what other tests had compiled
    plain, compiled = (quiet_pipeline(make_tiny_networks()) for _ in range(2))
    for network in compiled.networks.children():
        network.compile(backend="eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        for hole in (HOLE, np.rot90(HOLE, 2)):
            mask = torch.from_numpy(hole.copy())[None, None].float()
            assert plain.networks.window(mask) is not None and compiled.networks.window(mask) is None
            photo = Image.open(folder / "photo.png")
            expected, found = (np.asarray(pipe(photo, hole, 1).images[0], int) for pipe in (plain, compiled))
            assert abs(found - expected).max() <= 1


@pytest.mark.slow
def test_without_a_compiler_a_line_says_so_before_a_photo_is_restored(folder, tiny_pipeline_dir, tmp_path):
    environment = os.environ | {"CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    environment |= {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    arguments = [*command("run", folder, tiny_pipeline_dir, tmp_path / "out.png"), "--compile"]
    done = subprocess.run(
        [sys.executable, "-m", "fbinpaint", *arguments], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1 and not (tmp_path / "out.png").exists()
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: compile: torch.compile does not work here (") and "install a C++ compiler" in line
