"""A service that is told how long to keep things says so to those who ask or send too late."""

import pytest

from contract import times
from tests.service.conftest import StartService
from tests.support.reports import entries, history, post, small
from tests.support.running import wait_until

pytestmark = pytest.mark.server

MINUTE_MS, HOUR_MS = 60_000, 3_600_000


def test_what_is_older_than_what_is_kept_is_refused_with_what_would_do(start: StartService, user: str) -> None:
    service = start("--keep-windows", "1h", "--keep-5m", "2h", "--keep-1h", "3h", "--flush-interval", "0.2")
    now_ms = times.now_ms()
    with service.client() as client:
        fresh, late = small(user, now_ms - 30 * MINUTE_MS), small(user, now_ms - 61 * MINUTE_MS)
        answer = post(client, late)
        assert answer.status_code == 422
        (error,) = answer.json()["errors"]
        assert error["pointer"] == "/end_timestamp"
        assert "older" in error["detail"]
        answer = post(client, fresh, late)
        assert answer.json()["accepted"] == 1
        assert [rejected["index"] for rejected in answer.json()["rejected"]] == [1]
        for minutes, rate, right in ((59, "1s", None), (90, "1m", "5m"), (150, "5m", "1h"), (600, "1h", "1d")):
            query = {"start": now_ms - minutes * MINUTE_MS, "end": now_ms, "stat": "count"}
            answer = history(client, user, **query, resample_rate=rate)
            if right:
                assert answer.status_code == 422
                (error,) = answer.json()["errors"]
                assert error["pointer"] == "resample_rate"
                assert f"expected a multiple of {right}" in error["detail"]
            assert sum(value for _, value in entries(history(client, user, **query, resample_rate=right or rate))) == 1


def test_what_was_kept_longer_before_is_forgotten_after_a_restart_with_less(start: StartService, user: str) -> None:
    now_ms = times.now_ms()
    query = {"start": now_ms - 100 * HOUR_MS, "end": now_ms, "stat": "count", "resample_rate": "1d"}
    service = start()
    with service.client() as client:
        post(client, small(user, now_ms - 90 * HOUR_MS))
        post(client, small(user, now_ms - HOUR_MS // 2))
        assert sum(value for _, value in entries(history(client, user, **query))) == 2
    assert service.stop() == 0
    short = [f"--keep-{tier}=2h" for tier in ("windows", "5m", "1h", "1d")]
    service = start(*short, "--flush-interval", "0.1")
    with service.client() as client:
        # Forgotten in the background; the day of the newer one is still there.
        wait_until(lambda: [value for _, value in entries(history(client, user, **query))] == [1], "the older to go")
