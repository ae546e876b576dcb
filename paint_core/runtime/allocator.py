"""The memory allocator of the process: what a forward pass frees, the next one gets back without asking the kernel.

A forward on the CPU allocates and frees tens of megabytes for every layer. glibc returns such memory to the kernel at
once, and getting it back costs a page fault for every 4 KiB. Whether that happens depends on what else the process did
before. On two cores the same search for alpha took 5.3 s without page faults and 7.2 s with 1.35 million of them.
"""

from __future__ import annotations

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_KEPT_BYTES = 1 << 30
_LARGEST_OLD_GLIBC_TAKES = 32 << 20


def keep_freed_memory() -> bool:
    """Tells the allocator of this process to keep up to 1 GiB of freed memory; False if it is not glibc's.

    For programs, not for libraries: it affects the whole process. The environment variables
    `MALLOC_TRIM_THRESHOLD_` and `MALLOC_MMAP_THRESHOLD_` set the same values (mallopt(3)).
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    is_taken = mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES) or mallopt(_M_MMAP_THRESHOLD, _LARGEST_OLD_GLIBC_TAKES)
    return bool(is_taken and mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES))
