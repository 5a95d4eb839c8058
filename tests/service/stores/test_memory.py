"""Memory that nobody uses any more."""

import ctypes
import os
import subprocess
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


_MAPPED = """
import ctypes
from service.stores.memory import keep_little

class MallInfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")]

library = ctypes.CDLL(None)
library.mallinfo.restype, library.malloc.restype = MallInfo, ctypes.c_void_p
library.free.argtypes = (ctypes.c_void_p,)
keep_little()
size = 8 << 20
library.free(library.malloc(size))
before = library.mallinfo().hblkhd
library.malloc(size)
print(library.mallinfo().hblkhd - before >= size)
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="the C library of GNU"
)
def test_large_arrays_are_by_themselves_also_after_some_were_freed() -> None:
    done = subprocess.run([sys.executable, "-c", _MAPPED], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "True\n"


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="the C library of GNU"
)
@pytest.mark.parametrize(
    ("said", "expected"), [({}, "system"), ({"ARROW_DEFAULT_MEMORY_POOL": "mimalloc"}, "mimalloc")]
)
def test_arrow_takes_memory_where_it_is_given_back_unless_the_environment_says_otherwise(
    said: dict[str, str], expected: str
) -> None:
    program = (
        "from service.stores.memory import keep_little; keep_little(); import pyarrow; "
        "print(pyarrow.default_memory_pool().backend_name)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "ARROW_DEFAULT_MEMORY_POOL"} | said
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120, env=environment
    )
    assert done.stdout == f"{expected}\n"
