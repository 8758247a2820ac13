"""Several processes: whether as many run together as were asked for, since accelerate makes them one where a setting is
missing; and what the first of them says for all."""

import os
from collections.abc import Sequence

from fbinpaint.errors import InputError, first_of, printable


def check_processes(number: int) -> None:
    """Raises InputError if each of several processes, or one in the place of several, would do all of the work alone.

    number: of the processes that have found each other
    """
    asked = os.environ.get("WORLD_SIZE")
    if number == 1 and asked is not None and int(asked) > 1:
        raise InputError(
            f"{asked} processes were started (WORLD_SIZE) but each would work alone: no GPU was found; on CPUs set "
            "ACCELERATE_USE_CPU=true"
        )
    # What accelerate's launcher leaves behind where it was asked for several and starts one.
    if asked is None and "MASTER_ADDR" in os.environ and "ACCELERATE_MIXED_PRECISION" in os.environ:
        raise InputError(
            "accelerate started one process where several were asked for; on CPUs start them with "
            "ACCELERATE_USE_CPU=true torchrun --standalone --nproc_per_node N (for one process alone, unset "
            "MASTER_ADDR)"
        )


def print_note(lines: Sequence[str]) -> None:
    """Prints the first of lines that are alike, if there is one, in the first of the processes that a launcher started.
    """
    if lines and os.environ.get("RANK", "0") == "0":
        print(printable(f"note: {first_of(lines)}"))
