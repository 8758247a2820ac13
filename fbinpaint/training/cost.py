"""What a run's data costs: bytes that were read, and the share of the time in which steps waited for them."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from accelerate import Accelerator
from accelerate.utils import gather_object

from fbinpaint.data.loader import BatchLoader


class Cost:
    """Of the steps since it was made."""

    def __init__(self, loader: BatchLoader):
        self.loader, self.began, self.waited = loader, time.monotonic(), 0.0
        self.other = 0.0  # seconds of validation and checkpoints

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around asking for a batch."""
        asked = time.monotonic()
        yield
        self.waited += time.monotonic() - asked

    @contextmanager
    def left_out(self) -> Iterator[None]:
        """Around what is no step."""
        began = time.monotonic()
        yield
        self.other += time.monotonic() - began

    def of_all(self, accelerator: Accelerator) -> dict[str, float]:
        """Of all processes, which must ask together: `bytes_read` of photos and labels by all of them and their workers
        since they started, `waited`, the share in [0,1] of the one that waited most. Others wait for that one."""
        seconds = time.monotonic() - self.began - self.other
        own = (self.loader.bytes_read, self.waited / seconds if seconds > 0 else 0.0)
        found = gather_object([own])
        return {
            "bytes_read": sum(number for number, _ in found), "waited": round(max(share for _, share in found), 4)
        }

    def line(self, accelerator: Accelerator) -> str:
        cost = self.of_all(accelerator)
        return (
            f"read {cost['bytes_read'] / 1e6:.1f} MB of photos and labels; "
            f"steps waited for data {cost['waited']:.1%} of their time"
        )
