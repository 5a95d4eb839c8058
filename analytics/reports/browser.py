"""PDF and PNG of a page, made by a Chromium that is installed and driven by choreographer.

Choreographer speaks Chrome's DevTools protocol over a pair of pipes, without a port that others could reach, and ends
the browser whatever happens. The browser has no network, and a profile of its own in a folder that is removed.
"""

import asyncio
import base64
import os
import shutil
import sys
import tempfile
from collections.abc import Coroutine, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from choreographer import Tab

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
_PATIENCE_S = 60.0
_DRAWN = """new Promise((resolve) => {
  const look = () => "drawn" in document.documentElement.dataset ? resolve(true) : setTimeout(look, 20);
  look();
})"""
_WIDTH, _HEIGHT, _PAPER_WIDTH, _SCALE, _TALLEST = 1200, 900, 690, 1.0, 16_000
_LESS_SAFE = ("--disable-web-security", "--allow-file-access-from-files")
"""Choreographer's flags for figures of its users' own; a report shows names that come from elsewhere."""
UNUSED_FEATURES = (
    "SpareRendererForSitePerProcess",
    "WebUIOmniboxAimPopup",
    "WebUIOmniboxFullPopup",
    "WebUIOmniboxPopup",
)
"""Pages of Chromium's own for its address bar, and processes kept ready: a second of CPU for each new page, unseen."""
_FLAGS = (
    "--disable-background-networking",
    "--disable-crash-reporter",
    "--hide-scrollbars",
    f"--disable-features={','.join(UNUSED_FEATURES)}",
)
Look = tuple[int, float]
"""Width of the window in pixels, and how many pixels of the picture each of these becomes."""


class BrowserError(Exception):
    """No picture could be made; the message says why, and what would help."""


def print_pdf(page: str) -> bytes:
    """The page, HTML with its figures to be drawn, on A4. Raises BrowserError."""

    async def printed(tab: "Tab") -> bytes:
        # The outline is of the headings, which a tagged PDF has.
        answer = await _ask(
            tab, "Page.printToPDF", printBackground=True, preferCSSPageSize=True, generateTaggedPDF=True,
            generateDocumentOutline=True,
        )  # fmt: skip
        return base64.b64decode(answer["data"])

    return _run(_opened(page, _PAPER_WIDTH, printed))


def photograph(page: str, look: Look = (_WIDTH, _SCALE)) -> bytes:
    """The whole page as one PNG, cut below 16,000 pixels of height. Raises BrowserError."""
    width, scale = look

    async def photographed(tab: "Tab") -> bytes:
        size = (await _ask(tab, "Page.getLayoutMetrics"))["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": width, "height": min(size["height"], _TALLEST), "scale": scale}
        answer = await _ask(tab, "Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        return base64.b64decode(answer["data"])

    return _run(_opened(page, width, photographed))


def _run(work: Coroutine[Any, Any, bytes]) -> bytes:
    """What `work` returns, on an event loop of its own: a notebook has one that runs already."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


async def _opened(page: str, width: int, use: Any) -> bytes:
    """What `use` makes of the page, open in a browser with its figures drawn."""
    import choreographer
    from choreographer.browsers import BrowserClosedError, BrowserFailedError
    from choreographer.channels import ChannelClosedError

    program = _chromium()
    with tempfile.TemporaryDirectory(prefix="loadlens-report-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "report.html"
        path.write_text(page, encoding="utf-8")
        # Chromium does not run as root with its sandbox; as anybody else it keeps it.
        sandbox = not (hasattr(os, "geteuid") and os.geteuid() == 0)
        try:
            async with (
                asyncio.timeout(_PATIENCE_S),
                choreographer.Browser(
                    program, browser_cls=_browser_class(folder), enable_sandbox=sandbox, enable_extensions=False
                ) as browser,
            ):
                tab = await browser.create_tab("about:blank")
                await _show(tab, path, width)
                made: bytes = await use(tab)
                return made
        except TimeoutError:
            raise BrowserError("Chromium took more than a minute; does it start with --headless?") from None
        except (BrowserClosedError, BrowserFailedError, ChannelClosedError) as error:
            raise BrowserError(
                f"Chromium ended before it was done; does it start with --headless? ({type(error).__name__})"
            ) from None


async def _show(tab: "Tab", path: Path, width: int) -> None:
    """Load the file, without a network, and wait until its figures are drawn."""
    await _ask(tab, "Network.enable")
    await _ask(
        tab, "Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0
    )
    await _ask(
        tab, "Emulation.setDeviceMetricsOverride", width=width, height=_HEIGHT, deviceScaleFactor=1, mobile=False
    )
    await _ask(tab, "Page.enable")
    loaded = tab.subscribe_once("Page.loadEventFired")
    await _ask(tab, "Page.navigate", url=path.as_uri())
    await loaded
    await _ask(tab, "Runtime.evaluate", expression=_DRAWN, awaitPromise=True)


async def _ask(tab: "Tab", method: str, **parameters: Any) -> Any:
    """The result of a command of the DevTools protocol. Raises BrowserError where it is refused."""
    answer = await tab.send_command(method, parameters)
    if "error" in answer:
        raise BrowserError(f"Chromium refused {method}: {answer['error'].get('message')}")
    return answer["result"]


def _browser_class(folder: str) -> Any:
    """Choreographer's Chromium with our flags, and its home in `folder`, so that nothing of it stays."""
    from choreographer.browsers import Chromium

    class ReportChromium(Chromium):
        def get_cli(self) -> Sequence[str]:
            return [*(flag for flag in super().get_cli() if flag not in _LESS_SAFE), *_FLAGS]

        def get_env(self) -> MutableMapping[str, str]:
            return {**super().get_env(), "HOME": folder, "XDG_CONFIG_HOME": folder, "XDG_CACHE_HOME": folder}

    return ReportChromium


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
