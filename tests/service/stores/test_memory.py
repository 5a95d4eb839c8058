"""Memory that nobody uses any more."""

import ctypes
import sys

import psutil
import pytest

from service.stores.memory import give_back


@pytest.mark.skipif(sys.platform != "linux", reason="the C library of Linux")
def test_what_was_freed_between_what_is_used_is_given_back() -> None:
    library = ctypes.CDLL(None)
    library.malloc.restype, library.free.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
    size, number = 4000, 25_000
    places = [library.malloc(size) for _ in range(number)]
    for place in places:
        ctypes.memset(place, 1, size)
    # The last one keeps the heap from ending before it.
    for place in places[:-1]:
        library.free(place)
    before = psutil.Process().memory_info().rss
    give_back()
    assert before - psutil.Process().memory_info().rss > size * number / 2
    library.free(places[-1])
