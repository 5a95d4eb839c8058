"""The HTTP layer alone, for bench/ingest.py: decodes each report and answers 202, and does nothing else.

    python bench/http_layer.py PORT

It is the server of the service, uvicorn, as its worker sets it, so what the service adds is the rest. It runs without
gunicorn, which only watches the worker, and would start one that fails over and over.
"""

import argparse
import gc

import falcon
import falcon.asgi
import uvicorn
from falcon.asgi import Request, Response

from contract.report import decode_report
from service.server import Worker


class BareMetrics:
    """Takes one report."""

    async def on_post(self, req: Request, resp: Response) -> None:
        """202 for what can be decoded."""
        decode_report(await req.stream.read())
        resp.status = falcon.HTTP_202
        resp.content_type = falcon.MEDIA_JSON
        resp.data = b'{"accepted":1,"duplicates":0}'


class BareHealth:
    """Answers."""

    async def on_get(self, req: Request, resp: Response) -> None:
        """200."""


def application() -> falcon.asgi.App:
    """The application, with the garbage collector set as the service sets it."""
    app = falcon.asgi.App()
    app.add_route("/api/v1/metrics", BareMetrics())
    app.add_route("/healthz", BareHealth())
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("port", type=int, help="port of 127.0.0.1 to listen on")
    settings = {**Worker.CONFIG_KWARGS, "timeout_keep_alive": 75, "log_level": "warning"}
    uvicorn.run(application(), host="127.0.0.1", port=parser.parse_args().port, **settings)
