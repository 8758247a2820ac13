"""What a program that runs the loop asks of its memory allocator."""

import ctypes
import os
import platform
import threading
import time

from PIL import Image

# Parameters of glibc's mallopt(3), from malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -2, -3, -8
MEGABYTE = 2**20
KEPT = 256 * MEGABYTE  # of freed memory
KEPT_BY_SERVERS = 128 * MEGABYTE  # as much as photos of up to 512 pixels free
PRIMITIVES = "256"  # of oneDNN, for each layer and size of a picture one: it keeps 1,024, some 200 MB, by itself
LOOK_EVERY = 0.05  # seconds
PICTURE_BLOCK = 64 * MEGABYTE  # PIL's own are of 16 MB


def keep_freed_memory() -> None:
    """Keep up to 256 MB of freed memory for the next allocation instead of returning it to the kernel.

    The loop allocates and frees the same few megabytes over and over. Where glibc gives them back each time, a fifth of
    the loop's time on a CPU goes into getting them anew, page by page (docs/performance.md). It is a setting of the
    whole process, so programs make it, the library does not. Does nothing where there is no glibc.
    """
    if not has_glibc():
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(M_MMAP_THRESHOLD, 32 * MEGABYTE)  # the highest it takes
    mallopt(M_TRIM_THRESHOLD, KEPT)
    mallopt(M_TOP_PAD, 16 * MEGABYTE)


def bound_freed_memory() -> None:
    """`keep_freed_memory` for a server, which photos of ever other sizes reach on ever other threads.

    The limit there holds for the end of each arena, of which glibc makes several a core; what is freed between blocks
    in use is kept without limit (docs/performance.md). Here all threads share one arena, and a thread in the background
    returns what is free whenever that is more than 128 MB. Of PIL's pictures, those of 8 megapixels or more become
    single blocks, which glibc returns as soon as they are freed. oneDNN keeps what it compiled for the last few sizes
    only. To be called before torch is imported and before other threads are started. Where there is no glibc, only the
    last holds; without glibc 2.33 nothing is given back in the background.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", PRIMITIVES)
    if not has_glibc():
        return
    keep_freed_memory()
    Image.core.set_block_size(PICTURE_BLOCK)
    libc = ctypes.CDLL(None)
    libc.mallopt(M_ARENA_MAX, 1)
    if hasattr(libc, "mallinfo2"):
        libc.mallinfo2.restype = MallocInfo
        threading.Thread(target=_give_back, args=[libc], name="gives back freed memory", daemon=True).start()


class MallocInfo(ctypes.Structure):
    """mallinfo2(3), bytes; uordblks and hblkhd are in use."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    ]


def _give_back(libc: ctypes.CDLL) -> None:
    def not_in_use() -> int:
        """Of what is resident: what was freed, and what never came from malloc, as code."""
        info = libc.mallinfo2()
        return resident_bytes() - info.uordblks - info.hblkhd

    while True:
        libc.malloc_trim(0)  # other threads run on meanwhile
        others = not_in_use()  # for what was freed has been returned
        while not_in_use() < others + KEPT_BY_SERVERS:
            time.sleep(LOOK_EVERY)


def resident_bytes() -> int:
    """What this process holds in memory now; Linux alone tells."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def has_glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"
