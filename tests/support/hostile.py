"""Requests that nobody would send who means well, made from a seed; and what a service says to them.

    python -m tests.support.hostile --count 600 --seed 1

starts a service, sends them, and prints the statuses, the slowest request and the most memory.
"""

import argparse
import gzip
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
import msgspec
import psutil
import zstandard

from contract.metrics import NAMES, STATISTICS
from tests.support.hostile_names import NAMES as HOSTILE
from tests.support.reports import END_MS, METRICS, as_json, original, post, small
from tests.support.running import RunningService

FLEET = f"{METRICS}/cpuLoadAvg/fleet"
_USER = f"{METRICS}/cpuLoadAvg/byUser/one"
_WINDOWS = "/api/v1/windows/byUser/one"
_GETS = (
    FLEET, _USER, _WINDOWS, "/api/v1/windows/fleet", "/api/v1/users", "/api/v1/query", "/api/v1/audit",
    "/api/v1/agents", "/api/v1/alerts", "/api/v1/notifications", "/api/v1/annotations",
    "/api/v1/rules", "/api/v1/settings", "/",
    "/api/v1/silences", "/openapi.json", "/metrics", "/readyz",
)  # fmt: skip
_PARAMETERS = (
    "start", "end", "resample_rate", "stat", "core", "by", "top", "tz", "offset", "metric", "user", "limit", "after",
    "before", "selector", "target", "state", "rule", "tag", "sort", "histograms", "q", "strat",
)  # fmt: skip
_TEXTS = (
    "", "0", "-1", "1e308", "NaN", "inf", "9" * 30, "9" * 5000, "T" * 20_000, "2020T " * 3000, "1s" * 9000, "*" * 500,
    "[" * 500, "a" * 30_000, "\u0663", "\U0001f600" * 500, "\ue000", "a\nb", "a\x00b", "..%2f..",
    "'; DROP TABLE series", "1531397700000", "2018-07-12T12:15:00Z",
    "99999-01-01", "0001-01-01T00:00:00Z", "2018-07-12T12:15:00+99:99", "1ns",
    "0s", "52w", "106751991167d", "15m", "1h", "all", "raw", "each", "user", "Europe/../../etc/passwd", "Europe/Berlin",
    *STATISTICS,
)  # fmt: skip


_MAX_BYTES = 20_000_000


class Hostile(NamedTuple):
    """A request."""

    method: str
    url: str
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


def _text(name: str, part: str, **more: str) -> bytes:
    """A JSON object with a member that is very long."""
    return msgspec.json.encode({name: part * 1_000_000} | more)


