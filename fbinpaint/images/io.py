"""Image files, read by their content and written whole or not at all."""

import io
import os
import re
import struct
import threading
import warnings
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin, TiffImagePlugin

from fbinpaint.errors import InputError, one_line
from fbinpaint.images.metadata import MAX_PROFILE, TURNED, is_text_key, to_exif
from fbinpaint.system.files import whole_file
from fbinpaint.system.urls import Place, Url

MAXIMUM = "fbinpaint_maximum"  # in `Image.info`: see `stretched_maximum`
OPENING = threading.Lock()  # `warnings.catch_warnings` is of all threads

MAX_PIXELS = 64_000_000  # decoded; five times the documented 12 Mpx, and well below PIL's own bomb limit
MAX_STEPS = 200_000  # that a file is read in; large PNG files, in chunks of 8 kB, take some 50,000
MAX_GIF_STEPS = 10_000  # PIL joins comments piece by piece, each time copying all of them
MAX_STRIPS = 100_000  # of a TIFF file, or tiles; PIL notes each
MAX_PLAIN, MAX_COMMENTS = 10_000_000, 1000  # bytes, and their comments, of PPM files that are text: PIL reads it slowly
MAX_SCANS = 100  # of a JPEG file; progressive ones have about ten. Each, however short, goes over the whole picture
BITS_PER_SAMPLE, PHOTOMETRIC, XMP_TAG, STRIPS_OR_TILES = 258, 262, 700, (273, 324)  # tags of TIFF
WHITE_IS_ZERO = 0  # of PHOTOMETRIC

# What is read, by content, whatever the suffix. Of PIL's other formats, EPS would start a program: Ghostscript.
READ_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")

# What `save_image` writes. PNG, WebP, TIFF, JPEG 2000, BMP and PPM are lossless: they keep known pixels as they are.
SAVE_FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    # 3: of 12 Mpx of streets half the time of 6, zlib's default, in 4 % more bytes (`python -m benchmarks.png`).
    ".png": ("PNG", {"compress_level": 3}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),  # 0: colours at full size, as known pixels have them
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jfif": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"lossless": True, "exact": True}),  # exact: colours under full transparency too
    ".tif": ("TIFF", {"compression": None}),  # PIL would take over the photo's, which may be JPEG
    ".tiff": ("TIFF", {"compression": None}),
    ".bmp": ("BMP", {}),
    ".avif": ("AVIF", {"quality": 95, "subsampling": "4:4:4"}),  # as 0 of JPEG
    ".jp2": ("JPEG2000", {}),
    ".ppm": ("PPM", {}),
    ".pgm": ("PPM", {}),
    ".pbm": ("PPM", {}),
    ".pnm": ("PPM", {}),
}
# What counts as a photo in a folder. GIF is not written: its 256 colours are too few for what is painted.
PHOTO_SUFFIXES = (*SAVE_FORMATS, ".gif", ".j2k", ".jpx")

# The entries of `Image.info` that a format holds; see `fbinpaint.images.metadata`.
INFO_OF = {
    "PNG": ("icc_profile", "exif", "xmp", "dpi", "gamma", "chromaticity"),
    "JPEG": ("icc_profile", "exif", "xmp", "dpi", "comment"),
    "WEBP": ("icc_profile", "exif", "xmp"),
    "TIFF": ("icc_profile", "exif", "xmp", "dpi"),
    "AVIF": ("icc_profile", "exif", "xmp"),
    "BMP": ("dpi",),
    "JPEG2000": (),
    "PPM": (),
}
# Those whose loss matters.
NAMES = {
    "icc_profile": "colour profile",
    "exif": "EXIF data",
    "xmp": "XMP",
    "gamma": "gamma",
    "chromaticity": "primaries",
}
PNG_COLOURS = {"gamma": b"gAMA", "chromaticity": b"cHRM"}  # chunks of 32-bit numbers, in units of 1e-5
JPEG_SEGMENT = {"exif": 65_533, "xmp": 65_504}  # bytes; longer ones do not fit into the file


@dataclass(frozen=True)
class ImageBytes:
    """What an image file holds; name: what messages call it."""

    name: str
    data: bytes = field(repr=False)

    def __str__(self) -> str:
        return self.name


def load_image(file: str | os.PathLike | ImageBytes) -> Image.Image:
    """Opens and fully decodes one image file (the first frame of an animation), in the mode it is stored in.

    Raises InputError, naming the file, when it is missing, a folder, empty, not an image, broken, above MAX_PIXELS or a
    negative that cannot be turned over.
    """
    with open_image(file, str(file)) as image:
        image = decode_image(image, str(file))
        image.filename = str(file)  # type: ignore[attr-defined]  # as an ImageFile has it
        return image


