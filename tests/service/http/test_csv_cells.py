"""Names that anybody may choose are no formulas to a spreadsheet, and are as they are everywhere else."""

import csv
import io

import httpx
import pytest

from service.http.answers import harmless
from tests.support.reports import original, post

pytestmark = pytest.mark.server

NAMES = ("=HYPERLINK(1)", "+1-2", "-x,y", "@SUM(A1)", "plain=1", "'quoted")


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/metrics/cpuLoadAvg/fleet?by=user&resample_rate=all",
        "/api/v1/query?by=user&resample_rate=all",
        "/api/v1/windows/fleet?by=user&resample_rate=1h",
    ],
)
def test_names_in_csv_are_texts_and_in_json_as_they_are(client: httpx.Client, path: str) -> None:
    for name in NAMES:
        assert post(client, original(f"{name}")).status_code == 202
    asked = f"{path}&start=2018-07-12&end=2018-07-13"
    answer = client.get(asked, headers={"Accept": "text/csv"})
    assert answer.status_code == 200, answer.text
    cells = {cell for row in csv.reader(io.StringIO(answer.text)) for cell in row}
    for name in NAMES:
        assert harmless(name) in cells
        assert (name in cells) == (name[0] not in "=+-@")
    assert all(name in str(client.get(asked).json()) for name in NAMES if "'" not in name)


def test_numbers_stay_numbers() -> None:
    assert [harmless(text) for text in ("=1", "\tx", "a=1", "", None)] == ["'=1", "'\tx", "a=1", "", None]