_GZIP, _ZSTD = (("Content-Encoding", "gzip"),), (("Content-Encoding", "zstd"),)
_JSON, _LINES = (("Content-Type", "application/json"),), (("Content-Type", "application/x-ndjson"),)
_ANY = ("If-Match", "*")
_PROTOBUF = (("Content-Type", "application/x-protobuf"),)
_OTLP = "/api/v1/otlp/v1/metrics"
_WRITE = "/api/v1/prometheus/write"
_SNAPPY = (*_PROTOBUF, ("Content-Encoding", "snappy"))
_SECOND = (("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request"),)
_SERIES = b"\n\x80\x89\x7a" + b"\x12\0" * 1_000_000
"""A series of a million samples."""
HEAVY = {
    "moments of many T": Hostile("GET", f"{FLEET}?start=" + "T" * 40_000),
    "moments of many spaces": Hostile("GET", f"{FLEET}?end=" + "2020T1%20" * 6_000),
    "a duration of many digits": Hostile("GET", f"{FLEET}?resample_rate=" + "1s" * 20_000),
    "a name of a metric": Hostile("GET", f"{METRICS}/{'c' * 50_000}/fleet"),
    "many parameters": Hostile("GET", FLEET + "?" + "&".join(f"p{n}=1" for n in range(7_000))),
    "moments in a body": Hostile("GET", FLEET, msgspec.json.encode({"start": "T" * 4_000_000})),
    "a number of a million digits": Hostile("GET", FLEET, b'{"start": ' + b"9" * 1_000_000 + b"}"),
    "empty gzip members": Hostile("POST", METRICS, gzip.compress(b"") * 200_000, _GZIP),
    "gzip members of a byte": Hostile("POST", METRICS, gzip.compress(b" ") * 200_000, _GZIP),
    "empty zstd frames": Hostile("POST", METRICS, zstandard.compress(b"") * 500_000, _ZSTD),
    "a million lines": Hostile("POST", METRICS, gzip.compress(b"1\n" * 1_000_000), _GZIP),
    "a million elements": Hostile("POST", METRICS, gzip.compress(b"[" + b"1," * 1_000_000 + b"1]"), _GZIP),
    "zeros, compressed": Hostile("POST", METRICS, gzip.compress(bytes(7_000_000)), _GZIP),
    "a bomb": Hostile("POST", METRICS, gzip.compress(bytes(100_000_000)), _GZIP),
    "deep nesting": Hostile("POST", METRICS, b"[" * 4_000_000),
    "50,000 lines of nothing": Hostile("POST", METRICS, b"{}\n" * 49_000, _LINES),
    "nesting of OpenTelemetry": Hostile("POST", _OTLP, b'{"resourceMetrics":[' * 100_000, _JSON),
    "a million resources of OpenTelemetry": Hostile("POST", _OTLP, b"\n\0" * 1_000_000, _PROTOBUF),
    "a million series of Prometheus": Hostile("POST", _WRITE, b"\n\0" * 1_000_000, _PROTOBUF),
    "a million samples of Prometheus": Hostile("POST", _WRITE, _SERIES, _PROTOBUF),
    "symbols of Prometheus": Hostile("POST", _WRITE, b'"\0' * 1_000_000, _SECOND),
    "a snappy block of 4 GiB": Hostile("POST", _WRITE, b"\xff\xff\xff\xff\x0f" + b"\xfe\x01\x00" * 1_000_000, _SNAPPY),
    "page of thirty digits": Hostile("GET", f"/api/v1/audit?before={'9' * 30}"),
    "a silence until many T": Hostile("POST", "/api/v1/silences", _text("until", "T", rule="x"), _JSON),
    "a silence of many seconds": Hostile("POST", "/api/v1/silences", _text("duration", "1s", rule="x"), _JSON),
    "an annotation of many letters": Hostile("POST", "/api/v1/annotations", _text("text", "x"), _JSON),
    "a token of a long name": Hostile("POST", "/api/v1/tokens", _text("name", "x", role="reader"), _JSON),
    "settings of many stars": Hostile("PUT", f"/api/v1/settings?selector={'*' * 50_000}", b"{}", (*_JSON, _ANY)),
    "nesting of an agent's state": Hostile("POST", "/api/v1/agents/one/state", b'{"a":' + b"[" * 100_000, _JSON),
    "an event of many digits": Hostile("GET", "/api/v1/stream", headers=(("Last-Event-ID", "9" * 50_000),)),
    "text that is not UTF-8": Hostile("POST", METRICS, b'{"user_id": "\xff\xfe"}'),
}
"""Requests that once took seconds or much memory, or their like; each is refused."""


def requests(seed: int) -> Iterator[Hostile]:
    """Hostile requests without end, the same for a seed."""
    dice = random.Random(seed)
    kinds: list[Callable[[random.Random], Hostile]] = [
        _query,
        _query,
        _body,
        _report,
        _report,
        _compressed,
        _path,
        _other,
    ]
    while True:
        yield dice.choice(kinds)(dice)


def _query(dice: random.Random) -> Hostile:
    pairs = [(dice.choice(_PARAMETERS), dice.choice(_TEXTS)) for _ in range(dice.choice((1, 1, 2, 3, 40)))]
    text = "&".join(f"{name}={quote(value)}" for name, value in pairs)
    return Hostile("GET", f"{dice.choice(_GETS)}?{text}"[:60_000])


