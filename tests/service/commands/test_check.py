"""`loadlens-service check` with a real InfluxDB 1, with those that stand in for 2 and 3, and with what is none."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3

from analytics.sources.influx_address import Address, Credentials
from contract.checkup import CheckResult, exit_code, in_words
from service.cli import main
from service.commands.check import check
from tests.support.influx_proxy import Fault, InfluxProxy, Request
from tests.support.influxd import RunningInflux, free_ports, need
from tests.support.running import ROOT, clean_environment

pytestmark = pytest.mark.server

TOKEN = "s3cret-t0ken"
DEADLINE_S = 120.0


@pytest.fixture(params=[2, 3], ids=["2.x", "3.x"])
def newer(request: pytest.FixtureRequest, influx: RunningInflux) -> Iterator[InfluxProxy]:
    with InfluxProxy(influx, request.param, TOKEN) as proxy:
        yield proxy
        assert proxy.buckets == set(), "something is left behind"


@pytest.fixture
def second(influx: RunningInflux) -> Iterator[InfluxProxy]:
    """An InfluxDB 2 for faults."""
    with InfluxProxy(influx, 2, TOKEN) as proxy:
        yield proxy
        assert proxy.buckets == set(), "something is left behind"


def found(address: str, **who: str) -> dict[str, CheckResult]:
    findings = check(Address.parse(address), Credentials(**who))
    assert len({one.about for one in findings}) == len(findings), in_words(findings)
    return {one.about: one for one in findings}


def failing(findings: dict[str, CheckResult]) -> list[str]:
    assert exit_code(findings.values()) == any(one.state == "fails" for one in findings.values())
    return [about for about, one in findings.items() if one.state == "fails"]


def databases(influx: RunningInflux) -> list[str]:
    return [row[0] for series in influx.query("SHOW DATABASES") for row in series.get("values", [])]


def is_write(asked: Request) -> bool:
    return "write" in asked.path


def test_an_influxdb_1_works_and_nothing_is_left_behind(influx: RunningInflux) -> None:
    before = databases(influx)
    findings = found(influx.address())
    assert failing(findings) == []
    assert "InfluxDB 1.6.7" in findings["server"].says
    assert "asks nobody who they are" in findings["login"].says
    for kind in ("floats", "windows of hosts", "windows of cores", "rollups of 1d", "users and state"):
        assert kind in findings["reading"].says
    assert "new value" in findings["overwrite"].says
    assert "field type conflict" in findings["refusing"].says
    assert findings["deleting"].state == "works"
    assert "max-series-per-database 1,000,000" in findings["limits"].says
    assert "A write takes" in findings["times"].says
    assert databases(influx) == before


def test_influxdb_2_and_3_work_and_nothing_but_an_own_database_is_touched(newer: InfluxProxy) -> None:
    findings = found(newer.address("METRICS"), token=TOKEN)
    assert failing(findings) == []
    assert findings["login"].state == "works"
    assert findings["deleting"].state == ("works" if newer.generation == 2 else "note")
    assert ("old value" if newer.generation == 3 else "new value") in findings["overwrite"].says
    path = "/api/v2/write" if newer.generation == 2 else "/api/v3/write_lp"
    assert {asked.path for asked in newer.requests if is_write(asked)} == {path}
    named = [asked.parameters["db"] for asked in newer.requests if "db" in asked.parameters]
    assert named and all(name.startswith("loadlens_check_") for name in named)


def test_a_wrong_token_is_told_with_what_to_give(newer: InfluxProxy) -> None:
    findings = found(newer.address("METRICS"), token="wr0ng-t0ken")
    assert failing(findings) == ["login"]
    assert "401" in findings["login"].says and "LOADLENS_STORE_TOKEN" in findings["login"].remedy
    assert "wr0ng-t0ken" not in in_words(findings.values())


def test_who_may_not_make_a_database_is_told_so(tmp_path: Path) -> None:
    need()
    with RunningInflux(tmp_path / "influxd", auth=True) as influx:
        influx.query("CREATE USER admin WITH PASSWORD 's3cret' WITH ALL PRIVILEGES")
        headers = urllib3.make_headers(basic_auth="admin:s3cret")
        for text in ("CREATE DATABASE METRICS", "CREATE USER me WITH PASSWORD 'mine'", "GRANT ALL ON METRICS TO me"):
            urllib3.request("POST", f"{influx.url}/query", fields={"q": text}, headers=headers)
        assert failing(found(influx.address(), user="admin", password="s3cret")) == []
        findings = found(influx.address(), user="me", password="mine")
        assert failing(findings) == ["database"]
        assert "cannot be made" in findings["database"].says
        assert "administrator" in findings["database"].remedy
        assert failing(found(influx.address(), user="me", password="wrong")) == ["login"]
        answer = urllib3.request("POST", f"{influx.url}/query", fields={"q": "SHOW DATABASES"}, headers=headers)
        assert answer.json()["results"][0]["series"][0]["values"] == [["METRICS"]]


def test_an_address_where_nothing_listens_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    [port] = free_ports(1)
    assert main(["check", f"influx://127.0.0.1:{port}"]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "FAILS server" in out and f"127.0.0.1:{port}/METRICS cannot be reached" in out and "-> Start it" in out


@pytest.mark.parametrize("answer", [Fault(200, b"<html>hello</html>"), Fault(404, b"nothing here"), Fault(302)])
def test_what_is_no_influxdb_is_told(second: InfluxProxy, answer: Fault) -> None:
    second.fault = lambda _: answer
    findings = found(second.address("METRICS"), token=TOKEN)
    assert failing(findings) == ["server"]
    assert "not as an InfluxDB does" in findings["server"].says


@pytest.mark.parametrize(("version", "says"), [("v2.3.0", "2.4 or newer"), ("0.9.6", "InfluxDB 1, 2 and 3")])
def test_a_version_that_is_too_old_is_told(second: InfluxProxy, version: str, says: str) -> None:
    second.fault = lambda asked: Fault(204, headers={"X-Influxdb-Version": version}) if asked.path == "/ping" else None
    findings = found(second.address("METRICS"), token=TOKEN)
    assert failing(findings) == ["server"]
    assert version.removeprefix("v") in findings["server"].says and says in findings["server"].remedy


def test_where_nothing_can_be_written_nothing_more_is_tried(second: InfluxProxy) -> None:
    second.fault = lambda asked: Fault(403, b'{"message": "read only"}') if is_write(asked) else None
    findings = found(second.address("METRICS"), token=TOKEN)
    assert failing(findings) == ["writing"]
    assert "read only" in findings["writing"].says
    assert "reading" not in findings and findings["cleanup"].state == "works"


def test_a_server_that_fails_midway_is_told_and_all_is_dropped(second: InfluxProxy) -> None:
    second.fault = lambda asked: Fault(503) if "SELECT" in asked.parameters.get("q", "") else None
    findings = found(second.address("METRICS"), token=TOKEN)
    assert "503" in findings["reading"].says
    assert {"reading", "refusing", "times"} <= set(failing(findings))
    assert findings["cleanup"].state == "works"


def test_a_server_that_is_lost_while_a_database_is_made_is_told_with_the_name_that_may_be_left(
    second: InfluxProxy,
) -> None:
    second.fault = lambda asked: Fault(503) if "buckets" in asked.path else None
    findings = found(second.address("METRICS"), token=TOKEN)
    assert failing(findings) == ["database", "cleanup"]
    assert "loadlens_check_" in findings["cleanup"].says


def test_a_value_that_comes_back_with_another_bit_is_told(second: InfluxProxy) -> None:
    def rounded(asked: Request) -> Fault | None:
        if "SELECT" not in asked.parameters.get("q", ""):
            return None
        answer = second.answer(asked, {"Authorization": f"Token {TOKEN}"})
        return answer._replace(body=answer.body.replace(b"0.3333333333333333", b"0.33333333333333337"))

    second.fault = rounded
    findings = found(second.address("METRICS"), token=TOKEN)
    assert failing(findings) == ["reading", "deleting"]
    assert "floats" in findings["reading"].says and "users" not in findings["reading"].says


def test_a_wrong_line_that_is_not_refused_is_told(second: InfluxProxy) -> None:
    second.fault = lambda asked: Fault(204) if is_write(asked) and b"a text" in asked.body else None
    findings = found(second.address("METRICS"), token=TOKEN)
    assert failing(findings) == ["refusing"]


def test_a_database_that_may_not_be_dropped_is_named(influx: RunningInflux) -> None:
    with InfluxProxy(influx, 3, TOKEN) as proxy:
        proxy.fault = lambda asked: Fault(403, b'{"error": "no"}') if asked.method == "DELETE" else None
        findings = found(proxy.address("METRICS"), token=TOKEN)
        assert failing(findings) == ["cleanup"]
        [left] = proxy.buckets
        assert left in findings["cleanup"].says and "Drop it" in findings["cleanup"].remedy
        influx.query(f'DROP DATABASE "{left}"')


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_interrupted_leaves_nothing_behind(newer: InfluxProxy, number: signal.Signals) -> None:
    reading, dropped = threading.Event(), threading.Event()

    def held(asked: Request) -> Fault | None:
        if "SELECT" in asked.parameters.get("q", ""):
            # It is answered when the database is dropped.
            reading.set()
            dropped.wait(DEADLINE_S)
            return Fault(503)
        if asked.method == "DELETE":
            dropped.set()
        return None

    newer.fault = held
    process = subprocess.Popen(
        [sys.executable, "-m", "service", "check", newer.address("METRICS")],
        cwd=ROOT, env=clean_environment(LOADLENS_STORE_TOKEN=TOKEN),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert reading.wait(DEADLINE_S), "nothing was read"
        os.kill(process.pid, number)
        out, errors = process.communicate(timeout=DEADLINE_S)
    finally:
        dropped.set()
        process.kill()
        process.wait()
    assert (process.returncode, errors) == (1, "")
    assert "works writing" in out and "It was interrupted" in out and "nothing is left behind" in " ".join(out.split())


def test_json_says_the_same_to_programs(influx: RunningInflux, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", influx.address(), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["works"] is True
    assert [one["about"] for one in document["findings"]][:3] == ["server", "login", "database"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["embedded"], "expected an address such as"),
        (["influx://me:s3cret@host"], "do not belong into the address"),
        (["influx://host", "--store-user", "me"], "goes with store_password"),
        ([], "STORE"),
    ],
)
def test_a_wrong_setting_ends_with_2(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["check", *arguments])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert says.lower() in error.lower() and "s3cret" not in error
