"""The answers that only the dashboard needs."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Annotated, Any, NamedTuple, get_args

import falcon
import msgspec
import zstandard
from falcon.asgi import Request, Response
from msgspec import UNSET, Meta, Struct, UnsetType

from contract import times
from contract.report import FUTURE_MS
from contract.selectors import MAX_PATTERN, host_matcher
from contract.times import DAY_MS, format_duration, parse_timestamp, wrong_end
from service.alerts.repository import RuleRepository
from service.alerts.rules import InvalidRule, Rule, parse_rule
from service.alerts.runner import Runner
from service.dashboard.analysis import KINDS, MAX_BACKTEST_WINDOWS, Analyst, Busy, Kind, Subject
from service.dashboard.columns import MAX_COLUMNS, PictureQuestion
from service.dashboard.fleet import MAX_ROWS, picture, picture_in_parts
from service.dashboard.matrix import FleetCache, Shown
from service.http.buckets import fitting_rate
from service.http.encoding import preferred
from service.http.listing import firing_alerts, one_of, take_selection, whole_number
from service.http.operation_parameters import AnalysisParameters, PictureParameters
from service.http.parameters import names_of
from service.http.problems import HTTPProblem, invalid
from service.http.queries import ask, check_user, gone, named_metric
from service.http.requests import Parameters, duration, read_json, text
from service.stores.base import Store

_BUSY_RETRY_S = "5"


class _Coding(NamedTuple):
    """A content coding: quick, as a picture is looked at at once, and by nobody again."""

    compressor: Callable[[], Any]
    flush: int
    """What makes it give all that it has, so that it can be read before the rest is there."""


_CODINGS: Mapping[str, _Coding] = {
    "zstd": _Coding(lambda: zstandard.ZstdCompressor(level=1).compressobj(), zstandard.COMPRESSOBJ_FLUSH_BLOCK),
    "gzip": _Coding(lambda: zlib.compressobj(1, wbits=16 + zlib.MAX_WBITS), zlib.Z_SYNC_FLUSH),
}


def _coded(parts: Iterator[bytes], coding: str | None) -> Iterator[bytes]:
    """Parts in a coding, each of which can be read when it is there."""
    if coding is None:
        yield from parts
        return
    make, flush = _CODINGS[coding]
    compressor = make()
    for part in parts:
        yield compressor.compress(part) + compressor.flush(flush)
    yield compressor.flush()


class FleetPicture:
    """All hosts over time, as the pixels of a heat map."""

    def __init__(self, cache: FleetCache, repository: RuleRepository) -> None:
        self._cache = cache
        self._repository = repository
        self._turn = asyncio.Semaphore(1)

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 with the picture (docs/api.md has its form); 503 where the store is away."""
        asked, in_parts = await _picture_asked(req, self._cache.store)
        coding = preferred(req.get_header("Accept-Encoding") or "")
        parts = _coded(self._parts(asked, in_parts=in_parts), coding)
        # Before there is something to send nothing is sent, the status neither.
        first = await self._part_of(parts)
        resp.content_type = "application/octet-stream"
        resp.set_header("Cache-Control", "no-store")
        resp.set_header("Vary", "Accept-Encoding")
        if coding:
            resp.set_header("Content-Encoding", coding)
        if in_parts:
            resp.stream = self._sent(first, parts, req)
        else:
            resp.data = first + b"".join(parts)

    def _parts(self, asked: PictureQuestion, *, in_parts: bool) -> Iterator[bytes]:
        self._cache.is_used()
        firing, now_ms = firing_alerts(self._repository), times.now_ms()
        if in_parts:
            yield from picture_in_parts(self._cache, asked, firing, now_ms)
        else:
            yield picture(self._cache, asked, firing, now_ms)

    async def _part_of(self, parts: Iterator[bytes]) -> bytes:
        """The next part; nothing behind the last."""
        async with self._turn:
            return await ask(next, parts, b"")

    async def _sent(self, first: bytes, parts: Iterator[bytes], req: Request) -> AsyncIterator[bytes]:
        """Parts as they are made. Where the store goes away meanwhile the connection is closed: it is not the whole."""
        left = asyncio.create_task(gone(req))
        try:
            part = first
            while part:
                yield part
                if left.done():
                    return
                part = await self._part_of(parts)
        finally:
            left.cancel()


