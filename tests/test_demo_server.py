"""The demo piece by piece: models and examples, the files that it sends, the command that starts it."""

import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from gradio import processing_utils
from PIL import Image

from fbinpaint.demo.examples import EXAMPLES, list_examples
from fbinpaint.demo.page import build_demo
from fbinpaint.errors import InputError
from fbinpaint.labels import CITYSCAPES

ROOT = Path(__file__).resolve().parent.parent


def test_models_are_checked_before_the_page_opens(tmp_path):
    with pytest.raises(InputError, match="model_index.json"):
        build_demo({"empty": str(tmp_path)})


def test_a_label_space_gets_examples_once():
    examples = list_examples({"first": CITYSCAPES, "second": CITYSCAPES})
    assert examples == [("first", name) for name in EXAMPLES["cityscapes"]]


def test_a_picture_that_is_saved_again_is_whole_at_every_moment(tmp_path):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8))
    path = Path(processing_utils.save_pil_to_cache(picture, str(tmp_path), format="png"))
    size = path.stat().st_size
    with ThreadPoolExecutor() as pool:
        save = processing_utils.save_pil_to_cache
        saved = [pool.submit(save, picture, str(tmp_path), format="png") for _ in range(9)]
        while not all(future.done() for future in saved):
            assert len(path.read_bytes()) == size
    assert {Path(future.result()) for future in saved} == {path} and len(list(path.parent.iterdir())) == 1


def test_a_taken_port_is_one_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = [sys.executable, "app.py", "--port", str(taken.getsockname()[1])]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 1 and "is taken" in run.stderr and "Traceback" not in run.stderr
