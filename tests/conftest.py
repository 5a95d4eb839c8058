"""How all tests run, and a browser for those that look at pages."""

import os
import shutil
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from xdist.scheduler.loadfile import LoadFileScheduling

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# Machines that share their cores miss deadlines that say nothing about the code. A failure in CI repeats itself.
settings.register_profile("loadlens", deadline=None, derandomize="CI" in os.environ)
# `make test` draws fewer (--hypothesis-profile=quick).
settings.register_profile("quick", settings.get_profile("loadlens"), max_examples=30)
settings.load_profile("loadlens")

_PROGRAMS = ("nginx", "caddy", "influxd", "nats-server", "victoria-metrics", "chromium")
_running: list[pytest.Item] = []


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Remember which test runs."""
    _running[:] = [item]


def _refuse_unmarked_servers(event: str, arguments: tuple[object, ...]) -> None:
    """Keep `make test` free of servers: a test that starts one says so by its mark."""
    if event != "subprocess.Popen" or not _running or _running[0].get_closest_marker("server"):
        return
    command = [os.fsdecode(part) for part in arguments[1] if isinstance(part, str | bytes | os.PathLike)]  # type: ignore[attr-defined]
    named = {os.path.basename(part) for part in command}
    if named & set(_PROGRAMS) or ("-m" in command and command[command.index("-m") + 1] in ("service", "agent")):
        raise AssertionError(f"expected pytest.mark.server on {_running[0].nodeid}, which starts {command}")


sys.addaudithook(_refuse_unmarked_servers)


_ALIKE = (
    "tests/deploy/test_grafana.py",
    *(f"tests/service/stores/test_{name}.py" for name in ("answers", "fleet", "identity")),
)
"""Files that lean on the same filled stores: one process runs them, so that these are filled once."""


_APART = ("tests/service/stores/influx/test_rollups.py",)
"""Files whose tests take a minute each and share nothing: they are given out one by one."""


class _ByFile(LoadFileScheduling):
    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        if file in _APART:
            return nodeid
        return "filled stores" if file in _ALIKE else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadFileScheduling | None:
    """Give each process whole files, and files that share what takes long to make to one."""
    return _ByFile(config, log) if config.getoption("dist") == "loadfile" else None


# No longer than a module: while it is there, its event loop keeps tests from running one of their own.
@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """Chromium as it is installed."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--headless", "--no-sandbox"])
        yield browser
        browser.close()
