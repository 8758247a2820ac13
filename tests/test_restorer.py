"""Rows in, rows out: what `Restorer` makes of a batch is what the command line makes of the same files."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, Features, List, Value
from datasets import Image as ImageFeature
from PIL import Image

from fbinpaint import InputError, Restorer
from fbinpaint.cli import main
from fbinpaint.data.scenes import street_scene

SIZES = [(64, 48), (48, 64), (64, 48), (200, 120), (33, 90)]
HOLE = (slice(10, 24), slice(8, 30))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_pipeline_dir) -> Path:
    """photos/, masks/, and in expected/ what `run` makes of them, with all that goes beside a result."""
    folder = tmp_path_factory.mktemp("rows")
    for name in ("photos", "masks"):
        (folder / name).mkdir()
    for i, size in enumerate(SIZES):
        street_scene(size, np.random.default_rng(i))[0].save(folder / f"photos/{i}.png")
        Image.fromarray(hole(size)).save(folder / f"masks/{i}.png")
    paths = {"image": "photos", "mask": "masks", "output": "expected"}
    arguments = [f"--{name}={folder / path}" for name, path in paths.items()]
    assert main(["run", *arguments, f"--model={tiny_pipeline_dir}", "--save-semantics", "--save-masks"]) == 0
    return folder


def hole(size: tuple[int, int]) -> np.ndarray:
    hole = np.zeros(size[::-1], bool)
    hole[HOLE] = True
    return hole


def rows(folder: Path, **columns: list) -> dict[str, list]:
    numbers = range(len(SIZES))
    files = {name: [str(folder / f"{place}/{i}.png") for i in numbers]
             for name, place in (("image", "photos"), ("mask", "masks"))}  # fmt: skip
    return {"id": list(numbers)} | files | columns


def test_files_are_what_the_command_line_makes(folder, tiny_pipeline_dir, tmp_path):
    given = rows(folder, result=[str(tmp_path / f"{i}.png") for i in range(len(SIZES))])
    made = Restorer(str(tiny_pipeline_dir), extras=("before", "after", "mask"))(given)
    assert made == given | {"error": [None] * len(SIZES), "notes": [[]] * len(SIZES)}
    names = sorted(path.name for path in (folder / "expected").iterdir())
    assert len(names) == 4 * len(SIZES) and names == sorted(path.name for path in tmp_path.iterdir())
    for name in names:
        assert (tmp_path / name).read_bytes() == (folder / "expected" / name).read_bytes()


@pytest.mark.parametrize("kind", ["path", "bytes", "struct"])
def test_rows_are_what_the_command_line_makes(kind, folder, tiny_pipeline_dir):
    given = rows(folder)
    if kind != "path":
        for name in ("image", "mask"):
            data = [Path(path).read_bytes() for path in given[name]]
            given[name] = data if kind == "bytes" else [{"bytes": x, "path": f"{i}.png"} for i, x in enumerate(data)]
    made = Restorer(str(tiny_pipeline_dir), extras=("after",))(given)
    assert made.keys() == {"id", "image", "after", "error", "notes"} and made["error"] == [None] * len(SIZES)
    for i in range(len(SIZES)):
        assert made["image"][i]["bytes"] == (folder / f"expected/{i}.png").read_bytes()
        assert made["after"][i]["bytes"] == (folder / f"expected/{i}_after.png").read_bytes()
        assert made["image"][i]["path"] == f"{i}.png" and made["after"][i]["path"] == f"{i}_after.png"


def test_a_batch_of_several_differs_by_a_level_at_most(folder, tiny_pipeline_dir):
    one, several = (Restorer(str(tiny_pipeline_dir), batch_size=size)(rows(folder))["image"] for size in (1, 4))
    for first, second in zip(one, several, strict=True):
        first, second = (np.asarray(Image.open(io.BytesIO(x["bytes"])), int) for x in (first, second))
        assert np.abs(first - second).max() <= 1 and (first != second).mean() < 1e-3


def test_an_error_is_a_row_and_the_others_go_on(folder, tiny_pipeline_dir, tmp_path):
    (tmp_path / "cut.png").write_bytes((folder / "photos/1.png").read_bytes()[:300])
    given = rows(folder)
    given["image"][1], given["image"][3], given["mask"][0] = str(tmp_path / "cut.png"), 7, None
    given["mask"][4] = str(folder / "masks/0.png")
    made = Restorer(str(tiny_pipeline_dir))(given)
    assert [error is None for error in made["error"]] == [False, False, True, False, False]
    expected = {0: "has no mask", 1: "cut.png: the image data is broken", 3: "row 3: is a int", 4: "the photo 33x90"}
    for i, words in expected.items():
        assert words in made["error"][i] and "\n" not in made["error"][i]
    assert [image is None for image in made["image"]] == [True, True, False, True, True]
    given["result"] = [str(tmp_path / f"out/{i}.png") for i in range(len(SIZES) - 1)] + [None]
    made = Restorer(str(tiny_pipeline_dir))(given)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["2.png"] and made["image"] == given["image"]
    assert "the column result holds None" in made["error"][4]


def test_what_is_named_goes(folder, tiny_pipeline_dir, tmp_path):
    """With masks of some rows; as the command line, of which each row is one run."""
    given = rows(folder)
    given["mask"] = [None, given["mask"][1], None, None, given["mask"][4]]
    made = Restorer(str(tiny_pipeline_dir), rounds=0, remove=["car", "road"], extras=["mask"])(given)
    for i in range(len(SIZES)):
        mask = [] if given["mask"][i] is None else [f"--mask={given['mask'][i]}"]
        arguments = [f"--image={given['image'][i]}", *mask, f"--output={tmp_path}", f"--model={tiny_pipeline_dir}"]
        code = main(["run", *arguments, "--rounds=0", "--remove=car,road", "--save-masks"])
        assert (code == 0) == (made["error"][i] is None)
        if code == 0:
            assert made["image"][i]["bytes"] == (tmp_path / f"{i}.png").read_bytes()
            assert made["mask"][i]["bytes"] == (tmp_path / f"{i}_mask.png").read_bytes()


def test_data_sets_map_it(folder, tiny_pipeline_dir):
    columns = {"id": Value("int64"), "image": ImageFeature(decode=False), "mask": ImageFeature(decode=False)}
    photos = Dataset.from_dict(rows(folder), features=Features(columns))
    features = Features({"id": Value("int64"), "image": ImageFeature(), "error": Value("string"),
                         "notes": List(Value("string"))})  # fmt: skip
    restorer = Restorer(str(tiny_pipeline_dir))
    made = photos.map(restorer, batched=True, batch_size=3, features=features, remove_columns=["mask"])
    assert made["id"][:] == list(range(len(SIZES))) and made["error"][:] == [None] * len(SIZES)
    for i, size in enumerate(SIZES):
        assert made[i]["image"].size == size
        assert np.array_equal(made[i]["image"], Image.open(folder / f"expected/{i}.png"))


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"model": "no/such/model"}, "no/such/model"),
        ({"extras": ["doubt"]}, "extras doubt: not known"),
        ({"remove": "carr"}, "carr"),
        ({"batch_size": 0}, "batch_size 0: must be a whole number, 1 or more"),
        ({"retries": -1, "remove": "car"}, "retries -1: must be a whole number, 0 or more"),
        ({"grow": 1.5, "remove": "car"}, "grow 1.5: must be a whole number, 0 or more"),
        ({"quality": 0}, "quality 0: must be a whole number, from 1 to 100"),
        ({"quality": 101}, "quality 101: must be a whole number, from 1 to 100"),
        ({"seed": "a"}, "seed 'a': must be a whole number"),
        ({"seed": 2**70}, "must be a whole number, from 0"),
        ({"remove": []}, "remove: names no class"),
        ({"model": None}, "model None: must be text"),
        ({"rounds": 101}, "must be a whole number from 0 to 100"),
        ({"grow": 3}, "grow, shadow, retries: only for what remove takes out"),
        ({"retries": 1}, "grow, shadow, retries: only for what remove takes out"),
    ],
)
def test_arguments_that_cannot_be_meant_are_one_line(arguments, words, tiny_pipeline_dir):
    with pytest.raises(InputError, match=words) as error:
        Restorer(**{"model": str(tiny_pipeline_dir)} | arguments)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="no column image, only photo"):
        Restorer(str(tiny_pipeline_dir))({"photo": []})


def test_a_row_without_a_name_is_called_by_its_number(folder, tiny_pipeline_dir):
    places = (("image", "photos"), ("mask", "masks"))
    given = {name: [(folder / f"{place}/0.png").read_bytes()] for name, place in places}
    done = Restorer(str(tiny_pipeline_dir), rounds=0)(given | {"id": [""]})
    assert done["error"] == [None] and done["image"][0]["path"] == "0.png"



def test_results_that_cannot_be_written_are_errors_of_their_rows(folder, tiny_pipeline_dir, tmp_path):
    """A format that is not written, the photo's own file, its mask's, and that of a row before."""
    own = tmp_path / "own.jpg"
    Image.open(folder / "photos/4.png").save(own)
    before = own.read_bytes()
    given = rows(folder, result=[f"{tmp_path}/{name}" for name in ("a.gif", "b.png", "b.png", "none", "own.jpg")])
    given["image"][4] = str(own)
    done = Restorer(str(tiny_pipeline_dir), rounds=0)(given)
    words = ["a.gif: results are written as", None, "overwrite .*b.png", "none: results are", "overwrite .*own.jpg"]
    for error, word in zip(done["error"], words, strict=True):
        assert error is None if word is None else re.search(word, error) and "\n" not in error
    assert own.read_bytes() == before and sorted(path.name for path in tmp_path.iterdir()) == ["b.png", "own.jpg"]


def test_columns_of_other_lengths_are_refused(folder, tiny_pipeline_dir):
    given = rows(folder) | {"mask": [str(folder / "masks/0.png")]}
    with pytest.raises(InputError, match="the columns mask are not as long as the column image, 5 rows"):
        Restorer(str(tiny_pipeline_dir), rounds=0)(given)
