"""The library that shifts clocks and fails writes: built when it is needed, controlled while processes run with it."""

import atexit
import functools
import mmap
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Literal, Self

_SOURCE = Path(__file__).with_name("faulty.c")
_CONTROL = struct.Struct("<qii")
_FAULTS = {"none": 0, "no space": 1, "device error": 2, "short writes": 3}
Fault = Literal["none", "no space", "device error", "short writes"]


def can_build() -> bool:
    """Whether there is a C compiler, and a system whose libraries can be preloaded."""
    return shutil.which("cc") is not None and Path("/proc/self/fd").exists()


@functools.cache
def library() -> Path:
    """The library, built once. Not for several threads, until it is there."""
    folder = Path(tempfile.mkdtemp(prefix="loadlens-faulty-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    library = folder / "faulty.so"
    command = ["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library), str(_SOURCE), "-ldl"]
    subprocess.run(command, check=True)
    return library


class Preload:
    """What is wrong for processes that are started with `environment`."""

    def __init__(self, control: Path, below: Path | None = None) -> None:
        """`control` is a file to be made; writes fail only `below` a folder."""
        control.write_bytes(_CONTROL.pack(0, 0, 0))
        with control.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), _CONTROL.size)
        self.environment = {"LD_PRELOAD": str(library()), "FAULTY_CONTROL": str(control)}
        if below is not None:
            self.environment["FAULTY_FOLDER"] = str(below.resolve())
        self._values = (0, 0, 0)

    def shift_clock(self, seconds: float) -> None:
        """The wall clock is so far ahead from now on; behind where negative."""
        self._put(round(seconds * 1000), *self._values[1:])

    def fail_writes(self, fault: Fault, per_mille: int = 1000) -> None:
        """So many of the writes fail from now on."""
        self._put(self._values[0], _FAULTS[fault], per_mille)

    def _put(self, *values: int) -> None:
        self._values = (values[0], values[1], values[2])
        self._shared[:] = _CONTROL.pack(*self._values)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._shared.close()
