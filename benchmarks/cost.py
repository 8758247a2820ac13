"""What the loop costs: parameters, forward FLOPs by round.

    python -m benchmarks.cost [--model checkpoints/streets]

FLOPs come from torch's FlopCounterMode (a multiply-add counts as two; attention is included), on one 256x256 photo.
What training costs: `benchmarks.training`.
"""

import argparse
import math
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.utils.flop_counter import (
    FlopCounterMode,
    flop_registry,
    register_flop_formula,
    sdpa_backward_flop,
    sdpa_flop,
)

from benchmarks.reports import exit_code
from fbinpaint import FeedbackInpaintPipeline
from fbinpaint.arguments import HelpWithDefaults
from fbinpaint.loop import Networks, feedback_rounds
from fbinpaint.masks import centre_mask
from fbinpaint.system.memory import keep_freed_memory


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


def write_random_backbones(encoder: Path, vgg: Path) -> None:
    """Files with the layout of the pretrained weights: their values do not change the cost."""
    import timm
    from torchvision.models.vgg import cfgs, make_layers

    save_file(timm.create_model("tf_efficientnet_lite0", features_only=True).state_dict(), encoder)
    save_file(make_layers(cfgs["D"]).state_dict(), vgg)


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Print what the loop costs.",
        epilog="example: python -m benchmarks.cost --model checkpoints/streets",
        formatter_class=HelpWithDefaults,
    )
    parser.add_argument("--model", default="checkpoints/streets", help="pipeline folder")
    args = parser.parse_args()
    keep_freed_memory()
    return exit_code(lambda: print_costs(args.model))


def print_costs(model: str) -> None:
    pipe = FeedbackInpaintPipeline.from_pretrained(model)
    bytes_on_disk = sum(path.stat().st_size for path in Path(model).rglob("*.safetensors"))
    parameters = sum(p.numel() for p in pipe.networks.parameters())
    print(f"{model}: {parameters / 1e6:.2f} M parameters, {bytes_on_disk / 1e6:.1f} MB on disk")
    costs = []
    for num_rounds in range(3):
        total, parts = forward_flops(pipe.networks, num_rounds)
        costs.append(total)
        detail = ", ".join(f"{name} {cost:.2f}" for name, cost in parts.items() if cost)
        print(f"K={num_rounds} at 256x256: {total:.2f} GFLOP ({detail})")
    print(f"one more round: {(costs[2] - costs[1]) / costs[0]:.1%} of K=0")


if __name__ == "__main__":
    raise SystemExit(main())
