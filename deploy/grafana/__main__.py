"""`python -m deploy.grafana` writes the dashboards, which Grafana reads, anew."""

import json
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.fleet import fleet
from deploy.grafana.hive import hive
from deploy.grafana.resources import resources
from deploy.grafana.user import host

FOLDER = Path(__file__).with_name("dashboards")
DASHBOARDS = {"hive": hive, "fleet": fleet, "user": host, "resources": resources}
"""By the name of the file."""


def as_json(dashboard: Dashboard) -> str:
    """The text of the file."""
    return json.dumps(dashboard, cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    for name, make in DASHBOARDS.items():
        (FOLDER / f"{name}.json").write_text(as_json(make()))
