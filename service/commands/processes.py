"""Programs run beside each other as children, and ended in order."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

_LOOK_EVERY_S = 0.2


class ChildEnded(Exception):
    """A child ended though nobody asked it to; the message says which and how."""


class Child:
    """`python -m module` with arguments, running.

    It stands in a session of its own: a Ctrl-C in the terminal reaches its parent only, who ends it in turn.
    """

    def __init__(
        self, name: str, module: str, arguments: Sequence[str] = (), environ: Mapping[str, str] = os.environ
    ) -> None:
        self.name = name
        watch = ("service.commands.parent_watch", str(os.getpid())) if os.name == "posix" else ()
        self._process = subprocess.Popen(
            # -P: a file of the same name in the folder where this was started is none of ours.
            [sys.executable, "-P", "-m", *watch, module, *arguments],
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def ended(self) -> bool:
        """Whether it does not run any more."""
        return self._process.poll() is not None

    def check(self) -> None:
        """Raises ChildEnded where it does not run any more."""
        code = self._process.poll()
        if code is not None:
            seen = "" if code < 0 else "; see above"
            raise ChildEnded(f"the {self.name} ended ({_how(code)}){seen}")

    def stop(self, patience_s: float) -> str:
        """Ask it to end, and kill it where it has not after `patience_s`.

        Returns what went wrong, or nothing.
        """
        if self.ended:
            return ""
        self._process.terminate()
        try:
            code = self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()
            return f"the {self.name} did not end within {patience_s:.0f} s and was killed"
        return f"the {self.name} did not end well ({_how(code)})" if code not in (0, -signal.SIGTERM) else ""

    def kill(self) -> None:
        """End it at once, without waiting; may be called by a signal's handler."""
        self._process.kill()


def wait_for_end(children: Sequence[Child]) -> None:
    """Wait until one of `children` ends; then raises ChildEnded."""
    while True:
        for child in children:
            child.check()
        time.sleep(_LOOK_EVERY_S)


def _how(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
