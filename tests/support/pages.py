"""A page as a person sees it, with what the browser had to say about it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, Page

__all__ = ["Seen", "opened"]


class Seen:
    """A page that is open, with its figures drawn."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        """Errors and warnings of the console, and errors that no script caught."""
        self.asked: list[str] = []
        """Everything that the page asked for."""
        page.on("console", lambda message: self._heard(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))

    def _heard(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(text)

    @property
    def drawn(self) -> int:
        """How many figures are drawn."""
        return self.page.locator(".plot svg.main-svg:first-of-type").count()


@contextlib.contextmanager
def opened(browser: Browser, page: Path | str, *, width: int = 1200, scheme: str = "light") -> Iterator[Seen]:
    """A file in a window of its own, which has no network; or the page at an address."""
    address = page.as_uri() if isinstance(page, Path) else page
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme=scheme,
        offline=isinstance(page, Path),
        reduced_motion="reduce",
    )  # type: ignore[call-overload]
    try:
        seen = Seen(context.new_page())
        seen.page.goto(address)
        seen.page.wait_for_selector("html[data-drawn]", timeout=90_000)
        yield seen
    finally:
        context.close()
