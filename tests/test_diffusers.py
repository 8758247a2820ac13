"""What users of diffusers do with any pipeline and any network works with ours, and says nothing that is not so."""

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import logging as diffusers_logging

import fbinpaint
from fbinpaint import FeedbackInpaintPipeline
from fbinpaint.cli import main
from fbinpaint.loop import feedback_rounds

from .conftest import make_tiny_networks


def test_diffusion_pipeline_loads_a_folder(tiny_pipeline, tiny_pipeline_dir):
    pipe = DiffusionPipeline.from_pretrained(tiny_pipeline_dir)
    pipe.set_progress_bar_config(disable=True)
    assert type(pipe) is FeedbackInpaintPipeline
    photo, mask = np.random.default_rng(0).integers(0, 256, (32, 40, 3), dtype=np.uint8), np.eye(32, 40) > 0
    assert pipe(photo, mask).images[0].tobytes() == tiny_pipeline(photo, mask).images[0].tobytes()


@pytest.mark.slow
def test_importing_fbinpaint_is_enough_for_it():
    script = (
        "import diffusers, fbinpaint; print(diffusers.FeedbackInpaintPipeline.__module__); "
        "import fbinpaint.pipeline.outputs as outputs; assert outputs is fbinpaint.pipeline.outputs"
    )
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, timeout=300)
    assert done.stdout == "fbinpaint.pipeline.pipeline\n", done.stderr


def test_gradient_checkpointing_recomputes_each_network_and_changes_no_gradient():
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 8:24, 8:24] = 1
    networks = make_tiny_networks()
    calls = {}
    for name, network in networks.named_children():
        network.register_forward_pre_hook(lambda *_, name=name: calls.update({name: calls.get(name, 0) + 1}))

    def gradients() -> dict[str, torch.Tensor]:
        calls.clear()
        networks.zero_grad()
        *_, last = feedback_rounds(networks, image, mask, 1)
        (last.initial.square().mean() + last.prediction.square().mean() + last.probabilities[:, 0].mean()).backward()
        return {name: p.grad.clone() for name, p in networks.named_parameters() if p.grad is not None}

    plain, plain_calls = gradients(), dict(calls)
    for network in networks.children():
        assert not network.is_gradient_checkpointing
        network.enable_gradient_checkpointing()
        assert network.is_gradient_checkpointing
    checkpointed = gradients()
    assert all(calls[name] > plain_calls[name] for name in plain_calls) and len(calls) == 4
    assert plain.keys() == checkpointed.keys()
    assert all(torch.allclose(plain[key], checkpointed[key], atol=1e-6) for key in plain)
    with torch.no_grad():
        calls.clear()
        list(feedback_rounds(networks, image, mask, 1))
        assert calls == plain_calls
    for network in networks.children():
        network.disable_gradient_checkpointing()
    gradients()
    assert calls == plain_calls


def test_a_checkpointing_function_of_ones_own_is_used():
    network, used = make_tiny_networks().initial_inpainter, []

    def function(module, *inputs):
        used.append(len(inputs))
        return module(*inputs)

    network.enable_gradient_checkpointing(function)
    network(torch.zeros(1, 3, 32, 32), torch.ones(1, 1, 32, 32))
    assert used == [2]


def test_changing_the_dtype_prints_nothing(tiny_pipeline_dir):
    said, verbosity = [], diffusers_logging.get_verbosity()
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    pipe = FeedbackInpaintPipeline.from_pretrained(tiny_pipeline_dir)
    diffusers_logging.set_verbosity_warning()
    diffusers_logging.add_handler(handler)
    try:
        pipe.to(torch.float16)
        pipe.to("cpu", torch.bfloat16)
        pipe.to(device="cpu", dtype=torch.float16)
        pipe.segmenter.to(torch.float32)
        assert said == []
        pipe.segmenter._keep_in_fp32_modules = ["classify"]  # what diffusers does say with reason is still heard
        pipe.segmenter.to(torch.float16)
        assert len(said) == 1 and "classify" in said[0]
    finally:
        diffusers_logging.remove_handler(handler)
        diffusers_logging.set_verbosity(verbosity)


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as done:
        main(["--version"])
    assert done.value.code == 0 and capsys.readouterr().out == f"fbinpaint {fbinpaint.__version__}\n"
    assert fbinpaint.__version__[0].isdigit()
