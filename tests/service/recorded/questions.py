"""What is asked: histories, the fleet, windows, pages, the live stream; each form, and each way to ask wrongly."""

from itertools import product
from typing import Any

from tests.service.recorded.asking import API, get, query, segment, send
from tests.service.recorded.fleet import DAY_MS, START_MS, moment

__all__ = ["QUESTIONS", "STREAMS"]

JsonObject = dict[str, Any]
ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"
CSV = "text/csv"
FORMS = (CSV, ARROW, PARQUET)
STATISTICS = ("mean", "var", "std", "min", "max", "p50", "p95", "p99", "count")
OVER_CORES = ("cpuCoreLoadAvgMax", "cpuCoreLoadAvgMin", "cpuCoreLoadVarMax", "cpuCoreLoadVarMin", "cpuCoreLoadMinMin")
OTHERS = (
    "memoryUtilization", "swapUtilization", "diskReadBytes", "diskWrittenBytes", "diskReads", "diskWrites",
    "networkReceivedBytes", "networkSentBytes", "load1m", "load5m", "load15m",
)  # fmt: skip
ALL = {"start": "2025-03-10", "end": "2025-03-13"}
DENSE = {"start": moment(0, 9, 58), "end": moment(0, 10, 1)}
RAGGED = {"start": "2025-03-10T09:58:33.5Z", "end": "2025-03-12T00:00:41Z"}
"""Neither end lies on an edge of a bucket."""


def history(metric: str, user: str, parameters: JsonObject, **options: Any) -> JsonObject:
    """A history in the query string."""
    return get(f"/metrics/{metric}/byUser/{segment(user)}{query(parameters)}", **options)


def told(metric: str, user: str, document: JsonObject, **options: Any) -> JsonObject:
    """A history in the body of a GET."""
    return send("GET", f"{API}/metrics/{metric}/byUser/{segment(user)}", {"json": document}, **options)


def fleet(parameters: JsonObject, metric: str = "cpuLoadAvg", **options: Any) -> JsonObject:
    """Values of the fleet."""
    return get(f"/metrics/{metric}/fleet{query(parameters)}", **options)


def windows(user: str | None, parameters: JsonObject, **options: Any) -> JsonObject:
    """Windows of a user, or of the fleet."""
    place = "fleet" if user is None else f"byUser/{segment(user)}"
    return get(f"/windows/{place}{query(parameters)}", **options)


ORIGINAL_QUESTION = {"start": "2018-07-12T12:15:00Z", "end": "2018-07-12T16:15:00Z", "resample_rate": "15m"}

