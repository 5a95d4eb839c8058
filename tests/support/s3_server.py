"""An S3 server (moto) as a process of its own, in an environment of its own, as its versions are others."""

import subprocess
import sys
from pathlib import Path
from typing import Self

import httpx

from tests.support.influxd import free_ports
from tests.support.leaving_out import leave_out
from tests.support.running import clean_environment, wait_until

_PYTHON = Path(sys.prefix) / "s3" / "bin" / "python"
BUCKET = "measurements"


def need_s3() -> None:
    """Leave the test out where there is no such environment; in CI that is a failure."""
    if not _PYTHON.exists():
        leave_out("there is no S3 server (make test-all installs it), so nothing was tested with S3")


class RunningS3:
    """A server on a free port of this machine, with one bucket, in memory."""

    def __init__(self, folder: Path) -> None:
        [self.port] = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            "AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests", "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.url,
        }  # fmt: skip
        """What a client needs."""
        command = [str(_PYTHON), "-m", "moto.server", "--host", "127.0.0.1", "--port", str(self.port)]
        with (folder / "s3.log").open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=clean_environment(), cwd=folder
            )
        try:
            wait_until(self._answers, "the S3 server")
            assert httpx.put(f"{self.url}/{BUCKET}").status_code == 200
        except BaseException:
            self.__exit__()
            raise

    def _answers(self) -> bool:
        try:
            return httpx.get(self.url).status_code == 200
        except httpx.HTTPError:
            return False

    def names(self, below: str) -> list[str]:
        """The names of the objects below a folder of the bucket."""
        listed = httpx.get(f"{self.url}/{BUCKET}", params={"list-type": "2", "prefix": below}).text
        return [part.partition("</Key>")[0] for part in listed.split("<Key>")[1:]]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(60)