def _value(dice: random.Random, depth: int = 0) -> Any:
    kinds: list[Callable[[], Any]] = [
        lambda: dice.choice(_TEXTS), lambda: dice.choice((0, -1, 2**31, 2**53, 2**63, -(2**63), 2**64 - 1, True, None)),
        lambda: dice.choice((0.5, -0.0, 5e-324, 1e18, 1e300, 1.7e308)),
    ]  # fmt: skip
    if depth < 3:
        kinds += [lambda: _list(dice), lambda: {dice.choice(_PARAMETERS): _value(dice, depth + 1) for _ in range(3)}]
    return dice.choice(kinds)()


def _list(dice: random.Random) -> list[Any]:
    """A list of the same, without lists in it: so that what is made has a length."""
    one = _value(dice, 3)
    length = len(one) if isinstance(one, str) else 10
    return [one] * min(dice.choice((0, 1, 5, 5000)), 1 + 1_000_000 // (1 + length))


def _body(dice: random.Random) -> Hostile:
    document = {dice.choice(_PARAMETERS): _value(dice) for _ in range(dice.choice((1, 1, 2, 5)))}
    return Hostile(
        "GET", dice.choice(_GETS), msgspec.json.encode(document)[:_MAX_BYTES], (("Content-Type", "application/json"),)
    )


def _report(dice: random.Random) -> Hostile:
    report = original(dice.choice(("one", "two", *HOSTILE)))
    for _ in range(dice.choice((1, 1, 2))):
        part: Any = dice.choice((report, report["metrics"][0]))
        part[dice.choice(sorted(part))] = _value(dice)
        if (
            not isinstance(report["metrics"], list)
            or not report["metrics"]
            or not isinstance(report["metrics"][0], dict)
        ):
            break
    body = as_json([report] * dice.choice((2, 500))) if dice.random() < 0.2 else as_json(report)
    if dice.random() < 0.2:
        body = body[: dice.randrange(len(body))]
    if dice.random() < 0.2:
        place = dice.randrange(len(body) + 1)
        body = body[:place] + dice.randbytes(5) + body[place:]
    return Hostile("POST", METRICS, body[:_MAX_BYTES])


def _compressed(dice: random.Random) -> Hostile:
    name, compress = dice.choice((("gzip", gzip.compress), ("zstd", zstandard.compress)))
    content = dice.choice(
        (b"", b" ", b"1\n" * 300_000, bytes(9_000_000), as_json(small("one", END_MS)), b"[" * 100_000)
    )
    body = compress(content) * dice.choice((1, 1, 2, 900, 3000))
    if dice.random() < 0.3:
        body = body[: dice.randrange(len(body))]
    if dice.random() < 0.2:
        flipped = bytearray(body)
        flipped[dice.randrange(len(body))] ^= 1 << dice.randrange(8) if body else 0
        body = bytes(flipped)
    return Hostile(
        "POST", METRICS, body[: 8 << 20], (("Content-Encoding", dice.choice((name, name, "br", name.upper()))),)
    )


def _path(dice: random.Random) -> Hostile:
    parts = [dice.choice((*HOSTILE, *_TEXTS[:20], *NAMES, "byUser", "fleet")) for _ in range(dice.choice((1, 2, 4)))]
    prefix = dice.choice(
        ("/api/v1/metrics/", "/api/v1/agents/", "/api/v1/rules/", "/reports/users/", "/", "/api/v1/windows/")
    )
    text = prefix + "/".join(quote(part[:2000], safe="") for part in parts)
    return Hostile(dice.choice(("GET", "GET", "HEAD", "OPTIONS")), text[:60_000])


def _other(dice: random.Random) -> Hostile:
    """What changes something, with whatever body, conditions and types."""
    url = dice.choice(
        ("/api/v1/rules/x", "/api/v1/silences", "/api/v1/annotations", "/api/v1/settings?selector=all",
         "/api/v1/silences/1", "/api/v1/agents/one/settings",
    "/api/v1/agents/one/commands", "/api/v1/agents/one/state", "/api/v1/audit")
    )  # fmt: skip
    headers = {
        "Content-Type": dice.choice(("application/json", "text/plain", "", "application/merge-patch+json", "a" * 5000)),
        "If-Match": dice.choice(("*", '"1"', 'W/"1"', "junk,,,", '"' * 500)),
        "If-None-Match": dice.choice(("*", '"1"', "", "x")),
        "Accept": dice.choice(("*/*", "text/html,", ",,,", "text/csv;q=zzz", "application/json", "a/b/c")),
        "Authorization": dice.choice(("bearer x", "Bearer", "Basic ====")),
    }
    chosen = tuple((name, value) for name, value in headers.items() if dice.random() < 0.5)
    body = msgspec.json.encode(_value(dice))[:_MAX_BYTES] if dice.random() < 0.8 else dice.randbytes(300)
    return Hostile(dice.choice(("PUT", "POST", "PATCH", "DELETE", "GET")), url, body, chosen)


class Outcome(NamedTuple):
    """What came of some requests."""

    statuses: Counter[int]
    slowest_s: float
    slowest: Hostile | None
    busiest_s: float
    """The most that a request took of the service's processor, to about 10 ms."""
    busiest: Hostile | None
    failed: list[Hostile]
    """Those that were answered with 5xx."""
    largest: int
    """The bytes of the longest answer."""
    memory: int
    """The most bytes that the service had in memory."""


def send(service: RunningService, hostile: Iterable[Hostile]) -> Outcome:
    """Send requests to a service, and look at it."""
    statuses: Counter[int] = Counter()
    slowest_s, slowest, busiest_s, busiest, largest, memory = 0.0, None, 0.0, None, 0, 0
    failed: list[Hostile] = []
    with service.client() as client:
        post(client, original("one"), original("two"))
        client.get("/readyz")
        worker = service.worker()
        for one in hostile:
            request = client.build_request(one.method, one.url, content=one.body, headers=[*one.headers])
            began, before_s = time.monotonic(), _cpu_s(worker)
            try:
                answer = client.send(request)
            except httpx.HTTPError:
                statuses[0] += 1  # cut off: only what is too large for a head
                continue
            took = time.monotonic() - began
            if took > slowest_s:
                slowest_s, slowest = took, one
            taken_s = _cpu_s(worker) - before_s
            if taken_s > busiest_s:
                busiest_s, busiest = taken_s, one
            statuses[answer.status_code] += 1
            largest = max(largest, len(answer.content))
            memory = max(memory, worker.memory_info().rss)
            if answer.status_code >= 500:
                failed.append(one)
    return Outcome(statuses, slowest_s, slowest, busiest_s, busiest, failed, largest, memory)


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, RunningService(Path(folder) / "data") as service:
        found = send(service, islice(requests(chosen.seed), chosen.count))
        log = service.log
    print(f"{chosen.count} requests of seed {chosen.seed}: {dict(sorted(found.statuses.items()))}")
    slowest, busiest = ("slowest", found.slowest_s, found.slowest), ("busiest", found.busiest_s, found.busiest)
    for what, seconds, one in (slowest, busiest):
        print(f"{what} {seconds * 1000:.0f} ms ({one.method if one else ''} {one.url[:80] if one else ''})")
    print(f"longest answer {found.largest} bytes; most memory {found.memory / 1e6:.0f} MB")
    print(f"tracebacks in the log: {log.count('Traceback')}")
    for one in found.failed[:10]:
        print("5xx:", one.method, one.url[:200], one.body[:200], one.headers)


if __name__ == "__main__":
    main()