_HISTORIES = [
    told("cpuLoadAvg", "6a:d6:96:d3:45:35", ORIGINAL_QUESTION, Content_Type="application/json"),
    *(told(name, "6a:d6:96:d3:45:35", ORIGINAL_QUESTION) for name in ("cpuLoadVar", "cpuUtilization", *OVER_CORES)),
    *(
        history("cpuLoadAvg", "web-1", ALL | {"resample_rate": rate, "stat": statistic})
        for rate, statistic in product(("1h", "1d"), STATISTICS)
    ),
    *(history("cpuLoadAvg", "web-1", DENSE | {"resample_rate": "10s", "stat": one}) for one in STATISTICS),
    *(history("cpuLoadAvg", "web-2", ALL | {"resample_rate": "6h", "stat": one}) for one in STATISTICS),
    *(
        history("cpuLoadAvg", "web-1", RAGGED | {"resample_rate": rate, "stat": statistic})
        for rate, statistic in product(("5m", "15m", "1h30m", "1d", "1w"), ("mean", "std", "p95"))
    ),
    *(history("cpuLoadAvg", "web-1", ALL | {"resample_rate": "3h", "core": core}) for core in range(4)),
    history("cpuLoadVar", "web-1", ALL | {"resample_rate": "12h", "core": 2}),
    history("cpuUtilization", "web-1", DENSE | {"resample_rate": "30s", "core": 3, "stat": "p99"}),
    *(history("cpuUtilization", "db/main", ALL | {"resample_rate": "1d", "core": core}) for core in (0, 2, 5)),
    *(
        history(name, "web-1", ALL | {"resample_rate": "4h", "stat": statistic})
        for name, statistic in product(OVER_CORES[:2], ("mean", "max", "p50", "count"))
    ),
    *(history(name, "db/main", ALL | {"resample_rate": "8h"}) for name in (*OVER_CORES, *OTHERS)),
    *(
        history(name, "büro 7", ALL | {"resample_rate": "20m", "stat": statistic})
        for name, statistic in product(("diskReadBytes", "networkSentBytes", "load5m"), ("var", "min", "max", "p50"))
    ),
    history("memoryUtilization", "db/main", ALL | {"resample_rate": "1d", "stat": "p99"}),
    history("cpuLoadAvg", "lone", ALL),
    history("memoryUtilization", "lone", ALL),
    history("cpuCoreLoadAvgMax", "lone", ALL),
    history("cpuLoadAvg", "packed", ALL | {"resample_rate": "52w"}),
    history("cpuLoadAvg", "web-1", {}),
    history("cpuLoadAvg", "web-1", {"start": "", "end": "", "stat": ""}),
    history("cpuLoadAvg", "web-1", {"start": START_MS, "end": START_MS}),
    get("/metrics/cpuLoadAvg/byUser/web-1?start=2025-03-10T02:00:00+02:00&end=2025-03-10T12:00:00%2B02:00"),
    told("cpuLoadAvg", "web-1", {"start": START_MS, "end": float(START_MS + DAY_MS), "core": 1, "stat": "max"}),
    told("cpuLoadAvg", "web-1", {"start": START_MS, "end": START_MS + DAY_MS, "by": "user", "nonsense": 1}),
    told("cpuLoadAvg", "web-2", {"start": "2025-03-10t00:00", "end": "2025-03-11", "resample_rate": "720m"}),
    send("GET", f"{API}/metrics/cpuLoadAvg/byUser/web-1?start=1", {"text": "  "}),
    *(history("cpuLoadAvg", "web-2", ALL | {"resample_rate": "1d", "stat": "p95"}, Accept=form) for form in FORMS),
    *(history("cpuLoadVar", "web-1", ALL | {"resample_rate": "12h"}, Accept=form) for form in FORMS),
    *(history("swapUtilization", "lone", ALL, Accept=form) for form in FORMS),
    history("cpuLoadAvg", "lone", ALL, Accept="text/html, application/*;q=0.5"),
    history("cpuLoadAvg", "lone", ALL, Accept="text/csv;q=0.1, application/json;q=0.9"),
]

_WRONG_HISTORIES = [
    history("cpuLoadAvg", "lone", ALL, Accept="text/html"),
    history("cpuLoadAvg", "lone", ALL, Accept="image/png, text/xml"),
    history("cpuLoadAvrg", "web-1", ALL),
    history("nonsense", "web-1", ALL),
    history("cpuLoadAvg", "nobody", ALL),
    history("cpuLoadAvg", "lone", ALL | {"core": 0}),
    history("cpuLoadAvg", "web-1", ALL | {"core": 4}),
    history("cpuLoadAvg", "web-1", ALL | {"core": "first"}),
    history("cpuLoadAvg", "web-1", ALL | {"core": 65536}),
    history("cpuCoreLoadAvgMax", "web-1", ALL | {"core": 0}),
    history("memoryUtilization", "db/main", ALL | {"core": 0}),
    history("cpuLoadAvg", "web-1", ALL | {"stat": "median"}),
    history("cpuLoadAvg", "web-1", ALL | {"start": "yesterday"}),
    history("cpuLoadAvg", "web-1", ALL | {"start": 1_741_564_800}),
    history("cpuLoadAvg", "web-1", ALL | {"start": -5}),
    history("cpuLoadAvg", "web-1", ALL | {"start": "1969-12-31T23:59:59Z"}),
    history("cpuLoadAvg", "web-1", ALL | {"end": 253_402_300_800_000}),
    history("cpuLoadAvg", "web-1", ALL | {"end": "9999-12-31T23:59:59-01:00"}),
    history("cpuLoadAvg", "web-1", {"start": "2025-03-13", "end": "2025-03-10"}),
    history("cpuLoadAvg", "web-1", {"start": 0, "end": "2025-03-13", "resample_rate": "1s"}),
    history("cpuLoadAvg", "web-1", {"start": "1970-01-01", "end": "9999-12-31", "resample_rate": "1h"}),
    *(
        history("cpuLoadAvg", "web-1", ALL | {"resample_rate": rate})
        for rate in ("15", "15x", "500ms", "53w", "1M", "1500us", "1h 30m", "-5m", "0s")
    ),
    history("cpuLoadAvg", "web-1", {"start": "x", "end": "y", "resample_rate": "z", "stat": "s", "core": "c"}),
    history("cpuLoadAvg", "web-1", {"resample": "15m"}),
    history("cpuLoadAvg", "web-1", {"by": "user"}),
    history("cpuLoadAvg", "web-1", {"nonsense": 1}),
    get("/metrics/cpuLoadAvg/byUser/web-1?stat=mean&stat=max"),
    told("cpuLoadAvg", "web-1", {"start": True, "end": 1.5, "resample_rate": 15, "stat": 7, "core": [0]}),
    told("cpuLoadAvg", "web-1", {"start": None, "end": {}, "resample_rate": [], "stat": {}}),
    send("GET", f"{API}/metrics/cpuLoadAvg/byUser/web-1", {"text": "[]"}),
    send("GET", f"{API}/metrics/cpuLoadAvg/byUser/web-1", {"text": "{"}),
    send("GET", f"{API}/metrics/cpuLoadAvg/byUser/web-1", {"text": "{}", "encoding": "gzip"}),
    send("GET", f"{API}/metrics/cpuLoadAvg/byUser/web-1", {"text": "{}"}, Content_Encoding="br"),
    send("GET", f"{API}/metrics/cpuLoadAvg/byUser/web-1", {"json": ALL, "encoding": "gzip"}, Content_Encoding="gzip"),
    send("GET", f"{API}/metrics/cpuLoadAvg/byUser/web-1", {"json": ALL, "chunked": True}),
    send("POST", f"{API}/metrics/cpuLoadAvg/byUser/web-1"),
    get("/metrics/cpuLoadAvg/byUser/"),
    get("/metrics/cpuLoadAvg"),
]

