import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fbinpaint.errors import InputError
from fbinpaint.images.convert import STRIP, to_index_map, to_mask, to_rgb
from fbinpaint.images.crops import MAX_CROPS, Crop, composite, plan_crops, resize_image, shorter_side, working_size
from fbinpaint.images.folders import photo_size
from fbinpaint.images.io import load_image, save_image
from fbinpaint.images.metadata import carry_over
from fbinpaint.images.modes import in_mode_of
from fbinpaint.images.tensors import mask_to_tensor, pad_to_multiple, to_tensor, to_uint8

MODES = "1 L P RGB RGBA RGBX RGBa CMYK YCbCr HSV LAB LA La PA I F I;16 I;16L I;16B I;16N".split()
ORIENTED = {  # EXIF orientation -> what a viewer shows of the stored pixels, in numpy's words
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


@pytest.fixture
def photo() -> np.ndarray:
    """23 rows, 17 columns."""
    return np.random.default_rng(0).integers(0, 256, (23, 17, 3), dtype=np.uint8)


def in_mode(grey: np.ndarray, mode: str) -> Image.Image:
    """The same opaque (H, W) uint8 greys, stored in any PIL mode at that mode's own full scale."""
    image = Image.fromarray(grey)
    if mode.startswith("I"):
        deep = grey.astype({"I": np.int32, "I;16B": ">u2"}.get(mode, "<u2")) * 257
        return Image.frombytes(mode, image.size, deep.tobytes())
    if mode == "PA":
        return with_alpha(image.convert("LA"), mode)
    route = {"La": ["LA"], "RGBa": ["RGBA"], "1": [], "L": [], "P": [], "F": []}.get(mode, ["RGB"])
    for step in [*route, mode]:
        image = image.convert(step)
    return image


def with_alpha(image: Image.Image, mode: str) -> Image.Image:
    """An LA image in another mode with alpha."""
    if mode == "PA":  # PIL's own conversion drops the alpha
        palette = Image.frombytes("PA", image.size, image.tobytes())
        palette.putpalette(np.arange(256, dtype=np.uint8).repeat(3).tobytes())
        return palette
    return (image.convert("RGBA") if mode == "RGBa" else image).convert(mode)


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


# ------------------------------------------------------------------------------------------------------------ files


@pytest.mark.parametrize(
    "content, words",
    [
        (None, "no such file"),
        (b"", "empty"),
        (b"hello, I am not an image", "not an image"),
        (b"\x89PNG\r\n\x1a\n", "not an image"),
    ],
)
def test_load_image_names_the_file_and_the_problem(tmp_path: Path, content: bytes | None, words: str):
    path = tmp_path / "photo.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        load_image(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_load_image_refuses_a_folder(tmp_path: Path):
    with pytest.raises(InputError, match="is a folder"):
        load_image(tmp_path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp"])
def test_load_image_refuses_every_truncated_file(tmp_path: Path, photo: np.ndarray, suffix: str):
    path = tmp_path / f"photo{suffix}"
    save_image(Image.fromarray(photo), path)
    content = path.read_bytes()
    for length in (1, len(content) // 4, len(content) // 2):
        path.write_bytes(content[:length])
        with pytest.raises(InputError, match="photo"):
            load_image(path)


def test_load_image_refuses_bombs_by_their_header(tmp_path: Path):
    for side in (8_001, 12_000, 60_000):  # above our limit, above PIL's warning, above PIL's error
        path = tmp_path / f"{side}.ppm"
        path.write_bytes(f"P5 {side} {side} 255 ".encode())  # no pixels needed: refused before decoding
        with pytest.raises(InputError, match="larger than 64 megapixels"):
            load_image(path)


def jpeg(scans: int, progressive: bool = True) -> bytes:
    """A JPEG file whose last scan is there so many times."""
    file = io.BytesIO()
    Image.new("RGB", (64, 48), "red").save(file, "JPEG", progressive=progressive)
    data = file.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + data[-2:]


@pytest.mark.parametrize("progressive", [True, False])
def test_a_jpeg_of_thousands_of_scans_is_refused(tmp_path: Path, progressive: bool):
    """Each goes over the whole picture: 70 KB of them take minutes."""
    (tmp_path / "scans.jpg").write_bytes(jpeg(5000, progressive=progressive))
    for load in (load_image, lambda path: to_rgb(Image.open(path))):
        with pytest.raises(InputError, match="more than 100 scans"):
            load(tmp_path / "scans.jpg")


def test_only_the_scans_of_the_picture_itself_count(tmp_path: Path):
    """Not what looks like some in a comment, or behind the end, where telephones put films."""
    few, some = jpeg(1), b"\xff\xda" * 5000
    comment = b"\xff\xfe" + (2 + len(some)).to_bytes(2, "big") + some
    for name, data in {"comment": few[:2] + comment + few[2:], "film": few + some, "repeated": jpeg(50)}.items():
        (tmp_path / f"{name}.jpg").write_bytes(data)
        assert load_image(tmp_path / f"{name}.jpg").size == (64, 48)


def compressed(kind: bytes, name: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file."""
    content = kind + name + zlib.compress(data, 9)
    return struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))


@pytest.mark.parametrize(
    "chunks",
    [
        compressed(b"zTXt", b"Comment\0\0", bytes(30_000_000)),
        compressed(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0", bytes(30_000_000)),
        compressed(b"iCCP", b"profile\0\0", bytes(30_000_000)),
        b"".join(compressed(b"zTXt", b"%d\0\0" % i, bytes(900_000)) for i in range(100)),
    ],
    ids=["text", "XMP", "profile", "many texts"],
)
@pytest.mark.parametrize("behind", [False, True])
def test_texts_that_swell_are_refused_by_the_file(tmp_path: Path, chunks: bytes, behind: bool):
    Image.new("RGB", (32, 32)).save(tmp_path / "bomb.png")
    good = (tmp_path / "bomb.png").read_bytes()
    place = good.index(b"IEND" if behind else b"IDAT") - 4
    (tmp_path / "bomb.png").write_bytes(good[:place] + chunks + good[place:])
    with pytest.raises(InputError, match="bomb.png: .*[Tt]oo ") as error:
        load_image(tmp_path / "bomb.png")
    assert "\n" not in str(error.value)


def test_images_opened_by_the_user_are_checked_too(tmp_path: Path, photo: np.ndarray):
    path = tmp_path / "photo.bmp"
    Image.fromarray(photo).save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with Image.open(path) as image, pytest.raises(InputError, match="broken or truncated"):
        to_rgb(image)


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".webp", ".tif", ".tiff", ".bmp"])
def test_save_image_is_lossless(tmp_path: Path, photo: np.ndarray, suffix: str):
    path = tmp_path / f"photo{suffix}"
    save_image(Image.fromarray(photo), path)
    assert np.array_equal(to_rgb(load_image(path)), photo)
    assert os.listdir(tmp_path) == [path.name]


def test_save_image_replaces_and_has_the_usual_permissions(tmp_path: Path, photo: np.ndarray):
    (tmp_path / "usual").touch()
    path = tmp_path / "photo.jpg"
    for image in (Image.new("RGB", (20, 20)), Image.fromarray(photo)):
        save_image(image, path)
    assert load_image(path).size == (17, 23)
    assert path.stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_save_image_keeps_the_icc_profile(tmp_path: Path, photo: np.ndarray):
    image = Image.fromarray(photo)
    image.info["icc_profile"] = b"profile"
    for name in ("photo.png", "photo.jpg"):
        save_image(image, tmp_path / name)
        assert load_image(tmp_path / name).info["icc_profile"] == b"profile"


def test_save_image_that_fails_midway_leaves_the_old_file_and_nothing_else(tmp_path: Path, photo: np.ndarray):
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"old")
    with pytest.raises(InputError, match="could not be written"):
        save_image(Image.fromarray(photo).convert("RGBA"), path)  # JPEG cannot hold it
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InputError, match="folder.png: could not be written"):
        save_image(Image.fromarray(photo), tmp_path / "folder.png")
    assert path.read_bytes() == b"old" and sorted(os.listdir(tmp_path)) == ["folder.png", "photo.jpg"]


def test_save_image_refuses_unknown_suffixes_and_bad_folders(tmp_path: Path, photo: np.ndarray):
    image = Image.fromarray(photo)
    for name in ("photo", "photo.xyz", "photo.png.gz"):
        with pytest.raises(InputError, match="unknown suffix"):
            save_image(image, tmp_path / name)
    (tmp_path / "file").touch()
    for folder in ("missing", "file"):
        with pytest.raises(InputError, match=f"{folder} does not exist"):
            save_image(image, tmp_path / folder / "photo.png")


def test_save_image_refuses_a_read_only_folder(tmp_path: Path, photo: np.ndarray):
    tmp_path.chmod(0o500)
    try:
        if os.access(tmp_path, os.W_OK):
            pytest.skip("this user may write anywhere")
        with pytest.raises(InputError, match="could not be written"):
            save_image(Image.fromarray(photo), tmp_path / "photo.png")
    finally:
        tmp_path.chmod(0o700)


# ----------------------------------------------------------------------------------------------------------- photos


@pytest.mark.parametrize("mode", MODES)
def test_to_rgb_of_every_mode(mode: str):
    grey = np.linspace(0, 255, 23 * 17).round().astype(np.uint8).reshape(23, 17)
    if mode == "1":
        grey = np.where(grey > 127, 255, 0).astype(np.uint8)
    image = in_mode(grey, mode)
    rgb = to_rgb(image)
    assert image.mode == mode and rgb.shape == (23, 17, 3) and rgb.dtype == np.uint8 and rgb.flags.writeable
    tolerance = {"LAB": 3, "YCbCr": 1}.get(mode, 0)
    assert np.abs(rgb.astype(int) - grey[..., None]).max() <= tolerance


def test_to_rgb_of_arrays(photo: np.ndarray):
    assert np.array_equal(to_rgb(photo), photo)
    assert np.array_equal(to_rgb(photo[::-1, ::-1]), photo[::-1, ::-1])
    assert np.array_equal(to_rgb(photo[..., 0]), photo[..., :1].repeat(3, axis=2))
    opaque = np.dstack([photo, np.full((23, 17), 255, np.uint8)])
    assert np.array_equal(to_rgb(opaque), photo)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "RGBa", "La"])
def test_to_rgb_composites_alpha_on_white(mode: str):
    image = Image.new("LA", (20, 20), (40, 255))
    image.putpixel((3, 2), (40, 0))
    image.putpixel((4, 2), (0, 128))
    rgb = to_rgb(with_alpha(image, mode))
    assert rgb[0, 0].tolist() == [40] * 3 and rgb[2, 3].tolist() == [255] * 3 and rgb[2, 4].tolist() == [127] * 3


def test_to_rgb_of_a_palette_with_transparency(tmp_path: Path):
    image = Image.new("P", (20, 20), 1)
    image.putpalette([0, 0, 0, 10, 20, 30, 40, 50, 60])
    image.putpixel((5, 6), 2)
    image.save(tmp_path / "p.png", transparency=2)
    rgb = to_rgb(load_image(tmp_path / "p.png"))
    assert rgb[0, 0].tolist() == [10, 20, 30] and rgb[6, 5].tolist() == [255] * 3


def test_to_rgb_of_16_bit_and_cmyk_files(tmp_path: Path):
    deep = np.linspace(0, 65535, 400).astype(np.uint16).reshape(20, 20)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert np.array_equal(to_rgb(load_image(tmp_path / "deep.png"))[..., 0], np.rint(deep / 257))

    Image.new("RGB", (20, 20), (200, 100, 50)).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=100)
    cmyk = load_image(tmp_path / "cmyk.jpg")
    assert cmyk.mode == "CMYK" and np.abs(to_rgb(cmyk).astype(int) - [200, 100, 50]).max() <= 2


def test_to_rgb_reads_the_range_of_i_and_f_from_the_maximum():
    def level(value: float, mode: str) -> int:
        return to_rgb(Image.new(mode, (16, 16), value))[0, 0, 0]

    assert level(255, "I") == 255 and level(65535, "I") == 255 and level(32896, "I") == 128 and level(-5, "I") == 0
    assert level(1.0, "F") == 255 and level(0.5, "F") == 128 and level(200.0, "F") == 200 and level(300.0, "F") == 255
    assert level(1.9, "F") == 255 and level(2.0, "F") == 2
    with pytest.raises(InputError, match="NaN"):
        level(float("nan"), "F")


@pytest.mark.parametrize("mode", ["I", "F"])
def test_values_beyond_16_bits_are_scaled_by_the_range_that_holds_them(mode: str):
    values = np.tile(np.linspace(0, 250_000, 32), (24, 1))
    photo = Image.fromarray(values.astype(np.int32 if mode == "I" else np.float32))
    assert np.abs(to_rgb(photo)[..., 0] - values * 255 / (2**18 - 1)).max() <= 0.51


@pytest.mark.parametrize("orientation", ORIENTED)
def test_exif_orientation_of_photos_masks_and_maps(tmp_path: Path, photo: np.ndarray, orientation: int):
    path = tmp_path / "photo.png"
    upright = ORIENTED[orientation]
    size = upright(photo).shape[1::-1]
    Image.fromarray(photo).save(path, exif=exif(orientation))
    assert np.array_equal(to_rgb(load_image(path)), upright(photo))

    labels = photo[..., 0] % 3
    Image.fromarray(labels * 127).save(path, exif=exif(orientation))
    assert np.array_equal(to_mask(load_image(path), size), upright(labels == 2))
    Image.fromarray(labels).save(path, exif=exif(orientation))
    assert np.array_equal(to_index_map(load_image(path), size, 3), upright(labels))


@pytest.mark.filterwarnings("ignore")  # PIL mentions what it skips
def test_broken_exif_is_no_reason_to_refuse_a_photo(tmp_path: Path, photo: np.ndarray):
    path = tmp_path / "photo.png"
    tags = exif(6)
    tags[0x010F] = "maker"
    good = tags.tobytes()
    rng = np.random.default_rng(0)
    for _ in range(200):
        bad = bytearray(good)
        for position in rng.integers(0, len(bad), 3):
            bad[position] = rng.integers(256)
        Image.fromarray(photo).save(path, exif=bytes(bad), compress_level=0)
        assert to_rgb(load_image(path)).size == photo.size


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((20, 20, 3), np.float32),
        np.full((20, 20, 3), np.nan),
        np.zeros((20, 20), bool),
        np.zeros((20, 20, 2), np.uint8),
        np.zeros((1, 20, 20, 3), np.uint8),
        np.zeros((0, 0, 3), np.uint8),
        np.zeros((15, 20, 3), np.uint8),
        Image.new("RGB", (15, 300)),
        np.broadcast_to(np.uint8(0), (8001, 8001)),  # takes one byte
        "photo.png",
        None,
    ],
    ids=lambda image: str(getattr(image, "shape", getattr(image, "size", image))),
)
def test_to_rgb_refuses(image):
    with pytest.raises(InputError) as caught:
        to_rgb(image)
    assert "\n" not in str(caught.value)


def test_to_rgb_from_16x16_to_12_megapixels():
    for size in ((16, 16), (16, 1000), (4000, 3000)):
        assert to_rgb(Image.new("L", size)).shape == (size[1], size[0], 3)


# --------------------------------------------------------------------------------------------------- masks and maps


@pytest.mark.parametrize("mode", MODES)
def test_to_mask_of_every_mode(mode: str):
    holes = np.random.default_rng(0).random((23, 17)) < 0.3
    image = in_mode(holes.astype(np.uint8) * 255, mode)
    assert image.mode == mode and np.array_equal(to_mask(image, (17, 23)), holes)


@pytest.mark.parametrize("mode", ["L", "I", "F", "I;16"])
def test_to_mask_takes_nothing_but_0_and_1_as_it_is(mode: str):
    image = Image.new(mode, (20, 20))
    image.putpixel((3, 2), 1)
    assert np.argwhere(to_mask(image, (20, 20))).tolist() == [[2, 3]]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_a_painted_layer_is_read_by_its_alpha_whatever_its_colour(mode: str):
    image = Image.new("LA", (20, 20), (0, 0))
    for x, value in enumerate([(255, 0), (255, 127), (255, 128), (0, 128), (9, 255)]):
        image.putpixel((x, 0), value)
    assert np.argwhere(to_mask(with_alpha(image, mode), (20, 20))).tolist() == [[0, 2], [0, 3], [0, 4]]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_a_mask_that_is_opaque_everywhere_is_read_by_its_colour(mode: str):
    image = Image.new("LA", (20, 20), (0, 255))
    for x, value in enumerate([(255, 255), (127, 255), (128, 255)]):
        image.putpixel((x, 0), value)
    assert np.argwhere(to_mask(with_alpha(image, mode), (20, 20))).tolist() == [[0, 0], [0, 2]]


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.uint16, np.float32, np.float64])
def test_to_mask_of_arrays(dtype: type):
    holes = np.random.default_rng(0).random((23, 17)) < 0.3
    values = holes.astype(dtype)
    blank = np.zeros_like(values)
    for array in (values, values[..., None], np.dstack([blank, values, blank]), np.dstack([values] * 4)):
        assert np.array_equal(to_mask(array, (17, 23)), holes)
    assert not to_mask(blank, (17, 23)).any()


def test_to_mask_resizes_with_nearest():
    holes = np.random.default_rng(0).random((6, 8)) < 0.5
    assert np.array_equal(to_mask(holes, (24, 18)), holes.repeat(3, axis=0).repeat(3, axis=1))
    assert np.array_equal(to_mask(holes.repeat(3, axis=0).repeat(3, axis=1), (8, 6)), holes)


@pytest.mark.parametrize(
    "mask",
    [
        np.full((20, 20), np.nan),
        np.zeros((20, 20, 2)),
        np.zeros((0, 5)),
        np.zeros(9),
        np.full((20, 20), "x"),
        "mask.png",
    ],
    ids=lambda mask: str(getattr(mask, "shape", mask)),
)
def test_to_mask_refuses(mask):
    with pytest.raises(InputError):
        to_mask(mask, (20, 20))


def test_to_index_map_takes_indices_not_colours():
    ids = np.random.default_rng(0).integers(0, 19, (23, 17)).astype(np.uint8)
    ids[0, 0] = 255
    image = Image.fromarray(ids)
    image.putpalette(np.random.default_rng(1).integers(0, 256, 768).astype(np.uint8).tobytes())
    assert image.mode == "P"
    for semantic_map in (image, Image.fromarray(ids), ids, ids.astype(np.int64), Image.fromarray(ids.astype(np.int32))):
        assert np.array_equal(to_index_map(semantic_map, (17, 23), 19), ids)
    assert np.array_equal(to_index_map(image, (34, 46), 19), ids.repeat(2, axis=0).repeat(2, axis=1))


@pytest.mark.parametrize("bad", [-1, 19, 254, 256, 10_000])
def test_to_index_map_names_the_unknown_id(bad: int):
    ids = np.zeros((23, 17), np.int64)
    ids[5, 5] = bad
    with pytest.raises(InputError, match=f"class id {bad};"):
        to_index_map(ids, (4, 4), 19)  # even where the resize would drop it


@pytest.mark.parametrize("size", [(23, 31), (40, 30), (97, 80), (200, 15)])
def test_resized_maps_show_their_own_classes_alone(size: tuple[int, int]):
    """Between classes 3 and 9 lies nothing: labels are never blended."""
    ids = np.where(np.indices((30, 40)).sum(0) // 3 % 2, 3, 9).astype(np.uint8)
    ids[:10, :10], ids[20:, 30:] = 255, 7
    shown = set(np.unique(to_index_map(ids, size, num_classes=19)).tolist())
    assert shown == {3, 7, 9, 255}
    shown = set(np.unique(to_index_map(ids, size, num_classes=19, ignored_ids=(7,))).tolist())
    assert shown == {3, 9, 255}
    assert to_index_map(ids, size, num_classes=19).shape == size[::-1]


def test_to_index_map_refuses_colours_and_floats():
    for semantic_map in (Image.new("RGB", (20, 20)), np.zeros((20, 20)), np.zeros((20, 20, 3), int), None):
        with pytest.raises(InputError, match="semantic map"):
            to_index_map(semantic_map, (20, 20), 19)


# -------------------------------------------------------------------------------------------------- sizes and crops


@pytest.mark.parametrize("height, width", [(17, 23), (16, 32), (1, 9)])
def test_padding_keeps_the_photo(height: int, width: int):
    x = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    padded = pad_to_multiple(x, 8)
    assert padded.shape[-2] == -(-height // 8) * 8 and padded.shape[-1] == -(-width // 8) * 8
    assert torch.equal(padded[..., :height, :width], x)
    assert torch.equal(padded[..., :height, -1], x[..., -1])
    assert not pad_to_multiple(x, 8, mode="constant")[..., height:, :].any()


def test_crop():
    crop = Crop(2, 3, 7, 13)
    assert (crop.width, crop.height) == (5, 10)
    assert np.zeros((20, 20, 3))[crop.slices].shape == (10, 5, 3)


def random_mask(rng: np.random.Generator) -> np.ndarray:
    """From a few rectangles to thousands of specks, in photos of any shape."""
    height, width = np.exp(rng.uniform(np.log(16), np.log(2500), 2)).astype(int)
    mask = rng.random((height, width)) < 10 ** rng.uniform(-7, -2)
    for _ in range(rng.integers(0, 30)):
        y, x = rng.integers(height), rng.integers(width)
        mask[y : y + rng.integers(1, 100), x : x + rng.integers(1, 100)] = True
    return mask


@pytest.mark.parametrize("seed", range(60))
def test_crops_cover_every_hole(seed: int):
    rng = np.random.default_rng(seed)
    mask = random_mask(rng)
    height, width = mask.shape
    min_size = int(rng.integers(16, 300))
    crops = plan_crops(mask, min_size, rng.uniform(0, 2))

    covered = np.zeros_like(mask)
    for crop in crops:
        assert 0 <= crop.left < crop.right <= width and 0 <= crop.top < crop.bottom <= height
        assert crop.width >= min(min_size, width) and crop.height >= min(min_size, height)
        covered[crop.slices] = True
    assert covered[mask].all() and len(crops) <= MAX_CROPS and bool(crops) == mask.any()


def test_plan_crops_of_one_hole():
    mask = np.zeros((1000, 1000), bool)
    mask[480:520, 450:550] = True
    assert plan_crops(mask, 64, 0.5) == [Crop(400, 430, 600, 570)]  # 50 pixels, half the longer side, all around
    assert plan_crops(mask, 256, 0.5) == [Crop(372, 372, 628, 628)]  # at least min_size
    mask[:] = False
    mask[0, 999] = True
    assert plan_crops(mask, 256, 0.5) == [Crop(744, 0, 1000, 256)]  # moved into the photo, not cut


def test_plan_crops_separates_far_holes_and_joins_near_ones():
    mask = np.zeros((1000, 2000), bool)
    mask[480:520, 100:140] = mask[480:520, 1800:1840] = True
    assert len(plan_crops(mask, 128, 0.5)) == 2
    mask[480:520, 150:190] = True
    near, far = sorted(plan_crops(mask, 128, 0.5), key=lambda crop: crop.left)
    assert near == Crop(55, 435, 235, 565) and far == Crop(1756, 436, 1884, 564)


def test_plan_crops_takes_the_whole_photo_when_it_is_small_or_mostly_needed():
    small = np.zeros((300, 384), bool)
    small[5, 5] = True
    assert plan_crops(small, 256, 0.5) == [Crop(0, 0, 384, 300)]
    large = np.zeros((1000, 1000), bool)
    large[200:800, 200:800] = True
    assert plan_crops(large, 256, 0.5) == [Crop(0, 0, 1000, 1000)]


def test_resize_image_averages_areas(photo: np.ndarray):
    enlarged = photo.repeat(4, axis=0).repeat(4, axis=1)
    assert np.array_equal(resize_image(enlarged, (17, 23)), photo)
    assert np.array_equal(resize_image(photo, (17, 23)), photo)
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    assert (resize_image(stripes, (16, 200)) == 100).all()  # one side shrinks while the other grows
    assert resize_image(photo[2:20, 3:15], (50, 60)).shape == (60, 50, 3)


def test_shorter_side_keeps_the_aspect():
    assert shorter_side((4000, 3000), 300) == (400, 300)
    assert shorter_side((30, 60), 512) == (512, 1024)
    assert shorter_side((17, 23), 17) == (17, 23)


# ----------------------------------------------------------------------------------------------- arrays and tensors


def test_composite_is_bit_identical_outside_the_mask(photo: np.ndarray):
    mask = np.random.default_rng(1).random((23, 17)) < 0.5
    fill = 255 - photo
    result = composite(photo, fill, mask)
    assert result.dtype == np.uint8
    assert np.array_equal(result[~mask], photo[~mask]) and np.array_equal(result[mask], fill[mask])


def test_tensors_and_back():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    array = np.dstack([levels, levels.T, levels[::-1]])
    tensor = to_tensor(array)
    assert tensor.shape == (1, 3, 16, 16) and tensor.dtype == torch.float32
    assert tensor.min() == -1 and tensor.max() == 1
    assert np.array_equal(to_uint8(tensor)[0], array)
    assert np.array_equal(to_uint8(to_tensor(array[:, ::-1]))[0], array[:, ::-1])
    assert to_uint8(torch.tensor([-9.0, 0.001, 9.0]).reshape(1, 3, 1, 1)).tolist() == [[[[0, 128, 255]]]]


def test_mask_to_tensor():
    mask = np.random.default_rng(0).random((23, 17)) < 0.5
    tensor = mask_to_tensor(mask)
    assert tensor.shape == (1, 1, 23, 17) and tensor.dtype == torch.float32
    assert np.array_equal(tensor[0, 0].numpy() == 1, mask)


def test_working_size_is_bounded():
    assert working_size(171, 128, 192) == (171, 128)
    assert working_size(480, 360, 180) == (240, 180)
    for width, height in ((30000, 16), (4000, 3000), (16, 30000), (16, 16)):
        w, h = working_size(width, height, 192)
        assert w * h <= 4 * 192**2 + 2 * max(w, h) and w >= 1 and h >= 1


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "LA", "L", "1", "CMYK", "I;16", "F"])
def test_a_tall_photo_is_read_in_strips_as_its_parts_are_alone(mode):
    """With both ends of its range in each part, by which deep greyscale is scaled."""
    values = np.random.default_rng(0).integers(0, 256, (STRIP + 44, 20, 4), dtype=np.uint8)
    values[:: STRIP, 0], values[:: STRIP, 1] = 0, 255
    if mode == "I;16":
        photo = Image.fromarray(values[..., 0].astype(np.uint16) * 257)
    else:
        photo = Image.fromarray(values).convert("RGB" if mode not in ("RGBA", "LA") else "RGBA").convert(mode)
    parts = [photo.crop((0, top, 20, bottom)) for top, bottom in ((0, STRIP), (STRIP, STRIP + 44))]
    assert np.array_equal(to_rgb(photo), np.concatenate([to_rgb(part) for part in parts]))


# ------------------------------------------------------------------------------------- what files say otherwise


def grey_png(values: np.ndarray, bits: int, behind: bytes = b"") -> bytes:
    """A greyscale PNG file whose pixels have so many bits; behind: chunks after the pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = values.shape
    rows = (int("".join(f"{value:0{bits}b}" for value in row), 2).to_bytes(width * bits // 8, "big") for row in values)
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    behind = chunk(b"eXIf", behind) if behind else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + behind + chunk(b"IEND", b"")


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_ids_of_index_images_are_those_stored_whatever_their_bits(tmp_path, bits):
    """PIL stretches greys to 255."""
    ids = np.random.default_rng(bits).integers(0, min(2**bits, 19), (16, 24))
    (tmp_path / "map.png").write_bytes(grey_png(ids, bits))
    image = load_image(tmp_path / "map.png")
    assert np.array_equal(to_index_map(image, (24, 16), 19), ids)
    assert np.array_equal(to_index_map(Image.open(tmp_path / "map.png"), (24, 16), 19), ids)
    assert np.array_equal(to_rgb(image)[..., 0], np.rint(ids * 255 / (2**bits - 1)))  # as a photo it is grey


@pytest.mark.parametrize("maximum", [1, 18, 100, 255])
def test_ids_of_pgm_files_are_those_stored_whatever_their_maximum(tmp_path, maximum):
    ids = np.random.default_rng(maximum).integers(0, min(maximum, 18) + 1, (16, 24)).astype(np.uint8)
    (tmp_path / "map.pgm").write_bytes(b"P5 24 16 %d\n" % maximum + ids.tobytes())
    assert np.array_equal(to_index_map(load_image(tmp_path / "map.pgm"), (24, 16), 19), ids)


def test_the_size_of_a_photo_is_that_which_it_will_have(tmp_path):
    """Also of a PNG file whose orientation stands behind its pixels, and of a TIFF file, which PIL turns itself."""
    exif = Image.Exif()
    exif[274] = 6
    (tmp_path / "a.png").write_bytes(grey_png(np.zeros((48, 32), int), 8, exif.tobytes()[6:]))
    for name in ("b.tif", "c.jpg", "d.png"):
        Image.new("L", (32, 48)).save(tmp_path / name, exif=exif)
    for path in sorted(tmp_path.iterdir()):
        assert photo_size(path, None) == to_rgb(load_image(path)).shape[1::-1] == (48, 32), path


@pytest.mark.parametrize("mode", ["1", "L", "I;16", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("orientation", ORIENTED)
def test_tiff_files_are_turned_upright(mode, orientation, tmp_path):
    """Pillow 12.3 scrambles some of them."""
    stored = in_mode(np.random.default_rng(0).integers(0, 256, (23, 17), dtype=np.uint8), mode)
    exif = Image.Exif()
    exif[274] = orientation
    stored.save(tmp_path / "a.tif", exif=exif)
    found = load_image(tmp_path / "a.tif")
    assert found.mode == mode and np.array_equal(np.asarray(found), ORIENTED[orientation](np.asarray(stored)))
    assert found.filename == str(tmp_path / "a.tif")
    assert np.array_equal(to_rgb(Image.open(tmp_path / "a.tif")), to_rgb(found))


def test_a_mask_of_a_tiff_file_as_it_is_stored_is_turned_with_it(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (32, 48)).save(tmp_path / "a.tif", exif=exif, dpi=(100, 200))
    photo = load_image(tmp_path / "a.tif")
    mask, told = np.zeros((48, 32), np.uint8), []
    mask[:10, :5] = 255
    hole = to_mask(mask, photo.size, photo, told.append)
    assert len(told) == 1 and np.array_equal(hole, np.rot90(mask > 0, -1))
    assert carry_over(photo).info["dpi"] == (200, 100)


def test_files_on_whose_headers_pil_stumbles_are_told_in_a_line(tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (72, 96, 3), dtype=np.uint8))
    image.save(tmp_path / "a.avif")
    data = bytearray((tmp_path / "a.avif").read_bytes())
    refused = set()
    for place in range(40, 160):
        (tmp_path / "a.avif").write_bytes(data[:place] + b"\xff" + data[place + 1 :])
        try:
            to_rgb(load_image(tmp_path / "a.avif"))
        except InputError as error:
            refused.add(str(error).removeprefix(f"{tmp_path / 'a.avif'}: ").split(" ")[0])
            assert "\n" not in str(error)
    assert len(refused) > 1


def test_a_resolution_in_words_is_none(tmp_path):
    image = Image.new("RGB", (32, 32))
    image.info["dpi"] = ("72 dpi", "72 dpi")
    assert "dpi" not in carry_over(image).info


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_what_lies_in_the_hole_says_nothing_of_a_deep_photos_range(mode):
    values = np.random.default_rng(0).integers(0, 4096, (32, 40))
    hole = np.zeros((32, 40), bool)
    hole[5:20, 5:20] = True
    kind = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
    photo = Image.fromarray(values.astype(kind))
    strange = np.where(hole, 65535 if mode == "I;16" else np.nan if mode == "F" else 2**30, values).astype(kind)
    seen, known = to_rgb(Image.fromarray(strange), hole), to_rgb(photo)
    assert photo.mode == mode and np.array_equal(seen[~hole], known[~hole])
    painted = np.full((32, 40, 3), 128, np.uint8)
    filled = np.asarray(in_mode_of(Image.fromarray(strange), painted, hole, hole))
    assert np.array_equal(filled[~hole], values.astype(kind)[~hole])
    assert abs(filled[hole].mean() - 128 / 255 * 4095) < 1


def test_alpha_of_an_opaque_photo_may_be_no_hole_where_that_is_allowed():
    opaque = Image.new("RGB", (32, 24))
    assert not to_mask("alpha", (32, 24), opaque, may_be_empty=True).any()
    assert not to_mask("alpha", (32, 24), opaque.convert("RGBA"), may_be_empty=True).any()
    with pytest.raises(InputError, match="no part of it is transparent"):
        to_mask("alpha", (32, 24), opaque)
