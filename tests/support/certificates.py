"""Certificates for tests, made with openssl."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, PEM."""

    path: Path
    key: Path


def authority(folder: Path, name: str) -> Certificate:
    """A CA of its own."""
    made = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    _openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
        "-subj", f"/CN={name}", "-keyout", str(made.key), "-out", str(made.path),
    )  # fmt: skip
    return made


def issued(folder: Path, by: Certificate, name: str, *, server: bool = False) -> Certificate:
    """A certificate that a CA has signed: for this machine, or for a client that is called `name`."""
    made = Certificate(folder / f"{name}-{by.path.stem}.pem", folder / f"{name}-{by.path.stem}.key")
    request, extensions = made.path.with_suffix(".csr"), made.path.with_suffix(".ext")
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1\n" if server else ""
    extensions.write_text(f"{names}extendedKeyUsage={'serverAuth' if server else 'clientAuth'}\n")
    _openssl(
        "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
        "-keyout", str(made.key), "-out", str(request),
    )  # fmt: skip
    _openssl(
        "x509", "-req", "-in", str(request), "-CA", str(by.path), "-CAkey", str(by.key), "-CAcreateserial",
        "-days", "2",         "-extfile", str(extensions), "-out", str(made.path),
    )  # fmt: skip
    return made


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)