_FLEET = [
    fleet({}),
    fleet({"by": "user"}),
    *(fleet(ALL | {"resample_rate": "12h", "stat": statistic}) for statistic in STATISTICS),
    *(
        fleet(ALL | {"resample_rate": "1d", "by": by, "stat": statistic})
        for by, statistic in product(("user", "os_type", "os_version"), STATISTICS)
    ),
    *(fleet(RAGGED | {"resample_rate": rate}) for rate in ("30s", "5m", "1h", "1d", "4w")),
    *(fleet(ALL | {"resample_rate": "1d", "by": "user", "top": top}) for top in (1, 2, 10_000)),
    fleet(ALL | {"resample_rate": "1d", "by": "os_type", "top": 1, "stat": "p50"}),
    *(fleet(ALL | {"resample_rate": "1d"}, name) for name in ("cpuLoadVar", "cpuUtilization", *OTHERS)),
    fleet(ALL | {"resample_rate": "1d", "by": "os_type", "stat": "p95"}, "networkReceivedBytes"),
    *(fleet(ALL | {"resample_rate": "1d", "by": "os_version"}, Accept=form) for form in FORMS),
    fleet(ALL | {"resample_rate": "1d", "stat": "max"}, Accept=CSV),
    send("GET", f"{API}/metrics/cpuLoadAvg/fleet", {"json": ALL | {"by": "os_type", "top": 1, "resample_rate": "1d"}}),
    send("GET", f"{API}/metrics/cpuLoadAvg/fleet", {"json": ALL | {"by": "os", "top": 0.5}}),
    *(fleet(ALL | {"by": "user", "top": top}) for top in (0, 10_001, "three")),
    fleet(ALL | {"top": 3}),
    fleet(ALL | {"by": "host"}),
    fleet(ALL | {"core": 0}),
    fleet(ALL | {"bye": "user"}),
    fleet(ALL, "cpuCoreLoadAvgMax"),
    fleet(ALL, "cpuLoadMin"),
    fleet(ALL, Accept="text/plain"),
    send("DELETE", f"{API}/metrics/cpuLoadAvg/fleet"),
]