def fetched(file: Place | ImageBytes) -> Path | ImageBytes:
    """What a URL holds, got once for all that is to be read of it; other files as they are. Raises InputError where it
    cannot be got."""
    return ImageBytes(str(file), file.read_bytes()) if isinstance(file, Url) else file


def number_of_pixels(file: Path | ImageBytes) -> int:
    """Of an image file, by its header. Raises InputError as `load_image`."""
    with open_image(file, str(file)) as image:
        return image.width * image.height


def read_bytes(file: Path | ImageBytes) -> bytes:
    """What an image file holds. Raises InputError where it cannot be read."""
    if isinstance(file, ImageBytes):
        return file.data
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); check the file") from error


def open_image(file: str | os.PathLike | BinaryIO | ImageBytes, name: str) -> Image.Image:
    """Reads the header of an image, not yet its pixels; `name` opens the message of the InputError."""
    if isinstance(file, (str, os.PathLike)) and os.path.exists(file) and not os.path.isfile(file):
        problem = "is a folder" if os.path.isdir(file) else "is no file but a pipe or a device"  # may never end
        raise InputError(f"{name}: {problem}; name an image file")
    try:
        if not isinstance(file, (str, os.PathLike, ImageBytes)):
            return identify(file)
        with ExitStack() as stack:
            raw = io.BytesIO(file.data) if isinstance(file, ImageBytes) else io.FileIO(file)
            opened = stack.enter_context(InSteps(raw))
            if is_long_text(opened) or has_many_strips(opened):
                raise OSError("it has too many parts")
            image = identify(opened)
            stack.pop_all()
        # As if PIL had opened it: it is to close it.
        image.filename, image._exclusive_fp = str(file), True  # type: ignore[attr-defined]  # an ImageFile
        return image
    except FileNotFoundError as error:
        raise InputError(f"{name}: no such file; check the path") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{name}: is larger than {MAX_PIXELS // 10**6} megapixels; make it smaller first") from error
    except Image.UnidentifiedImageError as error:
        if isinstance(file, ImageBytes):
            length = len(file.data)
        else:
            length = os.path.getsize(file) if isinstance(file, (str, os.PathLike)) else file.seek(0, os.SEEK_END)
        problem = "is not an image that can be read" if length else "is empty (zero bytes)"
        raise InputError(f"{name}: {problem}; use a PNG, JPEG, WebP or TIFF file") from error
    except Exception as error:  # PIL's readers of headers raise whatever they meet on broken files
        raise InputError(f"{name}: cannot be opened ({one_line(error)}); check the file") from error


def identify(file: BinaryIO | io.BufferedReader) -> Image.Image:
    with OPENING, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MAX_PIXELS is stricter
        return Image.open(file, formats=READ_FORMATS)


class InSteps(io.BufferedReader):
    """A file that can be read in so many steps at most. A hundred megabytes of the smallest parts that a format has,
    chunks, comments, frames, would otherwise keep PIL busy for minutes."""

    def __init__(self, file: io.FileIO | io.BytesIO):
        super().__init__(file)
        self.left = MAX_GIF_STEPS if self.peek(3)[:3] == b"GIF" else MAX_STEPS

    def read(self, size: int | None = -1) -> bytes:
        self.left -= 1
        if self.left < 0:
            raise OSError("it has too many parts")
        return super().read(size)


def is_long_text(file: BinaryIO) -> bool:
    """Whether it is a PPM file whose pixels are text, and more of it than PIL reads within seconds."""
    start = file.read(2)
    text = file.read(MAX_PLAIN) if start in (b"P1", b"P2", b"P3") else b""
    file.seek(0)
    return len(text) == MAX_PLAIN or text.count(b"#") > MAX_COMMENTS


def has_many_strips(file: BinaryIO) -> bool:
    """Whether it is a TIFF file, or a BigTIFF one, whose picture has more strips or tiles than MAX_STRIPS."""
    start = file.read(16)
    order, is_big = {b"II": "<", b"MM": ">"}.get(start[:2]), start[2:4] in (b"+\0", b"\0+")
    counts = []
    if order and len(start) == 16:
        first = struct.unpack(f"{order}Q", start[8:]) if is_big else struct.unpack(f"{order}I", start[4:8])
        file.seek(min(first[0], 2**40))  # the end of a shorter file
        length, entry = ("Q", f"{order}HHQ8x") if is_big else ("H", f"{order}HHI4x")
        entries = int.from_bytes(file.read(struct.calcsize(f"={length}")), "little" if order == "<" else "big")
        data = file.read(min(entries, 2**16) * struct.calcsize(entry))
        data = data[: len(data) // struct.calcsize(entry) * struct.calcsize(entry)]
        counts = [count for tag, _, count in struct.iter_unpack(entry, data) if tag in STRIPS_OR_TILES]
    file.seek(0)
    return max(counts, default=0) > MAX_STRIPS


def decode_image(image: Image.Image, name: str) -> Image.Image:
    """Loads the pixels of an image that PIL may only have opened; `name` opens the message of the InputError."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise InputError(
            f"{name}: {width}x{height} is larger than {MAX_PIXELS // 10**6} megapixels; make it smaller first"
        )
    if image.format in ("JPEG", "MPO") and (file := getattr(image, "fp", None)) and not has_few_scans(file):
        raise InputError(f"{name}: has more than {MAX_SCANS} scans, which would take minutes; save it again")
    maximum = stretched_maximum(image)
    is_negative = bool(getattr(image, "tile", None)) and is_deep_negative(image, name)
    turned, filename = None, getattr(image, "filename", "")
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        turned = image.tag_v2.get(ExifTags.Base.Orientation)
        # A file that PIL knows by its name is mapped into memory, at the size that it will have when it is turned:
        # Pillow 12.3 scrambles uncompressed ones that lie on their side.
        image.filename = ""
    try:
        image.load()
    except Exception as error:  # PIL's decoders raise OSError, SyntaxError, struct.error... on broken files
        raise InputError(f"{name}: the image data is broken or truncated ({error}); save it again") from error
    finally:
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            image.filename = filename
    if is_negative:
        image.frombytes((65535 - np.asarray(image)).astype("<u2").tobytes())
    if maximum is not None:
        image.info[MAXIMUM] = maximum
    if turned is not None:
        image.info[TURNED] = turned
    return image


def is_deep_negative(image: Image.Image, name: str) -> bool:
    """Whether it is a TIFF file, not yet decoded, of 16-bit greyscale in which 0 is white: PIL turns over only those of
    fewer bits. Raises InputError for one of floating-point numbers, of which none says how dark the largest is."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile) or image.tag_v2.get(PHOTOMETRIC) != WHITE_IS_ZERO:
        return False
    if image.mode == "F":
        raise InputError(f"{name}: is of floating-point numbers of which 0 is white; save it with 0 as black")
    return image.mode == "I;16"


def stretched_maximum(image: Image.Image) -> int | None:
    """The greatest value of a greyscale file of fewer than 8 bits, or of a PGM file that says a smaller one, before it
    is decoded: PIL makes 255 of it. None of other files, and of images whose pixels are there."""
    tiles = getattr(image, "tile", None)
    if not tiles or image.mode != "L":
        return None
    arguments = tiles[0].args
    raw = arguments if isinstance(arguments, str) else str(arguments[0])
    if image.format == "PPM":
        return None if isinstance(arguments, str) else int(arguments[1])
    return next((2**bits - 1 for bits in (2, 4) if raw.startswith(f"L;{bits}")), None)


def index_values(image: Image.Image) -> np.ndarray:
    """The pixels of an index image (of `decode_image`) as they are stored, (H,W) where it has one channel: ids are no
    shades of grey, which PIL stretches to 255."""
    values, maximum = np.asarray(image), image.info.get(MAXIMUM)
    return values if maximum is None else np.rint(values * (maximum / 255)).astype(np.uint8)


def has_few_scans(file: BinaryIO) -> bool:
    """Whether a JPEG file has at most MAX_SCANS; what comes behind its picture does not count."""
    place = file.tell()
    file.seek(0)
    data = file.read()
    file.seek(place)
    scans, at = 0, 2
    # Inside a scan, 0xFF stands before 0 or a restart marker; before anything else it begins the next segment.
    while scans <= MAX_SCANS and (marker := re.compile(rb"\xff[^\x00\xff\xd0-\xd8]").search(data, at)):
        kind, at = data[marker.end() - 1], marker.end()
        if kind == 0xD9:  # the end of the picture
            break
        scans += kind == 0xDA
        at += int.from_bytes(data[at : at + 2], "big")
    return scans <= MAX_SCANS


def frames_and_bits(path: str | os.PathLike | ImageBytes) -> tuple[int, int]:
    """How many frames or pages a file that can be read has, and how many bits a channel of a pixel, as far as PNG, TIFF
    and PPM files tell; `load_image` reads the first frame, and colour as 8 bits.

    The second picture in a JPEG file is no frame: telephones put gain and depth maps there.
    """
    with open_image(path, str(path)) as image:
        tiles = getattr(image, "tile", None)
        arguments = tiles[0].args if tiles else ""
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            bits = max(image.tag_v2.get(BITS_PER_SAMPLE) or (8,))
        elif image.format == "PPM" and isinstance(arguments, tuple) and len(arguments) == 2:  # the second: the maximum
            bits = arguments[1].bit_length()
        else:
            bits = 16 if ";16" in str(arguments) else 8
        try:
            frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        except Exception:  # a later frame is broken, which is of no concern to the first
            frames = 1
        return frames, bits


def save_image(image: Image.Image, path: str | os.PathLike, quality: int | None = None) -> None:
    """Writes the image in the format of the suffix (a key of SAVE_FORMATS), whole or not at all.

    Of `image.info`, colour profile, EXIF, XMP, resolution and, in PNG files, texts are written as far as the format
    holds them; what it does not hold, `not_held` tells.

    quality: 1 to 100 of JPEG, AVIF and WebP, which then is not lossless; None = 95, WebP lossless

    Raises InputError for an unknown suffix, a folder that cannot be written to, and a mode that the format cannot hold.
    """
    path = Path(path)
    options = options_of(image, path, quality)
    if not path.parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist; create it first")
    with whole_file(path) as temporary:
        image.save(temporary, **options)


def encode_image(image: Image.Image, path: Place, quality: int | None = None) -> bytes:
    """What `save_image` would write into a file of that name."""
    encoded = io.BytesIO()
    try:
        image.save(encoded, **options_of(image, path, quality))
    except (OSError, ValueError) as error:  # ValueError: PIL's for sides beyond what a format can hold
        raise InputError(f"{path}: could not be written ({error}); choose another format") from error
    return encoded.getvalue()


def options_of(image: Image.Image, path: Place, quality: int | None) -> dict[str, Any]:
    """The arguments of PIL's `save`. Raises InputError for an unknown suffix."""
    if path.suffix.lower() not in SAVE_FORMATS:
        raise InputError(f"{path}: unknown suffix '{path.suffix}'; use one of {' '.join(SAVE_FORMATS)}")
    file_format, options = SAVE_FORMATS[path.suffix.lower()]
    if quality is not None and file_format in ("JPEG", "AVIF", "WEBP"):
        options = {key: value for key, value in options.items() if key != "lossless"} | {"quality": quality}
    return {"format": file_format} | options | metadata_options(image, file_format)


def is_lossy(path: str | os.PathLike | Url, quality: int | None = None) -> bool:
    """Whether `save_image` gives up bit-identical pixels in a file of this name."""
    file_format, _ = SAVE_FORMATS[Path(str(path)).suffix.lower()]
    return file_format in ("JPEG", "AVIF") or (file_format == "WEBP" and quality is not None)


def not_held(image: Image.Image, path: str | os.PathLike | Url) -> list[str]:
    """What the image says of itself that `save_image` cannot write into a file of this name, in words."""
    file_format, _ = SAVE_FORMATS[Path(str(path)).suffix.lower()]
    return [name for key, name in NAMES.items() if image.info.get(key) and not _holds(file_format, key, image)]


def _holds(file_format: str, key: str, image: Image.Image) -> bool:
    if key not in INFO_OF[file_format]:
        return False
    if file_format == "JPEG" and len(image.info[key]) > JPEG_SEGMENT.get(key, MAX_PROFILE):
        return False
    return key != "icc_profile" or len(image.info[key]) <= MAX_PROFILE


def metadata_options(image: Image.Image, file_format: str) -> dict[str, Any]:
    """The entries of `image.info` that the format ("PNG", "JPEG"...) holds, as options of PIL's `save`."""
    kept = {key: image.info[key] for key in INFO_OF[file_format] if image.info.get(key)}
    kept = {key: value for key, value in kept.items() if _holds(file_format, key, image)}
    if file_format == "PNG":
        chunks = PngImagePlugin.PngInfo()
        for key, value in image.info.items():
            if isinstance(key, str) and isinstance(value, str) and is_text_key(key):
                chunks.add_itxt(key, value)
        if "xmp" in kept:
            chunks.add_itxt("XML:com.adobe.xmp", kept.pop("xmp").decode())
        for key, chunk in PNG_COLOURS.items():
            if key in kept:
                chunks.add(chunk, np.rint(np.atleast_1d(kept.pop(key)) * 1e5).astype(">u4").tobytes())
        kept["pnginfo"] = chunks
    if file_format == "TIFF":
        tags = to_exif(kept.pop("exif", b""))
        if "xmp" in kept:
            tags[XMP_TAG] = kept.pop("xmp")
        kept["exif"] = tags
    return {"icc_profile": None} | kept  # None: or else PIL takes one from `info`, of any length
