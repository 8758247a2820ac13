"""How the threads of a program wait for each other."""

import os
import sys

# Turns of a waiting loop. The default, 300,000, is about a millisecond in which a thread keeps its core from others;
# tens of microseconds are enough where the threads have cores of their own (docs/performance.md has times).
SPINCOUNT = "10000"


def openmp_settings() -> dict[str, str]:
    """Environment variables that let threads of GNU's OpenMP, which torch brings on Linux, soon sleep while they wait
    for each other.

    By default they keep their cores busy meanwhile. Where other programs want these cores, that takes them from the
    very thread that is waited for, and a photo takes several times as long. It is a setting of the whole process, to be
    made before torch is imported, so programs make it, the library does not. Empty where the user has made a choice, or
    it is too late.
    """
    if "torch" in sys.modules or {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        return {}
    return {"GOMP_SPINCOUNT": SPINCOUNT}
