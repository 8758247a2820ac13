"""Training data and output by URL: stores in the place of folders, whole or not at all, errors in one line."""

import json

import datasets
import fsspec
import numpy as np
import pytest
import torch

import train_accelerate
from fbinpaint import FeedbackInpaintPipeline
from fbinpaint.data.hf_datasets import HubOptions
from fbinpaint.data.photos import read_photo
from fbinpaint.data.rows import bytes_read, has_label
from fbinpaint.data.sources import load_photos, stream_photos
from fbinpaint.data.streams import rows_in_turn
from fbinpaint.errors import InputError
from fbinpaint.labels import CITYSCAPES
from fbinpaint.system.processes import check_processes
from fbinpaint.training.output import local_folder

from .test_layouts import encoded_streets, write_parquet, write_tar


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)  # a store in memory counts as the network


@pytest.fixture
def memory():
    """An empty store of this process."""
    store = fsspec.filesystem("memory")
    store.store.clear(), store.pseudo_dirs.clear(), store.pseudo_dirs.append("")  # what other tests left
    yield store
    store.store.clear()


def put_folder(store, folder, place):
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            store.pipe_file(f"{place}/{path.relative_to(folder).as_posix()}", path.read_bytes())


@pytest.mark.parametrize("streamed", [False, True])
def test_parquet_tars_and_folders_are_read_by_url_as_from_disk(streamed, memory, street_folder, tmp_path):
    photos, labels = encoded_streets(9)
    for shard in range(2):
        write_parquet(tmp_path / f"parquet/train-0000{shard}.parquet", photos[3 * shard :][:3], labels[3 * shard :][:3])
    write_parquet(tmp_path / "parquet/test-00000.parquet", photos[:1], labels[:1])  # of another split
    write_tar(tmp_path / "tars/shard-0.tar", photos[6:], labels[6:])
    for name, folder in (("parquet", tmp_path / "parquet"), ("tars", tmp_path / "tars"), ("plain", street_folder)):
        put_folder(memory, folder, f"/bucket/{name}")
        memory.pipe_file(f"/bucket/{name}/README.md", b"about them")
        memory.pipe_file(f"/bucket/{name}/images/.hidden.png" if name == "plain" else f"/bucket/{name}/.x", b"")
        found = []
        for source in (str(folder), f"memory://bucket/{name}"):
            if streamed:
                rows = list(rows_in_turn(stream_photos([source], [], seed=0)[0]))
            else:
                rows = load_photos([source])
            assert has_label(rows if not streamed else datasets.Dataset.from_list(rows)).all()
            found.append([read_photo(row, 32, CITYSCAPES) for row in rows])
        assert len(found[0]) == len(found[1]) == {"parquet": 6, "tars": 3, "plain": 12}[name]
        key = lambda pair: pair[0].tobytes()  # noqa: E731
        for a, b in zip(sorted(found[0], key=key), sorted(found[1], key=key), strict=True):
            assert np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1])


def test_files_of_a_url_that_are_not_used_are_told(memory, capsys):
    for name in ("images/a.png", "images/a.heic", "labels/a.png", "labels/b.png"):
        memory.pipe_file(f"/unused/{name}", b"x")
    load_photos(["memory://unused"])
    photo, label = capsys.readouterr().out.splitlines()
    assert "unused/images/a.heic: is not a photo" in photo and "unused/labels/b.png: has the name of no photo" in label


def test_pictures_by_url_count_as_bytes_read(memory, street_folder):
    put_folder(memory, street_folder, "/b")
    row = load_photos(["memory://b"])[0]
    before = bytes_read()
    read_photo(row, 32, CITYSCAPES)
    assert bytes_read() - before == memory.size(row["image"]["path"]) + memory.size(row["semantic_map"]["path"])


def test_what_is_wrong_with_a_url_is_one_line(memory, tmp_path):
    memory.pipe_file("/faces/CelebA-HQ-img/0.jpg", b"x")
    memory.pipe_file("/none/images/a.txt", b"x")
    memory.pipe_file("/labels/images/a.png", b"x")
    memory.pipe_file("/labels/labels/b.png", b"x")
    for name in ("images/a.png", "images/b.png", "labels/a.png", "labels/b.tif"):
        memory.pipe_file(f"/tif/{name}", b"x")
    memory.pipe_file("/text/a.txt", b"x")
    write_parquet(tmp_path / "test-0.parquet", *encoded_streets(1))
    memory.pipe_file("/test/test-0.parquet", (tmp_path / "test-0.parquet").read_bytes())
    for url, problem in (
        ("memory://nowhere", "no such folder"),
        ("s4://bucket/x", "s4:// is no kind of URL"),
        ("memory://faces", "holds CelebA-HQ-img, .*local folders only"),
        ("memory://none", "/images: no photo in it"),
        ("memory://labels", "/labels: holds no PNG with the name"),
        ("memory://tif", "labels/b.tif: labels are PNG files"),
        ("memory://text", "no parquet or tar file of a split train"),
        ("memory://test", "no parquet or tar file of a split train; found test; choose with --split"),
    ):
        with pytest.raises(InputError, match=f"^{url.replace('//', '///?')}[^\n]*{problem}[^\n]*$"):
            load_photos([url])
    assert len(load_photos(["memory://test"], [], HubOptions(split="test"))) == 1
    (row,) = load_photos(["memory://labels"]) if memory.rm("/labels/labels", recursive=True) is None else ()
    memory.rm("/labels/images/a.png")
    with pytest.raises(InputError, match="^memory:///?labels/images/a.png: no such file[^\n]*$"):
        read_photo(row, 32, CITYSCAPES)


