"""Keeps memory flat where threads come and go: each new connection of a camera has a thread of its own.

The C library gives threads separate heaps, up to eight per processor, and each keeps what its largest moment took. With
cameras that are lost and opened again, memory grows until all heaps have been used: by a fifth in the soak test. With two
heaps it stays as it is. What a camera took that is no more lies between what the others have, and goes back to the system
only when it is asked for.
"""

from __future__ import annotations

import ctypes
import platform

_M_ARENA_MAX = -8  # of mallopt in glibc's <malloc.h>
_HEAPS = 2


def limit_heaps() -> bool:
    """Have the threads of this process share a few heaps, for as long as it runs; whether the C library can do that.

    The environment variable MALLOC_ARENA_MAX does the same from outside.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    return bool(ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _HEAPS))


def give_back() -> bool:
    """Give memory that is free back to the system, which takes milliseconds; whether the C library can do that."""
    if platform.libc_ver()[0] != "glibc":
        return False
    ctypes.CDLL(None).malloc_trim(0)
    return True
