"""What a photo says of itself goes into the file of its result, which also says that a model painted a part."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin

from fbinpaint import __version__
from fbinpaint.images.io import SAVE_FORMATS, frames_and_bits, is_lossy, load_image, not_held, save_image
from fbinpaint.images.metadata import MAX_PROFILE, carry_over
from fbinpaint.images.xmp import COMPOSITE, model_name, tell_provenance

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
COPYRIGHT, ORIENTATION, EXIF, GPS, COMMENT, WIDTH, THUMBNAIL = 33432, 274, 34665, 34853, 37510, 40962, 513
DATE, LENS, TAKEN = 36867, 42036, "2024:05:06 07:08:09"  # texts of which PIL's table has no type
XMP = (
    '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/" '
    'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" tiff:Orientation="6" tiff:Make="A &amp; B" '
    'Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture">'
    "<dc:rights>© Jürgen</dc:rights></rdf:Description></rdf:RDF></x:xmpmeta>   <?xpacket end='w'?>"
).encode()


def tags(orientation: int = 6) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION], exif[COPYRIGHT], exif[271] = orientation, "© Jürgen".encode(), "Camera"
    exif.get_ifd(EXIF).update({COMMENT: b"ASCII\0\0\0hello", WIDTH: 24, 40963: 20, DATE: TAKEN, LENS: "50 mm"})
    exif.get_ifd(GPS).update({1: "N", 2: (48.0, 8.0, 30.5)})
    return exif


def photo(file_format: str = "JPEG", **options) -> Image.Image:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, file_format, **options)
    image = Image.open(io.BytesIO(buffer.getvalue()))
    image.load()
    return image


def kept(image: Image.Image, path: Path) -> Image.Image:
    """The file of an upright result of the photo."""
    result = Image.fromarray(PIXELS)
    result.info = carry_over(image).info
    save_image(result, path)
    return load_image(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif"])
def test_exif_profile_and_xmp_are_kept_and_upright(tmp_path: Path, suffix: str):
    image = photo(exif=tags().tobytes(), icc_profile=b"profile", xmp=XMP, dpi=(300, 150))
    written = kept(image, tmp_path / f"a{suffix}")
    exif = written.getexif()
    assert exif.get(ORIENTATION, 1) == 1  # PIL also looks into the XMP
    assert exif[COPYRIGHT].encode("latin-1").decode() == "© Jürgen" and exif[271] == "Camera"
    assert exif.get_ifd(EXIF)[COMMENT] == b"ASCII\0\0\0hello" and exif.get_ifd(EXIF)[WIDTH] == 20
    assert exif.get_ifd(EXIF)[DATE] == TAKEN and exif.get_ifd(EXIF)[LENS] == "50 mm"
    assert exif.get_ifd(GPS) == {1: "N", 2: (48.0, 8.0, 30.5)}
    assert written.info["icc_profile"] == b"profile"
    assert "© Jürgen".encode() in written.info["xmp"] and b'tiff:Make="A &amp; B"' in written.info["xmp"]
    if suffix in (".png", ".jpg", ".tif"):
        assert written.info["dpi"] == pytest.approx((150, 300), abs=0.1)


def test_a_png_file_keeps_what_its_numbers_mean(tmp_path: Path):
    """Gamma and primaries stand for a profile; what is sRGB anyway, or has a profile, needs none."""
    p3 = (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
    chunks = PngImagePlugin.PngInfo()
    chunks.add(b"gAMA", (100_000).to_bytes(4, "big"))
    chunks.add(b"cHRM", b"".join(round(100_000 * number).to_bytes(4, "big") for number in p3))
    linear = photo("PNG", pnginfo=chunks)
    written = kept(linear, tmp_path / "a.png")
    assert written.info["gamma"] == 1 and written.info["chromaticity"] == p3
    assert (np.asarray(written) == PIXELS).all()
    result = Image.fromarray(PIXELS)
    result.info = carry_over(linear).info
    assert not_held(result, "a.jpg") == ["gamma", "primaries"] and not_held(result, "a.png") == []
    kept(linear, tmp_path / "a.jpg")
    usual = PngImagePlugin.PngInfo()
    usual.add(b"gAMA", (45_454).to_bytes(4, "big"))
    for plain in (photo("PNG", pnginfo=usual), photo("PNG", pnginfo=chunks, icc_profile=b"profile")):
        assert not carry_over(plain).info.keys() & {"gamma", "chromaticity"}


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif"])
def test_texts_that_are_not_ascii_stay_texts_byte_for_byte(tmp_path: Path, suffix: str):
    exif = Image.Exif()
    exif.get_ifd(EXIF)[LENS] = "MARK"
    data = exif.tobytes().replace(b"MARK", b"\xc3\xa9\xfc\xe9")
    written = kept(photo(exif=data), tmp_path / f"a{suffix}").getexif().get_ifd(EXIF)[LENS]
    assert isinstance(written, str) and written.encode("latin-1") == b"\xc3\xa9\xfc\xe9"


def test_the_thumbnail_of_what_was_is_left_out(tmp_path: Path):
    image = photo(exif=tags(1).tobytes())
    data = bytearray(image.info["exif"])
    order = "little" if data[6:8] == b"II" else "big"
    place = 16 + 12 * int.from_bytes(data[14:16], order)  # of the offset of the next directory, that of the thumbnail
    data[place : place + 4] = (len(data) - 6).to_bytes(4, order)
    entry = (THUMBNAIL).to_bytes(2, order) + (4).to_bytes(2, order) + (1).to_bytes(4, order) + (9).to_bytes(4, order)
    data += (1).to_bytes(2, order) + entry + bytes(4) + b"THUMBNAIL"
    image = photo(exif=bytes(data))
    assert image.getexif().get_ifd(ExifTags.IFD.IFD1)[THUMBNAIL] == 9
    written = kept(image, tmp_path / "a.jpg")
    assert not written.getexif().get_ifd(ExifTags.IFD.IFD1) and b"THUMBNAIL" not in written.info["exif"]
    assert written.getexif()[271] == "Camera"


def test_tags_that_say_how_a_tiff_file_stores_its_pixels_are_not_taken_over(tmp_path: Path):
    exif = Image.Exif()
    exif[271] = "Camera"
    image = photo("TIFF", exif=exif, compression="jpeg", icc_profile=b"profile")
    written = kept(image, tmp_path / "a.png")
    assert written.getexif()[271] == "Camera" and not {256, 259, 273, 279, 34675} & set(written.getexif())
    assert np.array_equal(np.asarray(kept(image, tmp_path / "a.tif")), PIXELS)  # not compressed as the photo was


def test_copyright_and_author_of_png_texts_and_iptc_become_exif(tmp_path: Path):
    texts = PngImagePlugin.PngInfo()
    texts.add_itxt("Copyright", "© Jürgen"), texts.add_text("Author", "J."), texts.add_text("Title", "Street")
    image = photo("PNG", pnginfo=texts)
    written = kept(image, tmp_path / "a.jpg").getexif()
    assert written[COPYRIGHT].encode("latin-1").decode() == "© Jürgen" and written[315] == "J."
    assert kept(image, tmp_path / "a.png").text["Title"] == "Street"

    iptc = b"\x1c\x02\x74\x00\x04(c)J" + b"\x1c\x02\x50\x00\x02J."
    block = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + len(iptc).to_bytes(4, "big") + iptc
    block += b"\0" * (len(iptc) % 2)
    image = photo("JPEG", extra=b"\xff\xed" + (len(block) + 2).to_bytes(2, "big") + block)
    written = kept(image, tmp_path / "b.jpg").getexif()
    assert written[COPYRIGHT] == "(c)J" and written[315] == "J."
    assert carry_over(image).lost == ["its IPTC block, but for copyright and author"]


def test_broken_metadata_is_said_and_left_out():
    image = photo(exif=b"Exif\0\0MM\0*\0\0\0\x08\0\1\x87\x69\0\4\0\0\0\1\0\0\0\x08\0\0\0\x08")
    image.info |= {"xmp": b"<x:xmpmeta>", "icc_profile": bytes(MAX_PROFILE + 1)}
    found = carry_over(image)
    assert "xmp" not in found.info and "icc_profile" not in found.info
    assert any("XMP" in words for words in found.lost) and any("colour profile" in words for words in found.lost)


@pytest.mark.parametrize(
    "packet",
    [
        b'<!DOCTYPE x [<!ENTITY a "aaaa">]><x>&a;</x>', b"<a>" * 50_000 + b"</a>" * 50_000, b"", b"\xff\xfe<\0x\0",
        b"<x/>", XMP[:-100],
    ],
)  # fmt: skip
def test_hostile_xmp_is_never_taken_over(packet: bytes):
    image = Image.fromarray(PIXELS)
    image.info["xmp"] = packet
    found = carry_over(image)
    assert "xmp" not in found.info and len(found.lost) == bool(packet)


def test_xmp_tells_of_no_gain_map_and_no_video_that_the_result_has_not():
    names = {
        "hdrgm": "http://ns.adobe.com/hdr-gain-map/1.0/", "Container": "http://ns.google.com/photos/1.0/container/",
        "GCamera": "http://ns.google.com/photos/1.0/camera/", "Item": "http://ns.google.com/photos/1.0/container/item/",
    }  # fmt: skip
    declared = " ".join(f'xmlns:{name}="{uri}"' for name, uri in names.items())
    attributes = 'hdrgm:Version="1.0" GCamera:MotionPhoto="1" GCamera:MicroVideoOffset="2000" GCamera:BurstID="7"'
    directory = (
        '<Container:Directory><rdf:Seq><rdf:li rdf:parseType="Resource"><Container:Item Item:Mime="video/mp4"/>'
        "</rdf:li></rdf:Seq></Container:Directory><GCamera:MotionPhotoVersion>1</GCamera:MotionPhotoVersion></rdf:Description>"
    )
    image = Image.fromarray(PIXELS)
    packet = XMP.decode().replace('rdf:about=""', f'rdf:about="" {declared} {attributes}')
    image.info["xmp"] = packet.replace("</rdf:Description>", directory).encode()
    kept = carry_over(image).info["xmp"].decode()
    assert 'GCamera:BurstID="7"' in kept and "© Jürgen" in kept and "digitalCapture" in kept
    assert not re.search("<Container:|hdrgm:Version|MotionPhoto|MicroVideo|video/mp4", kept)


def test_provenance_is_told_beside_what_was_there():
    image = Image.fromarray(PIXELS)
    image.info["xmp"] = XMP
    packet = tell_provenance(tell_provenance(carry_over(image).info["xmp"], "first"), "streets").decode()
    assert packet.count("DigitalSourceType>") == 2 and packet.count(COMPOSITE) == 1 and "digitalCapture" not in packet
    assert "fbinpaint, model streets<" in packet and f"AISystemVersionUsed>{__version__}<" in packet
    assert "first" not in packet and "© Jürgen" in packet and "tiff:Orientation" not in packet


def test_a_model_is_named_without_its_path(tmp_path: Path):
    (tmp_path / "streets").mkdir()
    assert model_name(tmp_path / "streets") == "streets" and model_name("user/name") == "user/name"
    assert model_name("n" * 5000) == "n" * 5000


@pytest.mark.parametrize("suffix", SAVE_FORMATS)
def test_each_format_tells_provenance_or_is_known_not_to(tmp_path: Path, suffix: str):
    image = Image.fromarray(PIXELS)
    image.info["xmp"] = tell_provenance(None, "streets")
    save_image(image, tmp_path / f"a{suffix}")
    told = COMPOSITE.encode() in load_image(tmp_path / f"a{suffix}").info.get("xmp", b"")
    assert told == ("XMP" not in not_held(image, f"a{suffix}"))
    assert told == (suffix in (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".tif", ".tiff", ".avif"))
    exact = np.array_equal(np.asarray(load_image(tmp_path / f"a{suffix}")), PIXELS)
    assert exact != is_lossy(f"a{suffix}")


def test_quality_decides_the_size_of_lossy_files(tmp_path: Path):
    sizes = {}
    for suffix in (".jpg", ".webp", ".avif"):
        for quality in (5, 90):
            save_image(Image.fromarray(PIXELS), tmp_path / f"{quality}{suffix}", quality)
            sizes[quality, suffix] = (tmp_path / f"{quality}{suffix}").stat().st_size
        assert sizes[5, suffix] < sizes[90, suffix] and is_lossy(f"a{suffix}", 90)


@pytest.mark.parametrize("suffix", [".jpg", ".avif"])
@pytest.mark.parametrize("quality", [None, 95])
def test_colours_of_lossy_results_are_not_halved_in_size(tmp_path: Path, quality: int | None, suffix: str):
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2], stripes[:, 1::2] = (200, 40, 40), (40, 40, 200)
    save_image(Image.fromarray(stripes), tmp_path / f"a{suffix}", quality)
    assert np.abs(np.asarray(load_image(tmp_path / f"a{suffix}")).astype(int) - stripes).max() <= 12


def test_xmp_too_long_for_a_jpeg_file_is_known_not_to_be_held(tmp_path: Path):
    image = Image.fromarray(PIXELS)
    image.info = {"xmp": bytes(70_000), "exif": bytes(70_000)}
    assert not_held(image, "a.jpg") == ["EXIF data", "XMP"] and not_held(image, "a.png") == []
    save_image(image, tmp_path / "a.jpg")
    assert load_image(tmp_path / "a.jpg").size == (24, 20)


def test_frames_and_bits_are_counted(tmp_path: Path):
    frame = Image.fromarray(PIXELS)
    for suffix in (".gif", ".webp", ".tif", ".png"):
        frame.save(tmp_path / f"a{suffix}", save_all=True, append_images=[frame.rotate(180)])
        assert frames_and_bits(tmp_path / f"a{suffix}") == (2, 8)
    (tmp_path / "a.ppm").write_bytes(b"P6 16 16 65535 " + bytes(16 * 16 * 6))
    assert frames_and_bits(tmp_path / "a.ppm") == (1, 16)
    frame.save(tmp_path / "a.jpg")
    assert frames_and_bits(tmp_path / "a.jpg") == (1, 8)
