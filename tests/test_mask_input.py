"""What a mask means: white = hole from half of its range on, in the photo's shape; what can hardly be meant is told."""

import io
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from fbinpaint import InputError, InputWarning
from fbinpaint.batch.planning import plan_restorations
from fbinpaint.cli import main
from fbinpaint.demo.inputs import read_hole
from fbinpaint.evaluation.photos import load_sample
from fbinpaint.images.convert import check_hole, to_mask
from fbinpaint.images.folders import Pair
from fbinpaint.images.io import load_image
from fbinpaint.labels import CITYSCAPES

from .conftest import sorted_out

SIZE = (60, 40)  # of the photos here


def drawn(size: tuple[int, int] = SIZE) -> np.ndarray:
    """(H, W) bool: a disc and a line."""
    canvas = np.zeros(size[::-1], np.uint8)
    cv2.circle(canvas, (size[0] // 3, size[1] // 2), size[1] // 4, 1, -1)
    cv2.line(canvas, (size[0] // 2, 3), (size[0] - 5, size[1] - 8), 1, 2)
    return canvas > 0


HOLE = drawn()


def scene(size: tuple[int, int] = SIZE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def stored(image: Image.Image | np.ndarray, file_format: str, **options) -> Image.Image:
    """The image as it comes back from a file of this format."""
    buffer = io.BytesIO()
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(buffer, file_format, **options)
    with Image.open(buffer) as found:
        found.load()
    return found


def write(path: Path, pixels: np.ndarray, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def run(capsys, *arguments: object) -> tuple[int, list[str]]:
    """Exit code of `fbinpaint run` and its errors, warnings and notes."""
    code = main(["run", *map(str, arguments)])
    lines = capsys.readouterr().err.replace("\r", "\n").splitlines()
    return code, [line for line in lines if line.startswith(("error: ", "warning: ", "note: "))]


# ---------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize(
    ("below", "from_here", "white"),
    [
        (np.uint8(127), np.uint8(128), np.uint8(255)),
        (np.uint16(32767), np.uint16(32768), np.uint16(65535)),
        (np.int64(127), np.int64(128), np.int64(255)),
        (np.int32(32767), np.int32(32768), np.int32(65535)),
        (np.float32(0.49), np.float32(0.5), np.float32(1)),
        (np.float64(127.4), np.float64(127.5), np.float64(255)),
    ],
)
def test_a_pixel_is_a_hole_from_half_of_the_range_on(below, from_here, white):
    for values, expected in (([0, below, from_here, white], [0, 0, 1, 1]), ([below, white, 0, 0], [0, 1, 0, 0])):
        mask = np.array([values] * 4, white.dtype)
        assert np.array_equal(to_mask(mask, (4, 4)), np.array([expected] * 4, bool))
        assert np.array_equal(to_mask(np.dstack([mask * 0, mask, mask * 0]), (4, 4)), np.array([expected] * 4, bool))


def test_a_16_bit_file_is_cut_at_half_of_16_bits(tmp_path):
    levels = np.array([[0, 255, 4095, 32767, 32768, 65535]] * 6, np.uint16)
    mask = load_image(write(tmp_path / "m.png", levels))
    assert mask.mode.startswith("I") and np.array_equal(to_mask(mask, (6, 6)), levels >= 32768)
    for dark in (levels // 300, (levels // 300).astype(">u2")):  # up to 218 of 65535, in either byte order
        assert not to_mask(dark, (6, 6)).any()


def test_an_almost_black_background_is_known():
    for mode in ("L", "RGB", "P", "I;16"):
        values = np.where(HOLE, 255, 1).astype(np.uint8)
        deep = mode == "I;16"
        mask = Image.fromarray(values.astype(np.uint16) * 257) if deep else Image.fromarray(values).convert(mode)
        assert np.array_equal(to_mask(mask, SIZE), HOLE)


@pytest.mark.parametrize("values", [HOLE, *(HOLE.astype(kind) for kind in ("u1", "u2", "i4", "i8", "f2", "f4", "f8"))])
def test_bools_and_0_1_arrays_are_taken_as_they_are(values):
    assert np.array_equal(to_mask(values, SIZE), HOLE)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "GIF"])
def test_0_1_files_are_taken_as_they_are(file_format):
    ones = HOLE.astype(np.uint8)
    for mask in (
        Image.fromarray(ones), Image.fromarray(ones).convert("P"), Image.frombytes("P", SIZE, ones.tobytes())
    ):  # fmt: skip
        assert np.array_equal(to_mask(stored(mask, file_format), SIZE), HOLE)


def test_a_palette_counts_by_colour_not_by_index():
    mask = Image.fromarray(np.where(HOLE, 0, 7).astype(np.uint8))
    mask.putpalette([255, 255, 255] + [0, 0, 0] * 255)  # index 0 is white
    assert np.array_equal(to_mask(stored(mask, "PNG"), SIZE), HOLE)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize(
    ("file_format", "quality"), [("JPEG", 40), ("JPEG", 75), ("JPEG", 95), ("WEBP", 50), ("WEBP", 80)]
)
def test_a_mask_of_jpeg_noise_is_the_mask_that_was_drawn(file_format, quality, mode):
    """Ringing alone is no hole, so no known pixel changes; it reaches some 10 % of the pixels here."""
    hole = drawn((200, 160))
    noisy = stored(Image.fromarray(hole.astype(np.uint8) * 255).convert(mode), file_format, quality=quality)
    levels = np.asarray(noisy.convert("L"))
    assert (levels[~hole] > 0).mean() > 0.01
    found = to_mask(noisy, (200, 160))
    edge = cv2.morphologyEx(hole.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    assert np.array_equal(found[~edge], hole[~edge]) and (found != hole).mean() < 0.002


def test_a_soft_mask_is_cut_in_its_middle():
    half = np.zeros((40, 60), np.uint8)
    half[:, 30:] = 255
    soft = Image.fromarray(half).filter(ImageFilter.GaussianBlur(4))
    assert len(np.unique(soft)) > 10
    assert np.array_equal(to_mask(soft, SIZE), half > 0)
    assert np.array_equal(to_mask(np.asarray(soft) / 255, SIZE), half > 0)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("colour", ["black", "white", "red"])
def test_a_painted_layer_is_the_hole_whatever_its_colour(mode, colour):
    layer = Image.new("RGBA", SIZE, colour)
    layer.putalpha(Image.fromarray(HOLE.astype(np.uint8) * 255))
    layer = layer.convert(mode)
    assert np.array_equal(to_mask(layer, SIZE), HOLE)
    for file in (stored(layer, "PNG"), stored(layer, "TIFF"), stored(layer, "WEBP", quality=80)):
        assert np.array_equal(to_mask(file, SIZE), HOLE)
    if mode == "RGBA":
        assert np.array_equal(to_mask(np.asarray(layer), SIZE), HOLE)


def test_a_layer_with_nothing_on_it_marks_nothing():
    assert not to_mask(Image.new("RGBA", SIZE, (255, 255, 255, 0)), SIZE).any()


def test_soft_strokes_on_transparency_are_cut_in_their_middle():
    """As painting programs save a layer."""
    strokes = Image.new("RGBA", SIZE, (255, 255, 255, 0))
    strokes.putalpha(Image.fromarray(HOLE.astype(np.uint8) * 255).filter(ImageFilter.GaussianBlur(0.5)))
    expected = np.asarray(strokes.getchannel("A")) >= 128
    assert np.array_equal(read_hole(strokes, SIZE, Image.fromarray(scene())), expected)


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (HOLE * 2.0 - 1, "contains -1; use 0 for known"),
        (np.where(HOLE, np.inf, 0), "NaN or infinity"),
        (np.where(HOLE, np.nan, 0), "NaN or infinity"),
        (HOLE * 300.0, "contains 300, above 255"),
        (HOLE * 70000, "contains 70000, above 65535"),
    ],
)
def test_values_of_no_known_range_are_refused(mask, words):
    with pytest.raises(InputError, match=words):
        to_mask(mask, SIZE)


# ---------------------------------------------------------------------------------------------- shapes


@pytest.mark.parametrize(("width", "height"), [(120, 80), (30, 20), (61, 40), (59, 40), (7, 5), (8, 5), (6000, 4000)])
def test_another_size_of_the_same_shape_is_resized(width, height):
    left = np.zeros((height, width), bool)
    left[:, : width // 2] = True
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = to_mask(left, SIZE)
    assert found.shape == HOLE.shape and abs(found.mean() - 0.5) < 0.1


@pytest.mark.parametrize(("width", "height"), [(40, 60), (60, 60), (64, 40), (60, 30), (256, 256), (1, 30)])
def test_another_shape_is_refused_with_both_sizes(width, height):
    words = f"the mask: is {width}x{height}, the photo 60x40; give one of the photo's shape"
    with pytest.raises(InputError, match=words):
        to_mask(np.ones((height, width), bool), SIZE)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_mask_drawn_for_the_stored_pixels_is_turned_with_the_photo(orientation, tiny_pipeline, tmp_path):
    """The photo and its mask are stored sideways; only the photo says so."""
    photo = load_image(write(tmp_path / "photo.png", scene(), exif=exif(orientation)))
    mask = load_image(write(tmp_path / "mask.png", HOLE.astype(np.uint8) * 255))
    both = load_image(write(tmp_path / "both.png", HOLE.astype(np.uint8) * 255, exif=exif(orientation)))
    with pytest.warns(InputWarning, match="mask.png: fits .*photo.png as it is stored, .*; was turned with the photo"):
        turned = to_mask(mask, SIZE[::-1], photo)
    assert np.array_equal(turned, to_mask(both, SIZE[::-1], photo)) and turned.sum() == HOLE.sum()
    with pytest.warns(InputWarning, match="turned"):
        result = tiny_pipeline(photo, mask, num_feedback_rounds=0).images[0]
    assert result.tobytes() == tiny_pipeline(photo, both, num_feedback_rounds=0).images[0].tobytes()


def test_a_mask_that_fits_the_upright_photo_is_not_turned():
    photo = stored(scene(), "PNG", exif=exif(6))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(to_mask(HOLE.T, SIZE[::-1], photo), HOLE.T)
    with pytest.raises(InputError, match="is 60x40, the photo 40x60"):  # nothing says that it lies on its side
        to_mask(HOLE, SIZE[::-1], stored(scene(SIZE[::-1]), "PNG"))
    with pytest.raises(InputError, match="is 40x60, the photo 60x40"):  # the mask's own tag has turned it already
        to_mask(stored(HOLE, "PNG", exif=exif(6)), SIZE, stored(scene(SIZE[::-1]), "PNG", exif=exif(6)))


# ---------------------------------------------------------------------------------------------- hardly meant


def test_python_warns_of_masks_that_can_hardly_be_meant(tiny_pipeline):
    photo, most = Image.fromarray(scene()), np.ones_like(HOLE)
    most[:1] = False  # 97.5 %
    with pytest.warns(InputWarning, match="the mask: nothing is marked, so the photo stays as it is"):
        assert tiny_pipeline(photo, HOLE & False).images[0].tobytes() == photo.tobytes()
    with pytest.warns(InputWarning, match=r"the mask: 97.5% of the photo is marked; white = hole.*PIL.ImageOps.invert"):
        result = tiny_pipeline(photo, most).images[0]
    assert np.array_equal(np.asarray(result)[~most], scene()[~most])
    with pytest.raises(InputError, match="the mask: everything is marked, so nothing of the photo is known"):
        tiny_pipeline(photo, HOLE | True)
    with pytest.warns(InputWarning, match="nothing is marked"):  # not black, but below half: said, not guessed
        tiny_pipeline(photo, HOLE * np.uint8(127))


def test_a_usual_mask_is_not_remarked_upon(tiny_pipeline):
    with warnings.catch_warnings():
        warnings.simplefilter("error", InputWarning)
        tiny_pipeline(scene(), HOLE, num_feedback_rounds=0)
        tiny_pipeline(scene(), torch.from_numpy(HOLE)[None, None], num_feedback_rounds=0)
        tiny_pipeline(scene(), Image.fromarray(HOLE), num_feedback_rounds=0)


def test_the_command_line_says_the_same_in_a_line_each(tmp_path, tiny_pipeline_dir, capsys):
    most = np.ones_like(HOLE)
    most[:1] = False
    levels = {"good": HOLE, "empty": HOLE & False, "most": most, "full": HOLE | True, "other": drawn((60, 60))}
    for name, hole in levels.items():
        write(tmp_path / f"photos/{name}.png", scene())
        write(tmp_path / f"masks/{name}.png", hole.astype(np.uint8) * 255)
    write(tmp_path / "photos/turned.png", scene(), exif=exif(6))
    write(tmp_path / "masks/turned.png", HOLE.astype(np.uint8) * 255)
    arguments = ["--image", tmp_path / "photos", "--mask", tmp_path / "masks", "--output", tmp_path / "out"]
    code, lines = run(capsys, *arguments, "--model", tiny_pipeline_dir, "--rounds=0")
    assert code == 1
    said = {name: [line for line in lines if f"masks/{name}.png: " in line] for name in (*levels, "turned")}
    assert len(lines) == 5 and {name: len(about) for name, about in said.items()} == {n: n != "good" for n in said}
    assert said["empty"][0].startswith("warning: ") and "nothing is marked" in said["empty"][0]
    assert said["most"][0].startswith("warning: ") and "97.5% of the photo is marked" in said["most"][0]
    assert said["turned"][0].startswith("warning: ") and "turned with the photo" in said["turned"][0]
    assert said["full"][0].startswith("error: ") and "everything is marked" in said["full"][0]
    assert said["other"][0].startswith("error: ") and "is 60x60, the photo 60x40" in said["other"][0]
    assert {path.stem for path in (tmp_path / "out").iterdir()} == {"good", "empty", "most", "turned"}
    assert np.array_equal(Image.open(tmp_path / "out/empty.png"), scene())


def test_the_demo_says_the_same_to_whom_it_serves():
    said, upright = [], Image.fromarray(scene())
    most = np.ones_like(HOLE)
    most[:1] = False
    assert np.array_equal(read_hole(Image.fromarray(most), SIZE, upright, said.append), most)
    photo = stored(scene(), "PNG", exif=exif(6))
    assert read_hole(Image.fromarray(HOLE), SIZE[::-1], photo, said.append).sum() == HOLE.sum()
    assert ["97.5% of the photo is marked" in said[0], "turned with the photo" in said[1], len(said)] == [1, 1, 2]
    for mask, words in ((HOLE & False, "nothing is marked"), (HOLE | True, "everything"), (HOLE.T, "is 40x60, the")):
        with pytest.raises(InputError, match=words):
            read_hole(Image.fromarray(mask), SIZE, upright, said.append)
    with pytest.raises(InputError, match="nothing is marked"):
        read_hole(None, SIZE, upright, said.append)


def test_evaluate_reads_masks_in_the_same_way(tmp_path):
    image = write(tmp_path / "a.png", scene())
    masks = {"soft": HOLE * np.uint8(200), "full": (HOLE | True) * np.uint8(255), "other": HOLE.T * np.uint8(255)}
    paths = {name: write(tmp_path / f"{name}_mask.png", mask) for name, mask in masks.items()}
    sample = load_sample(Pair("a", image, paths["soft"]), None, 0, 40, 0, CITYSCAPES)
    assert np.array_equal(sample.hole, HOLE)
    for name, words in (("full", "everything is marked"), ("other", "is 40x60, the photo 60x40")):
        with pytest.raises(InputError, match=f"{name}_mask.png: {words}"):
            load_sample(Pair("a", image, paths[name]), None, 0, 40, 0, CITYSCAPES)


def test_a_hole_that_is_told_to_someone_else_raises_no_warning():
    told = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_hole(HOLE & False, "m.png", told.append)
    assert len(told) == 1 and told[0].startswith("m.png: nothing is marked")


# ---------------------------------------------------------------------------------------------- masks in folders


def lay_out(folder: Path, *names: str) -> None:
    for name in names:
        write(folder / name, HOLE.astype(np.uint8) * 255 if "_mask" in name or "masks/" in name else scene())


def planned(folder: Path, image: str = "", mask: str = "") -> tuple[dict[str, str], list[str], list[str]]:
    """Result -> mask of every photo, below the folder; problems; notes."""
    jobs, problems, notes = sorted_out(plan_restorations(folder / image, folder / mask, folder.parent / "out", False))
    return {job.result.name: job.mask.relative_to(folder).as_posix() for job in jobs}, problems, notes


def test_masks_beside_their_photos_are_paired(tmp_path):
    lay_out(tmp_path / "d", "a.png", "a_mask.png", "b.jpg", "b_mask001.png", "sub/c.png", "sub/c_mask000.png")
    pairs, problems, notes = planned(tmp_path / "d")
    assert pairs == {"a.png": "a_mask.png", "b.png": "b_mask001.png", "c.png": "sub/c_mask000.png"}
    assert not problems and not notes


def test_masks_of_such_names_in_a_folder_of_their_own_are_paired(tmp_path):
    lay_out(tmp_path / "d", "photos/a.png", "photos/b.png", "photos/c.png", "masks/a_mask.png", "masks/b_mask001.png",
            "masks/c.png", "masks/d_mask.png")  # fmt: skip
    pairs, problems, notes = planned(tmp_path / "d", "photos", "masks")
    assert pairs == {"a.png": "masks/a_mask.png", "b.png": "masks/b_mask001.png", "c.png": "masks/c.png"}
    assert not problems and len(notes) == 1 and "d_mask.png: has no photo, not used" in notes[0]


def test_of_several_masks_none_is_guessed(tmp_path):
    lay_out(tmp_path / "d", "a.png", "a_mask001.png", "a_mask002.png", "b.png", "c.png", "c_mask.png")
    pairs, problems, _ = planned(tmp_path / "d")
    assert pairs == {"c.png": "c_mask.png"} and len(problems) == 2
    assert "a_mask001.png" in problems[0] and "a_mask002.png" in problems[0] and "several masks" in problems[0]
    assert "b.png: has no mask; add b.png or b_mask.png" in problems[1]


def test_masks_beside_photos_are_not_restored_as_photos(tmp_path):
    lay_out(tmp_path / "d", "photos/a.png", "photos/a_mask.png", "photos/b_mask.png", "masks/a.png", "masks/b_mask.png")
    pairs, problems, notes = planned(tmp_path / "d", "photos", "masks")
    assert pairs == {"a.png": "masks/a.png", "b_mask.png": "masks/b_mask.png"} and not problems  # there is no photo b
    assert len(notes) == 1 and "photos/a_mask.png: is a mask by its name, left alone" in notes[0]
    # A mask of its very name: a photo, or the folder holds photos beside their masks. None is guessed.
    write(tmp_path / "d/masks/a_mask.png", HOLE)
    pairs, problems, _ = planned(tmp_path / "d", "photos", "masks")
    assert pairs == {"b_mask.png": "masks/b_mask.png"}
    assert len(problems) == 1 and "masks/a.png" in problems[0] and "several masks" in problems[0]
    (tmp_path / "d/masks/a.png").unlink()
    pairs, problems, _ = planned(tmp_path / "d", "photos", "masks")
    assert pairs["a_mask.png"] == "masks/a_mask.png" and "photos/a.png: has no mask" in problems[0]


def test_one_mask_for_all_that_lies_among_the_photos_is_not_restored(tmp_path):
    lay_out(tmp_path / "d", "a.png", "b.png", "m_mask.png")
    pairs, problems, notes = planned(tmp_path / "d", "", "m_mask.png")
    assert pairs == {"a.png": "m_mask.png", "b.png": "m_mask.png"} and not problems and not notes


def test_photos_are_no_masks_of_themselves(tmp_path, capsys):
    lay_out(tmp_path / "d", "a.png", "b.png")
    (tmp_path / "links").symlink_to(tmp_path / "d")
    for mask in ("d", "links"):
        code, (line,) = run(capsys, "--image", tmp_path / "d", "--mask", tmp_path / mask, "--output", tmp_path / "out")
        assert code == 1 and line.startswith(f"error: {tmp_path / mask}: holds photos but no mask; put NAME_mask.png")
    photo = tmp_path / "d/a.png"
    code, (line,) = run(capsys, "--image", photo, "--mask", photo, "--output", tmp_path / "o.png")
    assert code == 1 and "a.png: is the photo itself; name its mask, or `alpha`" in line
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks/a.png").symlink_to(tmp_path / "d/a.png")
    code, lines = run(capsys, "--image", tmp_path / "d", "--mask", tmp_path / "masks", "--output", tmp_path / "out")
    assert code == 1 and "a.png: has no mask but itself" in lines[0] and "b.png: has no mask; " in lines[1]
    assert not (tmp_path / "out").exists()


def test_a_folder_of_photos_and_masks_is_restored(tmp_path, tiny_pipeline_dir, capsys):
    lay_out(tmp_path / "d", "a.png", "a_mask.png", "b.png", "b_mask001.png")
    arguments = ["--image", tmp_path / "d", "--mask", tmp_path / "d", "--output", tmp_path / "out", "--rounds=0"]
    assert run(capsys, *arguments, "--model", tiny_pipeline_dir) == (0, [])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.png"]
    for name in ("a.png", "b.png"):
        assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / name).convert("RGB"))[~HOLE], scene()[~HOLE])


# ---------------------------------------------------------------------------------------------- the photo's own alpha


def with_hole() -> np.ndarray:
    """(H, W, 4): transparent in the hole, half-way at some known pixels."""
    alpha = np.where(HOLE, 0, 255).astype(np.uint8)
    alpha[0, :4] = 128, 127, 254, 255
    return np.dstack([scene(), alpha])


def test_the_transparent_part_of_a_photo_is_its_mask(tiny_pipeline):
    expected = HOLE.copy()
    expected[0, 1] = True  # alpha 127
    photos = (
        Image.fromarray(with_hole()), with_hole(), stored(with_hole(), "WEBP", lossless=True, exact=True),
        Image.fromarray(with_hole()).convert("LA"),
    )  # fmt: skip
    for photo in photos:
        assert np.array_equal(to_mask("alpha", SIZE, photo), expected)
    turned = stored(with_hole(), "PNG", exif=exif(6))
    assert np.array_equal(to_mask("alpha", SIZE[::-1], turned), np.rot90(expected, -1))
    with warnings.catch_warnings():
        warnings.simplefilter("error", InputWarning)
        by_alpha = tiny_pipeline(photos[0], "alpha", num_feedback_rounds=0)
    assert by_alpha.images[0].tobytes() == tiny_pipeline(photos[0], expected, num_feedback_rounds=0).images[0].tobytes()


def test_a_photo_of_which_no_part_or_all_is_transparent_is_no_mask(tiny_pipeline):
    for photo in (scene(), Image.fromarray(scene()), Image.new("RGBA", SIZE, "red"), torch.zeros(1, 3, 40, 60)):
        with pytest.raises(InputError, match="no part of it is transparent, so it cannot be its own mask; name a mask"):
            tiny_pipeline(photo, "alpha")
    with pytest.raises(InputError, match="everything is marked"):
        tiny_pipeline(Image.new("RGBA", SIZE), "alpha")


def test_mask_alpha_on_the_command_line(tmp_path, tiny_pipeline_dir, capsys):
    photo = write(tmp_path / "photos/own.png", with_hole())
    common = ["--mask", "alpha", "--model", tiny_pipeline_dir, "--rounds=0"]
    assert run(capsys, "--image", photo, "--output", tmp_path / "one.png", *common) == (0, [])
    known = ~HOLE & (with_hole()[..., 3] == 255)
    restored = np.asarray(Image.open(tmp_path / "one.png"))[..., :3]
    assert np.array_equal(restored[known], scene()[known]) and not np.array_equal(restored[HOLE], scene()[HOLE])

    for name in ("opaque", "grey"):
        write(tmp_path / f"photos/{name}.png", scene() if name == "opaque" else scene()[..., 0])
    write(tmp_path / "photos/own_mask.png", HOLE)
    code, lines = run(capsys, "--image", tmp_path / "photos", "--output", tmp_path / "out", *common)
    assert code == 1 and [path.name for path in (tmp_path / "out").iterdir()] == ["own.png"]
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 2 and all("no part of it is transparent" in line for line in errors)
    assert [line for line in lines if "own_mask.png: is a mask by its name, left alone" in line] == lines[:1]
    assert np.array_equal(Image.open(tmp_path / "out/own.png"), Image.open(tmp_path / "one.png"))


def test_a_map_of_another_shape_than_its_photo_is_refused(tiny_pipeline, tmp_path):
    """It would be distorted, and what it shows would lie elsewhere; of another size it is resized."""
    photo, ids = np.zeros((48, 64, 3), np.uint8), np.zeros((48, 64), np.uint8)
    hole = np.zeros((48, 64), bool)
    hole[10:20, 10:30] = True
    tiny_pipeline(photo, hole, semantic_map=ids[::2, ::2], num_feedback_rounds=0)
    for semantic_map in (ids.T, Image.fromarray(ids.T), ids[:, :48]):
        with pytest.raises(InputError, match="semantic map: is 48x.., the photo 64x48"):
            tiny_pipeline(photo, hole, semantic_map=semantic_map, num_feedback_rounds=0)
    Image.fromarray(photo).save(tmp_path / "a.png")
    Image.fromarray(ids.T).save(tmp_path / "map.png")
    with pytest.raises(InputError, match="map.png: .*is 48x64, the photo 64x48"):
        load_sample(Pair("a", tmp_path / "a.png", None), tmp_path / "map.png", 0, 48, 0, CITYSCAPES)

