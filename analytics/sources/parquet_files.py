"""Parquet files as they are found: where they lie, what their columns are, and of which metric they are."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from analytics.frames.columns import NUMBERS
from analytics.frames.frame import FrameError
from contract.metrics import NAMES

TIMES: Final = ("time", "timestamp", "date")

SHARES: Final = ("utilization", "value")

PERCENTS: Final = ("utilization_percent", "cpu_util_percent", "percent")

USERS: Final = ("user", "user_id", "host", "hostname", "machine", "machine_id", "instance", "group")

_KNOWN: Final = {
    *TIMES,
    *SHARES,
    *PERCENTS,
    *USERS,
    "core",
    "device",
    "histogram",
    "os_type",
    "os_version",
    "metric",
    "unit",
}
"""Columns whose meaning is known; any other that holds texts may tell hosts apart."""


class FilePlace(NamedTuple):
    """Where a file is."""

    path: Path | str
    files: Any = None
    """The file system of fsspec; None for this machine's files."""


class FoundFile(NamedTuple):
    """A file with its columns."""

    path: Path | str
    schema: pa.Schema
    metric: str
    rows: int
    files: Any = None

    @property
    def has_windows(self) -> bool:
        """Whether it holds windows; else it holds measurements."""
        return all(name in self.schema.names for name in NUMBERS)

    def column(self, names: Sequence[str]) -> str | None:
        """The first of some names that it has a column of."""
        return next((name for name in names if name in self.schema.names), None)


def near_files(path: Path) -> list[FilePlace]:
    """A file, or those in a folder and below it, in order."""
    return [FilePlace(one) for one in (sorted(path.rglob("*.parquet")) if path.is_dir() else [path])]


def files_at(address: str) -> tuple[Any, str]:
    """The file system of fsspec that an address names, and the path in it. Raises ValueError where none is known."""
    try:
        import fsspec

        from analytics.sources import s3

        return s3.buckets(address) if address.partition("://")[0] in s3.SCHEMES else fsspec.core.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise ValueError(f"{address}: {error}; pip install 'loadlens[dask]', and what fsspec needs for it") from None


def far_files(address: str) -> list[FilePlace]:
    """The files at an address that fsspec knows. Raises ValueError where it does not."""
    files, path = files_at(address)
    if path.endswith(".parquet"):
        return [FilePlace(path, files)]
    return [FilePlace(one, files) for one in sorted(files.find(path)) if one.endswith(".parquet")]


def found_file(place: FilePlace) -> FoundFile:
    """A file by its place. Raises FrameError where it holds neither windows nor measurements."""
    path, files = place
    try:
        with pq.ParquetFile(path, filesystem=files) as opened:
            schema, rows = opened.schema_arrow, opened.metadata.num_rows
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise FrameError(f"{path} is not a Parquet file: {error}") from None
    file = FoundFile(path, schema, metric_of(path, schema, files), rows, files)
    value = file.column((*SHARES, *PERCENTS))
    if not file.column(TIMES) or not (file.has_windows or value):
        raise FrameError(
            f"{path} has the columns {', '.join(schema.names)}; windows have time, {', '.join(NUMBERS)}, and "
            f"measurements one of {', '.join(TIMES)} and one of {', '.join((*SHARES, *PERCENTS))}"
        )
    if not file.column(USERS) and (texts := [field.name for field in schema if _may_tell_apart(field)]):
        raise FrameError(
            f"{path}: expected the names of hosts in one of {', '.join(USERS)}, got texts in {', '.join(texts)}: "
            "rename the column that tells hosts apart, or leave it out where there is one host"
        )
    return file


def _may_tell_apart(field: pa.Field) -> bool:
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    textual = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return textual and field.name not in _KNOWN and not field.name.startswith("__index_level_")


def metric_of(path: Path | str, schema: pa.Schema, files: Any = None) -> str:
    """The metric that the metadata name, as the service writes it, or as pandas keeps `attrs`; else the column."""
    metadata = schema.metadata or {}
    named = metadata.get(b"metric", b"").decode()
    if not named and b"pandas" in metadata:
        named = str(json.loads(metadata[b"pandas"]).get("attributes", {}).get("metric", ""))
    if "metric" in schema.names:
        told = (
            pq.read_table(path, columns=["metric"], filesystem=files)["metric"].cast(pa.string()).unique().to_pylist()
        )
        if len(told) > 1:
            several = ", ".join(sorted(map(str, told)))
            raise FrameError(f"{path}: expected one metric a file, got {several}: write a file for each")
        named = named or "".join(name for name in told if name is not None)
    if named and named not in NAMES:
        raise FrameError(f"{path}: expected a metric of the catalogue, such as cpuUtilization, got {named}")
    return named or "cpuUtilization"
