"""Two hundred damaged model folders: each loads and works, or is refused in one line; no other exception, no hang."""

import json
import random
import shutil
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from fbinpaint import FeedbackInpaintPipeline, InputError
from fbinpaint.hub.saved import COMPONENTS, WEIGHTS

from .odd_inputs import HOLE, SCENE

VALUES = [
    -1, 0, 1, 2, 3, 7, 1000, 10**6, 2**31, 2**63, 10**30, 0.5, 1e400, float("nan"), "", "x", "é\n", None, True, False,
    [], {}, [1], [8, 16], [8, 16, 16, 24], [[8]] * 4, ["os", "system"], {"a": 1}, [1] * 50, "hf-hub:a/b",
    "resnet18", "../../model",
]  # fmt: skip


def flip(rng: random.Random, content: bytes, start: int, stop: int) -> bytes:
    """One to four bytes between start and stop become others."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        changed[rng.randrange(start, stop)] ^= rng.randint(1, 255)
    return bytes(changed)


def header_of(content: bytes) -> tuple[dict, bytes]:
    """A safetensors file is 8 bytes of length, a JSON header of that length, the data."""
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def with_header(header: dict | str, data: bytes) -> bytes:
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(text)) + text + data


def flip_header(rng: random.Random, content: bytes) -> bytes:
    return flip(rng, content, 8, 8 + len(content) - 8 - len(header_of(content)[1]))


def flip_length(rng: random.Random, content: bytes) -> bytes:
    return flip(rng, content, 0, 8)


def set_length(rng: random.Random, content: bytes) -> bytes:
    (length,) = struct.unpack("<Q", content[:8])
    lengths = [0, 1, 2, length - 1, length + 1, length + 8, 2 * length, len(content), 10**8, 2**31, 2**63, 2**64 - 1]
    return struct.pack("<Q", rng.choice(lengths)) + content[8:]


def cut(rng: random.Random, content: bytes) -> bytes:
    return content[: rng.choice([0, 1, 7, 8, 9, rng.randrange(len(content)), len(content) - 1])]


def grow(rng: random.Random, content: bytes) -> bytes:
    return content + rng.randbytes(rng.randint(1, 100))


def flip_data(rng: random.Random, content: bytes) -> bytes:
    return flip(rng, content, len(content) - len(header_of(content)[1]), len(content))


def edit_header(rng: random.Random, content: bytes) -> bytes:
    header, data = header_of(content)
    names = sorted(set(header) - {"__metadata__"})
    name, other = rng.sample(names, 2)
    entry = header[name]
    kind = rng.randrange(9)
    if kind == 0:
        entry["dtype"] = rng.choice(["F64", "F16", "I32", "BOOL", "F8_E4M3", "f32", "", None, 7])
    elif kind == 1:
        shape = entry["shape"]
        entry["shape"] = rng.choice([[], [0], [-1], [2**62, 4], shape + [1], shape[::-1] + [1], "4", None])
    elif kind == 2:
        of_other = header[other]["data_offsets"]
        entry["data_offsets"] = rng.choice([[0, 0], [4, 0], [0, 2**63], [0], of_other, None, [-4, 0]])
    elif kind == 3:
        header[f"{name}2"] = header.pop(name)
    elif kind == 4:
        del header[name]
    elif kind == 5:
        header[name] = rng.choice(VALUES[:25])
    elif kind == 6:
        header["__metadata__"] = rng.choice([None, 1, [], {}, {"format": "tf"}, {"format": 1}, {"format": "pickle"}])
    elif kind == 7:
        header[name], header[other] = header[other], header[name]
    else:
        return with_header("[" * 5000, data)
    return with_header(header, data)


def edit_json(rng: random.Random, content: bytes) -> bytes:
    """A value becomes another, a key is gone, or there is one more."""
    settings = json.loads(content)
    key = rng.choice(sorted(key for key in settings if key != "_diffusers_version"))
    kind = rng.randrange(8)
    if kind == 0:
        del settings[key]
    elif kind == 1:
        settings["another"] = rng.choice(VALUES)
    elif kind == 2 and isinstance(settings[key], list):
        settings[key][rng.randrange(len(settings[key]))] = rng.choice(VALUES)
    else:
        settings[key] = rng.choice(VALUES)
    return json.dumps(settings).encode()


def break_json(rng: random.Random, content: bytes) -> bytes:
    kind = rng.randrange(5)
    if kind == 0:
        return rng.choice([b"", b"[]", b"null", b"1", b"{}", b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe{\0}\0"])
    if kind == 1:
        return content[: rng.randrange(len(content))]
    return flip(rng, content, 0, len(content))


def space_json(rng: random.Random, content: bytes) -> bytes:
    return json.dumps(json.loads(content), indent=rng.choice([None, 1, 7, "\t"])).encode() + b"\n" * rng.randint(0, 9)


WEIGHT_FILES = [f"{name}/{WEIGHTS}.safetensors" for name in COMPONENTS]
CONFIG_FILES = [f"{name}/config.json" for name in COMPONENTS]
FUZZ = {  # mutation: the files it is tried on, how often, whether all of them must load
    flip_header: (WEIGHT_FILES, 24, False),
    flip_length: (WEIGHT_FILES, 8, False),
    set_length: (WEIGHT_FILES, 12, False),
    cut: (WEIGHT_FILES, 16, False),
    grow: (WEIGHT_FILES, 4, False),
    edit_header: (WEIGHT_FILES, 28, False),
    flip_data: (WEIGHT_FILES, 8, True),
    edit_json: ([*CONFIG_FILES, "model_index.json"], 60, False),
    break_json: ([*CONFIG_FILES, "model_index.json"], 35, False),
    space_json: ([*CONFIG_FILES, "model_index.json"], 5, True),
}


@pytest.mark.parametrize("mutate", FUZZ, ids=lambda mutate: mutate.__name__)
def test_a_damaged_model_loads_or_is_refused_in_one_line(mutate, tiny_pipeline_dir, tmp_path, no_hang, tell):
    files, count, loads = FUZZ[mutate]
    folder = shutil.copytree(tiny_pipeline_dir, tmp_path / "model")
    outcomes = Counter()
    for i in range(count):
        path = folder / files[i % len(files)]
        good = path.read_bytes()
        bad = mutate(random.Random(i), good)
        path.write_bytes(bad)
        no_hang()
        outcomes[load_and_run(folder, f"number {i}, {files[i % len(files)]}: {bad[:300]!r}")] += 1
        path.write_bytes(good)
    assert sum(outcomes.values()) == count and (outcomes["works"] == count or not loads)
    said = ", ".join(f"{n} {kind}" for kind, n in sorted(outcomes.items()))
    tell(f"fuzzed model files, {mutate.__name__.replace('_', ' ')}: {count}: {said}")


def load_and_run(folder: Path, what: str) -> str:
    """"refused" or "works"; fails on everything else."""
    try:
        pipe = FeedbackInpaintPipeline.from_pretrained(folder)
        pipe.set_progress_bar_config(disable=True)
        (result,) = map(np.asarray, pipe(SCENE, HOLE, num_feedback_rounds=1).images)
    except InputError as error:
        assert str(folder) in str(error) and len(str(error).splitlines()) == 1 and len(str(error)) < 1000, what
        return "refused"
    except Exception as error:
        raise AssertionError(what) from error
    assert result.shape == SCENE.shape and np.array_equal(result[~HOLE], SCENE[~HOLE]), what
    return "works"


def test_two_hundred_files(tell):
    total = sum(count for _, count, _ in FUZZ.values())
    assert total == 200
    tell(f"fuzzed model files in all: {total}")
