"""How threads share one interpreter: turns, priorities, garbage."""

import gc
import os
import subprocess
import sys
import threading
import weakref

import pytest

from service.interpreter import collect, give_way


class Knot:
    """Garbage once nobody else knows it, though it is counted as in use."""

    def __init__(self) -> None:
        self.own = self


@pytest.fixture(autouse=True)
def nothing_looks_for_garbage_of_itself() -> object:
    gc.disable()
    yield
    gc.unfreeze()
    gc.enable()


def test_garbage_that_came_since_is_freed() -> None:
    collect()
    seen = weakref.ref(Knot())
    assert seen() is not None
    collect()
    assert seen() is None


def test_what_was_in_use_is_looked_at_again_with_everything() -> None:
    knot = Knot()
    seen = weakref.ref(knot)
    collect()
    del knot
    collect()
    assert seen() is not None
    collect(everything=True)
    assert seen() is None


_LOOKED_FOR = """
import gc, sys, threading, weakref
from service.interpreter import share_it

class Knot:
    def __init__(self):
        self.own = self

share_it()
found = threading.Event()
kept = weakref.finalize(Knot(), found.set)
print(found.wait(60), sys.getswitchinterval() < 0.001)
"""


def test_a_process_frees_its_garbage_and_switches_often() -> None:
    done = subprocess.run([sys.executable, "-c", _LOOKED_FOR], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "True True\n"


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux")
def test_a_thread_that_gives_way_is_the_only_one() -> None:
    found: list[int] = []

    def work() -> None:
        give_way()
        found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [min(before + 5, 19)]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before
