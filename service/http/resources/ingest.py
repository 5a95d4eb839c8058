"""/api/v1/metrics: reports come in by POST; GET tells which metrics there are."""

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import falcon
import msgspec
from falcon.asgi import Request, Response
from msgspec import Struct

from contract import times
from contract.agent_protocol import Instructions
from contract.logs import Seldom, fields
from contract.metrics import NAMES, STATISTICS, TYPES, type_name
from contract.problems import Problem, decode_json, display, shortened
from contract.report import Report
from contract.validation import Accepted, InvalidReport, MalformedReport, accepted
from service.agents.remote_configuration import RemoteConfiguration
from service.credentials.identity import Identity
from service.http.authentication import identity_of
from service.http.problems import HTTPProblem
from service.http.requests import read_body
from service.http.token_limits import TokenLimits
from service.ingest.acknowledgement import Acknowledgement, Ingest, Unavailable
from service.ingest.admission import Admission, NewSeries, NotLetInError
from service.stores.base import Store

_log = logging.getLogger("loadlens.service")
_LONGEST_NAME, _LONGEST_REASON = 128, 300
LINES: Final = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/jsonlines")
"""Media types of one report a line."""
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
                "by_device": metric.by_device,
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
_MAX_LINES = 50_000
"""Reports in a request; the shortest that say anything fill a body with fewer."""
_MAX_LISTED, _MAX_PROBLEMS = 100, 20
"""Of so many reports it is said what is wrong, and so many things of each; the rest is counted."""
_FULL_RETRY_S = 60
_SLICE = 200
"""Reports decoded before other requests get their turn."""
_ANOTHER = Problem("/user_id", "expected the user id that the token is for, got another")


class Rejected(msgspec.Struct, frozen=True):
    """A report of a batch that was not kept."""

    index: int
    """Its place in the batch, from 0; lines without content do not count."""
    problems: Sequence[Problem]


class Rejections:
    """The reports of a batch that are not kept: the first of them with what is wrong, all of them counted."""

    def __init__(self) -> None:
        self.count = 0
        self.listed: list[Rejected] = []

    def add(self, index: int, problems: Sequence[Problem]) -> None:
        """Count one report."""
        self.count += 1
        if len(self.listed) < _MAX_LISTED:
            self.listed.append(Rejected(index, problems[:_MAX_PROBLEMS]))

    def members(self) -> dict[str, Any]:
        """What an answer says of them."""
        if not self.count:
            return {}
        found: dict[str, Any] = {"rejected": self.listed}
        return found | ({"rejected_count": self.count} if self.count > len(self.listed) else {})


class TakenBatch(NamedTuple):
    """What became of a batch."""

    acknowledgement: Acknowledgement
    rejections: Rejections
    told: Instructions | None
    """What is asked of the agents, if anything."""


class _Named(Struct):
    """As much of a report as says whose it is."""

    user_id: str = ""


def _user_of(body: bytes) -> str:
    """Whose a report is that is not valid; empty where it does not say so."""
    try:
        return decode_json(body, _Named).user_id
    except msgspec.DecodeError:
        return ""


