"""What callers of the original system rely on: its two commands, and the answers they got."""

import json
import subprocess

import httpx
import pytest

from tests.support.reports import entries, original, post
from tests.support.running import RunningService

pytestmark = pytest.mark.server

POST = """
curl --header "Content-Type: application/json" --request POST --data '{
  "user_id": "6a:d6:96:d3:45:35",
  "start_timestamp": 1531402660605,
  "end_timestamp": 1531402665626,
  "observations_per_metric": 100,
  "os_type": "Linux",
  "os_version": "18.04 LTS",
  "metrics": [{
    "type": "CPU",
    "avg_utilization": 0.2148631642976225,
    "var_utilization": 0.005718669350831782,
    "avg_utilization_by_core": [0.19575989029493227, 0.19210218632004747, 0.24848360030511063, 0.18310711960197185],
    "var_utilization_by_core": [0.0033936742208834853, 0.002245358139130047, 4.7853845483180853E-4, 0.0030582163825456816],
    "name": "CpuUtilization"
  }]
}' http://localhost:8888/api/v1/metrics
"""  # noqa: E501
GET = """
curl --header "Content-Type: application/json" --request GET --data '{
  "start": "2018-07-12T12:15:00Z", "end": "2018-07-12T16:15:00Z", "resample_rate": "15m"
}' http://localhost:8888/api/v1/metrics/cpuLoadAvg/byUser/6a:d6:96:d3:45:35
"""
USER = "6a:d6:96:d3:45:35"
VALUES = {
    "cpuLoadAvg": 0.2148631642976225,
    "cpuLoadVar": 0.005718669350831782,
    "cpuCoreLoadAvgMax": 0.24848360030511063,
    "cpuCoreLoadAvgMin": 0.18310711960197185,
    "cpuCoreLoadVarMax": 0.0033936742208834853,
    "cpuCoreLoadVarMin": 4.7853845483180853e-4,
    "cpuCoreLoadMinMin": 4.7853845483180853e-4,
}


def run(command: str, service: RunningService) -> httpx.Response:
    """Run a curl command as it stands, but for the port."""
    script = command.replace("localhost:8888", f"127.0.0.1:{service.port}").replace(
        "curl ", "curl -sS --noproxy '*' -i "
    )
    answer = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=60, check=True).stdout
    head, _, body = answer.partition("\n\n")
    return httpx.Response(int(head.split()[1]), content=body)


@pytest.fixture(scope="module")
def posted(service: RunningService) -> RunningService:
    """The service after the first command, which may be sent any number of times."""
    for _ in range(2):
        answer = run(POST, service)
        assert answer.status_code == 202
    return service


def test_the_two_curl_commands_answer_as_the_original_did(posted: RunningService) -> None:
    answer = run(GET, posted)
    assert answer.status_code == 200
    assert json.loads(answer.text) == {"entries": [{"date": "2018-07-12T13:30:00Z", "value": 0.2148631642976225}]}


@pytest.mark.parametrize("metric", VALUES)
def test_every_metric_name_of_the_original_answers_both_spellings_among_them(
    posted: RunningService, metric: str
) -> None:
    answer = run(GET.replace("cpuLoadAvg", metric), posted)
    assert entries(answer) == [("2018-07-12T13:30:00Z", VALUES[metric])]


def test_another_user_has_no_entries(posted: RunningService, client: httpx.Client) -> None:
    answer = run(GET.replace(USER, "00:00:00:00:00:00"), posted)
    assert answer.status_code == 404
    assert "entries" not in answer.text
    # A user whose reports are of another time is known, and has none in this range.
    post(client, original("11:11:11:11:11:11", start_timestamp=1531500000000, end_timestamp=1531500005000))
    answer = run(GET.replace(USER, "11:11:11:11:11:11"), posted)
    assert json.loads(answer.text) == {"entries": []}


def test_the_rate_may_be_left_out_and_times_may_be_epoch_milliseconds(posted: RunningService) -> None:
    answer = run(GET.replace(', "resample_rate": "15m"', ""), posted)
    assert entries(answer) == [("2018-07-12T13:30:00Z", 0.2148631642976225)]
    command = GET.replace('"2018-07-12T12:15:00Z"', "1531397700000").replace('"2018-07-12T16:15:00Z"', "1531412100000")
    assert entries(run(command, posted)) == [("2018-07-12T13:30:00Z", 0.2148631642976225)]


def test_variances_may_be_missing_or_empty(client: httpx.Client, user: str) -> None:
    report = original(user)
    del report["metrics"][0]["var_utilization"]
    report["metrics"][0]["var_utilization_by_core"] = []
    assert post(client, report).status_code == 202
    report = original(user, end_timestamp=1531402670000)
    del report["metrics"][0]["var_utilization_by_core"]
    assert post(client, report).status_code == 202
    query = {"start": "2018-07-12T13:30:00Z", "end": "2018-07-12T13:45:00Z"}
    answer = client.request("GET", f"/api/v1/metrics/cpuCoreLoadVarMax/byUser/{user}", json=query)
    assert [value for _, value in entries(answer)] == pytest.approx([0.0], abs=1e-15)
