"""When an answer that somebody has already is still the right one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import falcon.asgi
import numpy as np
import pytest
from falcon.testing import Result, TestClient

from contract.times import DAY_MS, HOUR_MS, MINUTE_MS
from service.credentials.identity import Identity
from service.dashboard.matrix import FleetCache
from service.http.resources.query import Fleet, QueryTables
from service.http.versions import RangeVersions
from service.stores.embedded.store import EmbeddedStore
from tests.support.recordings import Host, Recording

T0 = 1_531_396_800_000 // DAY_MS * DAY_MS
RANGE = {"start": str(T0), "end": str(T0 + HOUR_MS), "resample_rate": "1h"}
QUERY, FLEET = "/api/v1/query", "/api/v1/metrics/cpuLoadAvg/fleet"


class Who:
    """Lets each request in as who its header says."""

    async def process_request(self, req: Any, resp: Any) -> None:
        """A scope of nothing is that of an administrator."""
        scope = req.get_header("X-Scope")
        if scope:
            req.context.identity = Identity("reader", scope)


class Service:
    """The answers of a store, without a server."""

    def __init__(self, folder: Path) -> None:
        self.store = EmbeddedStore(folder)
        self.versions = RangeVersions(self.store)
        app = falcon.asgi.App(middleware=[Who()])
        app.add_route(QUERY, QueryTables(self.versions, FleetCache(self.store), frozenset))
        app.add_route("/api/v1/metrics/{metric}/fleet", Fleet(self.store, self.versions))
        self._client = TestClient(app)
        self._sent = 0

    def report(self, user: str, end_ms: int, load: float, cores: int) -> None:
        """A window of a host."""
        recording = Recording()
        recording.cpu(Host(user, "Linux", "1"), end_ms, np.full(9, load), [np.full(9, load)] * cores)
        self._sent += 1
        self.store.add(self._sent, recording.reports)
        self.versions.take(recording.reports)

    def get(self, path: str, scope: str = "", known: str = "", **query: str) -> Result:
        """What a GET answers."""
        headers = {"If-None-Match": known, "X-Scope": scope}
        return self._client.simulate_get(path, params=RANGE | query, headers={k: v for k, v in headers.items() if v})


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path)
    service.report("a", T0 + MINUTE_MS, 0.9, 0)
    service.report("b", T0 + MINUTE_MS, 0.1, 4)
    service.report("a", T0 + DAY_MS, 0.9, 4)
    yield service
    service.store.close()


@pytest.mark.parametrize("path", [QUERY, FLEET])
def test_cores_that_are_told_later_are_another_version_where_hosts_weigh_by_them(service: Service, path: str) -> None:
    before, plain = service.get(path, weight="cores"), service.get(path)
    tag = before.headers["etag"]
    assert service.get(path, known=tag, weight="cores").status_code == 304
    service.report("a", T0 + 2 * DAY_MS, 0.9, 12)
    after = service.get(path, known=tag, weight="cores")
    assert after.status_code == 200
    assert after.json != before.json
    assert after.headers["etag"] != tag
    assert service.get(path, known=plain.headers["etag"]).status_code == 304


def test_who_sees_other_hosts_has_another_version(service: Service) -> None:
    everybody = service.get(QUERY)
    tags = {everybody.headers["etag"]}
    for scope in ("a*", "b*"):
        theirs = service.get(QUERY, scope=scope, known=everybody.headers["etag"])
        assert theirs.status_code == 200
        assert theirs.json != everybody.json
        assert service.get(QUERY, scope=scope, known=theirs.headers["etag"]).status_code == 304
        tags.add(theirs.headers["etag"])
    assert len(tags) == 3


@pytest.mark.parametrize("path", [QUERY, FLEET])
def test_what_depends_on_who_asks_says_so_to_caches(service: Service, path: str) -> None:
    answer = service.get(path)
    assert answer.headers["cache-control"] == "private, no-cache"
    assert {"Authorization", "Cookie"} <= {name.strip() for name in answer.headers["vary"].split(",")}
