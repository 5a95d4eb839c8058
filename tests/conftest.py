"""How all tests run, and a browser for those that look at pages."""

import gc
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from xdist.scheduler.loadfile import LoadFileScheduling

from tests.support.chromium import ARGUMENTS

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from xdist.workermanage import WorkerController

# Machines that share their cores miss deadlines that say nothing about the code. A failure in CI repeats itself.
settings.register_profile("loadlens", deadline=None, derandomize="CI" in os.environ)
# `make test` draws fewer (--hypothesis-profile=quick).
settings.register_profile("quick", settings.get_profile("loadlens"), max_examples=30)
settings.load_profile("loadlens")

_PROGRAMS = ("nginx", "caddy", "influxd", "nats-server", "victoria-metrics", "chromium")
_running: list[pytest.Item] = []


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Where no test with a server is asked for, modules of such alone are not imported: a fifth of collecting."""
    if config.option.markexpr != "not server and not slow" or collection_path.suffix != ".py":
        return None
    return True if "\npytestmark = pytest.mark.server\n" in collection_path.read_text(encoding="utf-8") else None


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """What was imported stays: that no garbage is looked for in it again and again spares 5 % of the CPU time."""
    gc.collect()
    gc.freeze()


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
_FILLED = "filled stores"
"""What these are together."""

_APART = tuple(
    f"tests/{name}.py"
    for name in (
        "analytics/commands/test_importing", "bench/test_benchmarks", "service/alerts/test_rules",
        "service/commands/test_up", "service/http/test_limits", "service/http/test_openapi",
        "service/stores/influx/test_claim", "service/stores/influx/test_generations",
        "service/stores/influx/test_outages", "service/stores/influx/test_rollups",
    )
)  # fmt: skip
"""Files whose tests take long and share nothing that is dear to make: they are given out one by one."""

_LONGEST = tuple(
    name if name == _FILLED else f"tests/{name}"
    for name in (
        "service/http/test_openapi.py::test_answers_are_what_the_document_says_they_are",
        "analytics/commands/test_importing.py::test_a_service_that_is_not_there_is_said",
        "service/commands/copy/test_copy_influx.py",
        "service/dashboard/test_every_view.py",
        "service/dashboard/test_other_views.py",
        _FILLED,
        "service/dashboard/test_fleet_view.py",
        "notebooks/test_notebooks.py",
        "service/http/test_limits.py::test_a_request_that_is_never_finished_is_closed",
        "faults/test_campaign.py",
        "service/commands/copy/test_copy.py",
        "analytics/commands/test_report.py",
        "service/cluster/test_faults.py",
        "service/dashboard/test_host_view.py",
        "service/test_damage.py",
        "service/backup/test_backup.py",
        "service/stores/influx/test_outages.py::test_while_influxdb_hangs_questions_end_and_nothing_else_waits_for_it",
        "analytics/reports/test_page.py",
        "deploy/test_proxies.py",
        "service/commands/test_forward.py",
        "service/commands/test_export.py",
        "service/cluster/test_takeover.py",
        "service/reporting/test_reports.py",
        "bench/test_benchmarks.py::test_a_benchmark_fills_every_row_of_its_tables",
        "service/alerts/test_rules.py::test_a_receiver_that_fails_and_recovers_gets_each_notification",
        "service/dashboard/test_pictures.py",
        "analytics/commands/test_mcp_server.py",
        "service/http/test_hostile.py",
        "service/reporting/test_annotations.py",
        "service/ingest/test_crash.py",
        "service/test_forgetting.py",
        "service/recorded/test_recorded.py",
        "service/stores/embedded/test_readers.py",
        "service/stores/test_fleet_cache.py",
        "service/stream/test_stream_crash.py",
        "docs/test_site.py",
    )
)
"""What is given out first, the longest first: what is begun last should be short, or the other processes wait for it.
`pytest -m server --durations 50` says what belongs here."""


class _ByFile(LoadFileScheduling):
    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        if file in _APART:
            return nodeid
        return _FILLED if file in _ALIKE else file

    def _assign_work_unit(self, node: "WorkerController") -> None:
        """Of what is left the longest; of what is not known to be long, the file with the most tests."""
        ranks = {name: rank for rank, name in enumerate(_LONGEST)}
        first = min(self.workqueue, key=lambda scope: ranks.get(scope.partition("[")[0], len(ranks)))
        self.workqueue.move_to_end(first, last=False)
        super()._assign_work_unit(node)


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
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()
