"""The page restores as many photos at once as there are devices, each on a copy of the model that is there."""

import os
import shutil
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

from fbinpaint.demo import models, page
from fbinpaint.demo.models import DRIVERS, Devices, load, restore
from fbinpaint.demo.page import build_demo

TWO = ("cpu", "cpu:0")  # torch's names of the one processor, which stand for two devices here


def limits(demo) -> set[tuple]:
    return {(fn.concurrency_id, fn.concurrency_limit) for fn in demo.fns.values() if fn.queue and fn.fn}


@pytest.fixture
def two_devices(monkeypatch):
    devices = Devices(TWO)
    for module in (models, page):
        monkeypatch.setattr(module, "devices", lambda: devices)
    return devices


@pytest.fixture
def own_model(tiny_pipeline_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "files"))
    return str(shutil.copytree(tiny_pipeline_dir, tmp_path / "model"))  # of which no copies are kept from other tests


@pytest.mark.slow
@pytest.mark.skipif(any(map(os.path.exists, DRIVERS)), reason="this machine may have GPUs")
def test_without_a_gpu_one_photo_is_restored_at_once_and_nobody_waits_for_torch(own_model):
    code = "import sys; from fbinpaint.demo.models import devices; print(devices().names, 'torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "(None,) False"
    assert limits(build_demo({"streets": own_model})) == {("model", 1)}


def test_with_two_devices_two_photos_are_restored_at_once(own_model, two_devices):
    assert limits(build_demo({"streets": own_model})) == {("model", 2)}


def test_each_device_has_its_own_copy_of_the_model(own_model, two_devices):
    copies = [load(own_model, name) for name in TWO]
    assert copies[0] is not copies[1] and load(own_model) is copies[0]
    weights = [next(copy.segmenter.parameters()) for copy in copies]
    assert weights[0].data_ptr() != weights[1].data_ptr() and (weights[0] == weights[1]).all()


def test_photos_at_once_are_on_devices_of_their_own_and_are_restored_as_alone(own_model, two_devices):
    rng = np.random.default_rng(0)
    photos = [rng.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(2)]
    hole = np.zeros((48, 64), bool)
    hole[10:30, 20:40] = True
    alone = [np.asarray([*restore(own_model, photo, hole, 1)][-1].images[0]) for photo in photos]
    streams = [restore(own_model, photo, hole, 1) for photo in photos]
    steps = [[next(stream) for stream in streams]]
    assert two_devices.users == dict.fromkeys(TWO, 1)  # both are in the midst of their rounds
    steps += zip(*streams, strict=True)
    for before, after in pairwise(steps):
        assert all(len(y.rounds[0]) == len(x.rounds[0]) + 1 for x, y in zip(before, after, strict=True))
    for output, expected in zip(steps[-1], alone, strict=True):
        assert np.array_equal(output.images[0], expected)
    assert two_devices.users == dict.fromkeys(TWO, 0)


def test_a_restoration_that_nobody_goes_on_with_leaves_its_device_free(own_model, two_devices):
    hole = np.zeros((48, 64), bool)
    hole[10:30, 20:40] = True
    stream = restore(own_model, np.zeros((48, 64, 3), np.uint8), hole, 1)
    next(stream)
    with two_devices.take() as other:
        assert other == TWO[1]
    stream.close()
    assert two_devices.users == dict.fromkeys(TWO, 0)
