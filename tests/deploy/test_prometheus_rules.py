"""The alerts on the service itself ask for numbers that exist."""

import re
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.support.running import ROOT, RunningService

RULES = ROOT / "deploy" / "prometheus" / "loadlens.rules.yml"


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
