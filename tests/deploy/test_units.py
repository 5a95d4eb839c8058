"""The systemd units are valid, confined, and set what the programs have."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from agent.settings import AgentSettings
from contract.settings import Settings
from contract.settings.fields import settings_of
from service.commands.forward.command import ForwardSettings
from service.settings import ServiceSettings
from tests.support.running import ROOT

UNITS = {
    "loadlens-agent.service": ROOT / "agent", "loadlens-service.service": ROOT / "deploy",
    "loadlens-forward.service": ROOT / "deploy",
}  # fmt: skip


@pytest.fixture(params=[*UNITS])
def installed(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A unit with a program that exists on every machine."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze checks units")
    copy = tmp_path / request.param
    copy.write_text(
        re.sub("(?m)^ExecStart=.*", "ExecStart=/bin/true", (UNITS[request.param] / request.param).read_text())
    )
    return copy


def test_systemd_takes_the_unit_as_it_is(installed: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", installed], capture_output=True, text=True, check=False
    )
    assert installed.name not in done.stderr, done.stderr


def test_systemd_rates_the_exposure_as_low(installed: Path) -> None:
    threshold = 20 if installed.name == "loadlens-agent.service" else 25
    command = ["systemd-analyze", "security", "--offline=yes", f"--threshold={threshold}", installed]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd does not rate units that are not installed")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("unit", "kind"),
    [
        ("loadlens-agent.service", AgentSettings),
        ("loadlens-service.service", ServiceSettings),
        ("loadlens-forward.service", ForwardSettings),
    ],
)
def test_the_variables_it_names_are_settings(unit: str, kind: type[Settings]) -> None:
    variables = set(re.findall(r"LOADLENS_\w+", (UNITS[unit] / unit).read_text()))
    assert variables <= {setting.variable for setting in settings_of(kind)}
