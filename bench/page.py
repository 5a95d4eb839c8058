"""The dashboard in Chromium: from an address to pixels, with fleets of several sizes.

    .venv/bin/python bench/page.py [--machines 100,3079,10000] [--windows N] [--live SECONDS]

Fleets are loaded into our service, which is then started again. Chromium, driven by Playwright, opens the first page
with an empty cache; then the order of the heat map is changed again and again, which is one request and one picture
each; then ranges are shown that nobody has looked at; then the pointer moves over it; then the page is followed live
while hosts report, and its heap is looked at once a minute, after garbage was collected. The service and the browser
share the machine's cores.
"""

import json
import shutil
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from options import Options, scratch
from output import left_out, machine, number, table
from processes import wait_until
from servers import Server, loadlens

from contract.histogram import LINEAR, flatten
from contract.metrics import Cpu
from contract.report import Report, encode
from contract.times import MINUTE_MS
from service.settings import ServiceSettings
from service.stores.opening import open_store

if TYPE_CHECKING:
    from playwright.sync_api import Browser, CDPSession, Page

_STEP_MS = 5 * MINUTE_MS
_SHOWN_S = 120.0
# The page opens with the highest p95 first.
_SORTS = ("mean", "name", "max", "change", "p95")
_RANGES = ("1h", "6h", "7d")
_MOVES = 120
_HEAP_EVERY_S = 60.0
_MANY = 12
# Runs before the page does: notes when a picture of the fleet is drawn, what shifts the layout, and what takes long.
# It keeps numbers, no lists: the heap that is measured is the page's.
_WATCH = """(() => {
  const seen = { drawn: 0, first: null, last: null, shift: 0, longest: 0, longestAt: 0, asked: 0, from: 0, to: 0 };
  window.__seen = seen;
  const fetched = window.fetch;
  window.fetch = (path, ...more) => {
    if (String(path).includes("/fleet/picture")) seen.asked = performance.now();
    return fetched(path, ...more);
  };
  new MutationObserver(() => {
    requestAnimationFrame(() => setTimeout(() => {
      seen.drawn += 1;
      seen.last = { at: performance.now(), took: performance.now() - seen.asked };
      seen.first ??= seen.last;
    }));
  }).observe(document, { attributes: true, subtree: true, attributeFilter: ["data-drawn"] });
  new PerformanceObserver((list) => {
    for (const one of list.getEntries()) if (!one.hadRecentInput) seen.shift += one.value;
  }).observe({ type: "layout-shift", buffered: true });
  new PerformanceObserver((list) => {
    for (const one of list.getEntries()) {
      // Garbage is collected for the benchmark; the page would not do it then.
      const { startTime: began, duration } = one;
      if (began + duration >= seen.from && began <= seen.to) continue;
      if (duration > seen.longest) Object.assign(seen, { longest: duration, longestAt: began });
    }
  }).observe({ type: "longtask", buffered: true });
})()"""
_HEADERS = (
    "Hosts", "first load KB", "first picture ms", "request to pixels ms, first", "1h", "6h", "7d", "zoomed", "warm",
    "hover ms a frame", "longest task ms", "layout shift", "heap MB", "at most MB", "after live MB",
)  # fmt: skip


def main() -> None:
    """Load, measure and print a table."""
    parser = Options(__doc__)
    parser.data("--machines", "100,3079,10000", tiny="20", type=str, help="sizes of fleets")
    parser.size("--windows", 288, tiny=12, help="windows of five minutes of each host")
    parser.size("--times", 15, tiny=3, help="how often the order is changed")
    parser.size("--live", 120.0, tiny=2.0, help="seconds of live view")
    parser.shared("--folder", "--keep")
    options = parser.parse()
    sizes = [int(size) for size in options.machines.split(",")]
    print(f"{machine()}\n")
    if not shutil.which("chromium"):
        rows = [left_out(f"{size:,}", len(_HEADERS)) for size in sizes]
    else:
        with scratch(options) as folder:
            rows = [_measured(Path(folder) / str(size), size, options) for size in sizes]
    print(table(_HEADERS, rows))


def _measured(folder: Path, hosts: int, options: Any) -> list[str]:
    from playwright.sync_api import sync_playwright

    if not folder.exists():
        _load(folder, hosts, options.windows)
    with loadlens(folder) as server, sync_playwright() as playwright:
        # A service that was just begun still imports what pages need, of which bench/start.py tells.
        server.ask("GET", "/api/v1/users?limit=1")
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--headless", "--no-sandbox"]
        )
        try:
            return [f"{hosts:,}", *_looked_at(browser, server, hosts, options)]
        finally:
            browser.close()


