"""What only a GPU can show: the same pictures, no waiting for it in the loop, offloading, a training that learns."""

import subprocess
import sys

import numpy as np
import pytest
import torch

import train_accelerate
from fbinpaint import FeedbackInpaintPipeline
from fbinpaint.loop import feedback_rounds
from fbinpaint.masks import centre_mask
from fbinpaint.training.checkpoints import read_log

from .conftest import make_tiny_networks
from .test_pipeline import box, photo

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


# A random network is a rough judge of small errors: TensorFloat-32, in which GPUs convolve, has float16's precision.
@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 4), (torch.float16, 4), (torch.bfloat16, 24)])
def test_a_gpu_paints_the_same_picture(dtype, close, tiny_pipeline, tiny_pipeline_dir):
    pipe = FeedbackInpaintPipeline.from_pretrained(tiny_pipeline_dir, dtype=dtype).to("cuda")
    image, mask = photo(150, 120), box(150, 120)
    here, there = (np.asarray(p(image, mask).images[0]).astype(int) for p in (pipe, tiny_pipeline))
    hole = np.asarray(mask) > 0
    assert (here[~hole] == np.asarray(image)[~hole]).all()
    assert abs(here - there).max() <= close


def test_networks_wait_on_the_cpu(tiny_pipeline, tiny_pipeline_dir):
    pipe = FeedbackInpaintPipeline.from_pretrained(tiny_pipeline_dir)
    pipe.enable_model_cpu_offload()
    image, mask = photo(64, 48), box(64, 48)
    here, there = (np.asarray(p(image, mask).images[0]).astype(int) for p in (pipe, tiny_pipeline))
    assert abs(here - there).max() <= 4
    pipe.maybe_free_model_hooks()
    assert {network.device.type for network in pipe.networks.children()} == {"cpu"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_rounds_are_launched_without_waiting(dtype):
    networks = make_tiny_networks().eval().to("cuda", dtype)
    image = torch.rand(2, 3, 64, 96, device="cuda", dtype=dtype) * 2 - 1
    mask = torch.from_numpy(centre_mask(64, 96)).to("cuda", dtype).repeat(2, 1, 1, 1)
    with torch.inference_mode():
        rounds = feedback_rounds(networks, image, mask, 3)
        next(rounds)  # where the hole is, is asked for once
        torch.cuda.set_sync_debug_mode("error")
        try:
            last = [round_.image for round_ in rounds][-1]
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(last).all()


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_training_on_a_gpu_learns(precision, street_folder, tiny_pipeline_dir, vgg_file, tmp_path):
    options = (
        f"--train_data_dir {street_folder} --label_space cityscapes --pretrained_model {tiny_pipeline_dir} "
        f"--perceptual_weights {vgg_file} --output_dir {tmp_path} --mixed_precision {precision} --resolution 48 "
        "--perceptual_crop 32 --max_train_steps 40 --num_validation_images 3"
    )
    command = [sys.executable, train_accelerate.__file__, *options.split()]
    subprocess.run(command, check=True)
    rows = [row for row in read_log(tmp_path) if "reconstruction" in row]
    assert rows[-1]["reconstruction"] < rows[0]["reconstruction"]
    assert all(np.isfinite(value) for row in rows for value in row.values())
    FeedbackInpaintPipeline.from_pretrained(tmp_path / "pipeline")
