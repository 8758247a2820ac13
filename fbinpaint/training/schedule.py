"""How far a run is: counted in steps, or by the clock."""

import math
import time

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast


class Progress:
    """The share of a run that is done, in [0,1]; learning rates and the discriminator's start follow it.

    Args:
        max_steps: after so many the run ends.
        max_minutes: or after so many by the clock of the main process; None = by steps alone. The clock is started when
            the first step has ended, so that neither start-up nor compilation counts, and goes on where a resumed run
            had stopped.
        warmup_steps: over which the learning rates rise.
        initial_steps: after which other networks begin to learn, so that the rates rise anew. At their peak from its
            first step on, a painter that nothing has been taught can shut for ever: its last layer's input turns
            negative, SiLU makes that 0, and no gradient brings it back.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        max_steps: int,
        max_minutes: float | None,
        warmup_steps: int,
        initial_steps: int = 0,
    ):
        self.accelerator, self.max_steps, self.warmup_steps = accelerator, max_steps, warmup_steps
        self.initial_steps = initial_steps
        self.max_seconds = None if max_minutes is None else 60 * max_minutes
        self.seconds_before = 0.0
        self.started: float | None = None

    @property
    def seconds(self) -> float:
        return self.seconds_before + (0.0 if self.started is None else time.monotonic() - self.started)

    def start_clock(self) -> None:
        if self.started is None:
            self.started = time.monotonic()

    def share(self, step: int) -> float:
        """After `step` steps; the same in all processes."""
        share = step / self.max_steps
        if self.max_seconds is not None:
            share = max(share, self.seconds / self.max_seconds)
            if self.accelerator.num_processes > 1:
                share = broadcast(torch.tensor(share, device=self.accelerator.device)).item()
        return min(share, 1.0)

    def learning_rate_factor(self, step: int, share: float) -> float:
        """Half a cosine down to 0, under a linear rise wherever networks begin to learn."""
        since = step if step < self.initial_steps else step - self.initial_steps
        rise = since / self.warmup_steps if since < self.warmup_steps else 1.0
        return rise * 0.5 * (1 + math.cos(math.pi * share))

    def state_dict(self) -> dict[str, float]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.seconds_before = state["seconds"]
