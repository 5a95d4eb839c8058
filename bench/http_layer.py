"""The HTTP layer alone, for bench/ingest.py: decodes each report and answers 202, and does nothing else.

    python bench/http_layer.py PORT

It runs under the same gunicorn worker as the service, so what the service adds is the rest.
"""

import argparse
import gc

import falcon
import falcon.asgi
from falcon.asgi import Request, Response
from gunicorn.app.base import BaseApplication

from contract.report import decode_report


class Metrics:
    """Takes one report."""

    async def on_post(self, req: Request, resp: Response) -> None:
        """202 for what can be decoded."""
        decode_report(await req.stream.read())
        resp.status = falcon.HTTP_202
        resp.content_type = falcon.MEDIA_JSON
        resp.data = b'{"accepted":1,"duplicates":0}'


class Health:
    """Answers."""

    async def on_get(self, req: Request, resp: Response) -> None:
        """200."""


class Server(BaseApplication):
    """gunicorn with one worker of the service's class."""

    def __init__(self, port: int) -> None:
        self._port = port
        super().__init__()

    def load_config(self) -> None:
        """The settings that bear on speed are the service's."""
        for name, value in {
            "bind": f"127.0.0.1:{self._port}",
            "workers": 1,
            "worker_class": "service.server.Worker",
            "keepalive": 75,
            "loglevel": "warning",
            "control_socket_disable": True,
        }.items():
            self.cfg.set(name, value)

    def load(self) -> falcon.asgi.App:
        """The application."""
        app = falcon.asgi.App()
        app.add_route("/api/v1/metrics", Metrics())
        app.add_route("/healthz", Health())
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("port", type=int, help="port of 127.0.0.1 to listen on")
    Server(parser.parse_args().port).run()