def train(output: str, data: str, model, vgg, steps: int, *extra: str) -> int:
    return train_accelerate.main(
        ["--train_data_dir", data, "--label_space", "cityscapes", "--output_dir", output]
        + ["--pretrained_model", str(model), "--perceptual_weights", str(vgg), "--max_train_steps", str(steps)]
        + ["--resolution", "32", "--perceptual_crop", "16", "--train_batch_size", "2", "--num_exemplars", "2"]
        + ["--num_validation_images", "2", "--dataloader_num_workers", "0", "--checkpointing_steps", "1", *extra]
    )


def test_output_that_cannot_be_written_is_told_before_the_work(street_folder, tmp_path, capsys):
    (tmp_path / "file").touch()
    for output, words in (
        ("http://127.0.0.1:9/run", "http://127.0.0.1:9/run: a web address cannot be written to"),
        ("hf://datasets/user/name/run", "in a repository each file would be a commit"),
        (f"{tmp_path}/file", f"--output_dir {tmp_path}/file: cannot be made"),
        (f"{tmp_path}/file/run", f"--output_dir {tmp_path}/file/run: cannot be made"),
        ("/proc/self", "--output_dir /proc/self: cannot be made or written to"),
    ):
        assert train(output, str(street_folder), "no-model", "no-vgg", 1) == 1
        (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("error: ")]
        assert words in line


def names_at(store, place: str) -> set[str]:
    return {path.split("/run/", 1)[1] for path in store.find(place)}


@pytest.mark.slow
def test_a_run_by_url_leaves_what_a_run_in_a_folder_leaves(
    memory, street_folder, tiny_pipeline_dir, vgg_file, tmp_path, capsys
):
    """Also when it is resumed, and where a checkpoint is not whole there; and file:// is a folder as any other."""
    data, settings = f"file://{street_folder}", (tiny_pipeline_dir, vgg_file)
    assert train(f"file://{tmp_path}/run", data, *settings, 4) == 0
    url = "memory://bucket/run"
    assert train(url, data, *settings, 4) == 0
    assert "saved memory://bucket/run/pipeline" in capsys.readouterr().out
    local = {path.relative_to(tmp_path / "run").as_posix() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert names_at(memory, "/bucket/run") == local
    memory.get("/bucket/run/pipeline/", str(tmp_path / "fetched"), recursive=True)
    here, there = (FeedbackInpaintPipeline.from_pretrained(tmp_path / name) for name in ("run/pipeline", "fetched"))
    assert all(map(torch.equal, here.networks.state_dict().values(), there.networks.state_dict().values()))
    assert train(url, data, *settings, 5) == 1
    assert f"--output_dir {url}: holds an earlier run" in capsys.readouterr().out
    memory.pipe_file("/bucket/run/checkpoint-000009/model.safetensors", b"cut off")
    assert train(url, data, *settings, 5, "--resume_from_checkpoint", "latest") == 0
    assert {path for path in names_at(memory, "/bucket/run") if path.endswith("version.json")} == {
        "checkpoint-000004/version.json", "checkpoint-000005/version.json"
    }  # fmt: skip
    log = [json.loads(line) for line in memory.cat_file("/bucket/run/log.jsonl").decode().splitlines()]
    assert [row["step"] for row in log] == [4, 5] and log[-1]["bytes_read"] > 0
    # A checkpoint over there starts a run in a folder here.
    other = str(tmp_path / "other")
    assert train(other, data, *settings, 6, "--resume_from_checkpoint", f"{url}/checkpoint-000005") == 0
    capsys.readouterr()
    third = str(tmp_path / "third")
    assert train(third, data, *settings, 10, "--resume_from_checkpoint", f"{url}/checkpoint-000009") == 1
    assert f"{url}/checkpoint-000009: no whole checkpoint" in capsys.readouterr().out


def test_an_upload_that_fails_is_one_line(street_folder, tiny_pipeline_dir, vgg_file, tmp_path, capsys):
    (tmp_path / "runs").write_text("no folder")
    url = f"local://{tmp_path}/runs/one"
    assert train(url, str(street_folder), tiny_pipeline_dir, vgg_file, 1) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith(f"error: {url}: cannot be") and not [line for line in lines if "Traceback" in line]


def test_the_folder_of_a_url_is_ones_own(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    a, b = local_folder("memory://a"), local_folder("memory://b")
    assert a == local_folder("memory://a") != b and a.parent == tmp_path
    assert str(local_folder("runs/model")) == "runs/model"


def test_several_processes_that_would_each_work_alone_are_refused(monkeypatch):
    for name in ("WORLD_SIZE", "MASTER_ADDR", "ACCELERATE_MIXED_PRECISION"):
        monkeypatch.delenv(name, raising=False)
    check_processes(1)
    monkeypatch.setenv("MASTER_ADDR", "node-1")  # as scripts set it, also where there is one process
    check_processes(1)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    with pytest.raises(InputError, match="^accelerate started one process [^\n]*torchrun[^\n]*$"):
        check_processes(1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    check_processes(2)
    with pytest.raises(InputError, match="^2 processes were started [^\n]*ACCELERATE_USE_CPU[^\n]*$"):
        check_processes(1)