def _load(folder: Path, hosts: int, windows: int) -> None:
    """Fill the store of a service that does not run yet."""
    folder.mkdir(parents=True)
    store = open_store(ServiceSettings(data_dir=str(folder)), lambda _after, _through: False, has_reports=False)
    noise = np.random.default_rng(1)
    level = noise.beta(1.2, 4, hosts)
    newest = time.time_ns() // 1_000_000 // _STEP_MS * _STEP_MS
    for step in range(windows - 1, -1, -1):
        values = np.clip(level + 0.1 * np.sin(step / 46) + noise.normal(0, 0.05, hosts), 0, 1).tolist()
        reports = [_report(place, newest - step * _STEP_MS, value) for place, value in enumerate(values)]
        store.add((windows - step) * hosts, reports)
        if store.full:
            store.flush()
    store.flush()
    while store.compact():
        pass
    store.close()


def _report(place: int, end_ms: int, mean: float) -> Report:
    low, high = max(mean - 0.05, 0.0), min(mean + 0.05, 1.0)
    middle, half = (low + high) / 2, (high - low) / 2
    cpu = Cpu(middle, half**2, min_utilization=low, max_utilization=high, histogram=_histogram(low, high))
    return Report(f"host-{place:05}", end_ms - 5000, end_ms, 100, "Linux", "6.1", [cpu])


def _histogram(low: float, high: float) -> list[int]:
    """Half of the samples at either end."""
    return flatten(Counter({LINEAR.index(low): 50}) + Counter({LINEAR.index(high): 50}))


