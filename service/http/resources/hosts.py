"""The hosts as the dashboard lists them: what is known of each, and its exact statistics over a range."""

import asyncio
import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import falcon
import msgspec
from falcon.asgi import Request, Response

from contract import times
from contract.metrics import NamedMetric
from contract.selectors import labels_text
from contract.times import DAY_MS, format_instant, parse_timestamp, wrong_end
from service.dashboard.hosts import ListedHosts, Selection, page_of
from service.dashboard.matrix import FleetCache
from service.http.answers import ARROW, CSV, JSON, arrow_stream, harmless, preferred
from service.http.listing import take_limit, take_selection, whole_number
from service.http.parameters import MAX_LIMIT, MAX_USERS, HostsParameters, names_of
from service.http.problems import HTTPProblem
from service.http.queries import ask, named_metric
from service.http.requests import Parameters, duration, text

_COLUMNS = (
    "user_id", "states", "mean", "p95", "max", "change", "cores", "os_type", "last_seen", "labels",
)  # fmt: skip
_FORMS = (JSON, CSV, ARROW)


class HostTable:
    """Lists hosts with their statistics, chosen and sorted as in the fleet's picture."""

    def __init__(self, cache: FleetCache, alerting: Callable[[], frozenset[str]]) -> None:
        """`alerting` names the hosts about which an alert fires, and may block."""
        self._cache = cache
        self._alerting = alerting

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 with a page of them; 503 where the store is away."""
        form = JSON if req.accept == "*/*" else preferred(req, _FORMS)
        if form is None:
            raise HTTPProblem(falcon.HTTP_406, f"Accept: {req.accept} asks for none of {', '.join(_FORMS)}.")
        asked = await Parameters.read(req, names_of(HostsParameters))
        now_ms = times.now_ms()
        metric = named_metric(asked.take("metric", text, "cpuUtilization"))
        if metric.over_cores:
            asked.refuse("metric", f"expected a metric of hosts, got {metric.name}, which compares cores")
        end_ms = asked.take("end", parse_timestamp, now_ms)
        start_ms = asked.take("start", parse_timestamp, end_ms - DAY_MS)
        # Callers who ask for a picture with it may ask for its hosts with it too.
        asked.take("resample_rate", duration, 1)
        wanted = Selection(**take_selection(req, asked))
        limit = take_limit(asked, MAX_USERS, MAX_LIMIT)
        after = asked.take("after", lambda value: whole_number(value, 0, 10**9), 0)
        if end_ms <= start_ms:
            asked.refuse("end", wrong_end(start_ms, end_ms))
        asked.check()
        page = await ask(self._found, wanted, metric, (start_ms, end_ms), now_ms, (after, after + limit))
        resp.content_type = form
        resp.set_header("Cache-Control", "no-store")
        resp.append_header("Vary", "Accept")
        behind = str(after + limit) if page.total > after + limit else None
        resp.data = await asyncio.to_thread(_encoded, page, form, behind)

    def _found(
        self, wanted: Selection, metric: NamedMetric, range_ms: tuple[int, int], now_ms: int, page: tuple[int, int]
    ) -> ListedHosts:
        return page_of(self._cache, wanted, metric.quantity, range_ms, self._alerting(), now_ms, page)


def _encoded(page: ListedHosts, form: str, behind: str | None) -> bytes:
    """A page, and where the next begins."""
    if form == ARROW:
        about = {"total": str(page.total)} | ({"next": behind} if behind else {})
        return arrow_stream(page.table().replace_schema_metadata(about))
    found = page.documents()
    for one in found:
        one["last_seen"] = format_instant(one.pop("seen"))
        one["max"] = one.pop("maximum")
    rows = [{name: one[name] for name in _COLUMNS} for one in found]
    return _csv(rows) if form == CSV else msgspec.json.encode({"machines": rows, "total": page.total, "next": behind})


def _csv(found: Sequence[Mapping[str, Any]]) -> bytes:
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for one in found:
        texts = {
            "user_id": harmless(one["user_id"]), "states": " ".join(one["states"]),
            "labels": harmless(labels_text(one["labels"])),
        }  # fmt: skip
        writer.writerow((dict(one) | texts)[name] for name in _COLUMNS)
    return sink.getvalue().encode()
