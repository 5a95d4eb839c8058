"""/api/v1/prometheus/write: what Prometheus and its like have scraped, by remote write 1.0 and 2.0."""

import asyncio

import falcon
from falcon.asgi import Request, Response

from analytics.sources.prometheus_messages import V1, V2, Malformed
from contract.problems import shortened
from service.credentials.identity import Identity
from service.http.authentication import identity_of
from service.http.problems import HTTPProblem
from service.http.requests import read_body
from service.http.resources.gathering import Gathering
from service.http.resources.ingest import Metrics
from service.http.resources.otlp import PROTOBUF
from service.http.token_limits import TokenLimits
from service.ingest.node_exporter import NODE_EXPORTER
from service.ingest.remote_write import MAX_SAMPLES, RemoteWriteRequest, TooMuch, read
from service.stores.base import Store

_LONGEST = 200


class RemoteWrite:
    """Takes samples in protobuf, with the limits, permissions and durability of reports."""

    def __init__(self, metrics: Metrics, store: Store, limits: TokenLimits) -> None:
        self._limits = limits
        self._gathering = Gathering(NODE_EXPORTER, metrics, store)

    async def on_post(self, req: Request, resp: Response) -> None:
        """204 once what is kept is on disk, or waits for the rest of its scrape.

        400 where samples are wrong, with their number and the reasons; the others are taken.
        """
        identity = identity_of(req)
        self._limits.check_reports(identity)
        message = _message(req.content_type)
        body = await read_body(req)
        self._limits.took_bytes(identity, len(body))
        # Beside the event loop: a large request takes longer than others should wait.
        taken = await asyncio.to_thread(self._read, body, message, identity)
        if taken.readings or taken.systems:
            kept = await self._gathering.take(taken.readings, taken.systems, identity)
            if kept.rejections.count:
                taken.refuse(kept.rejections.count, f"a window of them: {kept.first_problem}")
        refused = taken.refused.total()
        written = {
            "X-Prometheus-Remote-Write-Samples-Written": str(taken.samples - refused),
            "X-Prometheus-Remote-Write-Histograms-Written": str(taken.histograms),
            "X-Prometheus-Remote-Write-Exemplars-Written": str(taken.exemplars),
        }
        if taken.samples and taken.samples == taken.forbidden:
            raise HTTPProblem(falcon.HTTP_403, "The token is for another user id; nothing of this request was kept.")
        if refused:
            reasons = "; ".join(f"{reason} ({count})" for reason, count in taken.refused.items())
            raise HTTPProblem(
                falcon.HTTP_400, f"{refused} of {taken.samples} samples are not taken: {reasons}", headers=written
            )
        resp.set_headers(written)
        resp.status = falcon.HTTP_204

    def _read(self, body: bytes, message: str, identity: Identity) -> RemoteWriteRequest:
        try:
            return read(
                body, message, self._gathering.within(), identity.covers if identity.is_scoped else lambda host: True
            )
        except Malformed as error:
            raise HTTPProblem(falcon.HTTP_400, f"The body is no remote write: {error}; nothing was kept.") from None
        except TooMuch:
            raise HTTPProblem(
                falcon.HTTP_413,
                f"The request is more than {MAX_SAMPLES} samples; nothing was kept. Send fewer (max_samples_per_send).",
            ) from None


def _message(content_type: str | None) -> str:
    """The message that a body is; raises ProblemError 415."""
    media_type, _, parameters = (content_type or "").partition(";")
    given = [one.strip() for one in parameters.split(";")]
    message = next((one[6:].strip('"') for one in given if one.lower().startswith("proto=")), V1)
    if media_type.strip().lower() != PROTOBUF or message not in (V1, V2):
        raise HTTPProblem(
            falcon.HTTP_415,
            f"Content-Type {shortened(content_type or '', _LONGEST)!r} is not right here; {PROTOBUF} is, alone or with "
            f"proto={V1} or proto={V2}.",
        )
    return message
