"""Optimizers and weight averaging, in as few operations a step as there are shapes: on a GPU each one is a launch."""

import copy
from collections import defaultdict
from typing import Any, Generic, TypeVar

import torch
from timm.optim.muon import get_lr_scale, zeropower_via_newtonschulz
from torch import Tensor, nn

Averaged = TypeVar("Averaged", bound=nn.Module)

# Of the Newton-Schulz iterations: https://leloykun.github.io/ponder/muon-opt-coeffs, "quintic" in timm.
COEFFICIENTS = [
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
]
# A matrix longer than this many times its width, or narrower than so many rows, has no directions worth equalising.
MAX_ASPECT, MIN_ROWS = 128, 4
WEIGHT_DECAY = 1e-4


class StackedMuon(torch.optim.Optimizer):
    """Muon (Jordan et al., 2024): momentum, orthogonalised by Newton-Schulz iterations; timm's, of whole stacks.

    A convolution's weight (out, in, h, w) counts as a matrix (out, in*h*w). Matrices of one shape are orthogonalised
    together: a step takes some 20 operations a shape, where one matrix at a time takes as many each.
    """

    def __init__(self, params, lr: float, momentum: float = 0.95, weight_decay: float = WEIGHT_DECAY):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # nobody evaluates anew in a step
        for group in self.param_groups:
            stacks: dict[tuple, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    state = self.state[parameter]
                    if not state:
                        state["momentum_buffer"] = torch.zeros_like(parameter)
                    stacks[len(parameter), parameter[0].numel(), parameter.device].append(parameter)
            for stack in stacks.values():
                self._step(stack, **{key: group[key] for key in ("lr", "momentum", "weight_decay")})

    def _step(self, parameters: list[Tensor], lr: float, momentum: float, weight_decay: float) -> None:
        """Parameters of one shape, as matrices."""
        buffers = [self.state[parameter]["momentum_buffer"] for parameter in parameters]
        torch._foreach_lerp_(buffers, [p.grad for p in parameters if p.grad is not None], 1 - momentum)
        # Channels last, as they lie in memory: the order of a matrix's columns does not matter.
        matrices = torch.stack([buffer.movedim(1, -1).flatten(1) for buffer in buffers])  # (N, out, in)
        # bfloat16 is enough and twice as fast on GPUs; most processors are ten times slower in it.
        dtype = torch.float32 if matrices.device.type == "cpu" else torch.bfloat16
        orthogonal = zeropower_via_newtonschulz(matrices, len(COEFFICIENTS), COEFFICIENTS, dtype=dtype)
        shapes = [parameter.movedim(1, -1).shape for parameter in parameters]
        orthogonal = orthogonal.to(matrices.dtype).contiguous()
        updates = [update.view(shape).movedim(-1, 1) for update, shape in zip(orthogonal, shapes, strict=True)]
        torch._foreach_mul_(parameters, 1 - lr * weight_decay)
        torch._foreach_add_(parameters, updates, alpha=-lr * get_lr_scale(matrices.shape, "match_rms_adamw"))


def is_matrix(parameter: Tensor) -> bool:
    """Whether Muon is for it: a convolution or a matrix, not a norm, a bias, a depthwise or a very narrow one."""
    if parameter.ndim < 2 or min(parameter.shape[:2]) == 1:
        return False
    short, long = sorted((len(parameter), parameter[0].numel()))
    return short >= MIN_ROWS and long <= MAX_ASPECT * short


def build_optimizers(
    networks: nn.Module, learning_rate: float, encoder_learning_rate: float
) -> list[torch.optim.Optimizer]:
    """Muon for matrices, AdamW for norms, biases and the pretrained encoder; of the parameters that are to learn.

    Orthogonalised momentum learns in a third of AdamW's steps here (docs/experiments.md).
    """
    # In their own order: a resumed optimizer finds its state by position.
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    encoder: list[nn.Parameter] = []
    for name, parameter in networks.named_parameters():
        if parameter.requires_grad:
            kind = encoder if name.startswith("segmenter.encoder.") else matrices if is_matrix(parameter) else rest
            kind.append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": rest, "lr": learning_rate},
        {"params": encoder, "lr": encoder_learning_rate},
    ]
    groups = [group for group in groups if group["params"]]
    optimizers: list[torch.optim.Optimizer] = [StackedMuon(matrices, lr=learning_rate)] if matrices else []
    if groups:
        adamw = torch.optim.AdamW(groups, betas=(0.9, 0.99), eps=1e-7, weight_decay=WEIGHT_DECAY, fused=True)
        optimizers.append(adamw)
    return optimizers


class WeightAverage(Generic[Averaged]):
    """The moving average of some networks' weights, in `module`, for accelerate to save.

    It forgets its random start: the decay rises with the updates n, (1 + n) / (10 + n). Not torch's AveragedModel:
    the count of that one lies on the GPU, and each step waits for it.
    """

    def __init__(self, networks: Averaged, decay: float):
        self.module = copy.deepcopy(networks).requires_grad_(False).eval()
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, networks: nn.Module) -> None:
        weight = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(list(self.module.parameters()), list(networks.parameters()), weight)
        self.updates += 1

    def state_dict(self) -> dict:
        return {"module": self.module.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: dict) -> None:
        self.module.load_state_dict(state["module"])
        self.updates = state["updates"]
