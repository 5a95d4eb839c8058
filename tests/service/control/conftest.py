"""What the contract on decisions is checked on: a service by itself, and two processes of a cluster."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.deciding_service import Service


@pytest.fixture(params=["alone", pytest.param("two of a cluster", marks=pytest.mark.server)])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    """A service whose control database is empty."""
    address = None
    if request.param != "alone":
        address = request.getfixturevalue("one_node").address(request.getfixturevalue("name"))
    service = Service(tmp_path, address)
    yield service
    service.close()
