"""Where the agent keeps its data unless told."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["default_spool_dir"]

_NAME = "loadlens-agent"
_VAR_LIB = Path("/var/lib")


def default_spool_dir(environ: Mapping[str, str], system: str = sys.platform, *, root: bool | None = None) -> Path:
    """The directory for data of the machine where the agent runs as root, otherwise that for state of its user.

    `root` is found out where it is None.
    """
    home = Path(environ.get("HOME") or Path.home())
    if system == "win32":
        return Path(environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / _NAME
    if root is None:
        root = os.geteuid() == 0 and os.access(_VAR_LIB, os.W_OK)
    if system == "darwin":
        return (Path("/") if root else home) / "Library" / "Application Support" / _NAME
    return (_VAR_LIB if root else Path(environ.get("XDG_STATE_HOME") or home / ".local" / "state")) / _NAME
