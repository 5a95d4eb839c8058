"""Commands as a person at a terminal sees them."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

__all__ = ["environment", "run_on_terminal"]

ROOT = Path(__file__).parents[2]


def environment(**more: str) -> dict[str, str]:
    """The environment without settings of ours, but for `more`."""
    return {name: value for name, value in os.environ.items() if not name.startswith("LOADLENS_")} | more


def run_on_terminal(url: str, *arguments: str, columns: int = 100, **variables: str) -> str:
    """What a terminal shows of `loadlens-analytics`, without colours; the exit code has to be 0."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "analytics", *arguments]
    shown = environment(LOADLENS_URL=url, COLUMNS=str(columns), TERM="xterm-256color", **variables)
    output = b""
    with subprocess.Popen(command, cwd=ROOT, env=shown, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        try:
            while part := os.read(ours, 65536):
                output += part
        except OSError:  # Linux reports the end of a pseudo-terminal as an error
            pass
        os.close(ours)
    assert process.returncode == 0, output
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.decode()).replace("\r\n", "\n")
