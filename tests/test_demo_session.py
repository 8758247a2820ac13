"""A visitor's photo and the row of pictures that came of it, in files of his own."""


import numpy as np
import pytest
from PIL import Image

from fbinpaint.data.scenes import street_scene
from fbinpaint.demo.downloads import export_picture
from fbinpaint.demo.session import MAX_VERSIONS, Recipe, Session
from fbinpaint.demo.session_files import MAX_PREVIEW
from fbinpaint.errors import InputError
from fbinpaint.labels import CITYSCAPES

SIZE = (60, 40)
MODELS = {"tiny": "models/tiny"}


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "given.png"
    street_scene(SIZE, np.random.default_rng(0))[0].save(path)
    return path


@pytest.fixture
def session(tmp_path, photo) -> Session:
    return Session.open(tmp_path / "cache", photo, "my photo.png", "tiny")


def restored(session: Session, hole: np.ndarray, value: int = 200) -> np.ndarray:
    """Another version, which is grey in the hole (H,W) bool."""
    pixels = np.where(hole[..., None], np.uint8(value), np.load(session.now.pixels))
    session.append(pixels, "a result", Recipe(session.now, [], [], [], "tiny", {}), hole)
    return pixels


def hole(top: int, bottom: int) -> np.ndarray:
    mask = np.zeros(SIZE[::-1], bool)
    mask[top:bottom, 10:50] = True
    return mask


def test_a_file_that_is_no_photo_is_named_as_its_owner_does_and_leaves_nothing(tmp_path, photo):
    cut = tmp_path / "0a1b.png"
    cut.write_bytes(photo.read_bytes()[:200])
    with pytest.raises(InputError, match=r"^holiday.png: ") as error:
        Session.open(tmp_path / "cache", cut, "holiday.png", "tiny")
    assert str(cut) not in str(error.value) and "\n" not in str(error.value)
    Image.new("RGB", (9, 9)).save(cut)
    with pytest.raises(InputError, match=r"^holiday.png: the image is 9x9"):
        Session.open(tmp_path / "cache", cut, "holiday.png", "tiny")
    assert not list((tmp_path / "cache/visits").iterdir())


def test_closing_deletes_all_files_of_the_visit_and_of_no_other(tmp_path, photo, session):
    other = Session.open(tmp_path / "cache", photo, "my photo.png", "tiny")
    restored(session, hole(5, 20))
    session.close()
    assert session.closed and not session.folder.exists() and other.now.pixels.is_file()
    session.close()  # a second time does no harm


def test_a_result_in_the_middle_of_the_row_takes_the_place_of_those_after_it(session):
    first, second = restored(session, hole(5, 10), 50), restored(session, hole(20, 30), 90)
    assert session.at == 2 and np.array_equal(np.load(session.now.pixels), second)
    session.at = 1
    assert np.array_equal(np.load(session.now.pixels), first)
    third = restored(session, hole(30, 35), 130)
    assert session.at == 2 == len(session.versions) - 1 and np.array_equal(np.load(session.now.pixels), third)


def test_the_oldest_restorations_are_forgotten_but_never_the_photo(session, photo):
    for turn in range(MAX_VERSIONS + 3):
        last = restored(session, hole(5, 10), turn)
    assert len(session.versions) == MAX_VERSIONS and session.at == MAX_VERSIONS - 1
    assert np.array_equal(np.load(session.versions[0].pixels), np.asarray(Image.open(photo)))
    assert np.array_equal(np.load(session.now.pixels), last)


def test_what_was_painted_adds_up_over_restorations(session):
    restored(session, hole(5, 10))
    restored(session, hole(20, 30))
    assert np.array_equal(session.load_mask(session.now.painted), hole(5, 10) | hole(20, 30))


def test_a_large_photo_has_a_smaller_preview_of_its_shape(tmp_path):
    Image.new("RGB", (3000, 600), "teal").save(tmp_path / "large.png")
    session = Session.open(tmp_path / "cache", tmp_path / "large.png", "large.png", "tiny")
    assert session.size == (3000, 600) and session.preview_size == (MAX_PREVIEW, 320)
    assert Image.open(session.now.preview).size == session.preview_size
    session.see(session.now, np.full((600, 3000), 8, np.uint8), "tiny", CITYSCAPES)
    with Image.open(session.now.map_preview) as shown:
        assert shown.size == session.preview_size and (np.asarray(shown) == 8).all()


