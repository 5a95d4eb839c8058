"""A running service with a small fleet, for everything that asks one."""

from collections.abc import Iterator

import httpx
import pytest

from tests.support.serving import running
from tests.support.small_fleet import OLD_REPORT, REPORTS


@pytest.fixture(scope="session")
def service_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a service that holds `tests.support.small_fleet.REPORTS` and `OLD_REPORT`."""
    with running(tmp_path_factory.mktemp("service")) as url:
        answer = httpx.post(f"{url}/api/v1/metrics", json=[*REPORTS, OLD_REPORT])
        assert answer.status_code == 202, answer.text
        assert "rejected" not in answer.json(), answer.text
        yield url


@pytest.fixture(scope="session")
def guarded_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a service without data that asks for the token `secret`."""
    with running(tmp_path_factory.mktemp("guarded"), "--token", "secret") as url:
        yield url
