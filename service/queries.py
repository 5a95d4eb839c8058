"""What a history or fleet query asks, from the query string or from a JSON body on GET."""

import difflib
import time
from typing import Any, get_args

import falcon
import msgspec
from falcon.asgi import Request
from msgspec import Struct

from contract.durations import format_duration, parse_duration
from contract.metrics import NAMES, STATISTICS, NamedMetric, Statistic
from contract.problems import Problem
from contract.timestamps import parse_timestamp
from service.bodies import read_body
from service.problems import ProblemError, invalid
from service.stores.base import Grouping, Store

__all__ = ["Query", "named_metric", "read_query"]

MAX_BUCKETS = 100_000
DAY_MS = 24 * 60 * 60 * 1000
_DEFAULT_RATE_MS = 15 * 60 * 1000
_GROUPINGS: tuple[str, ...] = get_args(Grouping)
_ROUND_RATES = [
    "1s",
    "2s",
    "5s",
    "10s",
    "15s",
    "30s",
    "1m",
    "2m",
    "5m",
    "10m",
    "15m",
    "30m",
    "1h",
    "2h",
    "3h",
    "6h",
    "12h",
    "1d",
    "1w",
    "4w",
    "12w",
    "52w",
]


class Query(Struct, frozen=True, kw_only=True):
    """A checked query. Times are epoch milliseconds, the range is half-open."""

    start_ms: int
    end_ms: int
    rate_ms: int
    statistic: Statistic
    core: int | None
    by: Grouping | None
    top: int | None


async def read_query(req: Request, metric: NamedMetric, store: Store, *, fleet: bool) -> Query:
    """The query of a request for `metric` to `store`.

    Missing members get their defaults: the day before now, 15 minutes, the metric's own statistic. Raises
    ProblemError (422, or 400 for a body that is not a JSON object) that names the wrong member.
    """
    values, prefix = await _values(req, _FLEET if fleet else _HISTORY)
    problems: list[Problem] = []

    def take(name: str, convert: Any, default: Any) -> Any:
        value = values.get(name)
        if value is None:
            return default
        try:
            return convert(value)
        except ValueError as error:
            problems.append(Problem(prefix + name, str(error)))
            return default

    now_ms = time.time_ns() // 1_000_000
    end_ms = take("end", parse_timestamp, now_ms)
    start_ms = take("start", parse_timestamp, end_ms - DAY_MS)
    rate_ms = take("resample_rate", _duration, _DEFAULT_RATE_MS)
    query = Query(
        start_ms=start_ms,
        end_ms=end_ms,
        rate_ms=rate_ms,
        statistic=take("stat", _statistic, metric.statistic),
        core=take("core", lambda value: _core(value, metric), None),
        by=take("by", _grouping, None),
        top=take("top", _top, None),
    )
    if not problems:
        problems.extend(_range_problems(query, prefix))
        finest_ms = store.finest_ms(query.start_ms, now_ms)
        if query.rate_ms % finest_ms:
            detail = f"so far back only rollups are kept: a multiple of {format_duration(finest_ms)} is right"
            problems.append(Problem(prefix + "resample_rate", detail))
    if problems:
        raise ProblemError(falcon.HTTP_422, "The query is invalid.", problems)
    return query


_HISTORY = ("start", "end", "resample_rate", "stat", "core")
_FLEET = ("start", "end", "resample_rate", "stat", "by", "top")


def _range_problems(query: Query, prefix: str) -> list[Problem]:
    if query.end_ms < query.start_ms:
        return [Problem(prefix + "end", "is before start; the range is [start, end)")]
    buckets = -(-(query.end_ms - query.start_ms) // query.rate_ms)
    if buckets > MAX_BUCKETS:
        least = -(-(query.end_ms - query.start_ms) // MAX_BUCKETS)
        fitting = next((rate for rate in _ROUND_RATES if parse_duration(rate) >= least), None)
        advice = f"a rate of {fitting} would do" if fitting else "ask for a shorter range"
        return [
            Problem(
                prefix + "resample_rate",
                f"{format_duration(query.rate_ms)} makes {buckets} buckets of this range; "
                f"at most {MAX_BUCKETS} are answered: {advice}",
            )
        ]
    if query.top is not None and query.by is None:
        return [Problem(prefix + "top", "goes with by: it keeps the groups with the highest values")]
    return []


async def _values(req: Request, names: tuple[str, ...]) -> tuple[dict[str, Any], str]:
    """The members of the query, and what stands in front of their names in a pointer."""
    body = await read_body(req) if req.content_length or req.get_header("Transfer-Encoding") else b""
    if body.strip():
        try:
            return msgspec.json.decode(body, type=dict[str, Any]), "/"
        except (msgspec.DecodeError, RecursionError) as error:
            raise ProblemError(
                falcon.HTTP_400, f'The body is not a JSON object such as {{"start": "2018-07-12T12:15:00Z"}}: {error}'
            ) from None
    for name, value in req.params.items():
        if name not in names:
            close = difflib.get_close_matches(name, names, 1)
            hint = f"did you mean {close[0]}?" if close else f"the parameters are {', '.join(names)}"
            raise invalid(name, f"is not a parameter here; {hint}")
        if not isinstance(value, str):
            raise invalid(name, "is given more than once")
    return {name: value for name, value in req.params.items() if value}, ""


def named_metric(name: str) -> NamedMetric:
    """The metric of a name; raises ProblemError 404 with the names there are."""
    metric = NAMES.get(name)
    if metric is None:
        close = difflib.get_close_matches(name, NAMES, 1)
        hint = f"Did you mean {close[0]}? " if close else ""
        raise ProblemError(
            falcon.HTTP_404, f"There is no metric {name!r}. {hint}GET /api/v1/metrics lists them: {', '.join(NAMES)}."
        )
    return metric


def _duration(value: Any) -> int:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a duration; a text such as 15m is right")
    return parse_duration(value)


def _statistic(value: Any) -> Statistic:
    for statistic in STATISTICS:
        if statistic == value:
            return statistic
    raise ValueError(f"{value!r} is not a statistic; one of {', '.join(STATISTICS)} is right")


def _core(value: Any, metric: NamedMetric) -> int:
    if not metric.by_core:
        raise ValueError(f"does not go with {metric.name}; it goes with cpuLoadAvg, cpuLoadVar and cpuUtilization")
    text = str(value)
    if not text.isascii() or not text.isdecimal() or int(text) > 65535:
        raise ValueError(f"{value!r} is not the number of a core; 0, 1, ... is right")
    return int(text)


def _grouping(value: Any) -> Grouping:
    if value not in _GROUPINGS:
        raise ValueError(f"{value!r} is not a grouping; one of {', '.join(_GROUPINGS)} is right")
    grouping: Grouping = value
    return grouping


def _top(value: Any) -> int:
    text = str(value)
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= 10_000:
        raise ValueError(f"{value!r} is not a number of groups; 1 to 10000 is right")
    return int(text)
