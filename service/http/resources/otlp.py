"""/api/v1/otlp/v1/metrics: metrics of OpenTelemetry's exporters and collectors, by OTLP/HTTP."""

import asyncio

import falcon
from falcon.asgi import Request, Response
from google.protobuf import json_format
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

from service.credentials.identity import Identity
from service.http.authentication import identity_of
from service.http.problems import HTTPProblem
from service.http.requests import read_body
from service.http.resources.gathering import Gathering
from service.http.resources.ingest import Metrics
from service.http.token_limits import TokenLimits
from service.ingest.otlp import OtlpRequest, is_larger, read
from service.ingest.system_metrics import OPENTELEMETRY
from service.stores.base import Store

PROTOBUF = "application/x-protobuf"
_MAX_POINTS = 50_000
_MAX_JSON_BYTES = 2 * 1024 * 1024
"""Protobuf's own reader of JSON takes 0.4 s a MiB; its binary form is read in no time."""


class OpenTelemetryMetrics:
    """Takes an export request in protobuf or JSON, with the limits, permissions and durability of reports."""

    def __init__(self, metrics: Metrics, store: Store, limits: TokenLimits) -> None:
        self._limits = limits
        self._gathering = Gathering(OPENTELEMETRY, metrics, store)

    async def on_post(self, req: Request, resp: Response) -> None:
        """200 once what is kept is on disk and answered by queries; what is not kept is counted, with the reason."""
        identity = identity_of(req)
        self._limits.check_reports(identity)
        media_type = (req.content_type or "").partition(";")[0].strip().lower()
        body = await read_body(req)
        self._limits.took_bytes(identity, len(body))
        # Beside the event loop: a large request takes longer than others should wait.
        taken = await asyncio.to_thread(self._read, body, media_type, identity)
        if taken.points and taken.points == taken.forbidden:
            raise HTTPProblem(falcon.HTTP_403, "The token is for another user id; nothing of this request was kept.")
        answer = ExportMetricsServiceResponse()
        if taken.systems:
            whole = [(*window, *told) for window, told in taken.histograms.items()]
            kept = await self._gathering.take(taken.readings, taken.systems, identity, whole)
            if kept.rejections.count:
                taken.reject(kept.rejections.count, f"a window of them: {kept.first_problem}")
            if kept.duplicates and whole:
                taken.warn(f"{kept.duplicates} windows end when windows do that were there already, which stay")
            for fault in kept.faults:
                taken.warn(fault)
        if taken.rejected or taken.reasons:
            answer.partial_success.rejected_data_points = taken.rejected
            answer.partial_success.error_message = "; ".join(taken.reasons)
        if media_type == falcon.MEDIA_JSON:
            resp.content_type = falcon.MEDIA_JSON
            resp.data = json_format.MessageToJson(answer, indent=None).encode()
        else:
            resp.content_type = PROTOBUF
            resp.data = answer.SerializeToString()

    def _read(self, body: bytes, media_type: str, identity: Identity) -> OtlpRequest:
        request = _request(body, media_type)
        if is_larger(request, _MAX_POINTS):
            raise HTTPProblem(
                falcon.HTTP_413, f"The request has more than {_MAX_POINTS} data points; send fewer at a time."
            )
        covers = identity.covers if identity.is_scoped else lambda host: True
        return read(request, self._gathering.within(), covers)


def _request(body: bytes, media_type: str) -> ExportMetricsServiceRequest:
    """The request of a body; raises ProblemError 415 for another type, 400 for what is none."""
    request = ExportMetricsServiceRequest()
    try:
        if media_type == PROTOBUF:
            request.ParseFromString(body)
        elif media_type == falcon.MEDIA_JSON:
            if len(body) > _MAX_JSON_BYTES:
                raise HTTPProblem(
                    falcon.HTTP_413, f"The body has more than {_MAX_JSON_BYTES} bytes of JSON; send protobuf, or less."
                )
            if body.lstrip()[:1] != b"{":
                raise json_format.ParseError("expected a JSON object")
            json_format.Parse(body, request, ignore_unknown_fields=True)
        else:
            given = f"Content-Type {media_type!r} is not right here"
            raise HTTPProblem(falcon.HTTP_415, f"{given}; {PROTOBUF} or {falcon.MEDIA_JSON} is.")
    except (DecodeError, json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise HTTPProblem(
            falcon.HTTP_400, f"The body is no export request of OpenTelemetry's metrics: {reason}"
        ) from None
    return request
