"""Keeps a data folder of the version that is about to be released, for later ones to open.

    python -m tests.support.keep_release tests/data/releases

writes VERSION.tar.xz, what a killed service leaves behind, and VERSION.json, what it answered.
"""

import json
import sys
import tarfile
import tempfile
from pathlib import Path

import httpx

from contract import __version__
from contract.times import DAY_MS, format_instant
from tests.support.five_weeks import END_MS, HOSTS, START_MS, record
from tests.support.reports import original, post
from tests.support.running import RunningService, wait_until


def _paths() -> list[str]:
    """What is asked: history, fleet, users, and what operators decided."""
    span = f"start={format_instant(START_MS - DAY_MS)}&end={format_instant(END_MS)}"
    metrics = "/api/v1/metrics"
    user = HOSTS[0].user_id
    return [
        f"{metrics}/cpuLoadAvg/byUser/{user}?{span}&resample_rate=15m",
        f"{metrics}/cpuLoadAvg/byUser/{user}?{span}&resample_rate=1h&stat=p95",
        f"{metrics}/cpuLoadVar/byUser/{user}?{span}&resample_rate=1d&core=1",
        f"{metrics}/diskReadBytes/byUser/{user}?{span}&resample_rate=1d&stat=max",
        f"{metrics}/cpuLoadAvg/fleet?{span}&resample_rate=1d&by=user",
        f"{metrics}/cpuLoadAvg/byUser/original?start=2018-07-12&end=2018-07-13&resample_rate=15m",
        "/api/v1/users",
        "/api/v1/rules",
        "/api/v1/settings",
    ]


def _decide(client: httpx.Client) -> None:
    """A rule and a setting, as an operator would."""
    rule = {"kind": "threshold", "metric": "cpuLoadAvg", "above": 0.9, "users": ["web-*"]}
    new = {"If-None-Match": "*"}
    client.put("/api/v1/rules/hot", json=rule, headers=new).raise_for_status()
    client.put("/api/v1/settings?selector=all", json={"interval": 0.1}, headers=new).raise_for_status()


def keep(folder: Path) -> None:
    """Write the data folder and the answers of this version into `folder`."""
    reports = record().reports
    half = len(reports) // 2
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary) / "data"
        with RunningService(data, "--flush-interval", "0.1") as service, service.client() as client:
            post(client, *reports[:half], original("original")).raise_for_status()
            wait_until(lambda: any((data / "raw").glob("*.parquet")), "a segment")
            service.stop()
        # From here on nothing is flushed: the rest stays in the journal.
        with RunningService(data) as service, service.client() as client:
            post(client, *reports[half:]).raise_for_status()
            _decide(client)
            answers = [(path, client.get(path)) for path in _paths()]
            service.kill()
        asked = [{"path": path, "status": answer.status_code, "answer": answer.json()} for path, answer in answers]
        lines = ",\n".join(json.dumps(one) for one in asked)
        (folder / f"{__version__}.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
        with tarfile.open(folder / f"{__version__}.tar.xz", "w:xz") as archive:
            archive.add(data, "data")


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