_WINDOWS = [
    windows("web-1", {}),
    windows(None, {}),
    *(windows("web-1", ALL | {"resample_rate": rate}) for rate in ("5m", "1h", "1d")),
    windows("web-1", ALL | {"resample_rate": "raw"}),
    windows("web-1", DENSE | {"resample_rate": "raw", "core": "each"}),
    windows("web-1", RAGGED | {"resample_rate": "1d", "core": "each", "histograms": "true"}),
    windows("web-1", RAGGED | {"resample_rate": "2h", "core": 1, "histograms": 1}),
    windows("web-2", ALL | {"resample_rate": "1d", "histograms": "true"}),
    windows("db/main", ALL | {"resample_rate": "1d", "metric": "cpuLoadAvg", "core": "each"}),
    *(windows("db/main", ALL | {"resample_rate": "1d", "metric": name}) for name in OTHERS),
    windows("büro 7", ALL | {"resample_rate": "raw", "metric": "diskReads", "histograms": "true"}),
    windows("lone", ALL | {"resample_rate": "raw", "histograms": "false"}),
    windows(None, ALL | {"resample_rate": "1d"}),
    windows(None, ALL | {"resample_rate": "1d", "histograms": "true"}),
    windows(None, ALL | {"resample_rate": "1d", "by": "user"}),
    windows(None, ALL | {"resample_rate": "raw", "by": "user", "metric": "load1m"}),
    windows(None, ALL | {"resample_rate": "raw", "metric": "memoryUtilization"}),
    *(
        windows(user, parameters, Accept=form)
        for form in FORMS
        for user, parameters in (
            ("web-1", RAGGED | {"resample_rate": "12h", "core": "each", "histograms": "true"}),
            ("db/main", ALL | {"resample_rate": "raw", "metric": "networkSentBytes", "histograms": "true"}),
            (None, ALL | {"resample_rate": "1d", "by": "user", "histograms": "true"}),
            (None, ALL | {"resample_rate": "6h"}),
            ("lone", ALL | {"metric": "swapUtilization"}),
        )
    ),
    # In several pieces: each is sent while the next is read.
    windows(None, {"start": "2025-03-01", "end": "2025-03-20", "resample_rate": "raw", "by": "user"}, Accept=ARROW),
    send("GET", f"{API}/windows/fleet", {"json": ALL | {"by": "user", "histograms": True, "resample_rate": "4w"}}),
    send("GET", f"{API}/windows/byUser/web-1", {"json": ALL | {"core": 0, "histograms": False, "resample_rate": "1d"}}),
    windows("nobody", ALL),
    windows("web-1", ALL | {"core": 9}),
    windows("db/main", ALL | {"core": 1}),
    windows("web-1", ALL | {"core": "all"}),
    windows("db/main", ALL | {"metric": "memoryUtilization", "core": "each"}),
    windows("web-1", ALL | {"metric": "nonsense"}),
    windows("web-1", ALL | {"metric": "cpuCoreLoadAvgMax"}),
    windows("web-1", ALL | {"resample_rate": "rough"}),
    windows("web-1", ALL | {"histograms": "yes"}),
    windows("web-1", ALL | {"stat": "mean"}),
    windows("web-1", ALL | {"by": "user"}),
    windows(None, ALL | {"by": "os_type"}),
    windows(None, ALL | {"core": 0}),
    windows(None, ALL | {"start": "x", "end": "y", "resample_rate": "z", "by": "b", "histograms": "h"}),
    windows("web-1", {"start": "2025-03-13", "end": "2025-03-10"}),
    windows("web-1", {"start": 0, "end": "2025-03-13", "resample_rate": "raw"}),
    windows(None, {"start": 0, "end": "2025-03-13", "resample_rate": "10s", "by": "user"}),
    windows("web-1", ALL, Accept="text/html"),
    send("GET", f"{API}/windows/byUser/web-1", {"json": ALL | {"metric": 7}}),
    send("GET", f"{API}/windows/byUser/web-1", {"json": ALL | {"histograms": "perhaps", "core": 1.5}}),
    send("GET", f"{API}/windows/byUser/web-1", {"text": '"text"'}),
    send("POST", f"{API}/windows/fleet"),
    get("/windows"),
]

