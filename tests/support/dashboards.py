"""A page of the dashboard as a person uses it, with what the browser had to say about it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Browser, Page, expect
from playwright.sync_api import TimeoutError as TimedOut

from tests.support.running import RunningService

__all__ = ["Dashboard", "opened", "signed_in"]

_DEADLINE_MS = 90_000
_AGAIN_MS = 10_000
expect.set_options(timeout=_DEADLINE_MS)


class Dashboard:
    """A page that is open."""

    def __init__(self, page: Page, service: RunningService) -> None:
        self.page = page
        self.service = service
        self.complaints: list[str] = []
        """Errors and warnings of the console, and errors that no script caught."""
        self.asked: list[str] = []
        page.on("console", lambda message: self._heard(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))
        page.set_default_timeout(_DEADLINE_MS)

    def _heard(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(text)

    def go(self, path: str) -> "Dashboard":
        """Open a view, and wait until it shows what it has."""
        self.page.goto(self.service.url + path)
        return self.settled(urlsplit(path).path)

    def settled(self, path: str) -> "Dashboard":
        """Wait until the view of a path shows what it has."""
        self.page.wait_for_selector(f'html[data-shown="{path}"]')
        return self

    def typed(self, keys: str, path: str) -> "Dashboard":
        """Press the keys that lead to a path, again where the host stood still between them."""
        for _ in range(_DEADLINE_MS // _AGAIN_MS):
            for key in keys:
                self.page.keyboard.press(key)
            with contextlib.suppress(TimedOut):
                self.page.wait_for_selector(f'html[data-shown="{path}"]', timeout=_AGAIN_MS)
                return self
        return self.settled(path)

    @property
    def parameters(self) -> dict[str, list[str]]:
        """Those of the address."""
        return parse_qs(urlsplit(self.page.url).query)

    def card(self, title: str) -> Any:
        """The card with this title."""
        return self.page.locator("section.card").filter(has=self.page.get_by_role("heading", name=title, exact=True))

    def rows(self, card: str) -> list[list[str]]:
        """The cells of a card's first table."""
        rows = self.card(card).locator("table").first.locator("tbody tr")
        return rows.evaluate_all("rows => rows.map(row => [...row.cells].map(cell => cell.innerText.trim()))")  # type: ignore[no-any-return]

    def tile(self, label: str) -> str:
        """The value of a tile."""
        tile = self.page.locator(".tile").filter(has=self.page.locator("dt", has_text=label)).first
        return tile.locator("dd").first.inner_text()

    def drawn(self, card: str) -> int:
        """How many pixels of a card's first canvas are not empty."""
        script = """canvas => {
          const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
          let found = 0;
          for (let at = 3; at < data.length; at += 4) found += data[at] > 0;
          return found;
        }"""
        return int(self.card(card).locator("canvas").first.evaluate(script))

    def coloured(self, card: str) -> int:
        """How many pixels of a card's first canvas are of a colour, which grid and numbers have none of."""
        script = """canvas => {
          const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
          let found = 0;
          for (let at = 0; at < data.length; at += 4) {
            const rgb = data.slice(at, at + 3);
            found += data[at + 3] > 200 && Math.max(...rgb) - Math.min(...rgb) > 60;
          }
          return found;
        }"""
        return int(self.card(card).locator("canvas").first.evaluate(script))

    def download(self, card: str) -> str:
        """What the card's CSV button saves."""
        with self.page.expect_download() as saved:
            self.card(card).get_by_role("button", name="CSV").click()
        return Path(saved.value.path()).read_text()

    def query(self, card: str, tool: str) -> str:
        """The query that a card shows as `curl` or `Python`."""
        self.card(card).get_by_role("button", name=tool, exact=True).click()
        return str(self.card(card).locator("pre[data-query]").inner_text())


@contextlib.contextmanager
def opened(
    browser: Browser, service: RunningService, path: str = "/", *, width: int = 1280, height: int = 900,
    scheme: str = "light", **options: Any,
) -> Iterator[Dashboard]:  # fmt: skip
    """A view of the dashboard in a browser of its own."""
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce", **options
    )  # type: ignore[call-overload]
    try:
        yield Dashboard(context.new_page(), service).go(path)
    finally:
        context.close()


@contextlib.contextmanager
def signed_in(
    browser: Browser, service: RunningService, token: str, path: str = "/", **options: Any
) -> Iterator[Dashboard]:
    """A view of the dashboard as somebody comes to it who has a token, and no cookie yet."""
    context = browser.new_context(reduced_motion="reduce", **options)
    try:
        seen = Dashboard(context.new_page(), service)
        seen.page.goto(service.url + path)
        seen.page.get_by_label("Token").fill(token)
        seen.page.get_by_role("button", name="Sign in").click()
        yield seen.settled(urlsplit(path).path)
    finally:
        context.close()


def sent_bytes(dashboard: Dashboard, path: str) -> int:
    """How many bytes the network brings for a first look at a view, headers and all."""
    session = dashboard.page.context.new_cdp_session(dashboard.page)
    session.send("Network.enable")
    session.send("Network.setCacheDisabled", {"cacheDisabled": True})
    total: dict[str, int] = {}
    session.on("Network.loadingFinished", lambda event: total.update({event["requestId"]: event["encodedDataLength"]}))
    dashboard.go(path)
    dashboard.page.wait_for_load_state("load")
    return int(sum(total.values()))
