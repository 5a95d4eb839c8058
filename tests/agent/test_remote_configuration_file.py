"""What the service asked for last, over restarts."""

import os
from pathlib import Path

import pytest

from agent.remote_configuration import MAX_COMMANDS, RemoteStateFile
from contract.agent_protocol import DesiredSettings

URL = "http://localhost:8888/api/v1/metrics"
ASKED = DesiredSettings(interval=0.5, metrics=["cpu", "load"])


def test_settings_and_commands_are_there_after_a_restart(tmp_path: Path) -> None:
    file = RemoteStateFile(tmp_path, URL)
    assert (file.version, file.settings) == ("", DesiredSettings())
    file.keep("v1", ASKED)
    assert file.begin("one") is False
    again = RemoteStateFile(tmp_path, URL)
    assert (again.version, again.settings) == ("v1", ASKED)
    assert again.begin("one") is True
    assert again.begin("two") is False


def test_another_service_has_asked_for_nothing(tmp_path: Path) -> None:
    RemoteStateFile(tmp_path, URL).keep("v1", ASKED)
    other = RemoteStateFile(tmp_path, "http://elsewhere/api/v1/metrics")
    assert (other.version, other.settings) == ("", DesiredSettings())


def test_only_the_last_commands_are_remembered(tmp_path: Path) -> None:
    file = RemoteStateFile(tmp_path, URL)
    for number in range(MAX_COMMANDS + 1):
        file.begin(str(number))
    again = RemoteStateFile(tmp_path, URL)
    assert again.begin("1") is True
    assert again.begin("0") is False


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"url":1}',
        os.urandom(1000),
        b'{"url":"\xff"}',
        b'{"url":"' + URL.encode() + b'","settings":{"interval":-1}}',
        b'{"url":"' + URL.encode() + b'","settings":{"interval":"\xff"}}',
        b'{"url":"' + URL.encode() + b'","settings":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    ],
)
def test_a_file_that_makes_no_sense_is_passed_over(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "remote.json").write_bytes(content)
    file = RemoteStateFile(tmp_path, URL)
    assert file.settings == DesiredSettings()
    file.keep("v1", ASKED)
    assert RemoteStateFile(tmp_path, URL).settings == ASKED


def test_a_disk_that_takes_nothing_is_no_reason_to_end(tmp_path: Path) -> None:
    file = RemoteStateFile(tmp_path / "nosuch", URL)
    file.keep("v1", ASKED)
    assert (file.version, file.settings) == ("v1", ASKED)
