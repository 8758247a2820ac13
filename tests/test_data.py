"""Training examples: aligned crops, mirrored labels, batches that mix sources and resume anywhere."""

import itertools
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from fbinpaint.data.folder import load_photo_folder
from fbinpaint.data.loader import BadPhotos, BatchLoader
from fbinpaint.data.photos import MixedBatches, PhotoCrops, collate, jitter_colours, read_labels, read_photo
from fbinpaint.data.rows import open_picture
from fbinpaint.errors import InputError
from fbinpaint.labels import get_label_space

SPACE = get_label_space("cityscapes")


def test_a_folder_pairs_labels_by_stem(street_folder, tmp_path):
    (tmp_path / "images").mkdir(), (tmp_path / "labels").mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (40, 32), (9, 9, 9)).save(tmp_path / "images" / f"{name}.jpg")
    Image.new("L", (40, 32), 3).save(tmp_path / "labels" / "b.png")
    photos = load_photo_folder(tmp_path)
    assert photos[0]["semantic_map"] is None and (read_labels(photos[1], SPACE) == 3).all()
    assert len(load_photo_folder(street_folder)) == 12
    with pytest.raises(InputError, match="images/"):
        load_photo_folder(tmp_path / "images")


def test_crops_are_a_function_of_their_key(street_folder):
    crops = PhotoCrops(load_photo_folder(street_folder), SPACE, resolution=48)
    assert len(crops) == 12 and crops.labelled.all()
    a, b, c = crops[3, 5], crops[3, 5], crops[3, 6]
    for name in ("image", "labels", "mask"):
        assert np.array_equal(a[name], b[name]) and a[name].shape[:2] == (48, 48)
    assert not np.array_equal(a["mask"], c["mask"])
    assert a["mask"].any() and not a["mask"].all()


def test_labels_follow_their_photo(tmp_path):
    """A photo painted in its own label: after crop, zoom and mirror they still agree."""
    (tmp_path / "images").mkdir(), (tmp_path / "labels").mkdir()
    labels = np.zeros((64, 90), np.uint8)
    labels[:, 45:], labels[40:, :20] = 11, 5
    Image.fromarray(np.repeat(labels[..., None] * 20, 3, axis=2)).save(tmp_path / "images" / "x.png")
    SPACE.to_palette_image(labels).save(tmp_path / "labels" / "x.png")
    crops = PhotoCrops(load_photo_folder(tmp_path), SPACE, resolution=64, colour_jitter=0.0)
    for seed in range(12):
        example = crops[0, seed]
        agree = np.abs(example["image"][..., 0].astype(int) - example["labels"].astype(int) * 20) < 12
        assert agree.mean() > 0.93


