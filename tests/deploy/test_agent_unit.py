"""The systemd unit is valid, confined, and sets what the agent has."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from agent.settings import AgentSettings
from contract.settings.fields import settings_of

UNIT = Path(__file__).parents[2] / "deploy" / "loadlens-agent.service"


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The unit with a program that exists on every machine."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze checks units")
    copy = tmp_path / UNIT.name
    copy.write_text(re.sub("(?m)^ExecStart=.*", "ExecStart=/bin/true", UNIT.read_text()))
    return copy


def test_systemd_takes_the_unit_as_it_is(installed: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", installed], capture_output=True, text=True, check=False
    )
    assert installed.name not in done.stderr, done.stderr


def test_systemd_rates_the_exposure_as_low(installed: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=yes", "--threshold=20", installed]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd does not rate units that are not installed")
    assert done.returncode == 0, done.stdout


def test_the_variables_it_names_are_settings() -> None:
    variables = set(re.findall(r"LOADLENS_\w+", UNIT.read_text()))
    assert variables <= {setting.variable for setting in settings_of(AgentSettings)}
