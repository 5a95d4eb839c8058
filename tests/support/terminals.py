"""Commands as a person at a terminal sees them."""

import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

__all__ = ["environment", "main_on_terminal", "run_on_terminal"]

ROOT = Path(__file__).parents[2]


def environment(**more: str) -> dict[str, str]:
    """The environment without settings of ours, but for `more`."""
    return {name: value for name, value in os.environ.items() if not name.startswith("LOADLENS_")} | more


def run_on_terminal(url: str, *arguments: str, columns: int = 100, **variables: str) -> str:
    """What a terminal shows of `loadlens-analytics`, without colours; the exit code has to be 0."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "analytics", *arguments]
    shown = environment(LOADLENS_URL=url, COLUMNS=str(columns), TERM="xterm-256color", **variables)
    with subprocess.Popen(command, cwd=ROOT, env=shown, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        output = _shown(ours)
    assert process.returncode == 0, output
    return _plain(output)


def main_on_terminal(main: Callable[[Sequence[str]], int], *arguments: str, columns: int) -> str:
    """The same of a program's `main` in this process, which takes no second for imports; sees no input."""
    ours, theirs = pty.openpty()
    variables = environment(COLUMNS=str(columns), TERM="xterm-256color")
    with ThreadPoolExecutor(1) as reading:
        output = reading.submit(_shown, ours)
        with open(theirs, "w", encoding="utf-8") as terminal, patch.dict(os.environ, variables, clear=True):
            with redirect_stdout(terminal), redirect_stderr(terminal):
                code = main(arguments)
    assert code == 0, output.result()
    return _plain(output.result())


def _shown(terminal: int) -> bytes:
    """All that is written to the other side of a pseudo-terminal, until that is closed."""
    output = b""
    try:
        while part := os.read(terminal, 65536):
            output += part
    except OSError:  # Linux reports the end of a pseudo-terminal as an error
        pass
    os.close(terminal)
    return output


def _plain(output: bytes) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.decode()).replace("\r\n", "\n")
