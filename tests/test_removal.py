"""Removal by name: what is found is filled, what is seen again is said and tried again, all else stays as it is.

The networks are untrained; what they take for cars is set so that it covers a part of the photos.
"""

import io

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from fbinpaint import FeedbackInpaintPipeline, InputError
from fbinpaint.images.convert import to_rgb, upright
from fbinpaint.removal import remove

from .conftest import make_tiny_networks, quiet_pipeline

CAR, TRUCK, NOT_SEEN = 13, 14, "train"


def blocks(seed: int, rows: int = 6, columns: int = 8) -> np.ndarray:
    """Squares of 8x8 pixels, each of one colour."""
    colours = np.random.default_rng(seed).integers(0, 256, (rows, columns, 3), dtype=np.uint8)
    return colours.repeat(8, 0).repeat(8, 1)


COLOURS, OTHER = blocks(4), blocks(5, 5, 9)


@pytest.fixture(scope="module")
def pipe() -> FeedbackInpaintPipeline:
    """Cars and trucks are about a tenth of a photo each; the paint is bold enough to be taken for others."""
    pipe = quiet_pipeline(make_tiny_networks(), sample_size=64)
    image = torch.from_numpy(blocks(0)).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        pipe.segmenter.classify.weight.mul_(20)
        pipe.segmenter.classify.bias[pipe.label_space.class_ids(NOT_SEEN)] = -1e4
        logits = pipe.segmenter(image, torch.zeros_like(image[:, :1])).logits
        others = logits[:, [i for i in range(19) if i not in (CAR, TRUCK)]].amax(1)
        for label in (CAR, TRUCK):
            pipe.segmenter.classify.bias[label] += (others - logits[:, label]).quantile(0.1)
        for inpainter in (pipe.initial_inpainter, pipe.guided_inpainter):
            inpainter.details.to_rgb.weight.mul_(60)
    return pipe


@pytest.fixture
def holes(pipe) -> list[np.ndarray]:
    """The holes (H,W) bool of all photos filled so far, each photo small enough for one crop at its own size."""
    seen = []
    hook = pipe.initial_inpainter.register_forward_pre_hook(
        lambda _, inputs: seen.extend(inputs[1][:, 0].numpy() > 0)
    )
    yield seen
    hook.remove()


def in_mode(mode: str, colours: np.ndarray = COLOURS) -> Image.Image:
    """A photo of that mode, read from a file, with all that a photo says of itself."""
    height, width = colours.shape[:2]
    image, buffer = Image.fromarray(colours), io.BytesIO()
    exif, texts = Image.Exif(), PngImagePlugin.PngInfo()
    exif[271], exif[0x0112] = "Camera", 6 if mode == "turned" else 1
    texts.add_text("Title", "A street")
    options = {"format": "PNG", "exif": exif, "pnginfo": texts, "dpi": (300, 300)}
    if mode == "I;16":
        values = image.convert("L")
        image = Image.fromarray(np.asarray(values).astype(np.uint16) * 257)
    elif mode in ("LA", "RGBA"):
        image = image.convert(mode)
        image.putalpha(Image.fromarray(np.tile(np.linspace(100, 255, width).astype(np.uint8), (height, 1))))
    elif mode == "CMYK":
        image, options["format"] = image.convert("CMYK"), "TIFF"
        options.pop("pnginfo")
    elif mode == "turned":
        image = image.transpose(Image.Transpose.ROTATE_90)
    else:
        image = image.convert(mode)
    image.save(buffer, **options)
    return Image.open(buffer)


MODES = ["RGB", "L", "LA", "RGBA", "I;16", "P", "1", "CMYK", "turned"]