_PAGES = [
    get("//healthz"),
    get("//readyz"),
    get("//metrics"),
    get("/metrics"),
    get("/users"),
    get("//"),
    get("//?q=web"),
    get("//?q=nobody+%3Cscript%3E", Host="127.0.0.1:9999"),
    get("//", Host="[::1]:8888"),
    get("//?p=web"),
    get("//?q=a&q=b"),
    get("//nonsense"),
    get("/nonsense"),
    send("POST", "/"),
    send("POST", "/healthz"),
    send("DELETE", "/api/v1/users"),
    send("OPTIONS", "/api/v1/settings"),
    get("//", Host="localhost:port"),
    get("/users", Host="evil.example:8888"),
    get("//healthz", Host="evil.example"),
    get("/users", Host="app.localhost"),
    get("/users", Origin="http://evil.example"),
    send("POST", "/api/v1/metrics", {"text": "{}"}, Origin="http://evil.example"),
    send("POST", "/api/v1/metrics", {"text": "{}"}, Origin="http://localhost:8888"),
    send("POST", "/api/v1/metrics", {"text": "{}"}, Sec_Fetch_Site="cross-site"),
    send("POST", "/api/v1/metrics", {"text": "{}"}, Sec_Fetch_Site="same-origin"),
]

_REPORTS = [
    get("//reports/users/nobody"),
    get("//reports/fleet?start=2024-01-01&end=2024-01-02&format=json"),
    get("//reports/fleet?format=pdf"),
    get("//reports/fleet?last=1x&compare=never&start=x&end=y&target=high"),
    get("//reports/fleet?start=2025-03-10&last=1d"),
    get("//reports/fleet?start=2025-03-13&end=2025-03-10"),
    get("//reports/fleet?target=0"),
    get("//reports/fleet?ende=2025-03-10"),
    get("//reports/fleet", Accept="image/png"),
    send("GET", "/reports/fleet", {"json": {"target": True}}),
    send("POST", "/reports/fleet"),
    get("//reports/users/web-2?start=2025-03-10&end=2025-03-13&format=md"),
    get("//reports/fleet?start=2025-03-10&end=2025-03-13&compare=1d&format=json"),
]

_WHO = [
    get(f"/who{query(ALL | {'resample_rate': '1d'})}"),
    get(f"/who{query(ALL | {'host': 'web-1', 'by': 'unit', 'top': 3})}"),
    get("/who?host=nobody"),
    get("/who?by=thread&top=0&start=x&resample_rate=1x"),
    get(f"/who{query(ALL | {'resample_rate': '1s'})}"),
    send("POST", f"{API}/who"),
]

QUESTIONS = [*_HISTORIES, *_WRONG_HISTORIES, *_FLEET, *_WINDOWS, *_PAGES, *_REPORTS, *_WHO]


def stream(parameters: JsonObject, **options: Any) -> JsonObject:
    """The live stream."""
    return get(f"/stream{query(parameters)}", **options)


STREAMS = [
    stream({"after": 0, "user": "lone", "fields": "user_id,end_timestamp,report_id,cpuLoadAvg"}, blocks=3),
    stream({"after": 0, "user": "web-?", "fields": "user_id,cpuLoadAvg.p95,cpuCoreLoadAvgMax,load1m"}, blocks=20),
    stream({"after": 0, "type": "DISK", "fields": "user_id,diskReadBytes,diskReads.max"}, blocks=12),
    stream({"after": 0, "os": "Windows", "metric": "cpuLoadAvg", "above": 0.4, "fields": "cpuLoadAvg"}, blocks=3),
    stream({"user": "lone"}, Last_Event_ID="0", blocks=3),
    send("WEBSOCKET", f"{API}/stream?after=0&user=lone&fields=user_id,cpuLoadVar.count", blocks=3),
    send("WEBSOCKET", f"{API}/stream?after=x&user="),
    send("WEBSOCKET", f"{API}/stream", Origin="http://evil.example"),
    send("WEBSOCKET", f"{API}/users"),
    stream({"after": "x"}),
    stream({"after": -1}),
    stream({}, Last_Event_ID="first"),
    stream({"user": ""}),
    stream({"user": "u" * 129}),
    stream({"os": "BeOS"}),
    stream({"type": "GPU"}),
    stream({"metric": "cpuLoadAvrg"}),
    stream({"metric": "cpuLoadAvg", "stat": "median"}),
    stream({"metric": "cpuLoadAvg", "above": "high", "below": "nan"}),
    stream({"above": 0.5}),
    get("/stream?metric=cpuLoadAvg&metric=cpuLoadVar"),
    stream({"fields": "user_id,nonsense,cpuLoadAvg.median"}),
    stream({"fields": ",".join(["user_id"] * 65)}),
    get("/stream?" + "&".join(f"user=u{place}" for place in range(65))),
    stream({"filter": "x"}),
    send("POST", f"{API}/stream"),
]
"""The live stream: what the journal still has, and what cannot be followed."""
