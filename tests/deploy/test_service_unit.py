"""The service's systemd unit is valid, confined, and sets what the service has; alerts ask for numbers that exist."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from contract.settings.fields import settings_of
from service.settings import ServiceSettings
from tests.support.running import ROOT, RunningService

UNIT = ROOT / "deploy" / "loadlens-service.service"
RULES = ROOT / "deploy" / "prometheus" / "loadlens.rules.yml"


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
    command = ["systemd-analyze", "security", "--offline=yes", "--threshold=25", installed]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd does not rate units that are not installed")
    assert done.returncode == 0, done.stdout


def test_the_variables_it_names_are_settings() -> None:
    variables = set(re.findall(r"LOADLENS_\w+", UNIT.read_text()))
    assert variables <= {setting.variable for setting in settings_of(ServiceSettings)}


@pytest.mark.server
def test_the_alerts_ask_for_numbers_that_the_service_shows(tmp_path: Path) -> None:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    alerts = [rule for group in groups for rule in group["rules"]]
    assert len({alert["alert"] for alert in alerts}) == len(alerts)
    asked = {name for alert in alerts for name in re.findall(r"loadlens_\w+", alert["expr"])}
    with RunningService(tmp_path / "data") as service, service.client() as client:
        client.get("/healthz")
        families = [*text_string_to_metric_families(client.get("/metrics").text)]
    shown = {sample.name for family in families for sample in family.samples}
    # Of targets there are none here, and nothing is shown of them.
    assert asked - shown == {"loadlens_notifications_target_failures_total"}
    assert "loadlens_notifications_target_failures" in {family.name for family in families}
