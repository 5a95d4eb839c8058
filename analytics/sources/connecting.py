"""Where windows come from, told by one text."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analytics.sources.base import Source
    from analytics.sources.service import AsyncClient
    from analytics.sources.service_api import Patience


_EXPECTED = (
    "expected an address such as http://localhost:8888 or influx://localhost:8086/METRICS, or a Parquet file, or a "
    "folder of such files"
)
_FAR = ("s3", "gs", "abfs", "file", "memory")
"""Schemes of fsspec under which Parquet files may lie."""


def _check(url: object, token: object, patience: object) -> None:
    """Raise FrameError, a ValueError, for an argument of another type; a token is never quoted."""
    from analytics.frames.arguments import FrameError, instance
    from analytics.sources.service_api import Patience

    instance(url, "source", str | Path, "an address, or the path of a file or folder")
    if not isinstance(token, str | None):
        raise FrameError(f"token: expected a text or None, got a {type(token).__name__}")
    instance(patience, "patience", Patience | None, "a Patience or None")


def connect_async(
    url: str = "http://localhost:8888",
    token: str | None = None,
    *,
    patience: "Patience | None" = None,
    ca_file: Path | None = None,
) -> "AsyncClient":
    """A running service, each of whose questions is awaited. Raises ValueError for what is not an http(s) address."""
    _check(url, token, patience)
    from analytics.sources.service import AsyncClient, Client
    from analytics.sources.service_api import IMPATIENT

    return AsyncClient(Client(url, token, patience=patience or IMPATIENT, ca_file=ca_file))


def connect(
    source: str | Path = "http://localhost:8888",
    token: str | None = None,
    *,
    patience: "Patience | None" = None,
    ca_file: Path | None = None,
    check_name: bool = True,
) -> "Source":
    """A source of windows: a running service, an InfluxDB, or Parquet files.

    ============================ ==========================================================================
    `source`                     what answers
    ============================ ==========================================================================
    `http://localhost:8888`      a service; `token` where it asks for one
    `influx://host:8086/METRICS` an InfluxDB that a service, or the original system, writes to; `token` for 2.x
                                 and 3.x, for 1.x `user:password` (`analytics.sources.influx`)
    `fleet.parquet`, `folder`    Parquet files of windows or of plain measurements (`analytics.sources.parquet`)
    `s3://bucket/export`         the same, where fsspec reaches: also gs://, abfs:// and file://
    ============================ ==========================================================================

    A service over HTTPS is trusted where the system trusts its certificate, or `ca_file` has it or who signed it
    (without `check_name` whatever the name in it).

    A service also has a method for everything else it can be asked and told (`analytics.sources.operations`); with
    `patience` what only asks is asked again while it is busy or away. All answer `history`, `fleet`, `users` and
    `metrics` alike, as `analytics.sources.base.Source` says. Nothing is asked before the first question. Raises
    ValueError for anything else, FileNotFoundError where there are no files.
    """
    _check(source, token, patience)
    if not isinstance(check_name, bool):
        raise ValueError(f"check_name: expected True or False, got {check_name!r}")
    text = str(source)
    scheme = text.partition("://")[0].lower() if "://" in text else ""
    if scheme in ("http", "https"):
        from analytics.sources.service import Client
        from analytics.sources.service_api import IMPATIENT

        return Client(text, token, patience=patience or IMPATIENT, ca_file=ca_file, check_name=check_name)
    if scheme.startswith("influx"):
        from analytics.sources.influx import Influx

        return Influx(text, token)
    if scheme in _FAR:
        from analytics.sources.parquet import Files

        return Files(text)
    if scheme:
        raise ValueError(f"{_EXPECTED}, got {text!r}")
    path = Path(source)
    if not text or not path.exists():
        if path.suffix or "/" in text:
            raise FileNotFoundError(f"{_EXPECTED}, got {text}, which is not there")
        raise ValueError(f"{_EXPECTED}, got {text!r}")
    if (path / "loadlens.duckdb").exists():
        raise ValueError(f"{text} is the data folder of a service, which alone reads it: ask http://localhost:8888")
    from analytics.sources.parquet import Files

    return Files(path)
