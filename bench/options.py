"""What benchmarks can be told, all in one way: how much to measure, on what, where; `--tiny`, to see that they run."""

import argparse
import signal
import tempfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from data import FLEET, ROOT

_SHARED: dict[str, dict[str, Any]] = {
    "--only": {"metavar": "TEXT", "default": "", "help": "measure only what has this in its name"},
    "--folder": {"type": Path, "help": "where data is kept meanwhile (default: the temporary folder)"},
    "--keep": {"type": Path, "metavar": "DIR", "help": "keep what is loaded there, and use it if it is there"},
    "--beside": {"type": Path, "metavar": "TREE", "help": "another work tree, whose service is measured as well"},
    "--fleet": {
        "type": Path, "metavar": "FILE", "default": FLEET, "help": "load of real hosts, Parquet; made up without",
    },
}  # fmt: skip


_AGAIN_S = 5.0
"""A benchmark that did not notice its deadline is told again after so long."""


class Options(argparse.ArgumentParser):
    """The command line of a benchmark, which is a program of its own.

    Every benchmark takes `--tiny` (all of it, on as little as there can be: what CI runs) and `--deadline`: whatever it
    waits for, it gives up then, stops what it has started and says where it was.
    """

    def __init__(self, description: str | None) -> None:
        super().__init__(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        self._tiny: dict[str, Any] = {"fleet": None}
        self.add_argument("--tiny", action="store_true", help="see that everything runs; the figures mean nothing")
        self.size("--deadline", 7200, tiny=240, help="seconds after which it gives up")

    def size(self, flag: str, full: float, *, tiny: float, help: str) -> None:  # noqa: A002 - argparse's word
        """A number that says how much is measured, and the one that stands for it with `--tiny`."""
        self.data(flag, full, tiny=tiny, help=help, type=type(full))

    def data(self, flag: str, full: Any, *, tiny: Any, **settings: Any) -> None:
        """An option of any type, and the value that stands for its default with `--tiny`."""
        shown = f"{settings.pop('help')} (default: %(default)s)"
        self._tiny[self.add_argument(flag, default=full, help=shown, **settings).dest] = tiny

    def shared(self, *flags: str) -> None:
        """Options that several benchmarks have."""
        for flag in flags:
            self.add_argument(flag, **_SHARED[flag])

    def parse(self) -> argparse.Namespace:
        """The options; from here on the deadline counts."""
        if self.parse_args().tiny:
            self.set_defaults(**self._tiny)
        options = self.parse_args()
        _give_up_after(options.deadline)
        return options


def scratch(options: argparse.Namespace) -> AbstractContextManager[str]:
    """The name of a folder for data: the one to keep, or one that is gone afterwards."""
    kept: Path | None = getattr(options, "keep", None)
    if kept:
        return nullcontext(str(kept.resolve()))
    return tempfile.TemporaryDirectory(dir=getattr(options, "folder", None), prefix="loadlens-bench-")


def trees(options: argparse.Namespace) -> dict[str, Path]:
    """The work trees whose service is measured, by name: this one, and the one to measure beside it."""
    return ({"before": options.beside.resolve()} if options.beside else {}) | {"now": ROOT}


def _give_up_after(seconds: int) -> None:
    """Raise TimeoutError in the main thread then, and at SIGTERM: what was started is stopped on the way out.

    It is raised again each few seconds until `processes.running` has seen it: asyncio only logs what is raised within
    one of its callbacks.
    """

    def give_up(number: int, _: FrameType | None) -> NoReturn:
        raise TimeoutError(f"gave up after {seconds} s" if number == signal.SIGALRM else "stopped by SIGTERM")

    signal.signal(signal.SIGALRM, give_up)
    signal.signal(signal.SIGTERM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN_S)
