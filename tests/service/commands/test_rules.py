"""`loadlens-service rules`: what it shows is what a running service does, or would have done."""

import io
import json
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from analytics.sources.service import Client
from contract.times import format_instant
from service.alerts.backtest import FiringPeriod, backtest
from service.alerts.rule_set import read_rule_set
from service.commands.rules import backtesting
from tests.service.conftest import StartService
from tests.support import preloaded
from tests.support.reports import END_MS, JsonObject, original, post, small
from tests.support.running import clean_environment, wait_until

pytestmark = pytest.mark.server

RULES = """
rules:
  - {name: busy, kind: threshold, metric: cpuLoadAvg, above: 0.8, clear: 0.6, for: 20s}
  - {name: tail, kind: threshold, metric: cpuLoadAvg, stat: p95, over: 30s, above: 0.9, users: ["a*"]}
  - {name: core, kind: threshold, metric: cpuCoreLoadAvgMax, above: 0.9, users: [cores]}
  - {name: jump, kind: change, metric: cpuLoadAvg, over: 10s, above: 0.3}
  - {name: many, kind: fleet, metric: cpuLoadAvg, above: 0.8, share: 0.5, within: 10s, least: 2}
  - {name: memory, kind: threshold, metric: memoryUtilization, above: 0.5}
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return preloaded.run("service", "rules", *arguments, environment=clean_environment(COLUMNS="160"))


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(RULES)
    return path


def windows() -> list[JsonObject]:
    """Two minutes of some users, in order of time."""
    reports = []
    for place in range(24):
        end_ms = END_MS + place * 5000
        reports += [
            small("a1", end_ms, 0.95 if 6 <= place < 15 else 0.3, 100),
            small("a2", end_ms, 0.85 if place % 2 else 0.7, 100),
            small("b1", end_ms, 0.99 if 10 <= place < 12 else 0.2, 100),
        ]
        busiest = 0.95 if place in (3, 4) else 0.5
        cpu = {"type": "CPU", "avg_utilization": 0.4, "avg_utilization_by_core": [0.3, busiest]}
        memory = {"type": "MEMORY", "utilization": {"avg": 0.6 if place > 20 else 0.4}}
        reports.append(original("cores", start_timestamp=end_ms - 1000, end_timestamp=end_ms, metrics=[cpu, memory]))
    return reports


def test_a_backtest_says_what_the_same_rules_said_when_the_windows_arrived(start: StartService, rules: Path) -> None:
    service = start("--rules", str(rules), "--flush-interval", "0.3")
    with service.client() as client:
        post(client, *windows())

        def found() -> list[tuple[object, ...]]:
            alerts = []
            for state in ("firing", "resolved"):
                alerts += client.get("/api/v1/alerts", params={"state": state}).json()["alerts"]
            return sorted((one["rule"], one["user"], one["fired"], one["resolved"] or "") for one in alerts)

        wait_until(lambda: "loadlens_rules_behind 0.0" in client.get("/metrics").text, "the rules")
        wait_until(lambda: any(alert[0] == "memory" for alert in found()), "the last alert")
        said = found()
    with Client(service.url) as source:
        rule_set = read_rule_set(rules)
        calls: list[None] = []
        periods = backtest(
            [*rule_set.rules.values()], source, END_MS - 1, END_MS + 3_600_000, "raw", lambda: calls.append(None)
        )

    def shown(ms: int | None) -> str:
        return "" if ms is None else format_instant(ms)

    assert (
        sorted((period.rule, period.user, shown(period.fired_ms), shown(period.resolved_ms)) for period in periods)
        == said
    )
    assert {alert[0] for alert in said} == set(rule_set.rules)
    assert calls


def test_the_commands_show_rules_alerts_and_silences(start: StartService, rules: Path) -> None:
    service = start("--rules", str(rules))
    with service.client() as client:
        post(client, *windows())
        wait_until(lambda: "memory" in client.get("/api/v1/alerts").text, "an alert")
    url = ("--url", service.url)
    listed = run("list", *url)
    assert listed.returncode == 0, listed.stderr
    assert "cpuLoadAvg.p95 over 30s > 0.9" in listed.stdout
    moments = ("--start", str(END_MS - 1), "--end", str(END_MS + 120_000))
    tested = run("backtest", str(rules), *url, *moments, "--rule", "busy")
    assert tested.returncode == 0, tested.stderr
    header, line = tested.stdout.splitlines()
    assert header == "rule,user,fired,resolved,value"
    assert line.startswith("busy,a1,20")
    as_json = run("backtest", str(rules), *url, *moments, "--rule", "busy", "--json")
    (period,) = json.loads(as_json.stdout)
    assert line.split(",")[:4] == [period[name] for name in ("rule", "user", "fired", "resolved")]
    assert run("backtest", str(rules), *url, "--last", "1h").stdout.splitlines() == [header]
    silenced = run("silence", *url, "--rule", "busy", "--duration", "1h", "--comment", "[bold]why")
    assert "[bold]why" in silenced.stdout
    with service.client() as client:
        (silence,) = client.get("/api/v1/silences").json()["silences"]
    assert "Nothing is silenced" in run("silence", *url, "--end", silence["id"]).stdout
    unknown = run("silence", *url, "--rule", "bussy", "--duration", "1h")
    assert unknown.returncode == 2 and "'bussy' (did you mean busy?)" in unknown.stderr
    nobody = run("silence", *url, "--rule", "no*", "--user", "c9", "--duration", "1h")
    assert nobody.returncode == 0 and "no rule is called like no* now" in nobody.stderr
    assert "no host is called c9 now" in nobody.stderr


def test_a_narrow_terminal_cuts_neither_moments_nor_names() -> None:
    shown = io.StringIO()
    user = "a-machine-with-a-rather-long-name.example.org"
    period = FiringPeriod("busy", user, END_MS, END_MS + 60_001, 0.9)
    backtesting._show(Console(file=shown, width=80), "busy", [period], END_MS - 1000, END_MS + 100_000)
    text = shown.getvalue()
    assert "busy would have fired 1 time, for 1 user," in text
    assert "█" in text and "…" not in text
    assert format_instant(END_MS) in text and format_instant(END_MS + 60_001) in text
    assert user in text.replace("\n", "")


def test_test_reads_files_without_a_service(rules: Path) -> None:
    good = run("test", str(rules))
    assert good.returncode == 0, good.stderr
    assert "50% of users: cpuLoadAvg > 0.8" in good.stdout
    rules.write_text(RULES.replace("0.8", "much"))
    bad = run("test", str(rules))
    assert bad.returncode == 1
    assert "rules.yaml:3: rule busy: above" in bad.stderr


def test_test_names_the_kinds_and_says_what_is_wrong_once(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    rule = '[[rules]]\nname = "busy"\nkind = "threshold"\nmetric = "cpuLoadAvg"\nabove = 0.8\ntargets = ["ops"]\n'
    target = '[targets.ops]\nwebhook = "http://10.0.0.1/hook"\nsecret = "env:OPS_SECRET"\n'
    path.write_text(rule.replace("threshold", "treshold") + target)
    refused = run("test", str(path)).stderr
    assert "rule busy: kind: expected one of threshold, change, absence, anomaly, fleet, got 'treshold'" in refused
    assert "(did you mean threshold?)" in refused
    path.write_text(rule + target)
    refused = run("test", str(path)).stderr
    assert "targets.ops.secret: expected a text at env:OPS_SECRET, got nothing" in refused
    assert "rule busy: targets" not in refused
    (tmp_path / "secret").write_text("whsec_" + "A" * 32)
    path.write_text(rule + target.replace("env:OPS_SECRET", "file:secret"))
    assert "--notify-private" in run("test", str(path)).stdout


def test_one_file_has_the_services_settings_and_the_commands(start: StartService, rules: Path, tmp_path: Path) -> None:
    config = tmp_path / "loadlens.toml"
    config.write_text(f'[service]\nrules = "{rules}"\ntoken = "hush"\n')
    service = start("--config", str(config))
    listed = run("list", "--config", str(config), "--url", service.url)
    assert listed.returncode == 0, listed.stderr
    assert "memoryUtilization > 0.5" in listed.stdout


def test_wrong_calls_are_told() -> None:
    assert run("lst").returncode == 2
    nowhere = run("list", "--url", "http://127.0.0.1:9")
    assert nowhere.returncode == 1
    assert "cannot be reached" in nowhere.stderr
    assert run("backtest", "--help").returncode == 0
    assert run("backtest", "rules.toml", "--rate", "soon").returncode == 2
