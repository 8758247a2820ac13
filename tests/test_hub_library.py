"""docs/hub-library.md: what the Hub would show of a published model works as typed, and is counted once."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .fake_hub import FakeHub
from .test_hub import Client, photo_and_mask

PAGE = (Path(__file__).parents[1] / "docs/hub-library.md").read_text()
MODEL = "user/streets"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def hub():
    hub = FakeHub()
    yield hub
    hub.close()


def test_what_is_shown_of_a_model_is_what_the_entry_makes_of_its_name():
    entry, snippets = blocks("ts")
    assert entry.strip().startswith("fbinpaint: {") and "snippets: snippets.fbinpaint," in entry
    shown = re.findall(r"`([^`]*)`", snippets)
    assert [text.replace("${model.id}", MODEL) + "\n" for text in shown] == blocks("sh") + blocks("python")


@pytest.mark.slow
def test_the_snippet_restores_a_photo_as_typed_and_is_one_download(hub, tiny_pipeline_dir, tmp_path):
    (counted,) = re.findall(r'countDownloads: `path:"(.+)"`', blocks("ts")[0])
    (snippet,) = blocks("python")
    client = Client(hub, tmp_path / "home")
    published = client.publish("--model", tiny_pipeline_dir, "--repo-id", MODEL)
    assert published.returncode == 0, published.stderr
    assert b"library_name: fbinpaint\n" in hub.repos[MODEL].files["README.md"]
    photo, mask = photo_and_mask()
    photo.save(client.home / "photo.jpg", quality=95)
    mask.save(client.home / "mask.png")
    (client.home / "snippet.py").write_text(snippet)
    done = client.python("snippet.py")
    assert done.returncode == 0, done.stderr
    restored, photo = (np.asarray(Image.open(client.home / name)) for name in ("restored.png", "photo.jpg"))
    hole = np.asarray(mask) > 0
    assert (restored[~hole] == photo[~hole]).all() and (restored[hole] != photo[hole]).any()
    assert hub.sent.count(f"{MODEL}/{counted}") == 1
