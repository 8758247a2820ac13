"""Photos in parquet files: what a run makes of them is what it makes of the same photos in files."""

import io
import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from PIL import Image

from fbinpaint import Restorer
from fbinpaint.cli import _parser, chunks_of, main
from fbinpaint.data.scenes import street_scene

COUNT = 70  # rows, more than a file of results has
DIFFERENT = 5  # photos


@pytest.fixture(scope="module")
def photos(tmp_path_factory, tiny_pipeline_dir) -> Path:
    """photos/, mask.png, and in expected/ what `run` makes of them."""
    folder = tmp_path_factory.mktemp("tables")
    (folder / "photos").mkdir()
    for i in range(DIFFERENT):
        street_scene((64, 48), np.random.default_rng(i))[0].save(folder / f"photos/{i}.png")
    hole = np.zeros((48, 64), bool)
    hole[10:24, 8:30] = True
    Image.fromarray(hole).save(folder / "mask.png")
    options = ("--mask", str(folder / "mask.png"), "--rounds=0", "--save-masks")
    assert main(command(tiny_pipeline_dir, folder / "photos", folder / "expected", *options)) == 0
    return folder


def command(model: Path, image: Path | str, output: Path, *options: str) -> list[str]:
    return ["run", f"--image={image}", f"--output={output}", f"--model={model}", *options]


def columns(photos: Path, count: int = COUNT) -> dict[str, list]:
    data = [(photos / f"photos/{i}.png").read_bytes() for i in range(DIFFERENT)]
    mask = (photos / "mask.png").read_bytes()
    names = [f"{chr(97 + i % DIFFERENT)}{i}" for i in range(count)]
    return {
        "id": names,
        "image": [{"bytes": data[i % DIFFERENT], "path": f"{i % DIFFERENT}.png"} for i in range(count)],
        "mask": [mask] * count,
    }


@pytest.fixture
def run(tiny_pipeline_dir, capsys) -> Callable[..., tuple[int, str]]:
    """Exit code and stderr of the command, with no rounds."""

    def run(image: Path | str, output: Path, *options: str) -> tuple[int, str]:
        code = main(command(tiny_pipeline_dir, image, output, "--rounds=0", *options))
        return code, capsys.readouterr().err

    return run


def expected(photos: Path, i: int, suffix: str = "") -> bytes:
    return (photos / f"expected/{i % DIFFERENT}{suffix}.png").read_bytes()


def test_a_table_becomes_a_table_that_datasets_shows(photos, run, tmp_path):
    pq.write_table(pa.table(columns(photos)), tmp_path / "photos.parquet", row_group_size=50)
    output = tmp_path / "restored.parquet"
    code, said = run(tmp_path / "photos.parquet", output, "--save-masks")
    assert code == 0, said
    parts = sorted(path.name for path in output.iterdir())
    assert parts == ["photos-000000000.parquet", "photos-000000050.parquet"]
    made = load_dataset("parquet", data_dir=str(output), split="train", cache_dir=str(tmp_path / "cache"))
    assert made.column_names == ["id", "image", "mask", "error", "notes"] and made["id"] == columns(photos)["id"]
    assert made["error"] == [None] * COUNT
    for i in (0, 49, 50, COUNT - 1):
        row, result = made[i], Image.open(io.BytesIO(expected(photos, i)))
        assert row["image"].mode == "RGB" and np.array_equal(row["image"], result)
    stored = [row for name in parts for row in pq.read_table(output / name).to_pylist()]
    for i, row in enumerate(stored):
        assert row["image"] == {"bytes": expected(photos, i), "path": f"{i % DIFFERENT}.png"}
        assert row["mask"]["bytes"] == expected(photos, i, "_mask")
    assert (tmp_path / "restored.parquet.errors.txt").read_text() == ""


@pytest.mark.parametrize("kind", ["id", "path", "number"])
def test_a_table_becomes_files_of_its_names(kind, photos, run, tmp_path):
    rows = columns(photos, 8)
    if kind != "id":
        del rows["id"]
    if kind == "path":
        rows["image"] = [{"bytes": x["bytes"], "path": f"album/p{i}.jpg"} for i, x in enumerate(rows["image"])]
    if kind == "number":
        rows["image"] = [x["bytes"] for x in rows["image"]]
    pq.write_table(pa.table(rows), tmp_path / "photos.parquet", row_group_size=3)
    code, said = run(tmp_path / "photos.parquet", tmp_path / "restored")
    assert code == 0, said
    names = {"id": columns(photos, 8)["id"], "path": [f"p{i}" for i in range(8)], "number": list("01234567")}[kind]
    assert sorted(path.stem for path in (tmp_path / "restored").iterdir()) == sorted(names)
    for i, name in enumerate(names):
        assert (tmp_path / f"restored/{name}.png").read_bytes() == expected(photos, i)


