"""A data folder that a former version left behind is opened, and answers what it answered."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.service.conftest import StartService

pytestmark = pytest.mark.server

_RELEASES = Path(__file__).parents[1] / "data" / "releases"
_VERSIONS = sorted(path.name.removesuffix(".tar.xz") for path in _RELEASES.glob("*.tar.xz"))


def _equal(found: Any, expected: Any) -> bool:
    """Whether a JSON document says what another says, numbers to 1e-12; it may have members that are newer."""
    match expected:
        case dict():
            return expected.keys() <= found.keys() and all(_equal(found[key], expected[key]) for key in expected)
        case list():
            return len(found) == len(expected) and all(map(_equal, found, expected))
        case float():
            return bool(found == pytest.approx(expected, rel=1e-12))
    return bool(found == expected)


def test_there_is_a_folder_to_open() -> None:
    assert _VERSIONS


@pytest.mark.parametrize("version", _VERSIONS)
def test_the_data_folder_of_a_former_version_is_opened_and_kept(
    version: str, start: StartService, data_dir: Path
) -> None:
    with tarfile.open(_RELEASES / f"{version}.tar.xz") as archive:
        archive.extractall(data_dir.parent, filter="data")
    asked = json.loads((_RELEASES / f"{version}.json").read_text(encoding="utf-8"))
    # Twice: as it was left, and as this version leaves it.
    for _ in range(2):
        service = start()
        with service.client() as client:
            for one in asked:
                answer = client.get(one["path"])
                assert answer.status_code == one["status"], answer.text
                assert _equal(answer.json(), one["answer"]), (one["path"], answer.text)
        assert service.stop() == 0
        assert "Traceback" not in service.log