@pytest.mark.parametrize("shorter", [17, 32, 64, 150])
def test_resized_labels_are_some_of_the_labels(shorter, tmp_path):
    """At any size: no class is blended of two others, nor is any lost that covers much."""
    (tmp_path / "images").mkdir(), (tmp_path / "labels").mkdir()
    labels = np.where(np.indices((64, 90)).sum(0) // 5 % 2, 2, 13).astype(np.uint8)
    labels[:20, :30] = 255
    Image.new("RGB", (90, 64)).save(tmp_path / "images" / "x.png")
    Image.fromarray(labels).save(tmp_path / "labels" / "x.png")
    (row,) = load_photo_folder(tmp_path)
    image, resized = read_photo(row, shorter, SPACE)
    assert image.shape[:2] == resized.shape and min(resized.shape) == shorter
    assert set(np.unique(resized).tolist()) == {2, 13, 255}
    assert (resized == 255).mean() == pytest.approx((labels == 255).mean(), abs=0.03)


def test_a_loader_makes_the_batches_of_the_plan(street_folder):
    """Photo by photo in its order, by the seeds that it draws, from the step on that it begins with."""
    crops = PhotoCrops(load_photo_folder(street_folder), SPACE, resolution=32)
    plan = MixedBatches(crops.labelled, batch_size=5, labelled_ratio=1.0, seed=2, start=3)
    batches = itertools.islice(BatchLoader(crops, plan, 0, BadPhotos()), 3)
    in_order = 0
    for number, batch in enumerate(batches, start=3):
        expected = [crops[key] for key in plan.batch(number)]
        assert batch.names == tuple(example["name"] for example in expected)
        assert torch.equal(batch.labels, torch.stack([torch.from_numpy(x["labels"].copy()) for x in expected]))
        in_order += list(batch.names) == sorted(batch.names)
    assert in_order < 3


def test_a_loader_names_the_photos_that_it_passes_over(street_folder, tmp_path, capsys):
    """Or, where none are to be passed over, ends with the first in a line."""
    data = shutil.copytree(street_folder, tmp_path / "data")
    (data / "images/0003.png").write_bytes(b"no picture")
    photos = load_photo_folder(data)

    def read(skip_bad: bool) -> BadPhotos:
        crops, bad = PhotoCrops(photos, SPACE, resolution=32, skip_bad=skip_bad), BadPhotos()
        loader = BatchLoader(crops, MixedBatches(crops.labelled, 6, 1.0, seed=0), 0, bad)
        for batch in itertools.islice(loader, 4):  # each photo twice
            assert len(batch.names) == 6 and not any("0003" in name for name in batch.names)
        return bad

    bad = read(skip_bad=True)
    assert len(bad) == 1 and all("0003.png" in text for item in bad.problems.items() for text in item)
    assert capsys.readouterr().out.count("skipped a bad photo: ") == 1
    with pytest.raises(InputError, match="0003.png"):
        read(skip_bad=False)


def test_labels_none_of_which_is_of_a_photo_are_refused(tmp_path):
    (tmp_path / "images").mkdir(), (tmp_path / "labels").mkdir()
    for name in ("images/a.png", "images/b.png", "labels/a_label.png"):
        Image.new("L", (32, 32)).save(tmp_path / name)
    with pytest.raises(InputError, match="labels: holds no PNG with the name of a photo"):
        load_photo_folder(tmp_path)
    (tmp_path / "labels/a_label.png").rename(tmp_path / "labels/a.png")
    assert load_photo_folder(tmp_path)["label_format"] == ["ids", None]
    (tmp_path / "labels/a.png").rename(tmp_path / "labels/a.PNG")
    assert load_photo_folder(tmp_path)["label_format"] == ["ids", None]


def test_files_of_a_folder_that_are_not_used_are_told(tmp_path, monkeypatch, capsys):
    """Once, however many there are and however many processes read them."""
    (tmp_path / "images").mkdir(), (tmp_path / "labels").mkdir()
    for name in ("images/a.png", "images/b.png", "labels/a.png", "labels/b_label.png", "labels/c.png"):
        Image.new("L", (32, 32)).save(tmp_path / name)
    for name in ("images/b.heic", "images/list.txt", "images/.hidden", "labels/b.json"):
        (tmp_path / name).touch()
    assert load_photo_folder(tmp_path)["label_format"] == ["ids", None]
    assert capsys.readouterr().out.splitlines() == [
        f"note: {tmp_path}/images/b.heic: is not a photo that can be read, left alone (and 1 more like it)",
        f"note: {tmp_path}/labels/b_label.png: has the name of no photo in images/, not used (and 1 more like it)",
    ]
    monkeypatch.setenv("RANK", "1")
    load_photo_folder(tmp_path)
    assert not capsys.readouterr().out


@pytest.mark.parametrize("others", [[], ["labels/a.png"]])
def test_a_label_of_another_format_is_refused(others, tmp_path):
    (tmp_path / "images").mkdir(), (tmp_path / "labels").mkdir()
    for name in ("images/a.png", "images/b.png", "labels/b.tif", *others):
        Image.new("L", (32, 32)).save(tmp_path / name)
    with pytest.raises(InputError, match=f"^{tmp_path}/labels/b.tif: labels are PNG files of class ids; save it"):
        load_photo_folder(tmp_path)
    Image.new("L", (32, 32)).save(tmp_path / "labels/b.png")  # what lies beside a label is none
    assert load_photo_folder(tmp_path)["label_format"][1] == "ids"


@pytest.mark.parametrize("second", ["images/a.jpg", "labels/a.PNG"])
def test_a_label_that_could_be_of_two_photos_is_refused(second, tmp_path):
    (tmp_path / "images").mkdir(), (tmp_path / "labels").mkdir()
    for name in ("images/a.png", "images/b.png", "labels/a.png", second):
        Image.new("L", (32, 32)).save(tmp_path / name)
    with pytest.raises(InputError, match="has two photos or labels of its name; rename all but one"):
        load_photo_folder(tmp_path)


def test_a_row_whose_picture_is_nowhere_is_told(tmp_path):
    for picture in (None, {"path": None, "bytes": None}):
        with pytest.raises(InputError, match="^row 7: no picture in this row$"):
            open_picture(picture, "row 7")


def test_mirrored_faces_swap_left_and_right(tmp_path):
    """However often it is mirrored, a face's left eye is on the picture's right."""
    space = get_label_space("celebamask-hq")
    left, right = space.classes.index("l_eye"), space.classes.index("r_eye")
    (tmp_path / "images").mkdir(), (tmp_path / "labels").mkdir()
    labels = np.full((32, 32), right, np.uint8)
    labels[:, 16:] = left
    Image.new("RGB", (32, 32)).save(tmp_path / "images" / "x.png")
    space.to_palette_image(labels).save(tmp_path / "labels" / "x.png")
    crops = PhotoCrops(load_photo_folder(tmp_path), space, resolution=32, max_zoom=1.0)
    for seed in range(8):
        assert (crops[0, seed]["labels"][:, 0] == right).all() and (crops[0, seed]["labels"][:, -1] == left).all()


def test_crops_seek_out_small_classes(tmp_path):
    """A class on 0.2 % of the picture is in far more of the crops than windows placed at random would catch."""
    (tmp_path / "images").mkdir(), (tmp_path / "labels").mkdir()
    labels = np.zeros((96, 192), np.uint8)
    labels[2:8, 2:8] = 7
    Image.new("RGB", (192, 96)).save(tmp_path / "images" / "x.png")
    SPACE.to_palette_image(labels).save(tmp_path / "labels" / "x.png")
    crops = PhotoCrops(load_photo_folder(tmp_path), SPACE, resolution=32, labelled_zoom=(3.0, 3.0))
    assert 6 <= sum((crops[0, seed]["labels"] == 7).any() for seed in range(40)) <= 30


def test_zoom_of_labelled_photos(tmp_path):
    """Stripes of 8 pixels, enlarged 3 times before the crop."""
    (tmp_path / "images").mkdir(), (tmp_path / "labels").mkdir()
    labels = np.tile(np.repeat(np.arange(2, dtype=np.uint8), 8), (32, 2))
    Image.new("RGB", (32, 32)).save(tmp_path / "images" / "x.png")
    SPACE.to_palette_image(labels).save(tmp_path / "labels" / "x.png")
    crops = PhotoCrops(load_photo_folder(tmp_path), SPACE, resolution=32, labelled_zoom=(3.0, 3.0))
    for seed in range(6):
        assert np.count_nonzero(np.diff(crops[0, seed]["labels"][0])) <= 2  # 24-pixel stripes; unzoomed: 3


def test_a_fraction_of_the_labels(street_folder):
    photos = load_photo_folder(street_folder)
    crops = PhotoCrops(photos, SPACE, resolution=32, label_fraction=0.25)
    assert np.flatnonzero(crops.labelled).tolist() == [0, 6, 11]
    for index in (1, 10):
        assert (crops[index, 0]["labels"] == 255).all()
    assert (crops[6, 0]["labels"] != 255).any()
    few = PhotoCrops(photos.select([0, 6, 11]), SPACE, resolution=32)
    pixels, share, presence = crops.class_counts()
    assert all(map(torch.equal, (pixels, share, presence), few.class_counts()))
    assert torch.equal(presence > 0, pixels > 0) and presence.unique().tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])
    torch.testing.assert_close(share, pixels / pixels.sum())  # these labels leave nothing unknown


