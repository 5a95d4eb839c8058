"""Reverse proxies as deploy/proxy has them, in front of a service, on free ports of this machine."""

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from contract.service_address import tls_context
from tests.support.certificates import Certificate, authority, issued
from tests.support.running import ROOT

__all__ = ["CLIENT", "NAMES", "PREFIX", "Proxy", "proxied"]

PREFIX = "/loadlens"
NAMES = ("nginx", "caddy")
CLIENT = "127.0.0.2"
"""Where clients ask from: the proxy, which is trusted, has another address."""
_DEADLINE_S = 60.0
_LOOK_EVERY_S = 0.02


@dataclass(frozen=True)
class Proxy:
    """A proxy that runs."""

    url: str
    """Where the service is to those who ask through it."""
    port: int
    ca: Certificate
    log: Path

    @property
    def origin(self) -> str:
        """What a browser calls the host."""
        return self.url.removesuffix(PREFIX)

    @property
    def context(self) -> ssl.SSLContext:
        """Trusts the proxy."""
        return tls_context(self.ca.path)

    def client(self, **options: object) -> httpx.Client:
        """A client at `CLIENT` for the service behind it."""
        transport = httpx.HTTPTransport(verify=self.context, local_address=CLIENT)
        return httpx.Client(base_url=self.url, transport=transport, timeout=_DEADLINE_S, **options)  # type: ignore[arg-type]


@contextlib.contextmanager
def proxied(name: str, folder: Path, service_port: int) -> Iterator[Proxy]:
    """`nginx` or `caddy` by its sample, in front of what listens on a port. Left out where it is not installed."""
    program = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        pytest.skip(f"{name} is not installed")
    folder.mkdir(parents=True, exist_ok=True)
    ca = authority(folder, "proxy-ca")
    shown = issued(folder, ca, "proxy", server=True)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    command = {"nginx": _nginx, "caddy": _caddy}[name](program, folder, port, service_port, shown)
    proxy = Proxy(f"https://localhost:{port}{PREFIX}", port, ca, folder / "log")
    with proxy.log.open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env=os.environ | {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)},
        )  # fmt: skip
    try:
        _await(proxy, process)
        yield proxy
    finally:
        process.terminate()
        try:
            process.wait(_DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await(proxy: Proxy, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + _DEADLINE_S
    while True:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", proxy.port), timeout=_DEADLINE_S).close()
            return
        assert process.poll() is None, proxy.log.read_text()
        assert time.monotonic() < end, f"waited {_DEADLINE_S} s for the proxy: {proxy.log.read_text()}"
        time.sleep(_LOOK_EVERY_S)


def _nginx(program: str, folder: Path, port: int, service_port: int, shown: Certificate) -> list[str]:
    sample = _adapted(
        "nginx.conf",
        ("127.0.0.1:8888", f"127.0.0.1:{service_port}"),
        ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
        ("loadlens.example.org;", "localhost;"),
        ("/etc/ssl/certs/loadlens.pem", str(shown.path)),
        ("/etc/ssl/private/loadlens.key", str(shown.key)),
    )
    (folder / "loadlens.conf").write_text(sample)
    places = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"{'user root;' if os.geteuid() == 0 else ''}\n"
        f"daemon off;\nworker_processes 1;\npid {folder}/pid;\nerror_log stderr;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{places}include {folder}/loadlens.conf;\n}}\n"
    )
    return [program, "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")]


def _caddy(program: str, folder: Path, port: int, service_port: int, shown: Certificate) -> list[str]:
    sample = _adapted(
        "Caddyfile",
        ("127.0.0.1:8888", f"127.0.0.1:{service_port}"),
        ("loadlens.example.org {", f"https://localhost:{port} {{\n\ttls {shown.path} {shown.key}"),
    )
    (folder / "Caddyfile").write_text("{\n\tadmin off\n\tauto_https off\n\tdefault_bind 127.0.0.1\n}\n\n" + sample)
    return [program, "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]


def _adapted(name: str, *changes: tuple[str, str]) -> str:
    """A sample, with the names and ports of a test in place of its own."""
    lines = (ROOT / "deploy" / "proxy" / name).read_text().splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#")) + "\n"
    for before, after in changes:
        assert before in text, f"expected {before!r} in deploy/proxy/{name}"
        text = text.replace(before, after)
    return text