@pytest.mark.parametrize("mode", MODES)
def test_a_photo_without_such_things_stays_as_it_is(pipe, holes, mode):
    photo = in_mode(mode)
    (removal,) = remove(pipe, [photo], NOT_SEEN, retries=2)
    expected = upright(photo, "image")
    expected = expected.convert("RGB") if mode == "P" else expected  # as everywhere: a palette becomes RGB
    assert removal.image.mode == expected.mode and np.array_equal(removal.image, expected)
    assert not removal.mask.any() and removal.mask.shape == expected.size[::-1]
    assert removal.found == removal.seen_again == {} and holes == []
    assert np.array_equal(removal.semantic_before, removal.semantic_after)
    assert removal.image.getexif()[271] == "Camera" and removal.image.getexif().get(0x0112, 1) == 1
    assert removal.image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    assert removal.image.info.get("Title") == (None if mode == "CMYK" else "A street")


@pytest.mark.parametrize("mode", MODES)
def test_known_pixels_stay_bit_identical_in_their_own_mode(pipe, holes, mode):
    photo = in_mode(mode)
    (removal,) = remove(pipe, [photo], ["car", "truck"], num_feedback_rounds=1, grow=1, retries=1)
    assert len(holes) == 2  # it was tried again
    expected = upright(photo, "image")
    expected = expected.convert("RGB") if mode == "P" else expected
    known = ~removal.mask
    assert removal.image.mode == expected.mode and removal.image.size == expected.size
    assert 0.1 < removal.mask.mean() < 0.9
    assert np.array_equal(np.asarray(removal.image)[known], np.asarray(expected)[known])
    assert not np.array_equal(np.asarray(removal.image)[~known], np.asarray(expected)[~known])


def test_masks_are_taken_as_the_pipeline_takes_them(pipe):
    photo = in_mode("RGB")
    mask = np.zeros((photo.height, photo.width), np.uint8)
    mask[:8, :8] = 255
    kinds = mask, Image.fromarray(mask), torch.from_numpy(mask > 0), mask[..., None].repeat(3, 2), [mask]
    first, *others = (remove(pipe, photo, NOT_SEEN, masks=kind, num_feedback_rounds=0)[0].mask for kind in kinds)
    assert first.any() and all(np.array_equal(first, other) for other in others)


def test_what_a_mask_covers_says_nothing_of_the_range_of_deep_greyscale(pipe):
    levels = np.asarray(in_mode("RGB").convert("L")).astype(np.uint16) * 16
    mask = np.zeros(levels.shape, bool)
    mask[:8, :8] = True
    deep = Image.fromarray(np.where(mask, 65535, levels).astype(np.uint16))
    seen, dark = (Image.fromarray(to_rgb(deep, unknown)) for unknown in (mask, None))
    found, expected, other = (remove(pipe, photo, ["car"], masks=mask)[0].found for photo in (deep, seen, dark))
    assert found == expected != other


@pytest.mark.parametrize("mode", ["RGB", "turned", "CMYK"])
def test_trying_again_loses_nothing_that_a_photo_says_of_itself(pipe, mode):
    photo = in_mode(mode)
    once, again = (
        remove(pipe, [photo], ["car", "truck"], num_feedback_rounds=1, grow=1, retries=retries)[0].image
        for retries in (0, 3)
    )
    assert not np.array_equal(once, again)  # of the last try
    assert again.info == once.info and again.getexif()[271] == "Camera"
    assert again.info.get("Title") == (None if mode == "CMYK" else "A street")


def test_shares_are_those_of_the_maps(pipe):
    photos = [Image.fromarray(COLOURS), Image.fromarray(OTHER)]
    for photo, removal in zip(photos, remove(pipe, photos, ["truck", 13], grow=2), strict=True):
        before, after = np.asarray(pipe.segment(photo)), np.asarray(pipe.segment(removal.image))
        assert np.array_equal(removal.semantic_before, before)
        assert np.array_equal(removal.mask, pipe.select(before, ["car", "truck"], grow=2)) and removal.mask.any()
        ids = {"car": CAR, "truck": TRUCK}
        found = {name: (removal.mask & (before == label)).sum() / before.size for name, label in ids.items()}
        seen = {name: (after[removal.mask] == label).mean() for name, label in ids.items()}
        assert removal.found == pytest.approx({name: share for name, share in found.items() if share})
        assert removal.seen_again == pytest.approx({name: share for name, share in seen.items() if share})
        assert removal.found and 0 < sum(removal.found.values()) <= removal.mask.mean()
        map_ = np.asarray(removal.semantic_after)
        assert not np.isin(map_[removal.mask], (CAR, TRUCK)).any()


