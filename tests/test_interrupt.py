"""A run over a thousand photos is interrupted twice, by SIGINT to a real process, and resumed each time."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fbinpaint.cli import main

ROOT = Path(__file__).parents[1]
PHOTOS, SCENES = 1000, 8
SIZE = (32, 24)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """photos/: a thousand links to a few scenes; mask.png, one for all."""
    folder = tmp_path_factory.mktemp("many")
    (folder / "photos").mkdir()
    rng = np.random.default_rng(0)
    for i in range(SCENES):
        pixels = rng.integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"scene{i}.png")
    for i in range(PHOTOS):
        os.link(folder / f"scene{i % SCENES}.png", folder / f"photos/{i:04}.png")
    hole = np.zeros(SIZE[::-1], bool)
    hole[6:14, 9:22] = True
    Image.fromarray(hole).save(folder / "mask.png")
    return folder


def arguments(folder: Path, results: str, model: Path) -> list[str]:
    paths = {"image": folder / "photos", "mask": folder / "mask.png", "output": folder / results, "model": model}
    return ["run", *(f"--{name}={path}" for name, path in paths.items()), "--rounds=0"]


def interrupted_run(folder: Path, model: Path, stop_at: int, *options: str) -> tuple[int, str]:
    """Exit code and stderr of a process that gets SIGINT once so many results are there."""
    command = [sys.executable, "-m", "fbinpaint", *arguments(folder, "results", model), *options]
    with open(folder / "stderr", "w+", encoding="utf-8") as said:
        # One thread: photos this small are faster so, and the other core is left to what watches.
        env = os.environ | {"OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, cwd=ROOT, stderr=said, env=env, preexec_fn=hear_interrupts)
        try:
            started = time.monotonic()
            while sum(name.endswith(".png") for name in results_in(folder)) < stop_at:
                assert process.poll() is None, f"over before it was interrupted:\n{Path(said.name).read_text()[-2000:]}"
                assert time.monotonic() - started < 300
                time.sleep(0.001)
            process.send_signal(signal.SIGINT)
            code = process.wait(timeout=300)
        finally:
            process.kill()
        said.seek(0)
        return code, said.read()


def hear_interrupts() -> None:
    """A suite that was started in the background of a shell hands an ignored SIGINT down to its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def results_in(folder: Path) -> list[str]:
    return sorted(os.listdir(folder / "results")) if (folder / "results").exists() else []


def check_results(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file there is a whole result; the inode and the time of each."""
    hole = np.asarray(Image.open(folder / "mask.png"))
    scenes = [np.asarray(Image.open(folder / f"scene{i}.png")) for i in range(SCENES)]
    found = {}
    for name in results_in(folder):
        assert name[:4].isdecimal() and name[4:] == ".png", f"{name} is left behind"
        with Image.open(folder / "results" / name) as image:
            result, scene = np.asarray(image), scenes[int(name[:4]) % SCENES]
        assert np.array_equal(result[~hole], scene[~hole]) and not np.array_equal(result[hole], scene[hole])
        status = (folder / "results" / name).stat()
        found[name] = (status.st_ino, status.st_mtime_ns)
    return found


@pytest.mark.slow
def test_an_interrupted_run_is_resumed(folder, tiny_pipeline_dir, capsys, tell):
    code, said = interrupted_run(folder, tiny_pipeline_dir, 41)
    first = check_results(folder)
    assert code == 130 and "interrupted: finished files are kept" in said and "Traceback" not in said
    assert 41 <= len(first) < PHOTOS

    code, said = interrupted_run(folder, tiny_pipeline_dir, len(first) + 302, "--resume")
    second = check_results(folder)
    assert code == 130 and "interrupted: finished files are kept" in said and "Traceback" not in said
    assert f"note: {folder / 'results'}: {len(first)} of {PHOTOS} photos are done already" in said
    assert len(first) + 302 <= len(second) < PHOTOS and first.items() <= second.items()

    assert main([*arguments(folder, "results", tiny_pipeline_dir), "--resume"]) == 0
    third = check_results(folder)
    assert f"{len(second)} of {PHOTOS} photos are done already" in capsys.readouterr().err
    assert list(third) == [f"{i:04}.png" for i in range(PHOTOS)] and second.items() <= third.items()
    tell(f"interrupted run of {PHOTOS} photos: stopped after {len(first)} and {len(second)}, none torn, all there")

    # A run that nobody interrupts gives the same; batches may be made up differently, so pixels round differently.
    for i in range(SCENES, PHOTOS):
        (folder / f"photos/{i:04}.png").unlink()
    assert main(arguments(folder, "uninterrupted", tiny_pipeline_dir)) == 0
    for i in range(PHOTOS):
        ours, theirs = folder / f"results/{i:04}.png", folder / f"uninterrupted/{i % SCENES:04}.png"
        difference = np.asarray(Image.open(ours), int) - np.asarray(Image.open(theirs), int)
        assert abs(difference).max() <= 1


def test_resume_does_what_lacks_a_map_and_nothing_twice(tmp_path, folder, tiny_pipeline_dir, capsys):
    for name in ("a", "b", "c"):
        (tmp_path / "photos").mkdir(exist_ok=True)
        shutil.copy(folder / "scene0.png", tmp_path / f"photos/{name}.png")
    shutil.copy(folder / "mask.png", tmp_path / "mask.png")
    command = [*arguments(tmp_path, "results", tiny_pipeline_dir), "--save-semantics"]
    assert main([*command, "--resume"]) == 0
    assert "0 of 3 photos are done already" in capsys.readouterr().err
    (tmp_path / "results/b_after.png").unlink()
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "results").iterdir()}

    assert main([*command, "--resume"]) == 0
    assert f"note: {tmp_path / 'results'}: 2 of 3 photos are done already, left alone\n" in capsys.readouterr().err
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "results").iterdir()}
    assert len(after) == 9 and {name for name in after if after[name] != before.get(name)} == {
        "b.png", "b_before.png", "b_after.png"
    }  # fmt: skip

    assert main([*command, "--resume"]) == 0  # nothing to do: not even the model is loaded
    assert main([*command, "--resume", "--model", "/no/such/model"]) == 0
    assert main([*command, "--model", "/no/such/model"]) == 1


@pytest.mark.parametrize("image", ["photos", "photos/a.png"])
def test_resume_takes_only_files_that_hold_something_for_results(image, tmp_path, folder, tiny_pipeline_dir, capsys):
    for name in ("photos", "results"):
        (tmp_path / name).mkdir()
    shutil.copy(folder / "scene0.png", tmp_path / "photos/a.png")
    shutil.copy(folder / "mask.png", tmp_path / "mask.png")
    result = tmp_path / "results/a.png"
    command = [*arguments(tmp_path, "results", tiny_pipeline_dir), f"--image={tmp_path / image}", "--resume"]
    for code, make in ((0, result.touch), (0, lambda: result.symlink_to(tmp_path / "nowhere")), (1, result.mkdir)):
        make()
        assert main(command) == code
        said = capsys.readouterr().err
        assert "0 of 1 photos are done already" in said and ("Is a directory" in said) == bool(code)
        assert result.is_dir() or result.stat().st_size
        result.rmdir() if result.is_dir() else result.unlink()