async def _picture_asked(req: Request, store: Store) -> tuple[PictureQuestion, bool]:
    """What is asked for, and whether tables are to come behind the pixels."""
    asked = await Parameters.read(req, names_of(PictureParameters))
    for name in ("columns", "rows"):
        if req.params.get(name) == "":
            asked.refuse(name, "expected a whole number, got nothing")
    now_ms = times.now_ms()
    end_ms = asked.take("end", parse_timestamp, now_ms)
    question = PictureQuestion(
        metric=named_metric(asked.take("metric", text, "cpuUtilization")),
        statistic=asked.take("stat", lambda value: one_of(value, get_args(Shown)), "mean"),
        start_ms=asked.take("start", parse_timestamp, end_ms - DAY_MS),
        end_ms=end_ms,
        rate_ms=asked.take("resample_rate", duration, None),
        columns=asked.take("columns", lambda value: whole_number(value, 1, MAX_COLUMNS), 300),
        rows=asked.take("rows", lambda value: whole_number(value, 1, MAX_ROWS), 400),
        **take_selection(req, asked),
    )
    in_parts = asked.take("tables", lambda value: one_of(value, ("first", "last")), "first") == "last"
    if question.metric.over_cores:
        asked.refuse("metric", f"expected a metric of hosts, got {question.metric.name}, which compares cores")
    if question.end_ms <= question.start_ms:
        asked.refuse("end", wrong_end(question.start_ms, question.end_ms))
    if question.rate_ms is not None and question.end_ms - question.start_ms > question.rate_ms * MAX_COLUMNS:
        advice = fitting_rate(question.end_ms - question.start_ms, MAX_COLUMNS)
        asked.refuse("resample_rate", f"expected at most {MAX_COLUMNS} columns, got more: {advice}")
    if question.rate_ms is not None and not asked.refused:
        finest_ms = store.finest_ms(question.start_ms, now_ms)
        if question.rate_ms % finest_ms:
            asked.refuse(
                "resample_rate", f"expected a multiple of {format_duration(finest_ms)}, as is kept so far back"
            )
    asked.check()
    return question, in_parts


class HostAnalysis:
    """What a method says of a host."""

    def __init__(self, store: Store, analyst: Analyst) -> None:
        self._store = store
        self._analyst = analyst

    async def on_get(self, req: Request, resp: Response, kind: str, user_id: str) -> None:
        """200 with the answer, `unavailable` in it where there are too few data; 404 for what is not known."""
        known: dict[str, Kind] = {name: name for name in KINDS}
        if kind not in known:
            raise HTTPProblem(falcon.HTTP_404, f"expected one of {', '.join(KINDS)}, got {kind[:32]!r}")
        asked = await Parameters.read(req, names_of(AnalysisParameters))
        end_ms = asked.take("end", parse_timestamp, times.now_ms())
        metric = named_metric(asked.take("metric", text, "cpuUtilization"))
        subject = Subject(
            user_id, metric, asked.take("start", parse_timestamp, end_ms - DAY_MS), end_ms,
            asked.take("tz", _time_zone, "UTC"),
        )  # fmt: skip
        if metric.over_cores:
            asked.refuse("metric", f"expected a metric of hosts, got {metric.name}, which compares cores")
        if subject.end_ms <= subject.start_ms:
            asked.refuse("end", wrong_end(subject.start_ms, subject.end_ms))
        asked.check()
        check_user(self._store, user_id, metric.quantity, None)
        await _answer(resp, self._analyst.analyse(known[kind], subject))


def _time_zone(value: Any) -> str:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        raise ValueError(f"expected a time zone such as Europe/Berlin, got {str(value)[:32]!r}") from None
    return str(value)


