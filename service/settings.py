"""The service's settings: they come in once, here, and nothing below reads the environment."""

from typing import Annotated, Literal

from msgspec import Meta

from contract.settings import Settings

__all__ = ["ServiceSettings"]


class ServiceSettings(Settings, frozen=True, kw_only=True):
    """What an operator can set, by flag, by `LOADLENS_*` or in the `[service]` table of a file."""

    host: Annotated[
        str,
        Meta(
            description="Address to listen on. Any address but a loopback one needs a token.",
            extra={"metavar": "ADDRESS", "examples": ["0.0.0.0"]},
        ),
    ] = "127.0.0.1"
    port: Annotated[
        int, Meta(ge=0, le=65535, description="Port to listen on; 0 takes a free one.", extra={"metavar": "PORT"})
    ] = 8888
    store: Annotated[
        str,
        Meta(
            description="Where windows are kept: `embedded` (DuckDB and Parquet in the data directory).",
            extra={"metavar": "STORE"},
        ),
    ] = "embedded"
    data_dir: Annotated[
        str, Meta(min_length=1, description="Folder for the journal and the embedded store.", extra={"metavar": "DIR"})
    ] = "var/loadlens"
    token: Annotated[
        str,
        Meta(
            description="Bearer token that every request but the health checks must carry; empty asks for none.",
            extra={"metavar": "TOKEN", "secret": True},
        ),
    ] = ""
    journal_bytes: Annotated[
        int,
        Meta(
            ge=16 * 1024 * 1024,
            description="Most bytes of reports that wait for the store; at the limit new ones get 503.",
            extra={"metavar": "BYTES"},
        ),
    ] = 1024 * 1024 * 1024
    flush_interval: Annotated[
        float,
        Meta(ge=0.1, le=3600, description="Most seconds that reports stay in memory and journal only.",
             extra={"metavar": "SECONDS"}),
    ] = 300.0  # fmt: skip
    store_memory: Annotated[
        str,
        Meta(
            pattern=r"^[0-9]+(\.[0-9]+)?(MB|GB|MiB|GiB)$",
            description="Most memory the database may use for a query or for sorting.",
            extra={"metavar": "SIZE", "examples": ["4GB"], "expected": "a size such as 512MB or 4GB"},
        ),
    ] = "1GB"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="The least that is logged.", extra={"metavar": "LEVEL"}),
    ] = "info"
