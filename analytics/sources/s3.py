"""Buckets of S3 as a file system of fsspec, by the client that Arrow brings: credentials come from where AWS's are.

Those are the variables `AWS_ACCESS_KEY_ID` and so on, the files in `~/.aws`, and the host's role. Another server
than Amazon's is named by `AWS_ENDPOINT_URL`. (s3fs, which fsspec knows, wants python-dateutil 2, influxdb-client 4.)
"""

import io
import os
import shutil
import tempfile
from collections.abc import Sequence
from typing import Any, Final

from fsspec.implementations.arrow import ArrowFSWrapper
from pyarrow.fs import FileSelector, FileType, S3FileSystem, resolve_s3_region

SCHEMES: Final = ("s3", "s3a")
_IN_MEMORY: Final = 8 << 20
"""So many bytes of a file that is written are held in memory, more on disk."""
_AT_ONCE: Final = 1 << 20


def buckets(address: str) -> tuple["S3Files", str]:
    """The file system of an address such as `s3://bucket/export`, and the path in it. Raises OSError."""
    path = address.partition("://")[2].strip("/")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region is None and endpoint is None:
        region = resolve_s3_region(path.partition("/")[0])
    return S3Files(endpoint, region), path


class S3Files(ArrowFSWrapper):
    """Files are there when they are closed, in a transaction when that ends; of one that fails none is written."""

    def __init__(self, endpoint: str | None = None, region: str | None = None, **options: Any) -> None:
        """`endpoint` is the address of a server that is not Amazon's. Raises OSError where no credentials are found."""
        files = S3FileSystem(endpoint_override=endpoint, region=region)
        super().__init__(files, **options)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.partition("://")[2] if path.partition("://")[0] in SCHEMES else path

    def _open(self, path: str, mode: str = "rb", block_size: int | None = None, **options: Any) -> Any:
        if mode != "wb":
            return super()._open(path, mode, block_size, **options)
        return _Upload(self.fs, path, autocommit=bool(options.get("autocommit", True)))

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Nothing: names of objects have no folders, and buckets are made by those who own them."""

    def find(self, path: str, **options: Any) -> Sequence[str]:
        """All files below a path, asked for at once."""
        below = self.fs.get_file_info(FileSelector(self._strip_protocol(path), recursive=True))
        return sorted(one.path for one in below if one.type is FileType.File)


class _Upload(io.RawIOBase):
    """A file on its way, kept here until it is whole: of one that fails its beginning would be there."""

    def __init__(self, files: S3FileSystem, path: str, *, autocommit: bool) -> None:
        self._files = files
        self._path = path
        self._autocommit = autocommit
        self._held = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - closed when it is sent

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any) -> int:
        """Keep bytes; how many."""
        return self._held.write(data)

    def tell(self) -> int:
        """How many bytes there are."""
        return self._held.tell()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.discard()
        self.close()

    def close(self) -> None:
        """It is whole: send it, unless a transaction does."""
        if not self.closed:
            super().close()
            if self._autocommit:
                self.commit()

    def commit(self) -> None:
        """Send it. Raises OSError."""
        with self._held as held:
            held.seek(0)
            with self._files.open_output_stream(self._path, compression=None) as stream:
                shutil.copyfileobj(held, stream, _AT_ONCE)

    def discard(self) -> None:
        """Forget it."""
        self._autocommit = False
        self._held.close()