def test_a_folder_of_tables_keeps_its_folders(photos, run, tmp_path):
    (tmp_path / "table/more").mkdir(parents=True)
    for name in ("a", "more/b"):  # the same ids in both
        pq.write_table(pa.table(columns(photos, 3)), tmp_path / f"table/{name}.parquet")
    assert run(tmp_path / "table", tmp_path / "files")[0] == 0
    found = sorted(path.relative_to(tmp_path / "files").as_posix() for path in (tmp_path / "files").rglob("*.png"))
    assert found == [f"{folder}/{name}.png" for folder in ("a", "more/b") for name in ("a0", "b1", "c2")]
    assert run(tmp_path / "table", tmp_path / "r.parquet")[0] == 0
    parts = sorted(path.relative_to(tmp_path).as_posix() for path in (tmp_path / "r.parquet").rglob("*.*"))
    assert parts == ["r.parquet/a-000000000.parquet", "r.parquet/more/b-000000000.parquet"]
    # That is a table as well, by a URL.
    code, said = run(f"file://{tmp_path}/r.parquet", tmp_path / "again", "--mask=alpha")
    assert code == 1, said
    lines = (tmp_path / "again.errors.txt").read_text().splitlines()
    assert lines[0].startswith("a0: 0.png: no part of it is transparent") and len(lines) == 6


def test_an_error_is_a_row_and_is_tried_again(photos, run, tmp_path):
    rows = columns(photos)
    good, rows["image"][3] = rows["image"][3], {"bytes": rows["image"][3]["bytes"][:300], "path": "cut.png"}
    pq.write_table(pa.table(rows), tmp_path / "photos.parquet")
    output, errors = tmp_path / "restored.parquet", tmp_path / "restored.parquet.errors.txt"
    code, said = run(tmp_path / "photos.parquet", output)
    assert code == 1 and "error: d3: cut.png: the image data is broken" in said
    (line,) = errors.read_text().splitlines()
    assert line.startswith("d3: cut.png: the image data is broken")
    first, second = sorted(output.iterdir())
    failed = pq.read_table(first).to_pylist()
    assert [row["image"] is None for row in failed] == [row["error"] is not None for row in failed]
    assert [row["id"] for row in failed if row["error"]] == [rows["id"][3]]
    before = second.stat().st_mtime_ns

    rows["image"][3] = good  # mended
    pq.write_table(pa.table(rows), tmp_path / "photos.parquet")
    code, said = run(tmp_path / "photos.parquet", output)
    assert code == 1 and "holds results already; --resume goes on with them" in said
    code, said = run(tmp_path / "photos.parquet", output, "--resume")
    assert code == 0 and f"6 of {COUNT} photos are done already" in said and errors.read_text() == ""
    assert second.stat().st_mtime_ns == before and not any(row["error"] for row in pq.read_table(first).to_pylist())
    code, said = run(tmp_path / "photos.parquet", output, "--resume")
    assert code == 0 and f"{COUNT} of {COUNT} photos are done already" in said


def test_lines_say_which_row_failed_whatever_its_file_is_called(photos, run, tmp_path):
    rows = columns(photos, 5) | {"id": ["1", "a", "same.png", "other", "bytes"]}
    broken = rows["image"][0]["bytes"][:300]
    names = ["p17.png", "cat.png", "same.png", "same.png", None]
    rows["image"] = [{"bytes": broken, "path": name} for name in names]
    pq.write_table(pa.table(rows), tmp_path / "photos.parquet")
    assert run(tmp_path / "photos.parquet", tmp_path / "out")[0] == 1
    begin = [line.partition(" the image data")[0] for line in (tmp_path / "out.errors.txt").read_text().splitlines()]
    assert begin == ["1: p17.png:", "a: cat.png:", "same.png:", "other: same.png:", "row bytes:"]


def test_files_are_resumed_and_names_that_clash_are_told(photos, run, tmp_path):
    rows = columns(photos, 6)
    rows["id"] = ["a", "../b", "a", ".c", "d", "a_mask"]
    pq.write_table(pa.table(rows), tmp_path / "photos.parquet")
    code, said = run(tmp_path / "photos.parquet", tmp_path / "restored", "--save-masks")
    assert code == 1 and said.count("is called a like another; give each row an id of its own") == 1
    assert said.count("is called a_mask like another") == 1
    names = {"a", "_._b", "_c", "d"}
    assert {path.name for path in (tmp_path / "restored").iterdir()} == {
        f"{name}{suffix}.png" for name in names for suffix in ("", "_mask")
    }
    (tmp_path / "restored/d.png").unlink()
    (tmp_path / "restored/_c.png").write_bytes(b"")
    before = (tmp_path / "restored/a.png").stat().st_mtime_ns
    code, said = run(tmp_path / "photos.parquet", tmp_path / "restored", "--save-masks", "--resume")
    assert code == 1 and "2 of 6 photos are done already" in said
    assert all((tmp_path / f"restored/{name}.png").stat().st_size for name in ("_c", "d"))
    assert (tmp_path / "restored/a.png").stat().st_mtime_ns == before


