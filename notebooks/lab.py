"""JupyterLab on the notebooks, with a service to ask: the one that runs, or one with demo data that is started.

`make notebooks` runs it. Arguments go to JupyterLab.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

URL = "http://localhost:8888"
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""What asks this machine: a proxy of the environment would not find the way back."""
FOLDER = Path(__file__).resolve().parent
START_S = 300.0
LOOK_EVERY_S = 0.2


def main() -> int:
    """Start what is missing, then JupyterLab; returns its exit code."""
    # JupyterLab likes the port of the service; it takes the next free one.
    lab = [sys.executable, "-m", "jupyterlab", "--port", "8890", "--notebook-dir", str(FOLDER), *sys.argv[1:]]
    try:
        with service():
            # Ctrl-C is JupyterLab's, which asks whether it is meant.
            signal.signal(signal.SIGINT, lambda *_: None)
            return subprocess.run(lab, check=False).returncode
    except KeyboardInterrupt:
        return 130
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


@contextlib.contextmanager
def service() -> Iterator[None]:
    """The service at URL: one that runs already stays as it is; one that is started here ends with the context."""
    if ready():
        print(f"The notebooks ask the service that runs on {URL}.", flush=True)
        yield
        return
    command = [sys.executable, "-P", "-m", "service", "up", "--demo", "--no-agent"]
    with subprocess.Popen(command, cwd=FOLDER.parent, start_new_session=os.name == "posix") as process:
        try:
            await_demo(process)
            yield
        finally:
            process.terminate()


def await_demo(process: "subprocess.Popen[bytes]") -> None:
    """Return when the service has hosts. Raises RuntimeError where it ends instead, or takes too long."""
    end = time.monotonic() + START_S
    while not has_hosts():
        if process.poll() is not None:
            raise RuntimeError("the service with the demo data did not start; see above")
        if time.monotonic() > end:
            raise RuntimeError(f"the demo data were not loaded within {START_S:.0f} s")
        time.sleep(LOOK_EVERY_S)


def ready() -> bool:
    """Whether a service answers."""
    return asked("/readyz") is not None


def has_hosts() -> bool:
    """Whether the service knows hosts."""
    users = asked("/api/v1/users")
    return users is not None and b'"user_id"' in users


def asked(path: str) -> bytes | None:
    """What the service answers; None without an answer."""
    try:
        with DIRECT.open(f"{URL}{path}", timeout=5) as answer:
            content: bytes = answer.read()
            return content
    except (urllib.error.URLError, OSError):
        return None


if __name__ == "__main__":
    sys.exit(main())
