"""/api/v1/metrics: reports come in by POST; GET tells which metrics there are."""

import asyncio
from collections.abc import Sequence

import falcon
import msgspec
from falcon.asgi import Request, Response

from contract import times
from contract.agent_protocol import Instructions
from contract.metrics import NAMES, STATISTICS, TYPES, type_name
from contract.problems import Problem, decode_json
from contract.report import Report
from contract.validation import InvalidReport, MalformedReport, accepted
from service.agents.remote_configuration import RemoteConfiguration
from service.http.problems import ProblemError
from service.http.requests import read_body
from service.ingest.acknowledgement import Acknowledgement, Ingest, Unavailable
from service.stores.base import Store

_LINES = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/jsonlines")
_ACCEPTED = msgspec.json.encode(Acknowledgement(1, 0)._asdict())
_CATALOGUE = msgspec.json.encode(
    {
        "metrics": [
            {
                "name": metric.name,
                "title": metric.title,
                "unit": metric.quantity.unit,
                "statistic": metric.statistic,
                "by_core": metric.by_core,
                "type": type_name(kind),
                "stored": metric.quantity.name,
            }
            for metric in NAMES.values()
            for kind in TYPES
            if metric.quantity in kind.quantities
        ],
        "statistics": STATISTICS,
    }
)
_SLICE = 200
"""Reports decoded before other requests get their turn."""


class Rejected(msgspec.Struct, frozen=True):
    """A report of a batch that was not kept."""

    index: int
    """Its place in the batch, from 0; lines without content do not count."""
    problems: Sequence[Problem]


class Metrics:
    """Takes one report, a JSON array of reports, or one report a line (NDJSON)."""

    def __init__(self, ingest: Ingest, store: Store, remote_configuration: RemoteConfiguration) -> None:
        self._ingest = ingest
        self._store = store
        self._remote_configuration = remote_configuration

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 with the catalogue: what can be asked for."""
        resp.content_type = falcon.MEDIA_JSON
        resp.data = _CATALOGUE

    async def on_post(self, req: Request, resp: Response) -> None:
        """202 with counts, once the reports are on disk and answered by queries."""
        body = await read_body(req)
        if req.content_type and req.content_type.startswith(_LINES):
            await self._take_batch(_lines(body), resp)
        elif body.lstrip(b" \t\r\n")[:1] == b"[":
            await self._take_batch(_elements(body), resp)
        else:
            await self._take_one(body, resp)

    async def _take_one(self, body: bytes, resp: Response) -> None:
        try:
            now_ms = times.now_ms()
            report, text = accepted(body, now_ms, self._store.oldest_ms(now_ms))
        except MalformedReport as error:
            if b"\n" in body and "trailing characters" in str(error):
                await self._take_batch(_lines(body), resp)
                return
            raise ProblemError(falcon.HTTP_400, error.problems[0].detail) from None
        except InvalidReport as error:
            self._ingest.rejected += 1
            raise ProblemError(
                falcon.HTTP_422, "The report is invalid; nothing of it was stored.", error.problems
            ) from None
        try:
            acknowledgement = await self._ingest.take([text], [report])
        except Unavailable as error:
            raise _unavailable(error) from None
        told = self._remote_configuration.heard(report, now_ms)
        resp.status = falcon.HTTP_202
        resp.content_type = falcon.MEDIA_JSON
        resp.data = _ACCEPTED if acknowledgement.accepted and told is None else _answer(acknowledgement, told)

    async def _take_batch(self, bodies: Sequence[bytes], resp: Response) -> None:
        kept: list[bytes] = []
        reports: list[Report] = []
        rejected: list[Rejected] = []
        now_ms = times.now_ms()
        oldest_ms = self._store.oldest_ms(now_ms)
        for index, body in enumerate(bodies):
            try:
                report, text = accepted(body, now_ms, oldest_ms)
                reports.append(report)
                kept.append(text)
            except InvalidReport as error:
                rejected.append(Rejected(index, error.problems))
            if index % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)
        self._ingest.rejected += len(rejected)
        try:
            acknowledgement = await self._ingest.take(kept, reports) if reports else Acknowledgement(0, 0)
        except Unavailable as error:
            raise _unavailable(error) from None
        if rejected and not reports:
            raise ProblemError(
                falcon.HTTP_422, "Each report of the batch is invalid; nothing was stored.",
                **acknowledgement._asdict(), rejected=rejected,
            )  # fmt: skip
        resp.status = falcon.HTTP_202
        resp.content_type = falcon.MEDIA_JSON
        told = self._remote_configuration.heard_all(reports, now_ms)
        resp.data = _answer(acknowledgement, told, rejected)


def _answer(acknowledgement: Acknowledgement, told: Instructions | None, rejected: Sequence[Rejected] = ()) -> bytes:
    """The counts, what was refused, and what is asked of the agent."""
    document: dict[str, object] = dict(acknowledgement._asdict())
    if rejected:
        document["rejected"] = rejected
    if told is not None:
        document["instructions"] = told
    return msgspec.json.encode(document)


def _unavailable(error: Unavailable) -> ProblemError:
    return ProblemError(falcon.HTTP_503, f"{error}; nothing of this request was kept.", headers={"Retry-After": "5"})


def _lines(body: bytes) -> list[bytes]:
    return [line for line in body.splitlines() if line and not line.isspace()]


def _elements(body: bytes) -> list[bytes]:
    try:
        return [bytes(raw) for raw in decode_json(body, list[msgspec.Raw])]
    except msgspec.DecodeError as error:
        raise ProblemError(falcon.HTTP_400, f"The body is not a JSON array: {error}") from None
