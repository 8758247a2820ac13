"""Image files, read by their content and written whole or not at all."""

import os
import warnings
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from fbinpaint.errors import InputError
from fbinpaint.files import whole_file

MAX_PIXELS = 64_000_000  # decoded; five times the documented 12 Mpx, and well below PIL's own bomb limit
MAX_PROFILE = 2**20  # bytes; PIL reads no PNG with a longer colour profile

# What is read, by content, whatever the suffix. Of PIL's other formats, EPS would start a program: Ghostscript.
READ_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")

# What `save_image` writes. WebP and TIFF are lossless too: only JPEG gives up bit-identical known pixels.
SAVE_FORMATS = {
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 95}),
    ".jpeg": ("JPEG", {"quality": 95}),
    ".webp": ("WEBP", {"lossless": True}),
    ".tif": ("TIFF", {}),
    ".tiff": ("TIFF", {}),
    ".bmp": ("BMP", {}),
}


def load_image(path: str | os.PathLike) -> Image.Image:
    """Opens and fully decodes one image file (the first frame of an animation), in the mode it is stored in.

    Raises InputError, naming the file, when it is missing, a folder, empty, not an image, broken or above MAX_PIXELS.
    """
    with open_image(path, str(path)) as image:
        return decode_image(image, str(path))


def open_image(file: str | os.PathLike | BinaryIO, name: str) -> Image.Image:
    """Reads the header of an image, not yet its pixels; `name` opens the message of the InputError."""
    if isinstance(file, (str, os.PathLike)) and os.path.exists(file) and not os.path.isfile(file):
        problem = "is a folder" if os.path.isdir(file) else "is no file but a pipe or a device"  # may never end
        raise InputError(f"{name}: {problem}; name an image file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MAX_PIXELS is stricter
            return Image.open(file, formats=READ_FORMATS)
    except FileNotFoundError as error:
        raise InputError(f"{name}: no such file; check the path") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{name}: is larger than {MAX_PIXELS // 10**6} megapixels; make it smaller first") from error
    except Image.UnidentifiedImageError as error:
        length = os.path.getsize(file) if isinstance(file, (str, os.PathLike)) else file.seek(0, os.SEEK_END)
        problem = "is not an image that can be read" if length else "is empty (zero bytes)"
        raise InputError(f"{name}: {problem}; use a PNG, JPEG, WebP or TIFF file") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{name}: cannot be opened ({error}); check the file") from error


def decode_image(image: Image.Image, name: str) -> Image.Image:
    """Loads the pixels of an image that PIL may only have opened; `name` opens the message of the InputError."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise InputError(
            f"{name}: {width}x{height} is larger than {MAX_PIXELS // 10**6} megapixels; make it smaller first"
        )
    try:
        image.load()
    except Exception as error:  # PIL's decoders raise OSError, SyntaxError, struct.error... on broken files
        raise InputError(f"{name}: the image data is broken or truncated ({error}); save it again") from error
    return image


def save_image(image: Image.Image, path: str | os.PathLike) -> None:
    """Writes the image in the format of the suffix (a key of SAVE_FORMATS), whole or not at all.

    An ICC profile in `image.info` of at most MAX_PROFILE bytes is kept. Raises InputError for an unknown suffix, a
    folder that cannot be written to, and a mode that the format cannot hold.
    """
    path = Path(path)
    if path.suffix.lower() not in SAVE_FORMATS:
        raise InputError(f"{path}: unknown suffix '{path.suffix}'; use one of {' '.join(SAVE_FORMATS)}")
    if not path.parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist; create it first")
    file_format, options = SAVE_FORMATS[path.suffix.lower()]
    profile = image.info.get("icc_profile")
    if profile and len(profile) > MAX_PROFILE:
        profile = None
    with whole_file(path) as temporary:
        image.save(temporary, file_format, icc_profile=profile, **options)
