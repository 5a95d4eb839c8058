"""The agent's settings."""

from pathlib import Path
from typing import Any

import pytest

from agent.settings import AgentSettings, default_spool_dir
from contract.settings import load


def loaded(*argv: str, environ: dict[str, str] | None = None) -> AgentSettings:
    return load(AgentSettings, argv, program="loadlens-agent", description="", environ=environ or {})


def test_without_any_the_original_systems_sampling_is_in_force() -> None:
    settings = loaded()
    assert (settings.interval, settings.samples, settings.metrics) == (0.05, 100, ("cpu",))
    assert settings.url == "http://localhost:8888"


@pytest.mark.parametrize(
    ("argv", "name", "value"),
    [
        (["--interval", "50ms"], "interval", 0.05),
        (["--interval", "0.05"], "interval", 0.05),
        (["--interval", "5s"], "interval", 5.0),
        (["--interval", "10ms"], "interval", 0.01),
        (["--metrics", "cpu, memory"], "metrics", ("cpu", "memory")),
        (["--label", "role=web,zone=a"], "label", ("role=web", "zone=a")),
        (["--label", "role=web", "--label", "zone=a"], "labels", {"role": "web", "zone": "a"}),
        (["--spool-bytes", "1GB"], "spool_bytes", 1024**3),
        (["--spool-bytes", "64MiB"], "spool_bytes", 64 * 1024**2),
        (["--spool-bytes", "5000000"], "spool_bytes", 5_000_000),
        (["--spool-age", "7d"], "spool_age", 7 * 86_400.0),
        (["--spool-dir", "/tmp/x"], "spool_dir", Path("/tmp/x")),
        (["--once"], "once", True),
    ],
)
def test_values_are_written_as_people_write_them(argv: list[str], name: str, value: object) -> None:
    assert getattr(loaded(*argv), name) == value


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--interval", "9ms"], "--interval: expected 10ms to 60s"),
        (["--interval", "61"], "--interval: expected 10ms to 60s"),
        (
            ["--interval", "fast"],
            "--interval: expected a duration of numbers with units (ms, s, m, h, d, w)",
        ),
        (["--samples", "0"], "--samples: expected a whole number from 1 to 10000"),
        (["--metrics", "cpu,gpu"], "--metrics: expected a list of cpu, memory"),
        (["--metrics", "cpu,cpu"], "--metrics: expected each metric once, got one twice"),
        (["--label", "role"], "--label: expected NAME=VALUE such as role=web"),
        (["--label", "role=web", "--label", "role=db"], "--label: expected each label once, got role twice"),
        (["--url", "localhost:8888"], "--url: expected an address such as http://localhost:8888"),
        (["--url", "http://localhost:port"], "--url: expected an address such as http://localhost:8888"),
        (["--url", "http://localhost:8888/?a=b"], "--url: expected an address such as http://localhost:8888"),
        (["--token", "two words"], "--token: expected printable ASCII"),
        (["--user-id", "a\nb"], "--user-id: expected printable characters"),
        (["--spool-bytes", "10"], "--spool-bytes: expected at least 1M"),
        (["--spool-bytes", "much"], "--spool-bytes: expected a number of bytes such as 256M"),
        (["--spool-age", "1s"], "--spool-age: expected 1m to 3650d"),
        (["--interval", "nan"], "--interval: expected 10ms to 60s"),
        (["--interval", "50"], "a report at least every 10m, got 100 samples 50s apart: every 5000s"),
    ],
)
def test_a_wrong_setting_is_one_clear_line_and_exit_code_2(
    argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        loaded(*argv)
    assert ended.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert words in line


def test_a_token_is_never_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert "s3cret" not in repr(loaded(environ={"LOADLENS_TOKEN": "s3cret"}))
    with pytest.raises(SystemExit):
        loaded("--token", "s3cret word")
    assert "s3cret" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("environ", "system", "root", "place"),
    [
        ({"HOME": "/root"}, "linux", True, "/var/lib/loadlens-agent"),
        ({"HOME": "/home/ann"}, "linux", False, "/home/ann/.local/state/loadlens-agent"),
        ({"HOME": "/home/ann", "XDG_STATE_HOME": "/state"}, "linux", False, "/state/loadlens-agent"),
        ({"HOME": "/var/root"}, "darwin", True, "/Library/Application Support/loadlens-agent"),
        ({"HOME": "/Users/ann"}, "darwin", False, "/Users/ann/Library/Application Support/loadlens-agent"),
        ({"HOME": "/c/ann", "LOCALAPPDATA": "/c/ann/local"}, "win32", False, "/c/ann/local/loadlens-agent"),
    ],
)
def test_the_spool_is_where_the_system_keeps_such_data(
    environ: dict[str, str], system: Any, root: bool, place: str
) -> None:
    assert default_spool_dir(environ, system, root=root) == Path(place)
