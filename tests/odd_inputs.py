"""Photos and masks as they should not be, each with what must become of it.

    python -m tests.odd_inputs FOLDER   # writes FOLDER/photos and FOLDER/masks, prints how many of each family

Photos are 48x40 and show `SCENE`, masks show `HOLE`, unless an input says otherwise. Nothing here asks fbinpaint how a
file is to be read: what a viewer would show is known from how the file was made.
"""

import io
import os
import socket
import struct
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

Content = bytes | Callable[[Path], None]  # of a file, or what puts something else in its place


@dataclass(frozen=True, eq=False)
class OddInput:
    """A photo and its mask, at least one of them odd.

    expected: "restored"; "refused" = exit code 1 and one line; "left alone" = no result, no error
    word: in the line that refuses it, or in the note that it is left alone
    blames: whose file that line names, "photos", "masks" or "restored"
    pixels: (H, W, 3) uint8, the photo as a viewer shows it
    hole: (H, W) bool, the mask as a viewer shows it, at the photo's size
    tolerance: mean absolute difference of `pixels` to what is read, for lossy formats and other colour spaces
    there: puts something where the result goes
    shown: the photo's name as it is printed
    """

    name: str
    photo: Content
    expected: str = "restored"
    word: str = ""
    blames: str = "photos"
    pixels: np.ndarray = field(default_factory=lambda: SCENE)
    hole: np.ndarray = field(default_factory=lambda: HOLE)
    tolerance: float = 0
    mask: Content = field(default_factory=lambda: MASK)
    mask_suffix: str = ".png"
    there: Callable[[Path], None] | None = None
    shown: str = ""
    family: str = ""

    @property
    def stem(self) -> str:
        return os.path.splitext(self.name)[0]

    @property
    def files(self) -> dict[str, str]:
        """Where it lies below the folders of photos, masks and results."""
        names = {"photos": self.name, "masks": f"{self.stem}{self.mask_suffix}", "restored": f"{self.stem}.png"}
        return {kind: f"{self.family}/{name}" for kind, name in names.items()}


def refused(name: str, photo: Content, word: str, **options) -> OddInput:
    return OddInput(name, photo, "refused", word, **options)


# ---------------------------------------------------------------------------------------------- what files are made of


