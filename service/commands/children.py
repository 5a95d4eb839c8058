"""Programs run beside each other as children of `loadlens-service up`, ended in order, with tokens of their own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from service.control.audit import Actor, Audit
from service.control.data_lock import DataLock
from service.control.database import ControlDatabase
from service.credentials.identity import EVERYONE, Role
from service.credentials.token import any_kept
from service.credentials.tokens import Tokens, end_of

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


_UP = "loadlens-service up"
_DEMO_LIFETIME = "1h"


def own_token(folder: Path, role: Role, scope: str = EVERYONE, *, asked: bool = False) -> str | None:
    """A token in the service's data folder, the same one with another text if there was one; None where none is asked.

    `asked` says that the service asks for one though none is kept. An agent's has no end; another's has. Raises
    DataFolderInUse and ControlError.
    """
    if not asked and not any_kept(folder / "control.db"):
        return None
    with DataLock(folder):
        control = ControlDatabase(folder / "control.db")
        try:
            return _made(Tokens(control, Audit(control)), role, scope)
        finally:
            control.close()


def _made(tokens: Tokens, role: Role, scope: str) -> str:
    actor = Actor("offline", "", _UP)
    expires_ms = None if role == "agent" else end_of(_DEMO_LIFETIME)
    for token in tokens.all():
        if (token.name, token.role, token.scope) == (_UP, role, scope) and token.revoked_ms is None:
            tokens.change(token.id, expires_ms=expires_ms, actor=actor)
            return tokens.rotate(token.id, overlap_ms=0, actor=actor).text
    return tokens.create(_UP, role, scope, expires_ms=expires_ms, actor=actor).text
