"""Memory that nobody uses any more, given back to the system."""

import ctypes
import sys

from contract.later import is_imported


def give_back() -> None:
    """Give back what Arrow and the C library keep for later. It takes some 10 ms, in which no lock of Python's is held.

    A flush of a million windows needs memory that the next one needs again, minutes later; between them are questions.
    """
    if is_imported("pyarrow"):
        import pyarrow as pa

        pa.default_memory_pool().release_unused()
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):  # not in musl
        library.malloc_trim(0)