def _looked_at(browser: "Browser", server: Server, hosts: int, options: Any) -> Sequence[str]:
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.set_default_timeout(_SHOWN_S * 1000)
    page.add_init_script(_WATCH)
    session = page.context.new_cdp_session(page)
    sizes: dict[str, float] = {}
    session.send("Network.enable")
    session.on("Network.loadingFinished", lambda event: sizes.update({event["requestId"]: event["encodedDataLength"]}))
    page.goto(server.url)
    page.wait_for_selector("html[data-shown]")
    _drawn_after(page, 0)
    first = page.evaluate("__seen.first")
    loaded = sum(sizes.values())
    # The first picture after a start is read ahead where hosts are many; a later order uses what was read.
    warm = [_changed(page, "Sort by", _SORTS[turn % len(_SORTS)]) for turn in range(options.times)]
    # What nobody has looked at since the start.
    others = [_changed(page, "Time range", choice) for choice in _RANGES]
    others.append(_zoomed(page))
    _changed(page, "Time range", "24h")
    longest = _longest(page)
    hover = _hovered(page)  # one task, which the page does not have of itself
    followed = page.evaluate(
        "new Promise((done) => setTimeout(() => { __seen.longest = 0; done(performance.now()); }, 200))"
    )
    before, heaps, code = _heap(page, session), [], []
    with _reporting(server, hosts):
        ends = time.monotonic() + options.live
        while (left := ends - time.monotonic()) > 0:
            page.wait_for_timeout(1000 * min(left, _HEAP_EVERY_S))
            heaps.append(_heap(page, session))
            if len(heaps) == 1 or left <= _HEAP_EVERY_S:
                code.append(_code(page, session))
    if len(heaps) > _MANY:
        minutes = [f"{heap / 1e6:.2f}" for heap in heaps[:: max(1, len(heaps) // _MANY)]]
        print(f"{hosts:,} hosts, heap in MB over {options.live:g} s of live view: {', '.join(minutes)}")
        first_code, last_code = (f"{code[place] / 1e6:.2f}" for place in (0, -1))
        print(f"{hosts:,} hosts, of it compiled code: {first_code} after a minute, {last_code} at the end")
        at_s = (page.evaluate("__seen.longestAt") - followed) / 1000
        print(
            f"{hosts:,} hosts, longest task of live view: {_longest(page):.0f} ms" + f" after {at_s:.0f} s" * (at_s > 0)
        )
    longest = max(longest, _longest(page))
    shift = page.evaluate("__seen.shift")
    return [
        number(loaded / 1000), number(first["at"]), number(first["took"]), *map(number, others),
        number(statistics.median(warm)), number(hover), number(longest), f"{shift:.3f}", number(before / 1e6),
        number(max(heaps) / 1e6), number(heaps[-1] / 1e6),
    ]  # fmt: skip


def _longest(page: "Page") -> float:
    """Milliseconds of the longest task so far; 0 where none took 50."""
    return float(page.evaluate("__seen.longest"))


def _changed(page: "Page", choice: str, value: str) -> float:
    """Milliseconds from the request for another order of the hosts, or another range, to its pixels."""
    drawn = page.evaluate("__seen.drawn")
    page.keyboard.press("Shift")  # a person chooses by key or pointer: what moves then is asked for
    page.get_by_role("combobox", name=choice).evaluate(
        "(node, value) => { node.value = value; node.dispatchEvent(new Event('change')); }", value
    )
    _drawn_after(page, drawn)
    return float(page.evaluate("__seen.last.took"))


def _zoomed(page: "Page") -> float:
    """Milliseconds from the request for a part of the day, from one odd moment to another, to its pixels."""
    drawn = page.evaluate("__seen.drawn")
    end_s = time.time() // 60 * 60 - 4.3 * 3600
    page.keyboard.press("Shift")  # as below
    from_, to = (time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)) for at in (end_s - 9.7 * 3600, end_s))
    page.evaluate(
        "(query) => { history.pushState(null, '', query); dispatchEvent(new Event('navigate')); }",
        f"?from={from_}&to={to}",
    )
    _drawn_after(page, drawn)
    return float(page.evaluate("__seen.last.took"))


def _drawn_after(page: "Page", pictures: int) -> None:
    """Wait until more pictures are drawn. The page's policy lets Playwright evaluate nothing by itself there."""
    wait_until(lambda: page.evaluate("__seen.drawn") > pictures, _SHOWN_S, "a picture of the fleet", every=0.05)


def _hovered(page: "Page") -> float:
    """Milliseconds of script and layout that a move of the pointer over the heat map takes."""
    box = page.locator(".heat canvas").first.bounding_box()
    assert box is not None
    script = """([left, top, width, height, moves]) => {
      const canvas = document.querySelector(".heat canvas");
      const began = performance.now();
      for (let move = 0; move < moves; move += 1) {
        canvas.dispatchEvent(new PointerEvent("pointermove", {
          clientX: left + width * (move / moves), clientY: top + height * ((move * 7) % moves) / moves,
          bubbles: true }));
        canvas.parentNode.offsetWidth;
      }
      return (performance.now() - began) / moves;
    }"""
    return float(page.evaluate(script, [box["x"], box["y"], box["width"], box["height"] - 30, _MOVES]))


def _heap(page: "Page", session: "CDPSession") -> float:
    """Bytes of the page's heap that are in use."""
    page.evaluate("Object.assign(__seen, { from: performance.now(), to: Infinity })")
    session.send("HeapProfiler.collectGarbage")
    used = float(session.send("Runtime.getHeapUsage")["usedSize"])
    page.evaluate("__seen.to = performance.now()")
    return used


def _code(page: "Page", session: "CDPSession") -> float:
    """Bytes of the heap that are code, which the browser compiles anew the more often it runs."""
    parts: list[str] = []
    page.evaluate("Object.assign(__seen, { from: performance.now(), to: Infinity })")
    session.on("HeapProfiler.addHeapSnapshotChunk", lambda event: parts.append(event["chunk"]))
    session.send("HeapProfiler.takeHeapSnapshot", {"reportProgress": False})
    page.evaluate("__seen.to = performance.now()")
    snapshot = json.loads("".join(parts))
    meta = snapshot["snapshot"]["meta"]
    nodes = np.array(snapshot["nodes"]).reshape(-1, len(meta["node_fields"]))
    kind, size = (nodes[:, meta["node_fields"].index(field)] for field in ("type", "self_size"))
    return float(size[kind == meta["node_types"][0].index("code")].sum())


@contextmanager
def _reporting(server: Server, hosts: int) -> Iterator[None]:
    """Hosts report meanwhile, as many in a second as would if each did so every five minutes."""
    ended = threading.Event()

    def report() -> None:
        place = 0
        while not ended.wait(1.0):
            now_ms = time.time_ns() // 1_000_000
            count = max(1, hosts // 300)
            reports = [_report((place + one) % hosts, now_ms - 1000, 0.5) for one in range(count)]
            server.ask("POST", "/api/v1/metrics", b"[" + b",".join(map(encode, reports)) + b"]")
            place += count

    thread = threading.Thread(target=report)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


if __name__ == "__main__":
    sys.exit(main())
