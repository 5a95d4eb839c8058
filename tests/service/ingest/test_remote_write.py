"""What Prometheus sends is kept as the metrics that it says, once, and what is wrong with it leaves no trace."""

import gzip
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest

from analytics.sources.service import Client
from contract import times
from tests.support import remote_write
from tests.support.access import make_tokens
from tests.support.remote_write import HEADERS, STALE, V2_TYPE, Series, block, first, member, second, varint
from tests.support.running import RunningService

pytestmark = pytest.mark.server
PATH = "/api/v1/prometheus/write"
STEP_MS = 15_000
SCRAPES = 8
WRITTEN = "X-Prometheus-Remote-Write-Samples-Written"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    with RunningService(tmp_path_factory.mktemp("remote-write") / "data") as service:
        yield service


def write(url: str, body: bytes, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return httpx.post(url + PATH, content=body, headers=HEADERS | named, timeout=60)


def cpu(host: str, start_ms: int, scrapes: Sequence[int] = range(SCRAPES)) -> list[Series]:
    """The counters of two cores, busy for 10 and 5 of 15 s."""
    grown = {"idle": (4.0, 9.0), "iowait": (1.0, 1.0), "user": (6.0, 3.0), "system": (4.0, 2.0)}
    return [
        (
            {"__name__": "node_cpu_seconds_total", "instance": host, "job": "node", "cpu": str(core), "mode": mode},
            [(start_ms + number * STEP_MS, 1e6 + number * seconds[core]) for number in scrapes],
        )
        for core in range(2)
        for mode, seconds in grown.items()
    ]


def history(url: str, host: str, metric: str = "cpuLoadAvg", **options: Any) -> Any:
    with Client(url) as client:
        now_ms = times.now_ms()
        return client.history(host, metric, start=now_ms - 3_600_000, end=now_ms + 3_600_000, rate="raw", **options)


def begin_ms() -> int:
    return times.now_ms() - 600_000


def snappy(content: bytes) -> bytes:
    return bytes(pa.Codec("snappy").compress(content, asbytes=True))


@pytest.mark.parametrize(
    ("encode", "pack", "media_type"), [(first, block, "application/x-protobuf"), (second, snappy, V2_TYPE)]
)
def test_counters_of_cores_become_shares(
    service: RunningService, encode: Callable[[list[Series]], bytes], pack: Callable[[bytes], bytes], media_type: str
) -> None:
    host, start_ms = encode.__name__, begin_ms()
    for number in range(SCRAPES):
        answer = write(service.url, pack(encode(cpu(host, start_ms, [number]))), Content_Type=media_type)
        assert (answer.status_code, answer.content, answer.headers[WRITTEN]) == (204, b"", "8")
    frame = history(service.url, host)
    assert frame["mean"].tolist() == pytest.approx([0.5] * 7)
    assert [time.value // 10**6 for time in frame.index] == [start_ms + number * STEP_MS for number in range(1, 8)]
    assert history(service.url, host, core=0)["mean"].tolist() == pytest.approx([2 / 3] * 7)
    assert history(service.url, host, core=1)["mean"].tolist() == pytest.approx([1 / 3] * 7)


def test_what_is_sent_twice_counts_once_even_after_a_restart(tmp_path: Path) -> None:
    start_ms = begin_ms()
    body = block(first(cpu("twice", start_ms)))
    with RunningService(tmp_path / "data") as service:
        assert write(service.url, body).status_code == write(service.url, body).status_code == 204
        assert len(history(service.url, "twice")) == 7
        service.kill()
    with RunningService(tmp_path / "data") as service:
        assert write(service.url, body).status_code == 204
        assert history(service.url, "twice")["count"].tolist() == [1] * 7


def test_what_is_not_kept_is_passed_over_and_what_is_wrong_is_counted_with_the_reason(service: RunningService) -> None:
    start_ms = begin_ms()
    good = cpu("partly", start_ms)
    wrong: list[Series] = [
        (
            {"__name__": "node_load1", "instance": "partly"},
            [(start_ms, -1.0), (start_ms, math.inf), (start_ms, math.nan)],
        ),
        ({"__name__": "node_load1", "job": "node"}, [(start_ms, 1.0)]),
        ({"__name__": "node_load1", "instance": "x" * 129}, [(start_ms, 1.0)]),
        ({"__name__": "node_load1", "instance": "a\nb"}, [(start_ms, 1.0)]),
        ({"__name__": "node_load1", "instance": "partly"}, [(start_ms + 7_200_000, 1.0), (1, 1.0), (-5, 1.0)]),
        ({"__name__": "node_cpu_seconds_total", "instance": "partly", "cpu": "all", "mode": "idle"}, [(start_ms, 1.0)]),
    ]
    others: list[Series] = [
        ({"__name__": "go_goroutines", "instance": "partly"}, [(start_ms, 12.0)]),
        ({"__name__": "node_load1", "instance": "partly"}, [(start_ms, STALE)]),
        ({}, [(start_ms, 1.0)]),
    ]
    assert write(service.url, block(first(others))).status_code == 204
    answer = write(service.url, block(first([*wrong, *good, *others])))
    assert answer.status_code == 400
    assert answer.headers[WRITTEN] == str(8 * SCRAPES + 3)
    assert answer.json()["detail"].startswith("10 of 77 samples are not taken: node_load1: expected a number from 0")
    assert len(history(service.url, "partly")) == 7
    assert write(service.url, block(first(wrong))).status_code == 400
    with Client(service.url) as client:
        users = client.users()["user"].tolist()
    assert not [user for user in users if user in ("", "a\nb", "x" * 129)]


def test_histograms_and_exemplars_are_counted_and_passed_over(service: RunningService) -> None:
    series: list[Series] = [({"__name__": "requests_seconds", "instance": "histograms"}, [])]
    answer = write(service.url, block(second(series, member(3, b"\x08\x05"), member(4, b""))), Content_Type=V2_TYPE)
    assert answer.status_code == 204
    told = {name.partition("write-")[2]: int(text) for name, text in answer.headers.items() if "remote-write" in name}
    assert told == {"samples-written": 0, "histograms-written": 1, "exemplars-written": 1}


GOOD = first([({"__name__": "node_load1", "instance": "never"}, [(1, 1.0)])])
NO_PLACES = [
    member(5, member(1, b"\x01")), member(4, b"") + member(5, member(1, b"\x00\x07")),
    member(4, b"x") + member(5, member(1, b"\x00\x00")), member(4, b"") + member(5, b"\x0a\x05\x00"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (block(b"\xff\xff\xff"), {}, 400), (block(b"\x0a\xff"), {}, 400), (GOOD, {}, 400), (b"", {}, 400),
        (block(member(1, member(1, member(1, b"\xff")))), {}, 400),
        (block(GOOD)[:-3], {}, 400), (block(GOOD) + b"\x00", {}, 400), (varint(5) + b"\x01\x00", {}, 400),
        (b"\xff\xff\xff\xff\xff\xff", {}, 400), (varint(2**32 - 1) + b"\x00x", {}, 413),
        (varint(8 * 1024 * 1024 + 1) + b"\x00x", {}, 413), (varint(8 * 1024 * 1024) + b"\x00x", {}, 400),
        *((block(one), {"Content-Type": V2_TYPE}, 400) for one in NO_PLACES),
        (block(first([({}, [(0, 0.0)] * 50_001)])), {}, 413), (block(b"\x0a\x00" * 500_001), {}, 413),
        (block(b'"\x00' * 500_001), {"Content-Type": V2_TYPE}, 413),
        (block(GOOD), {"Content-Type": "application/json"}, 415), (block(GOOD), {"Content-Encoding": "lz4"}, 415),
        (block(GOOD), {"Content-Type": "application/x-protobuf;proto=another.Message"}, 415),
    ],
)  # fmt: skip
def test_what_is_no_remote_write_is_refused_and_leaves_no_trace(
    service: RunningService, body: bytes, headers: dict[str, str], status: int
) -> None:
    answer = write(service.url, body, **headers)
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert WRITTEN not in answer.headers
    with Client(service.url) as client:
        assert "never" not in client.users()["user"].tolist()


def test_a_body_may_come_without_compression_or_with_gzip(service: RunningService) -> None:
    start_ms = begin_ms()
    for encoding, pack in (("gzip", gzip.compress), ("identity", bytes)):
        body = pack(first(cpu(encoding, start_ms)))
        assert write(service.url, body, Content_Encoding=encoding).status_code == 204
        assert len(history(service.url, encoding)) == 7


def test_a_token_is_good_for_the_hosts_of_its_scope_alone(tmp_path: Path) -> None:
    made = make_tokens(tmp_path / "data", ("agent", "agent", "mine"), ("reader", "reader", "*"))
    start_ms = begin_ms()
    with RunningService(tmp_path / "data") as service:

        def answer(token: str, *hosts: str) -> httpx.Response:
            series = [one for host in hosts for one in cpu(host, start_ms)]
            return write(service.url, block(first(series)), Authorization=f"Bearer {made.get(token, token)}")

        assert answer("agent", "mine").status_code == 204
        assert answer("agent", "other").status_code == 403
        both = answer("agent", "mine", "other")
        assert (both.status_code, both.headers[WRITTEN]) == (400, str(8 * SCRAPES))
        assert answer("reader", "mine").status_code == 403
        assert answer("nobody", "mine").status_code == 401
        asked = httpx.get(f"{service.url}/api/v1/users", headers={"Authorization": f"Bearer {made['reader']}"}).json()
        assert [one["user_id"] for one in asked["users"]] == ["mine"]


def test_the_encoding_of_the_tests_is_that_of_the_documents() -> None:
    series: list[Series] = [({"__name__": "up"}, [(300, 1.0)])]
    body = first(series)
    assert body.hex() == "0a1e" + "0a0e0a085f5f6e616d655f5f12027570" + "120c" + "09000000000000f03f" + "10ac02"
    assert block(b"abc").hex() == "0308616263"
    assert remote_write.varint(-1) == b"\xff" * 9 + b"\x01"