def test_what_is_asked_for_beside_the_results_is_made_when_a_run_goes_on(photos, run, tmp_path):
    pq.write_table(pa.table(columns(photos, 2)), tmp_path / "photos.parquet")
    arguments = tmp_path / "photos.parquet", tmp_path / "out.parquet"
    assert run(*arguments)[0] == 0
    code, said = run(*arguments, "--resume", "--save-masks")
    (part,) = (tmp_path / "out.parquet").iterdir()
    assert code == 0 and "mask" in pq.read_table(part).column_names, said
    assert "2 of 2 photos are done already" in run(*arguments, "--resume", "--save-masks")[1]
    assert "2 of 2 photos are done already" in run(*arguments, "--resume")[1]


def test_results_that_another_program_rewrote_without_statistics_are_made_again(photos, run, tmp_path):
    pq.write_table(pa.table(columns(photos, 2)), tmp_path / "photos.parquet")
    arguments = tmp_path / "photos.parquet", tmp_path / "out.parquet"
    assert run(*arguments)[0] == 0
    (part,) = (tmp_path / "out.parquet").iterdir()
    made = pq.read_table(part)
    for rewritten in (made, made.slice(0, 0)):
        pq.write_table(rewritten, part, write_statistics=False)
        code, said = run(*arguments, "--resume")
        assert code == 0 and "0 of 2 photos are done already" in said and pq.read_table(part) == made


def test_odd_types_are_told_and_what_ends_a_run_is_in_the_file_of_its_errors(photos, run, tmp_path):
    table = pa.table(columns(photos, 2) | {"id": pa.array(["a", "b"], pa.string_view())})
    (tmp_path / "photos").mkdir()
    pq.write_table(table, tmp_path / "photos/a.parquet")
    if pq.read_table(tmp_path / "photos/a.parquet")["id"].type == pa.string_view():
        code, said = run(tmp_path / "photos", tmp_path / "out")
        assert code == 1 and said.count("a column has an odd type") == 2 and "Traceback" not in said
    errors = tmp_path / "out.errors.txt"
    errors.write_text("")
    for name in ("a", "b"):
        (tmp_path / f"photos/{name}.parquet").write_bytes(b"PAR1 and no more")
    code, said = run(tmp_path / "photos", tmp_path / "out")
    assert code == 1 and "a.parquet: is no whole parquet file" in said
    assert said.count("error: ") == len(errors.read_text().splitlines()) == 3