def test_specks_are_not_found(pipe):
    """Where the map shows a class in specks alone, nothing is filled and nothing said to be found."""
    labels = np.asarray(pipe.segment(Image.fromarray(COLOURS)))
    for label in np.unique(labels):
        (removal,) = remove(pipe, [Image.fromarray(COLOURS)], int(label), num_feedback_rounds=0, grow=0)
        selected = pipe.select(labels, label, grow=0)
        shares = {pipe.label_space.classes[label]: (selected & (labels == label)).mean()} if selected.any() else {}
        assert removal.found == pytest.approx(shares) and np.array_equal(removal.mask, selected)


def test_trying_again_ends_keeps_what_is_better_and_the_rest_as_it_was(pipe, holes):
    photos = [Image.fromarray(colours) for colours in (COLOURS, OTHER, blocks(1), blocks(7))]
    results, tries = [], []
    for retries in range(5):
        holes.clear()
        results.append(remove(pipe, photos, ["car", "truck"], num_feedback_rounds=1, grow=1, retries=retries))
        tries.append(len(holes))
        assert len(photos) <= len(holes) <= len(photos) * (retries + 1)
    assert tries[0] == 4 < tries[1]
    seen = [[sum(removal.seen_again.values()) for removal in removals] for removals in results]
    assert any(last < first for first, last in zip(seen[0], seen[-1], strict=True))
    for fewer, more in zip(seen[:-1], seen[1:], strict=True):
        assert all(b <= a for a, b in zip(fewer, more, strict=True))
    for i, photo in enumerate(photos):
        mask = results[0][i].mask
        for removals in results:
            removal, after = removals[i], np.asarray(pipe.segment(removals[i].image))
            assert np.array_equal(removal.mask, mask) and removal.found == results[0][i].found
            assert np.array_equal(np.asarray(removal.image)[~mask], np.asarray(photo)[~mask])
            shares = {name: (after[mask] == label).mean() for name, label in (("car", CAR), ("truck", TRUCK))}
            assert removal.seen_again == pytest.approx({name: share for name, share in shares.items() if share})
            assert not np.isin(np.asarray(removal.semantic_after)[mask], (CAR, TRUCK)).any()


def test_only_what_is_seen_again_is_filled_again(pipe, holes):
    photo = Image.fromarray(COLOURS)
    (once,) = remove(pipe, [photo], ["car", "truck"], num_feedback_rounds=1, grow=1)
    holes.clear()
    (again,) = remove(pipe, [photo], ["car", "truck"], num_feedback_rounds=1, grow=1, retries=1)
    first, second = holes
    seen = pipe.select(np.asarray(pipe.segment(once.image)), ["car", "truck"], grow=1)
    assert np.array_equal(first, once.mask) and np.array_equal(second, once.mask & seen) and second.any()
    changed = (np.asarray(once.image) != np.asarray(again.image)).any(-1)
    assert changed.any() and not changed[~second].any()


def test_masks_of_ones_own_are_filled_as_well(pipe):
    photos, own = [Image.fromarray(COLOURS), Image.fromarray(OTHER)], []
    for photo in photos:
        mask = np.zeros(photo.size[::-1], bool)
        mask[2:12, 3:20] = True
        own.append(mask)
    alone = remove(pipe, photos, "car", grow=1)
    as_given = remove(pipe, photos, "car", own, grow=1)
    as_images = remove(pipe, photos, "car", [Image.fromarray(mask) for mask in own], grow=1)
    as_bytes = remove(pipe, photos, "car", [mask.astype(np.uint8) * 255 for mask in own], grow=1)
    for i, mask in enumerate(own):
        for removal in (as_given[i], as_images[i], as_bytes[i]):
            assert removal.mask.dtype == bool and np.array_equal(removal.mask, alone[i].mask | mask)
            assert np.array_equal(removal.image, as_given[i].image)
    (nothing_found,) = remove(pipe, photos[:1], NOT_SEEN, own[:1])
    assert np.array_equal(nothing_found.mask, own[0]) and nothing_found.found == nothing_found.seen_again == {}
    assert not np.array_equal(nothing_found.image, photos[0])
    (untouched,) = remove(pipe, photos[:1], NOT_SEEN, [np.zeros_like(own[0])])
    assert not untouched.mask.any() and np.array_equal(untouched.image, photos[0])