def test_what_a_label_leaves_unknown_counts_as_no_class(tmp_path):
    (tmp_path / "images").mkdir(), (tmp_path / "labels").mkdir()
    labels = np.full((32, 32), 255, np.uint8)
    labels[:8] = 10  # a quarter of the one photo; nothing of the other
    for name, ids in (("a", labels), ("b", np.full((32, 32), 255, np.uint8))):
        Image.new("RGB", (32, 32)).save(tmp_path / "images" / f"{name}.png")
        SPACE.to_palette_image(ids).save(tmp_path / "labels" / f"{name}.png")
    pixels, share, presence = PhotoCrops(load_photo_folder(tmp_path), SPACE, resolution=32).class_counts()
    assert pixels[10] == pixels.sum() == 256 and share[10] == 1 / 8 and presence[10] == 1 / 2


def test_a_batch_at_half_the_size_shows_the_same(street_folder):
    crops = PhotoCrops(load_photo_folder(street_folder), SPACE, resolution=64)
    batch = collate([crops[index, 0] for index in range(3)])
    half = batch.resized(32)
    assert batch.resized(64) is batch and half.image.shape == (3, 3, 32, 32) and half.labels.shape == (3, 32, 32)
    torch.testing.assert_close(half.image, torch.nn.functional.avg_pool2d(batch.image, 2))
    assert set(half.mask.unique().tolist()) == {0, 1} and (half.mask.mean() - batch.mask.mean()).abs() < 0.05
    assert torch.equal(half.labels, batch.labels[:, 1::2, 1::2]) and half.has_label.all()
    assert torch.equal(batch.labelled_share, (batch.labels != 255).float().mean((1, 2)))


