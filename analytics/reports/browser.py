"""PDF and PNG of a page, made by a Chromium that is installed.

It is steered over its DevTools protocol by a pair of pipes, without a port that others could reach. It has no network,
a profile of its own in a folder that is removed, and it is ended whatever happens.
"""

import base64
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
_PATIENCE_S = 60.0
_DRAWN = """new Promise((resolve) => {
  const look = () => "drawn" in document.documentElement.dataset ? resolve(true) : setTimeout(look, 20);
  look();
})"""
_WIDTH, _HEIGHT, _PAPER_WIDTH, _SCALE, _TALLEST = 1200, 900, 690, 1.0, 16_000
Look = tuple[int, float]
"""Width of the window in pixels, and how many pixels of the picture each of these becomes."""


class BrowserError(Exception):
    """No picture could be made; the message says why, and what would help."""


def print_pdf(page: str) -> bytes:
    """The page on A4. Raises BrowserError."""
    with _opened(page, _PAPER_WIDTH) as tab:
        answer = tab.ask("Page.printToPDF", printBackground=True, preferCSSPageSize=True, generateTaggedPDF=True)
        return base64.b64decode(answer["data"])


def photograph(page: str, look: Look = (_WIDTH, _SCALE)) -> bytes:
    """The whole page as one PNG, cut below 16,000 pixels of height. Raises BrowserError."""
    width, scale = look
    with _opened(page, width) as tab:
        size = tab.ask("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": width, "height": min(size["height"], _TALLEST), "scale": scale}
        answer = tab.ask("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        return base64.b64decode(answer["data"])


def _chromium() -> str:
    if sys.platform == "win32":
        raise BrowserError("PDF and PNG are not made on Windows: write --format html, and print it from a browser")
    for name in _NAMES:
        if path := shutil.which(name):
            return path
    raise BrowserError(
        "PDF and PNG are made by Chromium, which is not installed: on Debian `apt-get install chromium`, on macOS "
        "`brew install --cask chromium`; or write --format html, and print it from a browser"
    )


@contextmanager
def _opened(page: str, width: int) -> Iterator["_Tab"]:
    """The page in a browser, with its figures drawn."""
    with tempfile.TemporaryDirectory(prefix="loadlens-report-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "report.html"
        path.write_text(page, encoding="utf-8")
        with _running(folder) as tab:
            tab.attach()
            tab.ask("Network.enable")
            tab.ask(
                "Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0
            )
            tab.ask(
                "Emulation.setDeviceMetricsOverride", width=width, height=_HEIGHT, deviceScaleFactor=1, mobile=False
            )
            tab.ask("Page.navigate", url=path.as_uri())
            tab.wait_for("Page.loadEventFired")
            tab.ask("Runtime.evaluate", expression=_DRAWN, awaitPromise=True)
            yield tab


@contextmanager
def _running(folder: str) -> Iterator["_Tab"]:
    program = _chromium()
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    arguments = [
        "--headless", "--remote-debugging-pipe", f"--user-data-dir={folder}/profile", "--disable-gpu", "--no-first-run",
        "--disable-extensions", "--disable-background-networking", "--disable-dev-shm-usage", "--hide-scrollbars",
        "--disable-breakpad", "--disable-crash-reporter",
    ]  # fmt: skip
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        # Chromium does not run as root with its sandbox; as anybody else it keeps it.
        arguments.append("--no-sandbox")
    environment = {**os.environ, "HOME": folder, "XDG_CONFIG_HOME": folder, "XDG_CACHE_HOME": folder}
    # The protocol wants its pipes as 3 and 4.
    theirs_in, theirs_out = _moved_up(theirs_in), _moved_up(theirs_out)
    actions: list[tuple[Any, ...]] = [(os.POSIX_SPAWN_DUP2, theirs_in, 3), (os.POSIX_SPAWN_DUP2, theirs_out, 4)]
    actions += [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
    process = os.posix_spawn(program, [program, *arguments], environment, file_actions=actions)
    os.close(theirs_in)
    os.close(theirs_out)
    # Whoever waits on the pipe is freed by the end of the process.
    alarm = threading.Timer(_PATIENCE_S, os.kill, (process, signal.SIGKILL))
    alarm.start()
    try:
        with open(ours_in, "rb") as answers, open(ours_out, "wb", buffering=0) as questions:
            yield _Tab(questions, answers)
    finally:
        alarm.cancel()
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def _moved_up(descriptor: int) -> int:
    """The same file under a number of at least 10."""
    import fcntl

    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(descriptor)
    return moved


class _Tab:
    """One page of the browser: questions and answers, as JSON with a NUL behind each."""

    def __init__(self, questions: Any, answers: Any) -> None:
        self._questions = questions
        self._answers = answers
        self._number = 0
        self._session: str | None = None
        self._events: set[str] = set()
        self._rest = b""

    def attach(self) -> None:
        """Open an empty page, and talk to it from now on."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.ask("Page.enable")

    def ask(self, method: str, **parameters: Any) -> Any:
        """The answer to a command. Raises BrowserError."""
        self._number += 1
        question = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            question["sessionId"] = self._session
        try:
            self._write(json.dumps(question).encode() + b"\0")
        except OSError as error:
            raise BrowserError(f"Chromium ended before it was done ({error.strerror})") from None
        while (message := self._message()).get("id") != self._number:
            self._events.add(message.get("method", ""))
        if "error" in message:
            raise BrowserError(f"Chromium refused {method}: {message['error'].get('message')}")
        return message["result"]

    def _write(self, data: bytes) -> None:
        while data:
            data = data[self._questions.write(data) :]

    def wait_for(self, event: str) -> None:
        """Return when the event has come, if it has not yet."""
        while event not in self._events:
            self._events.add(self._message().get("method", ""))

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = self._answers.read1(1 << 20)
            if not part:
                raise BrowserError(
                    "Chromium ended before it was done, or took more than a minute; does it start with --headless?"
                )
            self._rest += part
        text, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message
