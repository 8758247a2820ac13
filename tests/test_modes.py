"""Results in the photo's own mode, and what a file format cannot hold."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fbinpaint.errors import InputError
from fbinpaint.images.convert import to_rgb
from fbinpaint.images.io import load_image, save_image
from fbinpaint.images.modes import MODES_OF, fit_to_format, in_mode_of

from .test_images import MODES, in_mode

HOLE = np.zeros((24, 32), bool)
HOLE[6:16, 8:20] = True
COLOURS = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
PAINTED = np.random.default_rng(1).integers(0, 256, (24, 32, 3), dtype=np.uint8)
OWN = {"P": "RGB", "RGBX": "RGB", "RGBa": "RGBA", "PA": "RGBA", "La": "LA", "I;16L": "I;16", "I;16N": "I;16"}


def rgba(alpha: np.ndarray) -> Image.Image:
    return Image.fromarray(np.dstack([COLOURS, alpha.astype(np.uint8)]))


@pytest.mark.parametrize("mode", MODES)
def test_results_keep_mode_and_known_values(mode: str):
    photo = in_mode(COLOURS[..., 0], mode)
    result = in_mode_of(photo, PAINTED, HOLE)
    assert result.mode == OWN.get(mode, mode) and result.size == photo.size
    expected = photo if photo.mode == result.mode or mode.startswith("I;16") else photo.convert(
        "LA" if mode == "La" else result.mode)  # fmt: skip
    assert np.array_equal(np.asarray(result)[~HOLE], np.asarray(expected)[~HOLE])
    painted = to_rgb(result)[HOLE].astype(int)
    if mode == "1":
        assert set(np.unique(painted)) == {0, 255}
    elif mode in ("RGB", "RGBA", "RGBX", "RGBa", "P", "PA", "CMYK"):
        assert np.array_equal(painted, PAINTED[HOLE])
    else:
        grey = np.asarray(Image.fromarray(PAINTED).convert("RGB" if mode in ("YCbCr", "LAB", "HSV") else "L"))[HOLE]
        wanted = grey if grey.ndim == 2 else grey[:, None]
        assert np.abs(painted - wanted).max() <= {"YCbCr": 3, "LAB": 255, "HSV": 16}.get(mode, 0)


def test_a_hole_under_alpha_keeps_it_and_looks_as_painted_on_white():
    alpha = np.tile(np.linspace(128, 255, 32).round(), (24, 1))
    painted = np.maximum(PAINTED, 200)  # what can be seen through half transparency on white
    photo = rgba(alpha)
    result = in_mode_of(photo, painted, HOLE)
    assert np.array_equal(np.asarray(result)[..., 3], alpha)
    assert np.array_equal(np.asarray(result)[~HOLE], np.asarray(photo)[~HOLE])
    assert np.abs(to_rgb(result)[HOLE].astype(int) - painted[HOLE]).max() <= 1


def test_what_is_painted_where_nothing_could_be_seen_is_opaque():
    alpha = np.full(HOLE.shape, 200)
    alpha[:10] = 0
    result = np.asarray(in_mode_of(rgba(alpha), PAINTED, HOLE))
    assert (result[HOLE & (alpha == 0)][:, 3] == 255).all() and (result[HOLE & (alpha > 0)][:, 3] == 200).all()
    assert (result[~HOLE & (alpha == 0)][:, 3] == 0).all()


def test_a_transparent_part_that_is_the_hole_becomes_opaque_with_its_soft_edge():
    alpha = np.where(HOLE, 0, 255)
    alpha[6, 8:20] = 100
    result = np.asarray(in_mode_of(rgba(alpha), PAINTED, HOLE))
    assert (result[..., 3] == 255).all() and np.array_equal(result[HOLE][:, :3], PAINTED[HOLE])


@pytest.mark.parametrize("mode, transparency, own", [("P", 3, "RGBA"), ("L", 77, "LA"), ("RGB", (1, 2, 3), "RGBA")])
def test_a_transparent_colour_becomes_alpha(tmp_path: Path, mode, transparency, own):
    image = Image.fromarray(COLOURS // 32 * 32)
    image = image.quantize(64) if mode == "P" else image.convert(mode)
    image.putpixel((1, 1), transparency)
    image.save(tmp_path / "a.png", transparency=transparency)
    photo = load_image(tmp_path / "a.png")
    result = in_mode_of(photo, PAINTED, HOLE)
    assert result.mode == own and result.getpixel((1, 1))[-1] == 0
    assert np.array_equal(to_rgb(result)[~HOLE], to_rgb(photo)[~HOLE])


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_deep_greyscale_is_read_and_filled_in_its_own_range(tmp_path: Path, bits: int):
    values = np.random.default_rng(2).integers(0, 2**bits, HOLE.shape).astype(np.uint16)
    values[0, 0] = 2**bits - 1
    Image.fromarray(values).save(tmp_path / "deep.png")
    photo = load_image(tmp_path / "deep.png")
    read = to_rgb(photo)
    assert np.array_equal(read[..., 0], np.rint(values * (255 / (2**bits - 1))))
    result = np.asarray(in_mode_of(photo, PAINTED // 255 * 255, HOLE))
    assert result.dtype == np.uint16 and np.array_equal(result[~HOLE], values[~HOLE])
    white = np.asarray(in_mode_of(photo, np.full_like(PAINTED, 255), HOLE))
    assert (white[HOLE] == 2**bits - 1).all()


def tiff(path: Path, values: np.ndarray, photometric: int) -> Path:
    """A greyscale file of these values; photometric: 0 = the least is white, 1 = black. PIL writes only 1."""
    Image.fromarray(values).save(path)
    entry = bytes.fromhex("060103000100000001000000")
    data = path.read_bytes()
    assert data.count(entry) == 1
    path.write_bytes(data.replace(entry, bytes.fromhex(f"0601030001000000{photometric:02}000000")))
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_negative_is_read_filled_and_written_as_it_is_seen(tmp_path: Path, dtype: type):
    top = np.iinfo(dtype).max
    values = np.random.default_rng(2).integers(0, top, HOLE.shape, endpoint=True).astype(dtype)
    positive = load_image(tiff(tmp_path / "positive.tif", top - values, 1))
    photo = load_image(tiff(tmp_path / "negative.tif", values, 0))
    assert np.array_equal(to_rgb(photo), to_rgb(positive)) and photo.format == "TIFF"
    for suffix in (".png", ".tif"):
        save_image(in_mode_of(photo, PAINTED, HOLE), tmp_path / f"result{suffix}")
        result = np.asarray(load_image(tmp_path / f"result{suffix}"))
        assert np.array_equal(result, np.asarray(in_mode_of(positive, PAINTED, HOLE)))
        assert result.dtype == dtype and np.array_equal(result[~HOLE], (top - values)[~HOLE])


def test_a_negative_of_floating_point_numbers_is_refused(tmp_path: Path):
    path = tiff(tmp_path / "a.tif", np.ones((24, 32), np.float32), 0)
    with pytest.raises(InputError, match="a.tif: is of floating-point numbers of which 0 is white"):
        load_image(path)


def test_results_are_upright():
    photo = Image.fromarray(COLOURS[..., 0])
    photo.info["exif"] = b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"
    hole = np.rot90(HOLE, -1)
    result = in_mode_of(photo, np.rot90(PAINTED, -1).copy(), np.ascontiguousarray(hole))
    assert result.size == (24, 32) and result.mode == "L"
    assert np.array_equal(np.asarray(result)[~hole], np.rot90(COLOURS[..., 0], -1)[~hole])


SUFFIXES = {"PNG": ".png", "TIFF": ".tif", "BMP": ".bmp", "JPEG2000": ".jp2", "PPM": ".ppm", "WEBP": ".webp"}


@pytest.mark.parametrize("file_format", SUFFIXES)
@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I", "I;16", "I;16B", "F"])
def test_lossless_formats_hold_a_mode_or_say_what_it_was_written_as(tmp_path: Path, mode: str, file_format: str):
    image = in_mode(COLOURS[..., 0], mode)
    path = tmp_path / f"result{SUFFIXES[file_format]}"
    fitted, said = fit_to_format(image, path)
    save_image(fitted, path)
    written = load_image(path)
    assert (said is None) == (mode in MODES_OF[file_format] or mode == "I;16B" and fitted.mode == "I;16")
    assert said is None or (str(path) in said and file_format in said and "written as" in said)
    if said is None:
        opaque = mode == "RGBA" and file_format == "WEBP"  # which WebP stores as RGB
        assert np.array_equal(np.asarray(written.convert(mode) if opaque else written), np.asarray(image))
    else:
        assert np.array_equal(to_rgb(written), to_rgb(image))


def test_integers_beyond_16_bits_are_not_cut_off():
    values = np.arange(24 * 32, dtype=np.int32).reshape(24, 32) * 200
    fitted, said = fit_to_format(Image.fromarray(values), "a.png")
    assert fitted.mode == "L" and "8-bit greyscale" in said
    assert fit_to_format(Image.fromarray(values), "a.tif") == (Image.fromarray(values), None)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_holes_in_deep_photos_are_filled_in_their_own_range_beyond_16_bits(mode: str):
    photo = Image.fromarray(np.full((24, 32), 200_000, np.int32 if mode == "I" else np.float32))
    filled = np.asarray(in_mode_of(photo, to_rgb(photo), HOLE))
    assert (filled[~HOLE] == 200_000).all() and np.abs(filled[HOLE] - 200_000).max() <= 2**18 / 510


def test_jpeg_gets_transparency_on_white_and_says_so():
    fitted, said = fit_to_format(rgba(np.where(HOLE, 0, 255)), "a.jpg")
    assert fitted.mode == "RGB" and (np.asarray(fitted)[HOLE] == 255).all()
    assert said == "a.jpg: written as 8-bit RGB, because JPEG holds no 8-bit RGB with transparency"


def test_a_profile_of_other_colours_is_left_out_and_that_is_said():
    cmyk = in_mode(COLOURS[..., 0], "CMYK")
    cmyk.info["icc_profile"] = b"\0" * 16 + b"CMYK" + b"\0" * 108
    assert fit_to_format(cmyk, "a.tif")[0].info["icc_profile"]
    fitted, said = fit_to_format(cmyk, "a.png")
    assert fitted.mode == "RGB" and "icc_profile" not in fitted.info and "without its colour profile" in said
