"""What a Space needs: a card that is valid and names what is installed; ZeroGPU used where it exists."""

import subprocess
import sys
from pathlib import Path

from huggingface_hub import metadata_load

ROOT = Path(__file__).resolve().parent.parent


def test_the_card_names_what_is_installed():
    card = metadata_load(ROOT / "README.md")
    assert card["sdk"] == "gradio" and (ROOT / card["app_file"]).is_file()
    requirements = dict(line.split("==") for line in (ROOT / "requirements.txt").read_text().split())
    assert card["sdk_version"] == requirements["gradio"]
    assert tuple(map(int, card["python_version"].split("."))) >= (3, 10)
    assert {"title", "tags", "license", "models"} <= set(card)


def test_the_gpu_of_a_space_is_asked_for(tmp_path):
    """Where there is a `spaces` package, it is imported before torch and wraps the functions that run the networks."""
    (tmp_path / "spaces.py").write_text(
        "import sys\nearly = 'torch' not in sys.modules\nwrapped = []\n"
        "def GPU(function):\n    wrapped.append(function.__name__)\n    return function\n"
    )
    code = "import app, fbinpaint.demo.page, spaces; print(spaces.early, spaces.wrapped)"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert run.stdout.strip() == "True ['restore', 'segment_photo', 'choose', 'remove_classes']", run.stderr
