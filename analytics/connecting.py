"""Where windows come from, told by one text."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analytics.sources import Source

__all__ = ["connect"]

_RIGHT = "an address such as http://localhost:8888, or a Parquet file or a folder of such files, is right"


def connect(source: str | Path = "http://localhost:8888", token: str | None = None) -> "Source":
    """A source of windows: a running service, or Parquet files.

    ========================== ==========================================================================
    `source`                   what answers
    ========================== ==========================================================================
    `http://localhost:8888`    a service; `token` where it asks for one
    `fleet.parquet`, `folder`  Parquet files of windows or of plain measurements (`analytics.files`)
    ========================== ==========================================================================

    All answer `history`, `fleet`, `users` and `metrics` alike, as `analytics.sources.Source` says. Nothing is asked
    before the first question. Raises ValueError for anything else, FileNotFoundError where there are no files.
    """
    text = str(source)
    scheme = text.partition("://")[0].lower() if "://" in text else ""
    if scheme in ("http", "https"):
        from analytics.client import Client

        return Client(text, token)
    if scheme.startswith("influx"):
        raise ValueError(
            f"{scheme}:// is the address of a store: ask the service that keeps its windows there, such as "
            "http://localhost:8888"
        )
    if scheme:
        raise ValueError(f"{text!r} is not the address of a service; {_RIGHT}")
    path = Path(source)
    if not text or not path.exists():
        if path.suffix or "/" in text:
            raise FileNotFoundError(f"{text} is not there; {_RIGHT}")
        raise ValueError(f"{text!r} is not the address of a service; {_RIGHT}")
    from analytics.files import Files

    return Files(path)
