"""Shared fixtures: a miniature pipeline with random weights, procedural scenes on disk."""

import functools
import os
import re
import resource
import shutil
import signal

# Before any import of the libraries that read them: tests never leave this machine.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
if "PYTEST_XDIST_WORKER" in os.environ:  # a core each: more threads than cores wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models.vgg import cfgs, make_layers

from fbinpaint import FeedbackInpaintPipeline
from fbinpaint.batch.planning import Job, Note
from fbinpaint.data.scenes import SCENES, write_scenes
from fbinpaint.labels import get_label_space
from fbinpaint.loop import Networks
from fbinpaint.models import GuidedInpainter, InitialInpainter, Recorrector, Segmenter
from fbinpaint.pipeline.exemplars import make_exemplars


@functools.cache
def labelled_scenes(label_space: str, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Procedural photos (48,64,3) uint8 and their maps (48,64) uint8."""
    scenes = (SCENES[label_space]((64, 48), np.random.default_rng(seed)) for seed in range(count))
    return [(np.array(photo), semantic_map) for photo, semantic_map in scenes]


def make_tiny_networks(label_space: str = "cityscapes", seed: int = 0) -> Networks:
    """All four networks at a few thousand parameters each, every weight random (zero-initialised ones included), and a
    bank of five procedural scenes, two of which, each and its mirror image, make a layout."""
    space = get_label_space(label_space)
    num_classes = space.num_classes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        initial_inpainter = InitialInpainter(channels=(8, 16, 16, 24), bottleneck_dilations=(1, 2), depth8=1)
        segmenter = Segmenter(num_classes=num_classes, encoder_name="test_efficientnet", channels=16)
        features = sum(segmenter.encoder.feature_info.channels()[1:]) + segmenter.config.channels
        networks = Networks(
            initial_inpainter=initial_inpainter,
            segmenter=segmenter,
            recorrector=Recorrector(num_classes=num_classes, channels=16, feature_channels=features, top_k=4),
            guided_inpainter=GuidedInpainter(
                num_classes=num_classes,
                channels=(8, 16, 16),
                context_channels=(16, 16),
                style_channels=32,
                guide_channels=16,
                depth8=1,
                attention_heads=2,
                attention_channels=16,
            ),
        )
        for parameter in networks.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.05)
        for lateral in segmenter.lateral:
            torch.nn.init.normal_(lateral.weight[:, -1], std=0.1)
    networks.recorrector.set_bank(make_exemplars(segmenter, space, labelled_scenes(label_space, 5)))
    return networks


def quiet_pipeline(networks: Networks, sample_size: int = 96) -> FeedbackInpaintPipeline:
    """Of streets, without a progress bar."""
    pipe = FeedbackInpaintPipeline.from_networks(networks, "cityscapes", sample_size=sample_size)
    pipe.set_progress_bar_config(disable=True)
    return pipe


TOLD = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def tell(pytestconfig) -> Callable[[str], None]:
    """Puts a line under "counts" at the end of the test run: how many inputs a test went through."""
    return pytestconfig.stash.setdefault(TOLD, []).append


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error) -> None:
    told = getattr(node, "workeroutput", {}).get("told", [])
    node.config.stash.setdefault(TOLD, []).extend(told)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session):
    """The last line of all says what was not run: an `s` among hundreds of dots is overlooked."""
    if hasattr(session.config, "workeroutput"):  # one of several processes, and not the one that prints
        session.config.workeroutput["told"] = session.config.stash.get(TOLD, [])
    result = yield
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter and (skipped := reporter.stats.get("skipped", [])):
        reasons = Counter(str(report.longrepr[-1]).removeprefix("Skipped: ") for report in skipped)
        counts = "; ".join(f"{count}: {reason}" for reason, count in reasons.most_common())
        reporter.write_line(f"{len(skipped)} tests were not run ({counts})")
    return result


def pytest_terminal_summary(terminalreporter, config) -> None:
    if lines := config.stash.get(TOLD, []):
        terminalreporter.section("counts")
        terminalreporter.write("".join(f"{line}\n" for line in lines))


@pytest.fixture(scope="session")
def tiny_networks() -> Networks:
    return make_tiny_networks().eval()


@pytest.fixture(scope="session")
def tiny_pipeline() -> FeedbackInpaintPipeline:
    return quiet_pipeline(make_tiny_networks())


@pytest.fixture(scope="session")
def tiny_pipeline_dir(tiny_pipeline, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    tiny_pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def street_folder(tmp_path_factory) -> Path:
    """A plain data folder of 12 labelled procedural streets, 96x64."""
    folder = tmp_path_factory.mktemp("data") / "streets"
    write_scenes(folder, "cityscapes", count=12, size=(96, 64), seed=0)
    return folder


@pytest.fixture(scope="session")
def vgg_file(tmp_path_factory) -> Path:
    """Random weights in the layout of the perceptual loss's."""
    path = tmp_path_factory.mktemp("vgg") / "vgg16.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_file({key: value.half() for key, value in make_layers(cfgs["D"]).state_dict().items()}, path)
    return path


@pytest.fixture(scope="session")
def unlabelled_folder(street_folder, tmp_path_factory) -> Path:
    """Half of the streets without their labels."""
    images = tmp_path_factory.mktemp("unlabelled") / "images"
    images.mkdir()
    for path in sorted((street_folder / "images").iterdir())[:6]:
        shutil.copy(path, images / f"u{path.name}")
    return images.parent


def sorted_out(plan) -> tuple[list, list[str], list[str]]:
    """The jobs of a plan, the problems and the notes."""
    items = list(plan)
    jobs, notes = ([item for item in items if isinstance(item, kind)] for kind in (Job, Note))
    return jobs, [item for item in items if isinstance(item, str) and not isinstance(item, Note)], notes


@contextmanager
def full_disk(room: int = 1000):
    """No file can have more bytes: the kernel refuses them, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


SECONDS = 20  # that loading and running the tiny pipeline may take, many times what it does


@pytest.fixture
def no_hang():
    """An exception of its own when loading takes far too long."""

    def late(*_):
        raise TimeoutError(f"no answer after {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, late)
    yield lambda: signal.alarm(SECONDS)
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


# ---------------------------------------------------------------------------------------------- the demo's page


@pytest.fixture(scope="session")
def browser():
    from .demo_browser import start_browser

    with start_browser() as browser:
        yield browser


@pytest.fixture(scope="session")
def demo_urls(tiny_pipeline_dir, tmp_path_factory):
    """The addresses of a demo of one model, of streets, and of one that has another of faces."""
    from .demo_browser import serve

    faces, cache = tmp_path_factory.mktemp("faces"), tmp_path_factory.mktemp("gradio")
    networks = make_tiny_networks("celebamask-hq")
    FeedbackInpaintPipeline.from_networks(networks, "celebamask-hq", sample_size=96).save_pretrained(faces)
    streets = str(tiny_pipeline_dir)
    with serve({"streets": streets}, cache) as one, serve({"faces": str(faces), "streets": streets}, cache) as two:
        yield {"one": one, "two": two}


@pytest.fixture(scope="session")
def own_photo(tmp_path_factory) -> Path:
    """Of a street, 160x120."""
    path = tmp_path_factory.mktemp("photos") / "my street.png"
    SCENES["cityscapes"]((160, 120), np.random.default_rng(0))[0].save(path)
    return path


@pytest.fixture
def new_visitor(browser, demo_urls, capfd):
    """Opens the page for a visitor; afterwards, fails on any error of the browser's or the server's."""
    from .demo_browser import DESKTOP, Visitor

    pages, errors = [], []

    def new_visitor(viewport: dict = DESKTOP, models: str = "one", query: str = "", **context):
        page = browser.new_page(viewport=viewport, **context)
        pages.append(page)
        return Visitor(page, demo_urls[models], errors).visit(query)

    yield new_visitor
    for page in pages:
        page.close()
    assert not errors
    assert not re.findall(r'File ".*/fbinpaint/.*', capfd.readouterr().err)  # of a traceback through our own code


@pytest.fixture
def visitor(new_visitor):
    return new_visitor()
