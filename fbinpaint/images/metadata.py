"""What a photo says of itself, carried over to its result: EXIF, XMP, resolution, colour profile, copyright, comments.

It travels in `Image.info`, under the names PIL has for it; `save_image` writes what the format of the file holds.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import ExifTags, Image, IptcImagePlugin

from fbinpaint.images import xmp

MAX_PROFILE = 2**20  # bytes; PIL reads no PNG with a longer colour profile
# How a PNG file says what its colours are where it has no profile, as sRGB would be told: x and y of white, red, green,
# blue. What is sRGB need not be told.
SRGB: dict[str, Any] = {"gamma": 0.45455, "chromaticity": (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)}

# EXIF shares its numbers with the tags that say how a TIFF file stores its pixels, which are not the result's; nor is
# the orientation, as results are upright. XMP, IPTC and colour profile, which are tags there too, travel by themselves.
STORAGE = frozenset(
    (*range(254, 267), 273, 274, *range(277, 282), 284, *range(288, 294), 301, *range(317, 326), 330, *range(338, 344))
    + (347, *range(512, 522), *range(529, 533), 700, 33723, 34377, 34675, 37724)
)  # fmt: skip
# In `Image.info`: the orientation of a TIFF file, which PIL turns upright when it decodes the file, and forgets.
TURNED = "fbinpaint_turned"
SIDEWAYS = (5, 6, 7, 8)  # orientations that exchange width and height
COPYRIGHT, ARTIST = ExifTags.Base.Copyright, ExifTags.Base.Artist
IPTC_CREDITS = {COPYRIGHT: (2, 116), ARTIST: (2, 80)}
TEXT_CREDITS = {COPYRIGHT: "Copyright", ARTIST: "Author"}  # of PNG files


@dataclass
class Metadata:
    """info: as in `Image.info`. lost: what could not be carried over, in words."""

    info: dict[str, Any] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)


def carry_over(photo: Image.Image) -> Metadata:
    """What the upright result of a photo keeps. The EXIF thumbnail is left out: it shows what the photo was."""
    found = Metadata()
    sideways = photo.info.get(TURNED) in SIDEWAYS
    try:
        lies = photo.getexif().get(ExifTags.Base.Orientation, 1) in SIDEWAYS
        sideways = sideways or lies
        upright = photo.size[::-1] if lies and photo.format != "TIFF" else photo.size
        if tags := _exif(photo, sideways, upright):
            found.info["exif"] = tags.tobytes()
    except Exception:  # PIL raises of many kinds on broken EXIF; the photo itself is still good
        found.lost.append("its EXIF data, which is broken")
    if packet := photo.info.get("xmp"):
        try:
            found.info["xmp"] = xmp.carry_over(packet)
        except ValueError as error:
            found.lost.append(f"its XMP ({error})")
    if profile := photo.info.get("icc_profile"):
        if len(profile) <= MAX_PROFILE:
            found.info["icc_profile"] = profile
        else:
            found.lost.append(f"its colour profile of {len(profile)} bytes, more than readers take")
    elif photo.format == "PNG" and "srgb" not in photo.info:
        for key, usual in SRGB.items():
            told = photo.info.get(key, usual)
            if np.shape(told) == np.shape(usual) and not np.allclose(told, usual, atol=1e-3):
                found.info[key] = told
    try:
        horizontal, vertical = map(float, photo.info.get("dpi", ()))
        if 0 < min(horizontal, vertical) and max(horizontal, vertical) < 2**16:
            found.info["dpi"] = (vertical, horizontal) if sideways else (horizontal, vertical)
    except (TypeError, ValueError):  # none, or of TIFF files whatever stands there
        pass
    if isinstance(comment := photo.info.get("comment"), bytes):
        found.info["comment"] = comment
    found.info |= _texts(photo)
    if _iptc(photo):
        found.lost.append("its IPTC block, but for copyright and author")
    return found


def to_exif(data: bytes) -> Image.Exif:
    """EXIF data to write in another order; text stays byte for byte what it is (PIL would write "?" for what is not
    ASCII)."""
    tags = Image.Exif()
    tags.load(data)
    return _copy(tags)


def _exif(photo: Image.Image, sideways: bool, size: tuple[int, int]) -> Image.Exif:
    """sideways: whether width and height were exchanged; size: (width, height) of the result."""
    tags = _copy(photo.getexif())
    credits = {tag: _texts(photo).get(name) for tag, name in TEXT_CREDITS.items()}
    credits |= {tag: _iptc(photo).get(key, credits[tag]) for tag, key in IPTC_CREDITS.items()}
    for tag, value in credits.items():
        value = value[0] if isinstance(value, list) else value
        if value and tag not in tags:
            tags[tag] = value.encode() if isinstance(value, str) else value
    horizontal, vertical = ExifTags.Base.XResolution, ExifTags.Base.YResolution
    if sideways and horizontal in tags and vertical in tags:
        tags[horizontal], tags[vertical] = tags[vertical], tags[horizontal]
    shown = tags.get_ifd(ExifTags.IFD.Exif)
    if ExifTags.Base.ExifImageWidth in shown:
        shown[ExifTags.Base.ExifImageWidth], shown[ExifTags.Base.ExifImageHeight] = size
    return tags


def _copy(tags: Image.Exif) -> Image.Exif:
    """The tags without those of STORAGE and without the thumbnail."""
    copy = Image.Exif()
    copy.endian = tags.endian
    nested = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
    for tag, value in tags.items():
        if tag not in STORAGE and tag not in nested:
            copy[tag] = _as_read(value)
    for ifd in nested:
        inner = {tag: _as_read(value) for tag, value in tags.get_ifd(ifd).items()}
        if ExifTags.IFD.Interop in inner:
            inner[ExifTags.IFD.Interop] = {k: _as_read(v) for k, v in tags.get_ifd(ExifTags.IFD.Interop).items()}
        if inner:
            copy[ifd] = copy.get_ifd(ifd)
            copy[ifd].update(inner)
    return copy


class _Text(str):
    """Text as PIL reads it, as Latin-1, whatever it is, and as it is to be written: PIL asks for ASCII. It is no bytes,
    as PIL would write those as numbers, not as text, in tags that it knows no type of: the date, the lens."""

    def encode(self, *_: Any) -> bytes:
        return super().encode("latin-1", "replace")


def _as_read(value: Any) -> Any:
    return _Text(value) if isinstance(value, str) else value


def _texts(photo: Image.Image) -> dict[str, str]:
    """The texts of a PNG file: title, author, copyright...."""
    texts = getattr(photo, "text", None) or {}
    return {key: str(text) for key, text in texts.items() if is_text_key(key)}


def is_text_key(key: str) -> bool:
    """Whether a text of a PNG file is one to read: EXIF, XMP and IPTC may be disguised as texts."""
    return 0 < len(key) < 80 and not key.startswith(("Raw profile type", "XML:com.adobe.xmp"))


def _iptc(photo: Image.Image) -> dict:
    try:
        return IptcImagePlugin.getiptcinfo(photo) or {}  # type: ignore[arg-type]  # it need not be of a file
    except Exception:  # broken, which no reader of the photo would see
        return {}