def scene(width: int = 48, height: int = 40) -> np.ndarray:
    """A photo that looks the same in none of its eight orientations, of few enough colours for a palette."""
    y, x = np.mgrid[:height, :width]
    corner = (x < 16) & (y < 8)
    return np.stack([x // 8 * 40 % 256, y // 8 * 50 % 256, 60 + 120 * corner], axis=-1).astype(np.uint8)


def box(width: int = 48, height: int = 40) -> np.ndarray:
    hole = np.zeros((height, width), bool)
    hole[height // 5 : height // 2, width // 5 : 2 * width // 3] = True
    return hole


def encoded(image: Image.Image | np.ndarray, file_format: str = "PNG", **options) -> bytes:
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, rows: list[bytes], *others: bytes) -> bytes:
    """A PNG made by hand; colour: 0 = grey, 2 = RGB, 3 = palette, 4 = grey and alpha, 6 = RGBA; others: before IDAT."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(others) + pixels + chunk(b"IEND", b"")


def with_chunk(content: bytes, kind: bytes, data: bytes) -> bytes:
    """The PNG with one more chunk after its header."""
    return content[:33] + chunk(kind, data) + content[33:]


def grey_rows(levels: np.ndarray, depth: int) -> list[bytes]:
    """Rows of a PNG of less than 8 bits, from (H, W) values below 2**depth."""
    bits = (levels[..., None] >> np.arange(depth - 1, -1, -1)) & 1
    return [np.packbits(row).tobytes() for row in bits.reshape(len(levels), -1)]


def deep_rows(levels: np.ndarray) -> list[bytes]:
    """Rows of a PNG of 16 bits, from (H, W, C) uint8."""
    return [row.astype(">u2").tobytes() for row in levels.astype(np.uint16) * 257]


def orientation(value: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = value
    return tags


SCENE, HOLE = scene(), box()
GREY = np.repeat(SCENE[..., :1], 3, axis=-1)
PHOTO = encoded(SCENE)
MASK = encoded(HOLE.astype(np.uint8) * 255)
NOISE = np.random.default_rng(0).bytes(2000)
PROFILE = b"\0" * 36 + b"acsp" + b"\0" * 88  # an empty ICC profile: header only

FILES = {  # the scene in every format, as its usual suffix
    "png": PHOTO,
    "jpg": encoded(SCENE, "JPEG", quality=95),
    "webp": encoded(SCENE, "WEBP", lossless=True),
    "tif": encoded(SCENE, "TIFF"),
    "bmp": encoded(SCENE, "BMP"),
}
GIF = encoded(Image.fromarray(SCENE).quantize(64), "GIF")
LOSSY = {"jpg": 6.0}  # tolerance
STORED = {  # EXIF orientation: the pixels to store so that a viewer shows a given picture
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}


def stored(orientation: int, shown: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(STORED[orientation](shown))


# ---------------------------------------------------------------------------------------------- the families


def truncated() -> Iterator[OddInput]:
    noise = np.random.default_rng(0).integers(0, 256, SCENE.shape, dtype=np.uint8)
    suffixes = {"png": "png", "jpeg": "jpg", "webp": "webp", "tiff": "tif", "bmp": "bmp", "gif": "png"}
    for kind, suffix in suffixes.items():
        content = encoded(noise, kind)
        for percent in (0.01, 5, 25, 50, 75, 95):
            cut = content[: max(1, int(len(content) * percent / 100))]
            yield refused(f"{kind}-{percent}.{suffix}", cut, "is not an image" if percent == 0.01 else "")


def empty_or_foreign() -> Iterator[OddInput]:
    for suffix in ("png", "jpg", "jpeg", "webp", "tif", "tiff", "bmp"):
        yield refused(f"empty-{suffix}.{suffix}", b"", "is empty")
    starts = {
        "text": b"I am not a photo.\n", "noise": NOISE, "zeros": bytes(100_000), "html": b"<!doctype html><img>",
        "json": b'{"image": 1}', "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="48" height="40"/>',
        "pdf": b"%PDF-1.7\n1 0 obj\n", "zip": b"PK\3\4" + NOISE, "elf": b"\x7fELF" + NOISE, "gz": b"\x1f\x8b" + NOISE,
        "script": b"#!/bin/sh\ntouch harm\n", "pickle": b"\x80\4c__builtin__\nexit\n(tR.",
        "heic": b"\0\0\0\x18ftypheic" + NOISE, "psd": b"8BPS\0\1" + NOISE, "byte-order-mark": b"\xef\xbb\xbfphoto",
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 48 40\n%%EndComments\nshowpage\n",
        "lfs-pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
    }  # fmt: skip
    for name, content in starts.items():
        yield refused(f"{name}.png", content, "is not an image")
    magics = {
        "png": b"\x89PNG\r\n\x1a\n", "jpg": b"\xff\xd8\xff\xe0", "webp": b"RIFF\xff\xff\xff\xffWEBPVP8L",
        "tif": b"II*\0\x08\0\0\0", "bmp": b"BM", "gif": b"GIF89a",
    }  # fmt: skip
    for kind, content in magics.items():
        yield refused(f"only-magic-{kind}.png", content, "")
        yield refused(f"magic-and-noise-{kind}.png", content + NOISE, "")
    yield OddInput("notes.txt", b"I am a note.", "left alone", "is not a photo")
    yield OddInput("photo.gif", GIF)
    yield OddInput("no_suffix", PHOTO, "left alone", "is not a photo")


def damaged() -> Iterator[OddInput]:
    data = PHOTO.index(b"IDAT")
    row = bytes(48 * 3)
    yield refused("wrong-checksum.png", PHOTO[: data + 20] + b"XXXX" + PHOTO[data + 24 :], "broken")
    yield refused("wrong-header-checksum.png", PHOTO[:29] + b"XXXX" + PHOTO[33:], "not an image")
    head, end = PHOTO[: data - 4], chunk(b"IEND", b"")
    yield refused("no-pixels.png", head + end, "broken")
    yield refused("pixels-not-compressed.png", head + chunk(b"IDAT", NOISE) + end, "broken")
    yield refused("no-sides.png", png(0, 0, 8, 2, []), "")
    yield refused("side-of-2-31.png", png(2**31, 40, 8, 2, []), "")
    yield refused("depth-of-3.png", png(48, 40, 3, 2, [row] * 40), "")
    yield refused("colour-type-7.png", png(48, 40, 8, 7, [row] * 40), "")
    yield refused("chunk-of-2-31.png", PHOTO[:33] + struct.pack(">I", 2**31) + b"tEXt" + PHOTO[33:], "")
    yield refused("no-end-of-chunk.png", PHOTO[:33] + struct.pack(">I", 10**6) + b"tEXt" + PHOTO[33:], "")
    yield refused("scan-before-frame.jpg", b"\xff\xd8\xff\xda\0\x08\1\1\0\0\x3f\0" + NOISE, "")
    frame = FILES["jpg"].index(b"\xff\xc0")
    yield refused("no-frame.jpg", FILES["jpg"][:frame] + FILES["jpg"][frame + 19 :], "")
    yield refused("no-tables.jpg", b"\xff\xd8" + FILES["jpg"][frame:], "broken")
    yield refused("negative-sides.bmp", FILES["bmp"][:18] + struct.pack("<ii", -48, -40) + FILES["bmp"][26:], "")
    yield refused("99-bits.bmp", FILES["bmp"][:28] + b"\x63" + FILES["bmp"][29:], "")
    yield refused("directory-out-of-file.tif", b"II*\0" + struct.pack("<I", 10**9) + FILES["tif"][8:], "")
    yield refused("directory-of-itself.tif", b"II*\0\x08\0\0\0\0\0\x08\0\0\0", "")
    yield refused("wrong-length.webp", FILES["webp"][:4] + struct.pack("<I", 20) + FILES["webp"][8:], "")
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "jpeg"):
        content = bytearray(encoded(SCENE, "TIFF", compression=compression))
        strip = Image.open(io.BytesIO(content)).tag_v2[273][0]
        content[strip + 30 : strip + 60] = NOISE[:30]
        yield refused(f"noise-in-{compression}.tif", bytes(content), "broken")
    yield OddInput("bytes-after-the-end.png", PHOTO + NOISE)
    yield OddInput("bytes-after-the-end.jpg.jpg", FILES["jpg"] + NOISE, tolerance=6)
    yield OddInput("no-end.png", PHOTO[:-12])
    # The compressed data ends as it should, only too early; viewers show the rest black.
    rows = [row.tobytes() for row in SCENE[:20]]
    yield OddInput("too-few-rows.png", png(48, 40, 8, 2, rows), pixels=np.concatenate([SCENE[:20], SCENE[20:] * 0]))


def wrong_suffix() -> Iterator[OddInput]:
    """The content decides."""
    suffixes = {"png": "jpg", "jpg": "png", "webp": "tif", "tif": "bmp", "bmp": "webp"}
    for kind, suffix in suffixes.items():
        yield OddInput(f"{kind}-as.{suffix}", FILES[kind], tolerance=LOSSY.get(kind, 0))
    yield OddInput("gif-as.png", GIF)
    yield OddInput("ppm-as.jpeg", encoded(SCENE, "PPM"))
    yield OddInput("upper-case.PNG", PHOTO)
    yield OddInput("mixed-case.JpEg", FILES["jpg"], tolerance=6)


def modes() -> Iterator[OddInput]:
    """Every way to store pixels."""
    rgb, grey = Image.fromarray(SCENE), Image.fromarray(GREY[..., 0])
    deep = GREY[..., 0].astype(np.uint16) * 257
    alpha = np.full((40, 48), 255, np.uint8)
    alpha[30:, 40:] = 0
    on_white = np.where(alpha[..., None] == 0, np.uint8(255), SCENE)
    quarters = np.add.outer(np.arange(40) // 8, np.arange(48) // 8) % 4
    sixteenths = np.add.outer(np.arange(40) // 4, np.arange(48) // 4) % 16

    def levels(values: np.ndarray, step: int) -> np.ndarray:
        return np.repeat((values * step).astype(np.uint8)[..., None], 3, axis=-1)

    rgba = Image.fromarray(np.dstack([SCENE, alpha]))
    yield OddInput("grey.png", encoded(grey), pixels=GREY)
    yield OddInput("bits.png", encoded(Image.fromarray(quarters > 1)), pixels=levels(quarters > 1, 255))
    yield OddInput("2-bit-grey.png", png(48, 40, 2, 0, grey_rows(quarters, 2)), pixels=levels(quarters, 85))
    yield OddInput("4-bit-grey.png", png(48, 40, 4, 0, grey_rows(sixteenths, 4)), pixels=levels(sixteenths, 17))
    yield OddInput("16-bit-grey.png", encoded(deep), pixels=GREY)
    yield OddInput("16-bit-rgb.png", png(48, 40, 16, 2, deep_rows(SCENE)))
    yield OddInput("16-bit-rgba.png", png(48, 40, 16, 6, deep_rows(np.dstack([SCENE, alpha]))), pixels=on_white)
    opaque = np.dstack([GREY[..., 0], np.full_like(alpha, 255)])
    yield OddInput("16-bit-grey-alpha.png", png(48, 40, 16, 4, deep_rows(opaque)), pixels=GREY)
    yield OddInput("rgba.png", encoded(rgba), pixels=on_white)
    yield OddInput("grey-alpha.png", encoded(rgba.convert("LA")), pixels=np.array(
        Image.fromarray(on_white).convert("L").convert("RGB")))  # fmt: skip
    yield OddInput("palette.png", encoded(rgb.quantize(64)))
    first = np.asarray(rgb.quantize(64)) == 0
    without_first = np.where(first[..., None], np.uint8(255), SCENE)
    yield OddInput("palette-one-transparent.png", encoded(rgb.quantize(64), transparency=0), pixels=without_first)
    some = bytes([0] + [255] * 63)
    yield OddInput("palette-of-transparencies.png", encoded(rgb.quantize(64), transparency=some), pixels=without_first)
    yield OddInput("rgb-one-transparent.png", encoded(rgb, transparency=(0, 0, 180)), pixels=np.where(
        (SCENE == (0, 0, 180)).all(-1, keepdims=True), np.uint8(255), SCENE))  # fmt: skip
    yield OddInput("grey-one-transparent.png", encoded(grey, transparency=0), pixels=np.where(
        GREY == 0, np.uint8(255), GREY))  # fmt: skip
    two_colours = chunk(b"PLTE", bytes([10, 20, 30, 40, 50, 60]))
    dots = quarters // 2
    yield OddInput("palette-of-bits.png", png(48, 40, 1, 3, grey_rows(dots, 1), two_colours), pixels=np.array(
        [[10, 20, 30], [40, 50, 60]], np.uint8)[dots])  # fmt: skip
    yield OddInput("gif-transparent.png", encoded(rgb.quantize(64), "GIF", transparency=0), pixels=without_first)

    yield OddInput("cmyk.jpg", encoded(rgb.convert("CMYK"), "JPEG", quality=95), tolerance=6)
    yield OddInput("grey.jpg.jpg", encoded(grey, "JPEG", quality=95), pixels=GREY, tolerance=6)
    yield OddInput("progressive.jpg", encoded(rgb, "JPEG", quality=95, progressive=True), tolerance=6)
    yield OddInput("quality-5.jpg", encoded(rgb, "JPEG", quality=5), tolerance=30)
    yield OddInput("no-subsampling.jpg", encoded(rgb, "JPEG", quality=95, subsampling=0), tolerance=6)
    yield OddInput("restart-markers.jpg", encoded(rgb, "JPEG", quality=95, restart_marker_blocks=2), tolerance=6)

    yield OddInput("cmyk-tif.tif", encoded(rgb.convert("CMYK"), "TIFF"))
    yield OddInput("lab.tif", encoded(rgb.convert("LAB"), "TIFF"), tolerance=2)
    yield OddInput("jpeg-in-tif.tif", encoded(rgb, "TIFF", compression="jpeg"), tolerance=10)
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        yield OddInput(f"{compression}.tif", encoded(rgb, "TIFF", compression=compression))
    yield OddInput("group4.tif", encoded(Image.fromarray(quarters > 1), "TIFF", compression="group4"), pixels=levels(
        quarters > 1, 255))  # fmt: skip
    yield OddInput("rgba-tif.tif", encoded(rgba, "TIFF"), pixels=on_white)
    yield OddInput("palette-tif.tif", encoded(rgb.quantize(64), "TIFF"))
    yield OddInput("16-bit.tif", encoded(deep, "TIFF"), pixels=GREY)
    big_endian = Image.frombytes("I;16B", (48, 40), deep.astype(">u2").tobytes())
    yield OddInput("16-bit-big-endian.tif", encoded(big_endian, "TIFF"), pixels=GREY)
    yield OddInput("32-bit.tif", encoded(deep.astype(np.int32), "TIFF"), pixels=GREY)
    yield OddInput("float-to-1.tif", encoded((GREY[..., 0] / 255).astype(np.float32), "TIFF"), pixels=GREY)
    yield OddInput("float-to-255.tif", encoded(GREY[..., 0].astype(np.float32), "TIFF"), pixels=GREY)
    for value in (np.nan, np.inf, -np.inf):
        values = GREY[..., 0].astype(np.float32)
        values[3, 5] = value
        yield refused(f"float-with-{value}.tif", encoded(values, "TIFF"), "NaN or infinity")
    yield OddInput("float-all-negative.tif", encoded(np.full((40, 48), -3, np.float32), "TIFF"), pixels=SCENE * 0)

    yield OddInput("grey-bmp.bmp", encoded(grey, "BMP"), pixels=GREY)
    yield OddInput("bits-bmp.bmp", encoded(Image.fromarray(quarters > 1), "BMP"), pixels=levels(quarters > 1, 255))
    yield OddInput("palette-bmp.bmp", encoded(rgb.quantize(64), "BMP"))
    yield OddInput("rgba-webp.webp", encoded(rgba, "WEBP", lossless=True), pixels=on_white)
    yield OddInput("lossy-webp.webp", encoded(rgb, "WEBP", quality=95), tolerance=8)


def animated() -> Iterator[OddInput]:
    """The first frame counts."""
    others = [Image.fromarray(SCENE[::-1]), Image.fromarray(SCENE[:, ::-1])]
    options = {"save_all": True, "append_images": others}
    first = Image.fromarray(SCENE)
    indexed, for_gif = first.quantize(64), options | {"append_images": [image.quantize(64) for image in others]}
    yield OddInput("gif.png", encoded(indexed, "GIF", duration=50, loop=0, **for_gif))
    yield OddInput("gif-disposal.png", encoded(indexed, "GIF", disposal=2, **for_gif))
    yield OddInput("webp.webp", encoded(first, "WEBP", lossless=True, duration=50, **options))
    yield OddInput("apng.png", encoded(first, "PNG", duration=50, **options))
    yield OddInput("apng-with-a-still.png", encoded(first, "PNG", default_image=True, **options))
    yield OddInput("pages.tif", encoded(first, "TIFF", **options))
    yield OddInput("mpo.jpg", encoded(first, "MPO", quality=95, **options), tolerance=6)


def sides() -> Iterator[OddInput]:
    for width, height in ((1, 1), (15, 16), (16, 15), (30_000, 1), (1, 30_000)):
        yield refused(f"{width}x{height}.png", encoded(scene(width, height)), "at least 16x16")
    for suffix, file_format in (("jpg", "JPEG"), ("webp", "WEBP"), ("tif", "TIFF"), ("bmp", "BMP"), ("png", "GIF")):
        yield refused(f"1x1-{file_format}.{suffix}", encoded(scene(1, 1), file_format), "at least 16x16")
    for width, height in ((16, 16), (16, 17), (97, 89), (255, 17), (30_000, 16), (16, 3_000)):
        yield OddInput(f"{width}x{height}.png", encoded(scene(width, height)), pixels=scene(width, height), hole=box(
            width, height), mask=encoded(box(width, height)))  # fmt: skip


def bombs() -> Iterator[OddInput]:
    """Small files that say that they are huge."""
    huge = struct.pack(">HH", 60_000, 60_000)
    for side in (8_001, 20_000, 60_000):
        yield refused(f"{side}.png", png(side, side, 8, 2, [b""]), "megapixels")
    yield refused("ppm.png", b"P5 60000 60000 255 ", "megapixels")
    frame = FILES["jpg"].index(b"\xff\xc0")
    yield refused("jpg.jpg", FILES["jpg"][: frame + 5] + huge + FILES["jpg"][frame + 9 :], "megapixels")
    yield refused("bmp.bmp", FILES["bmp"][:18] + struct.pack("<ii", 60_000, 60_000) + FILES["bmp"][26:], "megapixels")
    yield refused("gif.png", GIF[:6] + b"\xff\xff\xff\xff" + GIF[10:], "megapixels")
    sides = struct.pack("<I", 16_383 | 16_383 << 14)
    yield refused("webp.webp", FILES["webp"][:21] + sides + FILES["webp"][25:], "megapixels")
    entries = [(256, 60_000), (257, 60_000), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 60_000), (279, 9)]
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    yield refused("tif.tif", b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + directory + bytes(4), "megapixels")
    bomb = zlib.compress(bytes(64 * 2**20), 9)
    yield refused("text.png", with_chunk(PHOTO, b"zTXt", b"Comment\0\0" + bomb), "too large")
    yield refused("profile.png", with_chunk(PHOTO, b"iCCP", b"profile\0\0" + bomb), "too large")


def exif() -> Iterator[OddInput]:
    for suffix, file_format, options in (("jpg", "JPEG", {"quality": 95, "subsampling": 0}), ("png", "PNG", {}),
                                         ("webp", "WEBP", {"lossless": True}), ("tif", "TIFF", {})):  # fmt: skip
        for value in STORED:
            content = encoded(stored(value, SCENE), file_format, exif=orientation(value), **options)
            yield OddInput(f"{suffix}-{value}.{suffix}", content, tolerance=LOSSY.get(suffix, 0))
    for value in (0, 9, 255, 65_535):
        yield OddInput(f"orientation-{value}.png", encoded(SCENE, exif=orientation(value)))
    head, sixth = b"Exif\0\0MM\0*\0\0\0\x08", b"\0\6\0\0"
    broken = {
        "empty": b"Exif\0\0", "garbage": b"Exif\0\0" + NOISE, "head-only": head,
        "half-an-entry": head + b"\0\1\1\x12\0",
        "text": head + struct.pack(">HHHI", 1, 0x0112, 2, 2) + b"6\0\0\0" + bytes(4),
        "many": head + struct.pack(">HHHI", 1, 0x0112, 3, 2**32 - 1) + sixth + bytes(4),
        "none": head + struct.pack(">HHHI", 1, 0x0112, 3, 0) + sixth + bytes(4),
        "endless": head + struct.pack(">HHHI", 65_535, 0x0112, 99, 1) + sixth,
        "directory-of-itself": head + struct.pack(">HHHI", 1, 0x8769, 4, 1) + b"\0\0\0\x08\0\0\0\x08",
        "other-byte-order": head.replace(b"MM\0*", b"II\0*") + struct.pack(">HHHI", 1, 0x0112, 3, 1) + sixth + bytes(4),
    }  # fmt: skip
    for name, tags in broken.items():
        yield OddInput(f"broken-{name}.jpg", encoded(SCENE, "JPEG", quality=95, exif=tags), tolerance=6)


def profiles() -> Iterator[OddInput]:
    yield OddInput("header-only.png", encoded(SCENE, icc_profile=PROFILE))
    yield OddInput("garbage.png", encoded(SCENE, icc_profile=NOISE))
    yield OddInput("half-a-megabyte.png", encoded(SCENE, icc_profile=PROFILE + NOISE * 250))
    huge = PROFILE + NOISE * 1500
    yield OddInput("3-megabytes.jpg", encoded(SCENE, "JPEG", quality=95, icc_profile=huge), tolerance=6)
    yield OddInput("3-megabytes.tif.tif", encoded(SCENE, "TIFF", icc_profile=huge))
    yield OddInput("garbage.webp.webp", encoded(SCENE, "WEBP", lossless=True, icc_profile=NOISE))
    cmyk = Image.fromarray(SCENE).convert("CMYK")
    yield OddInput("of-a-cmyk.jpg", encoded(cmyk, "JPEG", quality=95, icc_profile=PROFILE), tolerance=6)
    yield OddInput("not-compressed.png", with_chunk(PHOTO, b"iCCP", b"profile\0\0" + NOISE))


def masks() -> Iterator[OddInput]:
    levels = HOLE.astype(np.uint8) * 255
    nowhere = np.zeros_like(HOLE)

    def mask(name: str, image, hole: np.ndarray = HOLE, suffix: str = ".png", file_format: str = "PNG", **options):
        content = encoded(image, file_format, **options)
        return OddInput(f"{name}.png", PHOTO, hole=hole, mask=content, mask_suffix=suffix)

    def bad(name: str, mask: Content, word: str, suffix: str = ".png", blames: str = "masks"):
        return refused(f"{name}.png", PHOTO, word, mask=mask, mask_suffix=suffix, blames=blames)

    yield mask("none", levels * 0, nowhere)
    yield bad("all", encoded(levels | 255), "everything is marked")
    yield mask("smaller", levels[1::2, 1::2], HOLE[1::2, 1::2].repeat(2, 0).repeat(2, 1))
    yield mask("larger", levels.repeat(3, 0).repeat(3, 1))
    yield mask("1x1-black", np.zeros((1, 1), np.uint8), nowhere)
    yield bad("1x1-white", encoded(np.ones((1, 1), np.uint8)), "everything is marked")
    yield bad("row", encoded(np.ones((1, 30_000), np.uint8)), "is 30000x1, the photo 48x40")
    yield bad("turned-twice", encoded(levels.T, exif=orientation(1)), "is 40x48, the photo 48x40")
    soft = Image.fromarray(levels).filter(ImageFilter.GaussianBlur(2))
    yield mask("soft-edges", soft, np.asarray(soft) >= 128)
    yield mask("almost-black", levels - HOLE + ~HOLE)
    pixel = (np.arange(40)[:, None] == 9) & (np.arange(48) == 7)
    yield mask("one-pixel", pixel, pixel)
    specks = np.random.default_rng(1).random(HOLE.shape) < 0.1
    yield mask("specks", specks, specks)
    white, black = np.full((40, 48, 3), 255, np.uint8), np.zeros((40, 48, 3), np.uint8)
    yield mask("alpha-on-white", np.dstack([white, levels]))
    yield mask("alpha-on-black", np.dstack([black, levels]))
    yield mask("opaque-rgba", np.dstack([levels] * 3 + [levels | 255]))
    yield mask("grey-alpha", Image.fromarray(np.dstack([levels] * 3 + [levels | 255])).convert("LA"))
    yield mask("red", np.dstack([levels, black[..., :2]]))
    indexed = Image.fromarray(1 - HOLE.astype(np.uint8))
    indexed.putpalette([255, 255, 255, 0, 0, 0])  # index 0 is white
    yield mask("palette", indexed)
    yield mask("bits", HOLE)
    yield mask("ones", HOLE.astype(np.uint8))
    yield mask("16-bit", HOLE.astype(np.uint16))
    yield mask("float", HOLE.astype(np.float32), suffix=".tif", file_format="TIFF")
    yield mask("turned", stored(6, levels), exif=orientation(6))
    aligned = np.zeros_like(HOLE)
    aligned[8:24, 8:32] = True
    yield mask("jpg", aligned.astype(np.uint8) * 255, aligned, ".jpg", "JPEG", quality=100)
    yield mask("jpg-that-rings", levels, HOLE, ".jpg", "JPEG", quality=50)
    yield mask("webp-that-rings", levels, HOLE, ".webp", "WEBP", quality=50)
    yield mask("animated", levels, suffix=".webp", file_format="WEBP", lossless=True, save_all=True,
               append_images=[Image.fromarray(255 - levels)])  # fmt: skip

    not_numbers = np.full((40, 48), np.nan, np.float32)
    yield bad("nan", encoded(not_numbers, "TIFF"), "NaN", ".tif", blames="photos")
    yield bad("empty", b"", "is empty")
    yield bad("text", b"I am not a mask.", "is not an image")
    yield bad("half", MASK[: len(MASK) // 2], "")
    yield bad("bomb", png(60_000, 60_000, 8, 0, [b""]), "megapixels")
    yield bad("missing", lambda path: None, "has no mask", blames="photos")
    yield bad("unknown-suffix", MASK, "has no mask", ".xyz", blames="photos")
    yield bad("folder", lambda path: path.mkdir(), "has no mask", blames="photos")
    yield bad("dangling-link", lambda path: path.symlink_to("nowhere.png"), "no such file")
    yield bad("pipe", lambda path: os.mkfifo(path), "no file but a pipe")

    def two(path: Path) -> None:
        path.write_bytes(MASK), path.with_suffix(".bmp").write_bytes(MASK)

    yield bad("two", two, "several masks", blames="photos")


def names() -> Iterator[OddInput]:
    """In a folder of photos; half of them are empty files, whose names must be printed, on one line."""
    plain = [
        "grüße", "gru\u0308ße", "写真", "صورة", "\U0001f5bc", " leading space", "trailing space ", "two  spaces", "-rf",
        "--help", "--output=x", "a.b.c", "a..b", "trailing dot.", "CON", "~root", "$HOME", "$(touch harm)",
        "`touch harm`", "; touch harm", "| touch harm", "*", "?", "[a-z]", "{a,b}", "%2e%2e%2fharm",
        "x\\..\\..\\harm", "C:\\harm", "'", '"', "<b>", "%s%n", "{0}", "n" * 251, "é" * 125, "_before", "restored.png",
    ]  # fmt: skip
    escaped = {
        "line\nbreak": r"line\nbreak", "\n": r"\n", "carriage\rreturn": r"carriage\rreturn", "a\tb": r"a\tb",
        "\x1b[31mred\x1b[0m": r"\x1b[31mred\x1b[0m", "right-to-left\u202egnp": r"right-to-left\u202egnp",
        os.fsdecode(b"latin-1 \xe9"): r"latin-1 \udce9", "\x7f": r"\x7f",
    }  # fmt: skip
    for i, (stem, shown) in enumerate({**{stem: stem for stem in plain}, **escaped}.items()):
        if i % 2:
            yield OddInput(f"{stem}.png", PHOTO)
        else:
            yield refused(f"{stem}.png", b"", "is empty", shown=f"{shown}.png")
    yield OddInput(".hidden.png", PHOTO, "left alone")
    yield OddInput("...png", PHOTO, "left alone")


def places() -> Iterator[OddInput]:
    """Something else where a file should be."""

    def link_to_a_photo(path: Path) -> None:
        (path.parent / ".original.png").write_bytes(PHOTO)
        path.symlink_to(".original.png")

    def socket_file(path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as server:
            here = os.open(path.parent, os.O_RDONLY)
            try:
                server.bind(f"/proc/self/fd/{here}/{path.name}")  # the whole path may be too long for a socket
            finally:
                os.close(here)

    yield OddInput("folder.png", lambda path: path.mkdir(), "left alone")
    yield OddInput("link.png", link_to_a_photo)
    yield refused("dangling-link.png", lambda path: path.symlink_to("nowhere.png"), "no such file")
    yield refused("link-to-itself.png", lambda path: path.symlink_to(path.name), "")
    yield refused("link-to-a-device.png", lambda path: path.symlink_to("/dev/zero"), "no file but a pipe or a device")
    yield refused("pipe.png", lambda path: os.mkfifo(path), "no file but a pipe")
    yield refused("socket.png", socket_file, "no file but a pipe")
    yield refused("result-is-a-folder.png", PHOTO, "could not be written", blames="restored",
                  there=lambda path: path.mkdir())  # fmt: skip
    yield refused("result-is-the-photo.png", PHOTO, "would overwrite", there=lambda path: path.symlink_to(
        path.parents[2] / "photos/places/result-is-the-photo.png"))  # fmt: skip
    yield OddInput("result-is-a-dangling-link.png", PHOTO, there=lambda path: path.symlink_to("nowhere.png"))
    yield OddInput("result-is-an-old-file.png", PHOTO, there=lambda path: path.write_bytes(b"old"))
    yield OddInput("result-is-a-pipe.png", PHOTO, there=lambda path: os.mkfifo(path))


FAMILIES = (
    truncated, empty_or_foreign, damaged, wrong_suffix, modes, animated, sides, bombs, exif, profiles, masks, names,
    places,
)  # fmt: skip


def corpus() -> list[OddInput]:
    return [replace(odd, family=family.__name__) for family in FAMILIES for odd in family()]


def write_corpus(folder: Path, inputs: list[OddInput]) -> None:
    """photos/FAMILY/NAME, masks/FAMILY/NAME, and in restored/FAMILY/NAME.png what is there before."""
    for odd in inputs:
        for (kind, name), content in zip(odd.files.items(), (odd.photo, odd.mask, odd.there), strict=True):
            path = folder / kind / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
            elif content is not None:
                content(path)


def main() -> None:
    inputs = corpus()
    write_corpus(Path(sys.argv[1]), inputs)
    for family, count in Counter(odd.family for odd in inputs).items():
        print(f"{count:4} {family.replace('_', ' ')}")
    print(f"{len(inputs):4} in all")


if __name__ == "__main__":
    main()
