"""What a program that runs the loop asks of its memory allocator."""

import ctypes
import platform

# Parameters of glibc's mallopt(3), from malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
MEGABYTE = 2**20


def keep_freed_memory() -> None:
    """Keep up to 256 MB of freed memory for the next allocation instead of returning it to the kernel.

    The loop allocates and frees the same few megabytes over and over. Where glibc gives them back each time, a fifth of
    the loop's time on a CPU goes into getting them anew, page by page (docs/performance.md). It is a setting of the
    whole process, so programs make it, the library does not. Does nothing where there is no glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(M_MMAP_THRESHOLD, 32 * MEGABYTE)  # the highest it takes
    mallopt(M_TRIM_THRESHOLD, 256 * MEGABYTE)
    mallopt(M_TOP_PAD, 16 * MEGABYTE)
