"""The owners' layouts, made here file by file: what is read from them, and what training says where they are broken."""

import io
import itertools
import json
import os
import re
import shlex
import shutil
import tarfile
from pathlib import Path

import datasets
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset, Features, Value
from datasets import Image as ImageColumn
from PIL import Image

import train_accelerate
from fbinpaint.data.hf_datasets import HubOptions
from fbinpaint.data.loader import BadPhotos, BatchLoader
from fbinpaint.data.photos import MixedBatches, PhotoCrops, read_labels, read_photo
from fbinpaint.data.rows import has_label
from fbinpaint.data.scenes import face_scene, street_scene
from fbinpaint.data.sources import check_label_map, load_photos, stream_photos
from fbinpaint.data.streams import Mark, StreamedCrops, rows_in_turn, set_aside
from fbinpaint.errors import InputError
from fbinpaint.labels import CELEBAMASK_HQ, CITYSCAPES

PAGE = Path(train_accelerate.__file__).with_name("docs") / "training.md"

# id -> train id, as cityscapesscripts/helpers/labels.py lists them; -1, the license plate, is stored as 255.
TRAIN_IDS = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13, 27: 14}
TRAIN_IDS |= {28: 15, 31: 16, 32: 17, 33: 18}


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def write_celebamask_hq(folder, numbers, size=64):
    """Faces as photos of twice the size of their part masks, as the owners have them (1024 and 512)."""
    (folder / "CelebA-HQ-img").mkdir(parents=True)
    for number in numbers:
        photo, ids = face_scene((size, size), np.random.default_rng(number))
        photo.resize((2 * size, 2 * size)).save(folder / "CelebA-HQ-img" / f"{number}.jpg", quality=95)
        parts = folder / "CelebAMask-HQ-mask-anno" / str(number // 2000)
        parts.mkdir(parents=True, exist_ok=True)
        for label in np.setdiff1d(np.unique(ids), [0]):
            mask = Image.fromarray(np.where(ids == label, 255, 0).astype(np.uint8)).convert("RGB")
            mask.save(parts / f"{number:05d}_{CELEBAMASK_HQ.classes[label]}.png")


def write_cityscapes(folder, size=(96, 64)):
    """Split train with labels; val with labels, train_extra without, neither of which may teach the segmenter."""
    ids_of = np.full(256, 0, np.uint8)
    for label_id, train_id in TRAIN_IDS.items():
        ids_of[train_id] = label_id
    frames = [("train", "aachen", 4), ("train", "ulm", 3), ("val", "lindau", 2), ("train_extra", "bayreuth", 4)]
    for split, city, count in frames:
        for index in range(count):
            photo, ids = street_scene(size, np.random.default_rng([len(city), index]))
            name = f"{city}_{index:06d}_000019"
            photos, truth = folder / "leftImg8bit" / split / city, folder / "gtFine" / split / city
            photos.mkdir(parents=True, exist_ok=True)
            photo.save(photos / f"{name}_leftImg8bit.png")
            if split != "train_extra":
                truth.mkdir(parents=True, exist_ok=True)
                Image.fromarray(ids_of[ids]).save(truth / f"{name}_gtFine_labelIds.png")
                Image.fromarray(ids).save(truth / f"{name}_gtFine_instanceIds.png")


def write_parquet(path, photos, labels=None):
    """`photos` and `labels` are encoded files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {"image": [{"bytes": photo, "path": None} for photo in photos], "caption": ["a street"] * len(photos)}
    features = Features({"image": ImageColumn(), "caption": Value("string")})
    if labels:
        columns["semantic_map"] = [None if label is None else {"bytes": label, "path": None} for label in labels]
        features["semantic_map"] = ImageColumn()
    Dataset.from_dict(columns, features=features).to_parquet(path)


def encoded_streets(count, size=(48, 32)):
    """(photos, labels) as bytes of PNG files."""
    photos, labels = [], []
    for index in range(count):
        photo, ids = street_scene(size, np.random.default_rng(index))
        for files, image in ((photos, photo), (labels, CITYSCAPES.to_palette_image(ids))):
            file = io.BytesIO()
            image.save(file, "PNG")
            files.append(file.getvalue())
    return photos, labels


def write_tar(path, photos, labels, suffix="png"):
    """Labels may be None."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for index, pair in enumerate(zip(photos, labels, strict=True)):
            for ending, content in zip((suffix, "semantic_map.png"), pair, strict=True):
                if content is None:
                    continue
                entry = tarfile.TarInfo(f"{index:06d}.{ending}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))


# ------------------------------------------------------------------------------------------------------- the layouts


def test_celebamask_hq(tmp_path):
    tmp_path /= "faces[1]*2"
    write_celebamask_hq(tmp_path, [0, 7, 1999, 2000])
    (tmp_path / "CelebA-HQ-img" / "._0.jpg").touch()  # as a Mac leaves them
    photos = load_photos([tmp_path])
    assert [row["name"].rsplit("/", 1)[1] for row in photos] == ["0.jpg", "7.jpg", "1999.jpg", "2000.jpg"]
    for row, number in zip(photos, (0, 7, 1999, 2000), strict=True):
        assert np.array_equal(read_labels(row, CELEBAMASK_HQ), face_scene((64, 64), np.random.default_rng(number))[1])
        image, labels = read_photo(row, 32, CELEBAMASK_HQ)  # the photo is 128x128, its label 64x64
        assert image.shape == (32, 32, 3) and labels.shape == (32, 32)
    shutil.rmtree(tmp_path / "CelebAMask-HQ-mask-anno")
    assert not has_label(load_photos([tmp_path])).any()


def test_later_parts_overwrite_earlier_ones(tmp_path):
    """Each part covers the picture from a column of its own on, so only the last one shows there."""
    (tmp_path / "CelebA-HQ-img").mkdir(), (parts := tmp_path / "CelebAMask-HQ-mask-anno" / "0").mkdir(parents=True)
    Image.new("RGB", (76, 76)).save(tmp_path / "CelebA-HQ-img" / "3.jpg")
    order = "skin nose eye_g l_eye r_eye l_brow r_brow l_ear r_ear mouth u_lip l_lip hair hat ear_r neck_l neck cloth"
    for label, part in enumerate(order.split(), 1):
        mask = np.zeros((38, 38, 3), np.uint8)
        mask[:, 2 * label :] = 255
        Image.fromarray(mask).save(parts / f"00003_{part}.png")
    labels = read_labels(load_photos([tmp_path])[0], CELEBAMASK_HQ)
    assert (labels == np.repeat(np.arange(19), 2)).all()


def test_cityscapes(tmp_path):
    write_cityscapes(tmp_path)
    for split, city in (("train", "ulm"), ("train_extra", "bayreuth")):
        (tmp_path / "leftImg8bit" / split / city / f"._{city}_leftImg8bit.png").touch()
    photos = load_photos([tmp_path])
    names = [row["name"] for row in photos]
    assert has_label(photos).tolist() == [True] * 7 + [False] * 4
    assert all("/train/" in name for name in names[:7]) and all("/train_extra/" in name for name in names[7:])
    ids = street_scene((96, 64), np.random.default_rng([len("aachen"), 0]))[1]
    assert np.array_equal(read_labels(photos[0], CITYSCAPES), ids)
    shutil.rmtree(tmp_path / "gtFine")
    assert not has_label(load_photos([tmp_path])).any()


def test_every_label_id_has_its_train_id(tmp_path):
    write_cityscapes(tmp_path)
    label_ids = np.arange(96 * 64).reshape(64, 96) % 36
    label_ids[label_ids == 34], label_ids[label_ids == 35] = 255, 0  # 255 is how -1 is stored
    path = next((tmp_path / "gtFine" / "train" / "aachen").glob("*000000*labelIds.png"))
    Image.fromarray(label_ids.astype(np.uint8)).save(path)
    expected = np.vectorize(lambda label_id: TRAIN_IDS.get(label_id, 255))(label_ids)
    assert np.array_equal(read_labels(load_photos([tmp_path])[0], CITYSCAPES), expected)


@pytest.mark.parametrize("streamed", [False, True])
def test_parquet_and_webdataset(streamed, tmp_path):
    photos, labels = encoded_streets(9)
    write_parquet(tmp_path / "half" / "data" / "train-00000.parquet", photos[:4], [None, *labels[1:4]])
    write_parquet(tmp_path / "bare" / "x.parquet", photos[4:6])
    write_tar(tmp_path / "tars" / "shard-0.tar", photos[6:], labels[6:])
    folders = [str(tmp_path / name) for name in ("half", "bare", "tars")]
    if streamed:
        rows = [row for streams in stream_photos(folders, [], seed=0) for row in rows_in_turn(streams)]
    else:
        rows = list(load_photos(folders))
    rows.sort(key=lambda row: photos.index(row["image"]["bytes"]))
    assert [row["label_format"] for row in rows] == [None, "ids", "ids", "ids", None, None, "ids", "ids", "ids"]
    assert rows[2]["name"] == f"{folders[0]}: row 2" and rows[7]["name"].endswith("tars/shard-0.tar: 000001.png")
    for index in (1, 8):
        ids = street_scene((48, 32), np.random.default_rng(index))[1]
        assert np.array_equal(read_labels(rows[index], CITYSCAPES), ids)


@pytest.mark.parametrize("streamed", [False, True])
def test_each_sample_of_a_tar_has_files_of_its_own(streamed, tmp_path, monkeypatch):
    """The first tar has one label, its last; photos of the second are of another suffix. What lies where the command is
    given is another's, whatever its name."""
    photos, labels = encoded_streets(10)
    write_tar(tmp_path / "tars" / "0.tar", photos[:7], [None] * 6 + labels[6:7], "webp")
    write_tar(tmp_path / "tars" / "1.tar", photos[7:], [*labels[7:9], None], "jpg")
    (tmp_path / "000000.webp").write_text("another")
    monkeypatch.chdir(tmp_path)
    if streamed:
        (stream,), none = stream_photos(["tars"], [], seed=0)
        rows = [row for shard in range(2) for row in stream.rows(shard)]
        assert not none
    else:
        rows = list(load_photos(["tars"]))
    assert [row["image"]["bytes"] for row in rows] == photos
    assert [row["label_format"] for row in rows] == [None] * 6 + ["ids"] * 3 + [None]
    assert rows[5]["name"].endswith("tars/0.tar: 000005.webp") and rows[7]["name"].endswith("tars/1.tar: 000000.jpg")
    for index in (6, 8):
        ids = street_scene((48, 32), np.random.default_rng(index))[1]
        assert np.array_equal(read_labels(rows[index], CITYSCAPES), ids)


def test_a_label_that_comes_late_in_a_stream_of_tars_is_never_dropped(tmp_path, monkeypatch):
    monkeypatch.setattr("fbinpaint.data.hf_datasets.LOOKED_AT", 4)
    photos, labels = encoded_streets(6)
    write_tar(tmp_path / "0.tar", photos, [None] * 5 + labels[5:])
    labelled, (stream,) = stream_photos([tmp_path], [], seed=0)
    with pytest.raises(InputError, match=r"0.tar: 000005.png: has a label[^\n]*--label_column semantic_map.png$"):
        list(stream.rows(0))
    (stream,), unlabelled = stream_photos([tmp_path], [], 0, HubOptions(label_column="semantic_map.png"))
    assert [row["label_format"] for row in stream.rows(0)] == [None] * 5 + ["ids"] and not labelled + unlabelled


@pytest.mark.parametrize("load", [load_photos, lambda folders: stream_photos(folders, [], 0)])
def test_tars_without_photos_are_one_line(load, tmp_path):
    write_tar(tmp_path / "0.tar", *encoded_streets(2), suffix="PNG")
    with pytest.raises(InputError, match=f"^{tmp_path}: no photo in its tars; looked for [^\n]*<key>.jpg[^\n]*$"):
        load([tmp_path])
    with pytest.raises(InputError, match="no label in its tars; looked for <key>.mask,[^\n]*--label_column$"):
        load_photos([tmp_path], [], HubOptions("PNG", "mask"))
    assert has_label(load_photos([tmp_path], [], HubOptions("PNG"))).all()


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    "kind",
    [
        *(pa.string(), pa.large_string(), pa.binary(), pa.large_binary()),
        pa.struct({"path": pa.null(), "bytes": pa.binary()}),
    ],
    ids=str,
)
def test_pictures_in_parquet_by_others(kind, streamed, tmp_path):
    """As pandas, polars and pyarrow write them; a column without a single label has no type at all."""
    (photo, _), (label, _) = encoded_streets(2)
    (tmp_path / "photo.png").write_bytes(photo), (tmp_path / "label.png").write_bytes(label)
    cells: list = [photo, label]
    if kind in (pa.string(), pa.large_string()):
        cells = [str(tmp_path / name) for name in ("photo.png", "label.png")]
    elif pa.types.is_struct(kind):
        cells = [{"path": None, "bytes": content} for content in cells]
    image, truth = (pa.array([cell, cell], kind) for cell in cells)
    for name, column in (("labelled", truth), ("bare", pa.nulls(2))):
        (tmp_path / name).mkdir()
        pq.write_table(pa.table({"image": image, "semantic_map": column}), tmp_path / name / "x.parquet")
    folders = [tmp_path / "labelled", tmp_path / "bare"]
    if streamed:
        rows = [row for kind in stream_photos(folders, [], 0) for row in rows_in_turn(kind)]
    else:
        rows = list(load_photos(folders))
    assert [row["label_format"] for row in rows] == ["ids", "ids", None, None]
    for row in rows:
        assert read_photo(row, 32, CITYSCAPES)[0].shape == (32, 48, 3)
    assert np.array_equal(read_labels(rows[0], CITYSCAPES), street_scene((48, 32), np.random.default_rng(0))[1])


@pytest.mark.parametrize("load", [load_photos, lambda folders: stream_photos(folders, [], 0)])
def test_what_is_no_picture_in_parquet_is_one_line(load, tmp_path):
    for name, cell in (("several", [{"bytes": b"x"}]), ("numbers", {"bytes": 1}), ("other", {"left": b"x"})):
        (tmp_path / name).mkdir()
        pq.write_table(pa.table({"image": [cell]}), tmp_path / name / "x.parquet")
        with pytest.raises(InputError, match=f"^{tmp_path}/{name}: the column image holds [^\n]*, no pictures[^\n]*$"):
            load([tmp_path / name])
    (tmp_path / "other" / "other.py").write_text("import datasets")
    with pytest.raises(InputError, match=f"^{tmp_path}/other: cannot be loaded [^\n]*scripts are no longer[^\n]*$"):
        load([tmp_path / "other"])


def test_what_no_layout_fits_is_one_line(tmp_path):
    (tmp_path / "a.txt").touch()
    with pytest.raises(InputError, match="CelebA-HQ-img.*leftImg8bit.*images.*parquet.*tar"):
        load_photos([tmp_path])
    write_celebamask_hq(tmp_path / "faces", [5])
    with pytest.raises(InputError, match="00005_.*celebamask-hq.*--label_space"):
        read_labels(load_photos([tmp_path / "faces"])[0], CITYSCAPES)
    write_parquet(tmp_path / "cut" / "x.parquet", *encoded_streets(2))
    path = tmp_path / "cut" / "x.parquet"
    path.write_bytes(path.read_bytes()[:-40])
    for load in (lambda: load_photos([path.parent]), lambda: stream_photos([path.parent], [], 0)):
        with pytest.raises(InputError, match=f"^{path.parent}: cannot be loaded[^\n]*$"):
            load()
    with pytest.raises(InputError, match=r"^nobody/nothing: cannot be loaded[^\n]*$"):
        load_photos([], ["nobody/nothing"])


def test_large_jpegs_are_decoded_small_and_upright(tmp_path):
    """At an eighth of the size it is still the same picture, and its EXIF orientation counts."""
    (tmp_path / "images").mkdir()
    photo = street_scene((640, 360), np.random.default_rng(0))[0]
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    photo.save(tmp_path / "images" / "a.jpg", quality=95, exif=exif)
    photo.save(tmp_path / "images" / "b.png")
    small, whole = (read_photo(row, 20, CITYSCAPES)[0].astype(int) for row in load_photos([tmp_path]))
    assert small.shape == (36, 20, 3) and whole.shape == (20, 36, 3)
    assert np.abs(np.rot90(small) - whole).mean() < 3


def test_a_nearly_square_photo_that_lies_on_its_side_fits_its_label(tmp_path):
    """At a quarter of its size, as its JPEG is decoded, it is a square."""
    (tmp_path / "images").mkdir(), (tmp_path / "labels").mkdir()
    photo, exif = Image.new("RGB", (260, 257)), Image.Exif()
    exif[0x0112] = 6
    photo.save(tmp_path / "images" / "a.jpg", exif=exif)
    Image.new("L", (257, 260), 3).save(tmp_path / "labels" / "a.png")
    image, labels = read_photo(load_photos([tmp_path])[0], 16, CITYSCAPES)
    assert image.shape[:2] == labels.shape and (labels == 3).all()


# ------------------------------------------------------------------------------------------------------ bad photos


def plan_of(crops, start=0, batch_size=4, seed=0, **options):
    return MixedBatches(crops.labelled, batch_size, 0.5, seed, start, **options)


def loader_of(crops, num_workers=0, **options):
    return BatchLoader(crops, plan_of(crops, **options), num_workers, BadPhotos())


def batches_of(crops, count, num_workers=0, **options):
    loader = loader_of(crops, num_workers, **options)
    return list(itertools.islice(loader, count)), loader.bad_photos


def test_workers_go_on_after_a_sigterm(tmp_path):
    """A scheduler sends it to all processes; batches made beforehand (two) do not last as long."""
    write_cityscapes(tmp_path)
    crops = PhotoCrops(load_photos([tmp_path]), CITYSCAPES, 32)
    plain, _ = batches_of(crops, 8)
    before = {child.pid for child in psutil.Process().children()}
    batches = iter(BatchLoader(crops, MixedBatches(crops.labelled, 4, 0.5, 0), 1, BadPhotos()))
    found = [next(batches)]
    (worker,) = (child for child in psutil.Process().children() if child.pid not in before)
    worker.terminate()
    found += [next(batches) for _ in range(7)]
    assert all(torch.equal(a.image, b.image) for a, b in zip(found, plain, strict=True))
    del batches  # which ends the worker
    assert not psutil.wait_procs([worker], timeout=60)[1]


def test_a_worker_that_is_killed_ends_the_run_in_one_line(tmp_path):
    write_cityscapes(tmp_path)
    crops = PhotoCrops(load_photos([tmp_path]), CITYSCAPES, 32)
    before = {child.pid for child in psutil.Process().children()}
    batches = iter(BatchLoader(crops, MixedBatches(crops.labelled, 4, 0.5, 0), 1, BadPhotos()))
    next(batches)
    (worker,) = (child for child in psutil.Process().children() if child.pid not in before)
    worker.kill()  # as by a system that runs out of memory
    with pytest.raises(InputError, match=r"was ended \(.+\); where memory"):
        for _ in range(100):
            next(batches)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_bad_photos_are_named_or_passed_over(num_workers, tmp_path, capsys):
    write_cityscapes(tmp_path)
    photos = load_photos([tmp_path])
    cut, gone = photos[1]["name"], photos[8]["name"]
    whole, _ = batches_of(PhotoCrops(photos, CITYSCAPES, 32), 6)
    with open(cut, "r+b") as file:
        file.truncate(3000)
    shutil.move(gone, tmp_path / "elsewhere.png")

    with pytest.raises(InputError) as caught:
        batches_of(PhotoCrops(photos, CITYSCAPES, 32), 6, num_workers)
    assert "\n" not in str(caught.value) and str(caught.value).startswith((cut, gone))

    crops = PhotoCrops(photos, CITYSCAPES, 32, skip_bad=True)
    patched, bad_photos = batches_of(crops, 6, num_workers)
    assert bad_photos.problems.keys() == {cut, gone} and len(bad_photos) == 2
    assert "truncated" in bad_photos.problems[cut] and "no such file" in bad_photos.problems[gone]
    assert capsys.readouterr().out.count("skipped a bad photo") == 2
    same = [bool((a.image == b.image).all()) for a, b in zip(whole, patched, strict=True)]
    assert any(same) and not all(same)  # the others are what they would be
    resumed, _ = batches_of(crops, 2, num_workers, start=4)
    assert all((a.image == b.image).all() for a, b in zip(resumed, patched[4:], strict=True))
    assert all(batch.has_label.sum() == 2 for batch in patched)


def test_labels_are_named_too(tmp_path):
    write_celebamask_hq(tmp_path / "faces", [4])
    write_cityscapes(tmp_path / "streets")
    broken = tmp_path / "faces" / "CelebAMask-HQ-mask-anno" / "0" / "00004_skin.png"
    broken.write_bytes(b"")
    missing = next((tmp_path / "streets" / "gtFine" / "train" / "aachen").glob("*000000*labelIds.png"))
    missing.unlink()
    for folder, path, space in (("faces", broken, CELEBAMASK_HQ), ("streets", missing, CITYSCAPES)):
        with pytest.raises(InputError, match=f"^{path}: [^\n]*$"):
            PhotoCrops(load_photos([tmp_path / folder]), space, 32)[0, 0]


def test_links_to_nothing_are_missing_files(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").symlink_to(tmp_path / "nowhere.png")
    (row,) = load_photos([tmp_path])
    with pytest.raises(InputError, match="images/a.png: no such file"):
        read_photo(row, 32, CITYSCAPES)
    with pytest.raises(InputError, match="labels/a.png: no such file"):
        read_labels(row, CITYSCAPES)


def test_nothing_but_bad_photos_is_an_error(tmp_path):
    write_cityscapes(tmp_path)
    with pytest.raises(InputError, match="none of 7 photos in a row can be read; the last: .*--label_space"):
        PhotoCrops(load_photos([tmp_path]), CELEBAMASK_HQ, 32, skip_bad=True)[0, 0]


# --------------------------------------------------------------------------------------------------------- streams


def streamed_crops(folders, held_out=2, **options):
    streams = stream_photos(folders, [], seed=0)
    validation, known = set_aside(streams, held_out, num_known=4)
    return StreamedCrops(streams, PhotoCrops(known, CITYSCAPES, 32, **options), 0, validation["name"]), validation


@pytest.fixture
def stream_folders(tmp_path):
    """Twelve labelled photos in two tars, a folder of seven labelled and four unlabelled, parquet of ten unlabelled."""
    photos, labels = encoded_streets(22)
    write_tar(tmp_path / "tars" / "0.tar", photos[:6], labels[:6])
    write_tar(tmp_path / "tars" / "1.tar", photos[6:12], labels[6:12])
    write_cityscapes(tmp_path / "streets")
    write_parquet(tmp_path / "parquet" / "x.parquet", photos[12:])
    return [str(tmp_path / name) for name in ("tars", "streets", "parquet")]


@pytest.mark.slow
def test_streams_mix_and_resume(stream_folders):
    crops, validation = streamed_crops(stream_folders)
    assert has_label(validation).tolist() == [True, False] and len(crops.labelled_photos()) == 4
    assert crops.class_counts()[0].sum() > 0
    first, _ = batches_of(crops, 9)
    assert all(batch.has_label.tolist() == [True, True, False, False] for batch in first)
    pictures = {image.numpy().tobytes() for batch in first for image in batch.image}
    assert len(pictures) == 36
    for options in ({}, {"num_workers": 2}, {"process": 1, "processes": 2}):
        whole, _ = batches_of(crops, 9, **options)
        for stop in (1, 5):
            loader = loader_of(crops, **options)
            assert len(list(itertools.islice(loader, stop))) == stop
            rest, _ = streamed_crops(stream_folders)
            workers = options.get("num_workers", 1)
            assert rest.go_on(loader.state(), loader_of(rest, start=stop, **options).batches, workers)
            others, _ = batches_of(rest, 9 - stop, start=stop, **options)
            assert all((a.image == b.image).all() for a, b in zip(others, whole[stop:], strict=True))


def test_a_stream_that_is_shared_otherwise_goes_on_with_a_new_pass(stream_folders):
    crops, _ = streamed_crops(stream_folders)
    loader = loader_of(crops)
    assert len(list(itertools.islice(loader, 9))) == 9
    marks = [Mark(*mark) for kinds in loader.state()["marks"].values() for kind in kinds for mark in kind]
    rest, _ = streamed_crops(stream_folders)
    # Two processes; batches of another size; another number of batches, as steps of twice as many are; another seed.
    other = [{"processes": 2}, {"batch_size": 2}, {"start": 4}, {"start": 18}, {"seed": 1}]
    for options in ({"start": 9} | one for one in other):
        assert not rest.go_on(loader.state(), plan_of(rest, **options), 1)
        assert rest.first_pass == 1 + max(mark.number for mark in marks)
        first, _ = batches_of(rest, 3, **options)
        again, _ = batches_of(rest, 3, **options)
        assert all((a.image == b.image).all() for a, b in zip(first, again, strict=True))


def test_a_stream_passes_over_bad_photos_when_asked(tmp_path):
    photos, labels = encoded_streets(12)
    photos[5] = photos[5][: len(photos[5]) // 2]
    write_tar(tmp_path / "0.tar", photos, labels)
    with pytest.raises(InputError, match=f"^{tmp_path / '0.tar'}: 000005.png: [^\n]*truncated[^\n]*$"):
        batches_of(streamed_crops([str(tmp_path)])[0], 4)
    for workers in (0, 2):
        crops, _ = streamed_crops([str(tmp_path)], skip_bad=True)
        _, bad_photos = batches_of(crops, 4, num_workers=workers)
        assert list(bad_photos.problems) == [f"{tmp_path / '0.tar'}: 000005.png"]


def test_a_cut_shard_is_one_line(tmp_path):
    write_tar(tmp_path / "0.tar", *encoded_streets(12))
    content = (tmp_path / "0.tar").read_bytes()
    crops, _ = streamed_crops([str(tmp_path)])
    (tmp_path / "0.tar").write_bytes(content[: len(content) * 3 // 4])
    with pytest.raises(InputError, match=f"^{tmp_path}: broken, nothing can be read after [^\n]*0000..[^\n]*$"):
        batches_of(crops, 4)


def resident_megabytes() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_a_stream_of_ten_thousand_photos_takes_no_more_memory(tmp_path):
    """230 MB go by; what stays is the window, which is full long before the first tenth is over."""
    file = io.BytesIO()
    street_scene((48, 32), np.random.default_rng(0))[0].save(file, "JPEG")
    padding = np.random.default_rng(0).bytes(22_000)  # decoders ignore what follows the picture: big, but quickly read
    for shard in range(10):
        columns = {"image": [{"bytes": file.getvalue() + padding + bytes([shard]), "path": None}] * 1000}
        shards = Dataset.from_dict(columns, features=Features({"image": ImageColumn()}))
        shards.to_parquet(tmp_path / f"{shard}.parquet", batch_size=100)
    crops, _ = streamed_crops([str(tmp_path)], held_out=0)
    # As one of four processes: all photos pass by, a quarter is decoded.
    loader = BatchLoader(crops, MixedBatches(crops.labelled, 10, 0.5, seed=0, processes=4), 0, BadPhotos())
    sizes = [resident_megabytes() for _, _ in zip(range(250), loader, strict=False)]
    assert len(sizes) == 250 and max(sizes[25:]) - sizes[25] < 50


# --------------------------------------------------------------------------------------------------- training itself


def command_of_the_docs(part: str) -> list[str]:
    """The arguments of the training command in docs/training.md that contains `part`."""
    commands = re.findall(r"accelerate launch train_accelerate.py (.*)", PAGE.read_text())
    return shlex.split(next(command for command in commands if part in command))


def train_like(command, output, model, vgg, *extra) -> int:
    sizes = ["--resolution", "48", "--perceptual_crop", "32", "--train_batch_size", "4", "--labelled_ratio", "0.5"]
    sizes += ["--max_train_steps", "2", "--num_validation_images", "2", "--num_exemplars", "3"]
    paths = ["--output_dir", str(output), "--pretrained_model", str(model), "--perceptual_weights", str(vgg)]
    return train_accelerate.main([*command, *sizes, *paths, *extra])


@pytest.mark.slow
def test_commands_of_the_docs_train_on_the_owners_layouts(tiny_pipeline_dir, vgg_file, tmp_path, monkeypatch):  # noqa: F811
    write_celebamask_hq(tmp_path / "CelebAMask-HQ", [0, 1, 2, 3, 4, 2001])
    write_cityscapes(tmp_path / "cityscapes")
    photos, labels = encoded_streets(8)
    write_tar(tmp_path / "shards" / "0.tar", photos, labels)
    monkeypatch.chdir(tmp_path)
    for data in ("CelebAMask-HQ", "cityscapes", "cityscapes shards --streaming"):
        run = tmp_path / "runs" / data.split()[-1]
        command = command_of_the_docs(f"--train_data_dir {data} --label_space")
        assert train_like(command, run, tiny_pipeline_dir, vgg_file) == 0
        assert np.isfinite(json.loads((run / "log.jsonl").read_text().splitlines()[-1])["lpips_alex/2"])


def test_a_label_map_is_not_for_the_owners_labels(tmp_path, capsys):
    write_cityscapes(tmp_path / "streets")
    write_parquet(tmp_path / "others" / "x.parquet", *encoded_streets(2))
    (tmp_path / "ids.json").write_text('{"7": "sky"}')
    command = ["--train_data_dir", str(tmp_path / "streets"), "--label_space", "cityscapes"]
    assert train_like(command, tmp_path / "run", "model", "vgg", "--label_map", str(tmp_path / "ids.json")) == 1
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith(f"error: {tmp_path}/streets: holds its owners' labels") and "--label_map" in line
    check_label_map([str(tmp_path / "streets"), str(tmp_path / "others")], [])  # others may number theirs otherwise


def test_bad_photos_in_training(tiny_pipeline_dir, vgg_file, tmp_path, capsys):  # noqa: F811
    write_cityscapes(tmp_path / "streets")
    for path in (tmp_path / "streets" / "leftImg8bit" / "train_extra").rglob("*00000[12]*.png"):
        path.write_bytes(path.read_bytes()[:2000])
    command = ["--train_data_dir", str(tmp_path / "streets"), "--label_space", "cityscapes"]
    assert train_like(command, tmp_path / "a", tiny_pipeline_dir, vgg_file) == 1
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("error: ") and "leftImg8bit.png: the image data is broken or truncated" in line
    assert train_like(command, tmp_path / "b", tiny_pipeline_dir, vgg_file, "--skip_bad_images") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "skipped 2 bad photos"