class Metrics:
    """Takes one report, a JSON array of reports, or one report a line (NDJSON)."""

    def __init__(
        self,
        ingest: Ingest,
        admission: Admission,
        store: Store,
        remote_configuration: RemoteConfiguration,
        limits: TokenLimits,
    ) -> None:
        self._ingest = ingest
        self._limits = limits
        self._admission = admission
        self._store = store
        self._remote_configuration = remote_configuration
        self._refusals = Seldom()

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 with the catalogue: what can be asked for."""
        resp.content_type = falcon.MEDIA_JSON
        resp.data = _CATALOGUE

    async def on_post(self, req: Request, resp: Response) -> None:
        """202 with counts, once the reports are on disk and answered by queries."""
        identity = identity_of(req)
        self._limits.check_reports(identity)
        body = await read_body(req)
        self._limits.took_bytes(identity, len(body))
        if req.content_type and req.content_type.startswith(LINES):
            await self._take_batch(_lines(body), identity, resp)
        elif body.lstrip(b" \t\r\n")[:1] == b"[":
            await self._take_batch(_elements(body), identity, resp)
        else:
            await self._take_one(body, identity, resp)

    def read(self, body: bytes, now_ms: int) -> Accepted:
        """The valid report of a JSON body that came at a time; raises InvalidReport."""
        return accepted(body, now_ms, self._store.oldest_ms(now_ms))

    async def _take_one(self, body: bytes, identity: Identity, resp: Response) -> None:
        try:
            now_ms = times.now_ms()
            read = self.read(body, now_ms)
        except InvalidReport as error:
            if b"\n" in body and ("trailing characters" in str(error) or _is_lines(body)):
                await self._take_batch(_lines(body), identity, resp)
                return
            self._refused(body, error.problems)
            if isinstance(error, MalformedReport):
                raise HTTPProblem(falcon.HTTP_400, error.problems[0].detail) from None
            raise HTTPProblem(
                falcon.HTTP_422, "The report is invalid; nothing of it was stored.", error.problems[:_MAX_PROBLEMS]
            ) from None
        resp.status = falcon.HTTP_202
        resp.content_type = falcon.MEDIA_JSON
        resp.data = await self.take_one(read, identity, now_ms)

    async def take_one(self, read: Accepted, identity: Identity, now_ms: int) -> bytes:
        """Take a valid report; the answer, once it is on disk and answered by queries. Raises ProblemError."""
        report, text = read
        try:
            added = self._admit(identity, report)
        except HTTPProblem as refusal:
            self._say_refused(report.user_id, refusal.problems)
            raise
        try:
            acknowledgement = await self._ingest.take([text], [report])
        except Unavailable as error:
            raise _unavailable(error) from None
        finally:
            if added:
                self._admission.arrived(added)
        self._limits.took_reports(identity, 1)
        told = self._remote_configuration.heard(report, now_ms)
        return _ACCEPTED if acknowledgement.accepted and told is None else _answer(acknowledgement, told)

    async def _take_batch(self, bodies: Sequence[bytes], identity: Identity, resp: Response) -> None:
        taken = await self.take(bodies, identity)
        resp.status = falcon.HTTP_202
        resp.content_type = falcon.MEDIA_JSON
        resp.data = _answer(taken.acknowledgement, taken.told, taken.rejections.members())

    async def take(self, bodies: Sequence[bytes], identity: Identity) -> TakenBatch:
        """Take reports, each a JSON document; returns when those that are right are on disk and answered by queries.

        Raises ProblemError where none of them is kept.
        """
        added: list[NewSeries] = []
        try:
            return await self._take(bodies, identity, added)
        finally:
            self._admission.arrived(added)

    async def _take(self, bodies: Sequence[bytes], identity: Identity, added: list[NewSeries]) -> TakenBatch:
        kept: list[bytes] = []
        reports: list[Report] = []
        rejected = Rejections()
        refusal: HTTPProblem | None = None
        now_ms = times.now_ms()
        oldest_ms = self._store.oldest_ms(now_ms)
        admit = partial(self._admit, identity) if identity.is_scoped else self._let_in
        for index, body in enumerate(bodies):
            try:
                report, text = accepted(body, now_ms, oldest_ms)
            except InvalidReport as error:
                self._refused(body, error.problems)
                rejected.add(index, error.problems)
            else:
                try:
                    added += admit(report)
                except HTTPProblem as not_let_in:
                    refusal = not_let_in
                    self._say_refused(report.user_id, refusal.problems)
                    rejected.add(index, refusal.problems)
                else:
                    reports.append(report)
                    kept.append(text)
            if index % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)
        try:
            acknowledgement = await self._ingest.take(kept, reports) if reports else Acknowledgement(0, 0)
        except Unavailable as error:
            raise _unavailable(error) from None
        if refusal is not None and not reports:
            raise refusal
        if rejected.count and not reports:
            raise HTTPProblem(
                falcon.HTTP_422, "Each report of the batch is invalid; nothing was stored.",
                **acknowledgement._asdict(), **rejected.members(),
            )  # fmt: skip
        self._limits.took_reports(identity, len(reports))
        return TakenBatch(acknowledgement, rejected, self._remote_configuration.heard_all(reports, now_ms))

    def _refused(self, body: bytes, problems: Sequence[Problem]) -> None:
        """Count an invalid report, and say whose it was and what was wrong, unless too many are said already."""
        self._ingest.rejected += 1
        self._say_refused(None, problems, body)

    def _say_refused(self, user: str | None, problems: Sequence[Problem], body: bytes = b"") -> None:
        if not self._refusals.allows():
            return
        named = display(shortened(user or _user_of(body), _LONGEST_NAME))
        reason = f"{problems[0].pointer or 'the report'}: {display(shortened(problems[0].detail, _LONGEST_REASON))}"
        _log.warning(
            "a report of %s is refused: %s%s", named or "nobody known", reason, self._refusals.left_out(),
            extra=fields(user=named or None, reason=reason),
        )  # fmt: skip

    def _admit(self, identity: Identity, report: Report) -> Collection[NewSeries]:
        """The series that a report adds; raises ProblemError where it is not taken from this token, or at all."""
        if identity.is_scoped and not identity.covers(report.user_id):
            raise _of_another()
        return self._let_in(report)

    def _let_in(self, report: Report) -> Collection[NewSeries]:
        """As `_admit`, from who may send reports of any host."""
        try:
            return self._admission.admit(report)
        except NotLetInError as error:
            raise HTTPProblem(
                falcon.HTTP_429,
                "No more hosts are let in; nothing of this request was kept.",
                [Problem("/user_id", str(error))],
                headers={"Retry-After": str(_FULL_RETRY_S)},
            ) from None


def _of_another() -> HTTPProblem:
    return HTTPProblem(
        falcon.HTTP_403, "The token is for another user id; nothing of this request was kept.", [_ANOTHER]
    )


def _answer(
    acknowledgement: Acknowledgement, told: Instructions | None, rejected: Mapping[str, object] | None = None
) -> bytes:
    """The counts, what was refused, and what is asked of the agent."""
    document: dict[str, object] = acknowledgement._asdict() | dict(rejected or {})
    if told is not None:
        document["instructions"] = told
    return msgspec.json.encode(document)


def _unavailable(error: Unavailable) -> HTTPProblem:
    return HTTPProblem(falcon.HTTP_503, f"{error}; nothing of this request was kept.", headers={"Retry-After": "5"})


def _is_lines(body: bytes) -> bool:
    """Whether a body that is no valid report is several, a line each: one of its first two lines is an object.

    Of an object that is written over several lines none is one by itself.
    """
    first, _, others = body.lstrip().partition(b"\n")
    second, _, _ = others.lstrip().partition(b"\n")
    return bool(second) and (_is_object(first) or _is_object(second))


def _is_object(line: bytes) -> bool:
    try:
        decode_json(line, dict[str, msgspec.Raw])
    except msgspec.DecodeError:
        return False
    return True


def _lines(body: bytes) -> list[bytes]:
    if body.count(b"\n") > _MAX_LINES:
        raise HTTPProblem(falcon.HTTP_413, f"The body has more than {_MAX_LINES} lines; send fewer reports at a time.")
    # By line feeds alone: what else ends lines elsewhere would be more lines than are counted.
    return [line for line in body.split(b"\n") if line and not line.isspace()]


def _elements(body: bytes) -> list[bytes]:
    try:
        elements = decode_json(body, list[msgspec.Raw])
    except msgspec.DecodeError as error:
        raise HTTPProblem(falcon.HTTP_400, f"The body is not a JSON array: {error}") from None
    if len(elements) > _MAX_LINES:
        raise HTTPProblem(
            falcon.HTTP_413, f"The body has more than {_MAX_LINES} reports; send fewer of them at a time."
        )
    return [bytes(raw) for raw in elements]