def test_colour_jitter_changes_light_not_shape():
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, 4:] = (120, 60, 40)
    looks = [jitter_colours(image, np.random.default_rng(seed), 0.2) for seed in range(8)]
    assert len({look.tobytes() for look in looks}) == 8
    assert all(np.array_equal(look, look[:1, :].repeat(8, axis=0)) for look in looks)
    assert np.array_equal(jitter_colours(image, np.random.default_rng(0), 0.0), image)


def test_a_label_of_another_space_is_refused(tmp_path):
    (tmp_path / "images").mkdir(), (tmp_path / "labels").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "images" / "x.png")
    Image.new("L", (32, 32), 77).save(tmp_path / "labels" / "x.png")
    with pytest.raises(InputError, match="label space"):
        PhotoCrops(load_photo_folder(tmp_path), SPACE, resolution=32)[0, 0]
    Image.new("L", (30, 32), 7).save(tmp_path / "labels" / "x.png")
    with pytest.raises(InputError, match="pixels"):
        PhotoCrops(load_photo_folder(tmp_path), SPACE, resolution=32)[0, 0]


def test_batches_keep_the_ratio_cover_everything_and_resume(street_folder):
    labelled = np.arange(20) < 6
    batches = MixedBatches(labelled, batch_size=8, labelled_ratio=0.25, seed=3)
    first = list(itertools.islice(batches, 14))
    assert all(sum(labelled[index] for index, _ in batch) == 2 for batch in first)
    assert {index for batch in first[:3] for index, _ in batch if labelled[index]} == set(range(6))
    assert {index for batch in first[:4] for index, _ in batch if not labelled[index]} == set(range(6, 20))
    seeds = [seed for batch in first for _, seed in batch]
    assert len(set(seeds)) == len(seeds)
    resumed = MixedBatches(labelled, batch_size=8, labelled_ratio=0.25, seed=3, start=5)
    assert list(itertools.islice(resumed, 9)) == first[5:]
    # Two processes share the work of one: no example twice, none left out.
    halves = [MixedBatches(labelled, 8, 0.25, seed=3, process=p, processes=2) for p in range(2)]
    steps = zip(*(itertools.islice(half, 7) for half in halves), strict=True)
    assert [batch for step in steps for batch in step] == first


def test_a_single_source_fills_the_batch():
    for labelled in (np.ones(5, bool), np.zeros(5, bool)):
        assert len(MixedBatches(labelled, batch_size=4, labelled_ratio=0.25, seed=0).batch(0)) == 4


def test_a_batch_without_a_labelled_photo_is_refused():
    with pytest.raises(InputError, match="0.1 of 4 photos is none"):
        MixedBatches(np.arange(5) < 2, batch_size=4, labelled_ratio=0.1, seed=0)


def test_collate(street_folder):
    crops = PhotoCrops(load_photo_folder(street_folder), SPACE, resolution=32)
    batch = collate([crops[0, 0], crops[1, 1]])
    assert batch.image.shape == (2, 3, 32, 32) and -1 <= batch.image.min() < batch.image.max() <= 1
    assert batch.mask.shape == (2, 1, 32, 32) and set(batch.mask.unique().tolist()) == {0.0, 1.0}
    assert batch.labels.dtype == torch.int64 and batch.has_label.tolist() == [True, True]