class NewBacktest(Struct, forbid_unknown_fields=True):
    """A rule, and the range that it is tried on."""

    start: str | int
    end: str | int
    rule: str | UnsetType = UNSET
    """The name of a rule that is there,"""
    definition: dict[str, Any] | UnsetType = UNSET
    """or a rule that is not there yet."""
    user: Annotated[str, Meta(min_length=1, max_length=MAX_PATTERN)] = "*"
    """The hosts whose periods are told: an id, a pattern, or labels such as `role=web`."""


class RuleBacktest:
    """When a rule would have fired."""

    def __init__(self, store: Store, runner: Runner, repository: RuleRepository, analyst: Analyst) -> None:
        self._store = store
        self._runner = runner
        self._repository = repository
        self._analyst = analyst

    async def on_post(self, req: Request, resp: Response) -> None:
        """200 with the periods in which it would have fired; 404 for an unknown rule, 422 for what is wrong."""
        try:
            asked = msgspec.convert(await read_json(req, "application/json"), NewBacktest)
            start_ms, end_ms = parse_timestamp(asked.start), parse_timestamp(asked.end)
        except (msgspec.ValidationError, ValueError) as error:
            raise HTTPProblem(falcon.HTTP_422, f"The backtest cannot be made like this: {error}") from None
        if end_ms <= start_ms:
            raise invalid("/end", wrong_end(start_ms, end_ms))
        rule = await self._rule(asked)
        users = await asyncio.to_thread(self._store.users)
        # Before the first window there is nothing to try it on, nor behind the last that there can be.
        first_ms = int(users["first_seen"].min().value // 1_000_000) if len(users) else end_ms
        end_ms = min(end_ms, times.now_ms() + FUTURE_MS)
        start_ms = min(max(start_ms, first_ms), end_ms)
        rate_ms = _backtest_rate(self._store, start_ms, end_ms, max(len(users), 1))
        await _answer(resp, self._tested(rule, (start_ms, end_ms), format_duration(rate_ms), asked.user))

    async def _tested(self, rule: Rule, range_ms: tuple[int, int], rate: str, user: str) -> dict[str, Any]:
        """What the rule would have said of the hosts that are meant."""
        matches, labels_of = host_matcher([user]), self._store.labels_of
        told = await self._analyst.backtest(rule, *range_ms, rate)
        return told | {"periods": [one for one in told["periods"] if matches(one["user"], labels_of(one["user"]))]}

    async def _rule(self, asked: NewBacktest) -> Rule:
        if isinstance(asked.definition, dict):
            try:
                return parse_rule({"name": "draft"} | asked.definition)
            except InvalidRule as error:
                raise HTTPProblem(falcon.HTTP_422, "The rule is wrong.", error.problems) from None
        if asked.rule is UNSET:
            raise invalid("/rule", "expected rule, a name, or definition, a rule; got neither")
        rule = self._runner.rule_set.rules.get(asked.rule)
        if rule is None:
            rule, _ = (await asyncio.to_thread(self._repository.rules)).get(asked.rule, (None, 0))
        if rule is None:
            raise HTTPProblem(falcon.HTTP_404, f"No rule is named {asked.rule!r}; GET /api/v1/rules lists them.")
        return rule


def _backtest_rate(store: Store, start_ms: int, end_ms: int, users: int) -> int:
    """The finest width of buckets that a backtest over so many users can look at in some seconds."""
    finest_ms = store.finest_ms(start_ms, times.now_ms())
    least_ms = max((end_ms - start_ms) * users // MAX_BACKTEST_WINDOWS, finest_ms)
    rates = [seconds * 1000 for seconds in (5, 10, 30, 60, 300, 900, 3600, 6 * 3600, 24 * 3600)]
    return next((rate for rate in rates if rate >= least_ms and rate % finest_ms == 0), DAY_MS)


async def _answer(resp: Response, work: Any) -> None:
    try:
        document = await work
    except Busy:
        raise HTTPProblem(
            falcon.HTTP_503, "Many analyses wait already; ask again in a few seconds.",
            headers={"Retry-After": _BUSY_RETRY_S},
        ) from None  # fmt: skip
    resp.content_type = falcon.MEDIA_JSON
    resp.set_header("Cache-Control", "no-store")
    resp.data = msgspec.json.encode(document)
