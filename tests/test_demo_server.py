"""The demo piece by piece: models and examples, the files that it sends, the command that starts it."""

import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import pytest
from gradio import processing_utils
from PIL import Image

from fbinpaint.demo.examples import EXAMPLES, list_examples
from fbinpaint.demo.models import by_name
from fbinpaint.demo.page import build_demo
from fbinpaint.errors import InputError
from fbinpaint.labels import CITYSCAPES

ROOT = Path(__file__).resolve().parent.parent


def test_models_are_checked_before_the_page_opens(tmp_path):
    with pytest.raises(InputError, match="model_index.json"):
        build_demo({"empty": str(tmp_path)})


def test_folders_are_called_by_their_own_names_which_errors_do_not_cut(tmp_path):
    folders = [str(tmp_path / path) for path in ("a/best", "b/best", "streets")]
    for folder in folders:
        Path(folder).mkdir(parents=True)
    models = by_name([*folders, "user/faces@v1"])
    assert models == {folders[0]: folders[0], folders[1]: folders[1], "streets": folders[2],
                      "user/faces@v1": "user/faces@v1"}  # fmt: skip
    assert by_name([f"{folders[2]}/"]) == {"streets": f"{folders[2]}/"}


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


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.slow
def test_a_space_or_container_says_where_the_page_listens(tiny_pipeline_dir, tmp_path):
    """By Gradio's environment variables; 127.0.0.2 is an address of this machine that is no default."""
    port = free_port()
    environment = os.environ | {
        "GRADIO_SERVER_NAME": "127.0.0.2", "GRADIO_SERVER_PORT": str(port), "GRADIO_TEMP_DIR": str(tmp_path),
    }  # fmt: skip
    command = [sys.executable, "app.py", "--model", str(tiny_pipeline_dir)]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 120
        while True:
            assert process.poll() is None, process.stderr.read().decode()
            try:
                with urlopen(f"http://127.0.0.2:{port}/", timeout=5) as answer:
                    assert answer.status == 200 and b"fbinpaint" in answer.read()
                break
            except (URLError, TimeoutError):
                assert time.monotonic() < deadline
                time.sleep(0.2)
        with pytest.raises(URLError):
            urlopen(f"http://127.0.0.1:{port}/", timeout=5)
    finally:
        process.terminate()
        process.wait(30)


def test_a_port_that_is_no_number_is_one_line():
    environment = os.environ | {"GRADIO_SERVER_PORT": "seven"}
    run = subprocess.run([sys.executable, "app.py"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 2 and "seven" in run.stderr.splitlines()[-1] and "Traceback" not in run.stderr
