"""TLS: the certificate that the service shows, which is read again when it is renewed, and those that clients show."""

import asyncio
import logging
import ssl
from pathlib import Path
from typing import Any

_log = logging.getLogger("loadlens.service")
_LOOK_EVERY_S = 10.0
CERTIFICATE_NAME = "loadlens.certificate_name"
"""Where the scope of a request has the common name of its client's certificate."""


class TlsError(Exception):
    """The files cannot be used; the message says which, and why."""


class Tls:
    """What connections are encrypted with. Those that are open keep what they began with."""

    def __init__(self, certificate: Path, key: Path | None, client_ca: Path | None = None) -> None:
        """Read the files, PEM; the key may stand in the certificate's. Raises TlsError."""
        self._certificate, self._key = certificate, key or certificate
        self._client_ca = client_ca
        self.context = self._fresh()
        self._seen = self._state()

    def reload(self) -> bool:
        """Read certificate and key again; what cannot be used is said, and changes nothing. Whether they are used."""
        self._seen = self._state()
        try:
            # Tried elsewhere first: a certificate without its key would leave nothing to show.
            self._fresh()
            self.context.load_cert_chain(self._certificate, self._key, _no_password)
        except (TlsError, OSError) as error:
            _log.error("the certificate is not read again, the one before stays: %s", error)
            return False
        _log.info("the certificate in %s was read again", self._certificate)
        return True

    async def watch(self) -> None:
        """Read the files again whenever they change; until it is cancelled."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            if self._state() != self._seen:
                await asyncio.to_thread(self.reload)

    def _fresh(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        self._load(context, self._certificate)
        if self._client_ca is not None:
            try:
                context.load_verify_locations(self._client_ca)
            except OSError as error:
                raise TlsError(f"{self._client_ca}: {error.strerror or error}") from None
            # Who shows none is asked for a token.
            context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def _load(self, context: ssl.SSLContext, certificate: Path) -> None:
        try:
            context.load_cert_chain(certificate, self._key, _no_password)
        except (OSError, ValueError) as error:
            files = f"{certificate}" if self._key == certificate else f"{certificate} and {self._key}"
            raise TlsError(f"{files}: {getattr(error, 'reason', None) or error}") from None

    def _state(self) -> tuple[object, ...]:
        return tuple(_stamp(path) for path in (self._certificate, self._key))


def common_name(certificate: dict[str, Any] | None) -> str:
    """The common name of a client's certificate, as `ssl` shows it; empty where there is none or several."""
    subject = (certificate or {}).get("subject", ())
    names = [value for part in subject for kind, value in part if kind == "commonName"]
    return str(names[0]) if len(names) == 1 else ""


def _no_password() -> str:
    raise ValueError("the key has a password; expected one without")


def _stamp(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
