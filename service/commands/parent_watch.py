"""`python -m service.commands.parent_watch PARENT MODULE [arguments]`: `python -m MODULE` that ends with PARENT.

A parent that is killed cannot stop its children. On Linux the kernel then sends them SIGTERM; the wish for
it survives exec, so the program itself need not know.
"""

import os
import sys

_PR_SET_PDEATHSIG = 1
_SIGTERM = 15


def main(parent: int, arguments: list[str]) -> None:
    """Become `python -m` with `arguments`, ended by the kernel when `parent` ends; never returns."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _SIGTERM)
        if os.getppid() != parent:
            # It ended before we asked to be told.
            sys.exit(1)
    os.execv(sys.executable, [sys.executable, "-P", "-m", *arguments])  # noqa: S606 - there is nothing for a shell to do


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