def test_what_cannot_be_is_refused_in_a_line(photos, run, tmp_path):
    pq.write_table(pa.table({"photo": ["a.png"]}), tmp_path / "other.parquet")
    pq.write_table(pa.table({"image": ["a.png"]}), tmp_path / "maskless.parquet")
    pq.write_table(pa.table({"image": pa.array([], pa.string()), "mask": []}), tmp_path / "empty.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    (tmp_path / "file.png").touch()
    (tmp_path / "folder.parquet").mkdir()
    for image, options, words in [
        ("other", [], "has no column image, only photo"),
        ("maskless", [], "has no column mask, only image; rename one, or name what is to go"),
        ("empty", [], "holds no row"),
        ("broken", [], "broken.parquet: is no whole parquet file"),
        ("folder", [], "holds no .parquet file"),
        ("missing", [], "no such file or folder"),
        ("maskless", [f"--mask={photos}/mask.png"], "masks of a table are in its column mask"),
        ("maskless", ["--format=keep", "--mask=alpha"], "results of a table are PNG files"),
    ]:
        code, said = run(tmp_path / f"{image}.parquet", tmp_path / "out", *options)
        lines = [line for line in said.splitlines() if line.startswith("error: ")]
        assert code == 1 and len(lines) == 1 and words in lines[0], said
        assert not (tmp_path / "out").exists() and not (tmp_path / "out.errors.txt").exists()
    code, said = run(tmp_path / "maskless.parquet", tmp_path / "file.png", "--mask=alpha")
    assert code == 1 and "file.png: is a file; name a folder" in said


def test_things_go_by_name_and_types_of_ids_stay(photos, run, tmp_path):
    rows = columns(photos, 3)
    pq.write_table(pa.table({"id": [7, 8, 9], "image": rows["image"]}), tmp_path / "photos.parquet")
    code, said = run(tmp_path / "photos.parquet", tmp_path / "emptied.parquet", "--remove=car")
    assert code == 0, said
    (part,) = (tmp_path / "emptied.parquet").iterdir()
    made = pq.read_table(part)
    assert made["id"].to_pylist() == [7, 8, 9] and made.schema.field("id").type == pa.int64()
    assert made["image"].null_count == 0


def test_ids_of_a_type_that_datasets_lacks_become_texts(photos, run, tmp_path):
    ids = [uuid.UUID(int=i) for i in range(3)]
    rows = columns(photos, 4) | {"id": pa.array([*(x.bytes for x in ids), None], pa.uuid())}
    pq.write_table(pa.table(rows), tmp_path / "photos.parquet")
    code, said = run(tmp_path / "photos.parquet", tmp_path / "restored.parquet")
    assert code == 0, said
    (part,) = (tmp_path / "restored.parquet").iterdir()
    made = pq.read_table(part)
    assert made["id"].to_pylist() == [*map(str, ids), None] and made["image"].null_count == 0


@pytest.mark.parametrize("kind", [str, lambda path: {"bytes": None, "path": path}])
def test_relative_paths_start_from_the_folder_of_the_command(kind, photos, tiny_pipeline_dir, tmp_path, monkeypatch):
    """Also where the work is done by a process in another folder, as workers of Ray are."""
    image = [kind(path) for path in ("photos/0.png", f"{photos}/photos/1.png", f"file://{photos}/photos/2.png")]
    pq.write_table(pa.table({"image": image, "mask": ["mask.png"] * 3}), tmp_path / "photos.parquet")
    monkeypatch.chdir(photos)
    arguments = command(tiny_pipeline_dir, tmp_path / "photos.parquet", tmp_path / "out", "--rounds=0")
    args = _parser().parse_args(arguments)
    args.table = True
    chunks = chunks_of(args)(1)
    monkeypatch.chdir("/")
    assert [done.error for chunk in chunks() for done in chunk.work(Restorer(str(tiny_pipeline_dir), 0))] == [None] * 3
    for i in range(3):
        assert next((tmp_path / "out").glob(f"*{i}.png")).read_bytes() == expected(photos, i)


def test_a_folder_of_photos_is_no_table_for_a_file_beside_them(photos, run, tmp_path):
    (tmp_path / "photos").mkdir()
    os.link(photos / "photos/0.png", tmp_path / "photos/0.png")
    pq.write_table(pa.table(columns(photos, 3)), tmp_path / "photos/meta.parquet")
    code, said = run(tmp_path / "photos", tmp_path / "restored", f"--mask={photos / 'mask.png'}")
    assert code == 0 and "meta.parquet: is not a photo that can be read, left alone" in said
    assert [path.name for path in (tmp_path / "restored").iterdir()] == ["0.png"]


def test_a_folder_of_photos_as_datasets_has_it_is_no_table(photos, run, tmp_path):
    (tmp_path / "photos/train").mkdir(parents=True)
    os.link(photos / "photos/0.png", tmp_path / "photos/train/0.png")
    pq.write_table(pa.table({"file_name": ["train/0.png"]}), tmp_path / "photos/metadata.parquet")
    code, said = run(tmp_path / "photos", tmp_path / "restored", f"--mask={photos / 'mask.png'}")
    assert code == 0 and "metadata.parquet: is not a photo that can be read, left alone" in said
    assert (tmp_path / "restored/train/0.png").read_bytes() == expected(photos, 0)


@pytest.mark.parametrize("package", ["pyarrow", "datasets"])
def test_without_a_package_a_table_is_refused_in_a_line_before_the_work(package, photos, tiny_pipeline_dir, tmp_path):
    pq.write_table(pa.table(columns(photos, 1)), tmp_path / "photos.parquet")
    script = f"import sys; sys.modules[{package!r}] = None; from fbinpaint.cli import main; raise SystemExit(main())"
    arguments = command(tiny_pipeline_dir, tmp_path / "photos.parquet", tmp_path / "restored.parquet")
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and os.listdir(tmp_path) == ["photos.parquet"]
    last = done.stderr.splitlines()[-1]
    assert last == f"error: run needs {package}, which is not installed; `pip install {package}` brings it"
    assert "Traceback" not in done.stderr


def test_results_among_the_tables_are_no_tables(photos, run, tmp_path):
    """And a suffix in capitals is one."""
    folder = tmp_path / "tables"
    folder.mkdir()
    for name in ("a.parquet", "B.PARQUET"):
        pq.write_table(pa.table(columns(photos, 2)), folder / name)
    for more in ((), ("--resume",)):
        code, said = run(folder, folder / "out.parquet", *more)
        assert code == 0, said
        parts = sorted(path.relative_to(folder).as_posix() for path in (folder / "out.parquet").rglob("*.parquet"))
        assert parts == ["out.parquet/B-000000000.parquet", "out.parquet/a-000000000.parquet"]
    code, said = run(folder, folder, "--resume")
    assert code == 1 and "is the table itself; name another --output" in said