def test_masks_are_kept_by_names_that_reach_no_other_file(session):
    stroke = session.add_mask(hole(5, 20))
    assert np.array_equal(session.mask(stroke["mask"]), hole(5, 20))
    with Image.open(stroke["url"]) as shown:
        assert np.array_equal(np.asarray(shown)[..., 3] > 0, hole(5, 20))
    for name in ("999", "../1", "", "given", "/etc/passwd", "1\n"):
        with pytest.raises(InputError, match="is gone"):
            session.mask(name)


@pytest.mark.parametrize(("suffix", "format"), [(".png", "PNG"), (".jpg", "JPEG"), (".tif", "TIFF"), (".webp", "WEBP")])
def test_the_result_is_exported_in_full_with_the_name_of_the_photo(session, photo, suffix, format):
    restored(session, hole(5, 20))
    path, note = export_picture(session, suffix, MODELS)
    assert path.name == f"my photo_restored{suffix}"
    with Image.open(path) as result:
        assert result.format == format and result.size == SIZE
        known = ~hole(5, 20)
        if note is None:
            assert np.array_equal(np.asarray(result)[known], np.asarray(Image.open(photo))[known])
            assert (np.asarray(result)[~known] == 200).all()
        assert (note is None) == (format != "JPEG") and (note is None or "encoded anew" in note)


def test_a_photo_keeps_its_mode_and_metadata_in_its_own_format(tmp_path):
    tags = Image.Exif()
    tags[0x8298], tags[0x0112] = "(c) me", 6
    given = np.full((40, 60, 4), 80, np.uint8)
    Image.fromarray(given).save(tmp_path / "a.png", exif=tags)
    session = Session.open(tmp_path / "cache", tmp_path / "a.png", "a.png", "tiny")
    assert session.size == (40, 60)  # upright
    restored(session, np.ones((60, 40), bool))
    with Image.open(export_picture(session, ".png", MODELS)[0]) as result:
        assert result.mode == "RGBA" and result.size == (40, 60) and result.getexif()[0x8298] == "(c) me"
        assert (np.asarray(result)[..., 3] == 80).all() or (np.asarray(result)[..., 3] == 255).all()
        assert b"compositeWithTrainedAlgorithmicMedia" in result.info["xmp"]


def test_an_untouched_photo_does_not_say_that_a_model_painted(session, photo):
    with Image.open(export_picture(session, ".png", MODELS)[0]) as result:
        assert "xmp" not in result.info and np.array_equal(result, Image.open(photo))


@pytest.mark.parametrize(
    ("name", "suffix"), [("a.JPG", ".jpg"), ("a.tif", ".tif"), ("a.jp2", ".jp2"), ("a.psd", ".png"), ("photo", ".png")]
)
def test_the_suffix_is_the_photos_own_where_it_can_be_written(session, name, suffix):
    session.name = name
    assert session.own_suffix() == suffix


def test_names_of_files_from_the_browser_lead_nowhere(session):
    session.name = "../../etc/my <b>photo</b>\n.png"
    path, _ = export_picture(session, ".png", MODELS)
    assert path.parent.parent == session.folder and path.name.endswith("_restored.png") and path.is_file()
    # As browsers name what is there already; as a Mac writes an umlaut; vowel signs, and letters of four bytes.
    for name in ("Straße (1)", "Tom & Anna's", "Mu\u0308ller", "हिन्दी รูปภาพ", "🎉", "\U00020000" * 40):
        session.name = f"{name}.png"
        assert export_picture(session, ".png", MODELS)[0].name == f"{name}_restored.png"
    session.name = "\ud800" + "🎉" * 200 + ".png"
    assert export_picture(session, ".png", MODELS)[0].name.endswith("🎉_restored.png")


def test_what_a_result_has_not_of_its_photo_is_said(tmp_path):
    pages = [Image.new("RGB", (40, 30), colour) for colour in ("red", "green", "blue")]
    pages[0].save(tmp_path / "moving.gif", save_all=True, append_images=pages[1:], duration=50)
    session = Session.open(tmp_path / "cache", tmp_path / "moving.gif", "moving.gif", "tiny")
    assert session.own_suffix() == ".png"
    note = export_picture(session, ".png", MODELS)[1]
    assert "only the first of its 3 frames" in note and "no palette" in note and str(tmp_path) not in note
    assert "encoded anew" in export_picture(session, ".jpg", MODELS)[1]
