"""What the loop costs: parameters, forward FLOPs by round, training speed.

    python -m benchmarks.cost [--model checkpoints/streets] [--train_steps 10] [--resolution 128] [--perceptual_crop 48]

FLOPs come from torch's FlopCounterMode (a multiply-add counts as two; attention is included), on one 256x256 photo.
Training is the recipe's own step, losses and discriminator included (VGG16 with random weights costs the same), forward
and backward, averaged over steps that end after 0, 1 or 2 rounds as often as in training. Its speed is worth something
on a quiet machine only; the machine and its threads are printed beside it.
"""

import argparse
import math
import os
import platform
import tempfile
import time
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from torch.utils.flop_counter import (
    FlopCounterMode,
    flop_registry,
    register_flop_formula,
    sdpa_backward_flop,
    sdpa_flop,
)

import train_accelerate
from fbinpaint import FeedbackInpaintPipeline
from fbinpaint.data.photos import collate
from fbinpaint.data.scenes import write_scenes
from fbinpaint.labels import get_label_space
from fbinpaint.loop import Networks, feedback_rounds
from fbinpaint.masks import centre_mask
from fbinpaint.memory import keep_freed_memory
from fbinpaint.training.trainer import Trainer

COUNTED_STEPS = 20


def convolution_backward_flop(grad_out_shape, _x_shape, w_shape, *others, out_shape=None) -> int:
    """The gradients of input and of weights each cost what the convolution did. torch's own formula takes no notice of
    groups and counts the weights' gradient of a depthwise convolution as that of a dense one."""
    wanted = others[-1]  # output_mask: which of the gradients of input, weights and bias
    return 2 * grad_out_shape[0] * math.prod(grad_out_shape[2:]) * math.prod(w_shape) * sum(wanted[:2])


# torch counts attention on GPUs only; on a CPU it does the same work under another name.
for cpu_attention, formula in (
    (torch.ops.aten._scaled_dot_product_flash_attention_for_cpu, sdpa_flop),
    (torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward, sdpa_backward_flop),
):
    if cpu_attention not in flop_registry:
        register_flop_formula(cpu_attention, get_raw=True)(formula)


def flop_counter() -> FlopCounterMode:
    """To be entered; counts what then happens, attention on CPUs and gradients of grouped convolutions included."""
    formulas = {torch.ops.aten.convolution_backward: convolution_backward_flop}
    return FlopCounterMode(display=False, custom_mapping=formulas)


@torch.no_grad()
def forward_flops(networks: Networks, num_rounds: int, size: int = 256) -> tuple[float, dict[str, float]]:
    """GFLOP of the whole loop, and by network."""
    image = torch.zeros(1, 3, size, size)
    mask = torch.from_numpy(centre_mask(size, size)).float()[None, None]
    with flop_counter() as counter:
        list(feedback_rounds(networks, image, mask, num_rounds))
    parts = {type(part).__name__: part for part in networks.children()}
    counts = {name: sum(counter.get_flop_counts().get(name, {}).values()) / 1e9 for name in parts}
    return counter.get_total_flops() / 1e9, counts


def training_cost(label_space: str, steps: int, resolution: int, perceptual_crop: int) -> tuple[float, float]:
    """GFLOP of a photo in the training step, and photos per second with data loading left out.

    FLOPs are those of `COUNTED_STEPS` steps, the speed is that of `steps`.
    """
    with tempfile.TemporaryDirectory() as folder:
        write_scenes(Path(folder) / "data", label_space, count=16, size=(resolution * 5 // 4, resolution), seed=0)
        encoder, vgg = Path(folder) / "encoder.safetensors", Path(folder) / "vgg.safetensors"
        write_random_backbones(encoder, vgg)
        args = train_accelerate.parse_args(
            ["--train_data_dir", f"{folder}/data", "--label_space", label_space, "--output_dir", f"{folder}/run"]
            + ["--encoder_weights", str(encoder), "--perceptual_weights", str(vgg)]
            + ["--adversarial_start", "0", "--num_validation_images", "1"]
            + ["--resolution", str(resolution), "--perceptual_crop", str(perceptual_crop)]
        )
        trainer = Trainer(args, Accelerator(cpu=True))
        batch = collate([trainer.crops[i, i] for i in range(args.train_batch_size)]).to(torch.device("cpu"))
        with flop_counter() as counter:
            for step in range(COUNTED_STEPS):
                trainer.train_step(batch, step, step)
        flops = counter.get_total_flops() / COUNTED_STEPS / args.train_batch_size
        began = time.perf_counter()
        for step in range(steps):
            trainer.train_step(batch, COUNTED_STEPS + step, COUNTED_STEPS + step)
        return flops / 1e9, steps * args.train_batch_size / (time.perf_counter() - began)


def write_random_backbones(encoder: Path, vgg: Path) -> None:
    """Files with the layout of the pretrained weights: their values do not change the cost."""
    import timm
    from torchvision.models.vgg import cfgs, make_layers

    save_file(timm.create_model("tf_efficientnet_lite0", features_only=True).state_dict(), encoder)
    save_file(make_layers(cfgs["D"]).state_dict(), vgg)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Print what the loop costs.",
        epilog="example: python -m benchmarks.cost --model checkpoints/streets",
    )
    parser.add_argument("--model", default="checkpoints/streets", help="pipeline folder (default: %(default)s)")
    parser.add_argument("--train_steps", type=int, default=10, help="training steps to time; 0 = none")
    parser.add_argument("--resolution", type=int, default=128, help="of training (default: %(default)s)")
    parser.add_argument("--perceptual_crop", type=int, default=48, help="of training (default: %(default)s)")
    args = parser.parse_args()
    keep_freed_memory()
    pipe = FeedbackInpaintPipeline.from_pretrained(args.model)
    bytes_on_disk = sum(path.stat().st_size for path in Path(args.model).rglob("*.safetensors"))
    parameters = sum(p.numel() for p in pipe.networks.parameters())
    print(f"{args.model}: {parameters / 1e6:.2f} M parameters, {bytes_on_disk / 1e6:.1f} MB on disk")
    costs = []
    for num_rounds in range(3):
        total, parts = forward_flops(pipe.networks, num_rounds)
        costs.append(total)
        detail = ", ".join(f"{name} {cost:.2f}" for name, cost in parts.items() if cost)
        print(f"K={num_rounds} at 256x256: {total:.2f} GFLOP ({detail})")
    print(f"one more round: {(costs[2] - costs[1]) / costs[0]:.1%} of K=0")
    if args.train_steps:
        name, size = get_label_space(pipe.config.label_space).name, args.resolution
        flops, speed = training_cost(name, args.train_steps, size, args.perceptual_crop)
        machine = f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
        print(f"training at {size}x{size}: {flops:.1f} GFLOP a photo, {speed:.2f} photos a second ({machine})")


if __name__ == "__main__":
    main()
