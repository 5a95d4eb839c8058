"""Memory that nobody uses any more, given back to the system."""

import ctypes
import os
import sys

from contract.later import is_imported

_ARENAS, _MAPPED_BYTES, _KEPT_BYTES = 2, 2 << 20, 4 << 20
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""`mallopt(3)`."""


def keep_little() -> None:
    """Have the C library keep little for later, where it is glibc: to be called before there are threads.

    Of itself it has eight heaps a core, and puts arrays of up to 32 MB into them once some were freed: what lives
    between them then keeps the rest. In two heaps, and arrays of 2 MiB and more each by itself, there is less of that.
    Arrow is to take its memory there too, unless the environment says otherwise: its own allocator keeps what threads
    other than the one that asks for it back have freed.
    """
    if sys.platform != "linux" or not hasattr(library := ctypes.CDLL(None), "gnu_get_libc_version"):
        return
    for name, value in (
        (_M_ARENA_MAX, _ARENAS), (_M_MMAP_THRESHOLD, _MAPPED_BYTES), (_M_TRIM_THRESHOLD, _KEPT_BYTES),
    ):  # fmt: skip
        library.mallopt(name, value)
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # read when Arrow is imported


def give_back() -> None:
    """Give back what Arrow and the C library keep for later. It takes some 10 ms, in which no lock of Python's is held.

    A flush of a million windows needs memory that the next one needs again, minutes later; between them are questions.
    """
    if is_imported("pyarrow"):
        import pyarrow as pa

        pa.default_memory_pool().release_unused()
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):  # not in musl
        library.malloc_trim(0)
