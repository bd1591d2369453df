"""Memory that allocators keep after it was freed."""

import ctypes
import sys


def release():
    """Returns freed memory to the system. Conversions free much more than they leave, and the C library keeps it."""
    if sys.platform == "linux":
        # Only glibc has this function.
        getattr(ctypes.CDLL(None), "malloc_trim", lambda _: 0)(0)