def test_each_photo_of_several_is_treated_as_if_alone(pipe):
    """Some with such things and some without, of any mode and size."""
    grey = Image.new("L", (40, 50), 128)
    photos = [in_mode("RGBA"), grey, in_mode("L", OTHER)]
    together = remove(pipe, photos, "car", grow=1, retries=1)
    for photo, removal in zip(photos, together, strict=True):
        (alone,) = remove(pipe, [photo], "car", grow=1, retries=1)
        assert removal.image.mode == photo.mode and removal.image.size == photo.size
        assert np.array_equal(removal.mask, alone.mask) and removal.found == alone.found
        assert np.abs(np.asarray(removal.image).astype(int) - np.asarray(alone.image)).max() <= 1
    assert remove(pipe, [], "car") == []


def test_shadows_go_along_where_asked(pipe):
    photo = Image.fromarray(COLOURS)
    plain, shaded = (remove(pipe, [photo], "car", grow=1, shadow=shadow)[0] for shadow in (False, True))
    expected = pipe.select(pipe.segment(photo, output_type="np"), "car", grow=1, shadows_in=photo)
    assert np.array_equal(shaded.mask, expected) and not (plain.mask & ~shaded.mask).any()
    assert plain.found["car"] <= shaded.found["car"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"classes": "cars"}, "'cars' is no class of cityscapes"),
        ({"classes": []}, "no class is named"),
        ({"classes": None}, "no class is named"),
        ({"grow": -3}, "grow -3"),
        ({"retries": -1}, "retries -1: must be a whole number"),
        ({"retries": 1.5}, "retries 1.5"),
        ({"num_feedback_rounds": -1}, "num_feedback_rounds -1"),
        ({"masks": []}, "1 photos, 0 masks"),
        ({"masks": [np.zeros((20, 20), bool)]}, "is 20x20, the photo 64x48"),
        ({"masks": [np.full((48, 64), -1)]}, "the mask: contains -1"),
        ({"grow": 100}, "the photo: all of it would be filled"),
        ({"masks": [np.ones((48, 64), bool)]}, "the photo: all of it would be filled"),
        ({"photos": ["photo.jpg"]}, "image is a str"),
        ({"photos": [Image.new("RGB", (8, 8))]}, "8x8"),
    ],
)
def test_bad_arguments_are_one_clear_line(pipe, arguments, words):
    good = {"photos": [Image.fromarray(COLOURS)], "classes": "car"}
    with pytest.raises(InputError, match=words) as error:
        remove(pipe, **(good | arguments))
    assert "\n" not in str(error.value)


def test_a_photo_of_nothing_else_is_named(pipe, tmp_path):
    Image.fromarray(COLOURS).save(tmp_path / "street.png")
    with pytest.raises(InputError, match=r"street\.png: all of it would be filled"):
        remove(pipe, [Image.open(tmp_path / "street.png")], "car", grow=100)


def test_one_photo_takes_one_mask(tiny_pipeline_dir):
    """As a picture or as an array, which is no list of rows."""
    pipe = FeedbackInpaintPipeline.from_pretrained(tiny_pipeline_dir)
    photo, hole = Image.new("RGB", (64, 48), (90, 120, 40)), np.zeros((48, 64), bool)
    hole[10:20, 10:20] = True
    for mask in (hole, Image.fromarray(hole), [hole]):
        (removal,) = remove(pipe, photo, "train", masks=mask, num_feedback_rounds=0)
        assert removal.mask[hole].all()
