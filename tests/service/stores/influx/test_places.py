"""Where a database lies: found or made, for as long as is asked, under a name that its generation takes."""

import json
import logging

import pytest

from contract.times import DAY_MS
from service.stores.base import StoreError
from service.stores.influx.keeping import kept_ms
from tests.service.stores.influx.conftest import OpenStore
from tests.service.stores.influx.test_generations import TOKEN, WHO, assert_right, fill, recorded
from tests.support.influx_proxy import Fault, InfluxProxy
from tests.support.influxd import RunningInflux

pytestmark = pytest.mark.server

DAYS = 400
KEPT = (30 * DAY_MS, 60 * DAY_MS, 90 * DAY_MS, DAYS * DAY_MS)
"""Of windows and of each rollup; a database keeps its points as long as the last."""


def test_a_database_that_is_made_keeps_points_as_long_as_the_service_wants_them(
    newer: InfluxProxy, open_store: OpenStore, database: str
) -> None:
    store = open_store(url=newer.url, who=WHO, retention=KEPT)
    assert newer.kept == {database: DAYS * DAY_MS}
    assert kept_ms(store._client, store._where()) == DAYS * DAY_MS


def test_a_database_of_1_x_that_is_made_keeps_points_as_long_too(open_store: OpenStore) -> None:
    store = open_store(retention=KEPT)
    assert kept_ms(store._client, store._where()) == DAYS * DAY_MS


def test_a_database_keeps_points_for_ever_where_nothing_else_is_asked(
    newer: InfluxProxy, open_store: OpenStore, database: str
) -> None:
    store = open_store(url=newer.url, who=WHO)
    assert newer.buckets == {database}
    assert newer.kept == {}
    assert kept_ms(store._client, store._where()) is None


def test_a_database_that_is_there_keeps_its_own_period(
    newer: InfluxProxy, open_store: OpenStore, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    newer.make(database, 7 * DAY_MS)
    store = open_store(url=newer.url, who=WHO, retention=KEPT)
    store.flush()
    assert newer.kept == {database: 7 * DAY_MS}
    assert "keeps points for 1w, shorter than the 400d that the settings say" in caplog.text


def test_before_3_2_no_retention_period_is_asked_for(
    influx: RunningInflux, open_store: OpenStore, database: str
) -> None:
    with InfluxProxy(influx, 3, TOKEN, version="3.1.0") as proxy:
        fill(open_store(url=proxy.url, who=WHO, retention=KEPT), recorded())
        made = [json.loads(asked.body) for asked in proxy.requests if asked.path == "/api/v3/configure/database"]
        assert made == [{"db": database}]


@pytest.mark.parametrize("name", ["with space", "Münster", "日本", "_first", "a.b", "a/b/c", "a/", "x" * 512])
def test_a_name_that_influxdb_3_does_not_take_is_refused_at_the_start(
    influx: RunningInflux, open_store: OpenStore, name: str
) -> None:
    with InfluxProxy(influx, 3, TOKEN) as proxy:
        with pytest.raises(StoreError, match="expected a database whose name begins with a letter or a digit") as error:
            open_store(url=proxy.url, who=WHO, name=name)
        assert repr(name) in str(error.value)
        assert proxy.buckets == set()


@pytest.mark.parametrize("name", ["Metrics_3", "9-lives_x"])
def test_other_names_are_taken_as_they_are(influx: RunningInflux, open_store: OpenStore, name: str) -> None:
    with InfluxProxy(influx, 3, TOKEN) as proxy:
        store = open_store(url=proxy.url, who=WHO, name=name)
        recording = recorded()
        fill(store, recording)
        assert_right(store, recording)


def test_in_2_x_what_is_written_goes_where_reads_find_it(
    influx: RunningInflux, open_store: OpenStore, database: str
) -> None:
    with InfluxProxy(influx, 2) as proxy:
        # As `influxd upgrade` leaves it: the data are in a bucket of another name, with a mapping.
        proxy.make(f"{database} autogen")
        proxy.mapped[database] = f"{database} autogen"
        recording = recorded()
        store = open_store(url=proxy.url)
        fill(store, recording)
        assert_right(store, recording)
        assert proxy.buckets == {f"{database} autogen"}
        assert {key[0] for key in proxy.written} == {f"{database} autogen"}


def test_an_influxdb_2_that_is_too_old_is_refused(proxy: InfluxProxy, open_store: OpenStore) -> None:
    proxy.fault = lambda asked: Fault(204, headers={"X-Influxdb-Version": "v2.3.0"}) if asked.path == "/ping" else None
    with pytest.raises(StoreError, match=r"expected InfluxDB 2\.4 or newer, got 2\.3\.0"):
        open_store(url=proxy.url)


def test_a_wrong_token_is_told_at_the_start_and_never_shown(
    newer: InfluxProxy, open_store: OpenStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(StoreError, match=r"asks for a token \(--store-token\).*401: unauthorized") as error:
        open_store(url=newer.url, who={"token": "wr0ng-s3cret"})
    assert "wr0ng-s3cret" not in str(error.value) + caplog.text


def test_a_bucket_that_may_not_be_made_is_named(proxy: InfluxProxy, open_store: OpenStore, database: str) -> None:
    proxy.buckets.clear()
    body = b'{"code": "forbidden", "message": "insufficient permissions for write"}'
    proxy.fault = lambda asked: Fault(403, body) if (asked.method, asked.path) == ("POST", "/api/v2/buckets") else None
    with pytest.raises(StoreError, match=rf"{database} is not there and cannot be made: .*insufficient permissions"):
        open_store(url=proxy.url)


def test_in_3_x_the_first_write_makes_the_database_where_the_token_is_no_admins(
    influx: RunningInflux, open_store: OpenStore
) -> None:
    with InfluxProxy(influx, 3, TOKEN) as proxy:
        body = b'{"error": "forbidden"}'
        proxy.fault = lambda asked: Fault(403, body) if asked.path.endswith("configure/database") else None
        recording = recorded()
        store = open_store(url=proxy.url, who=WHO)
        fill(store, recording)
        assert_right(store, recording)


def test_an_answer_that_is_no_influxdbs_is_said(influx: RunningInflux, open_store: OpenStore) -> None:
    with InfluxProxy(influx, 2) as proxy:
        proxy.fault = lambda asked: Fault(200, b"<html>") if asked.path in ("/ping", "/health") else None
        with pytest.raises(StoreError, match="does not say which InfluxDB it is"):
            open_store(url=proxy.url)
