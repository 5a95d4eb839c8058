"""Rules in files: TOML and YAML say the same; what is wrong is told with file, line and member; examples work."""

import re
from pathlib import Path

import pytest

from service.alerts.rule_set import RuleFileError, read_rule_set, stamp
from service.alerts.rules import KINDS
from tests.support.running import ROOT
from tests.support.webhooks import KEY

TOML = """
[[rules]]
name = "busy"
kind = "threshold"
metric = "cpuLoadAvg"
above = 0.8
for = "5m"
targets = ["ops"]

[targets.ops]
webhook = "https://example.org/hook"
secret = "file:secret"
"""
YAML = """
rules:
  - name: busy
    kind: threshold
    metric: cpuLoadAvg
    above: 0.8
    for: 5m
    targets: [ops]
targets:
  ops:
    webhook: https://example.org/hook
    secret: file:secret
"""


@pytest.fixture(autouse=True)
def secret(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(KEY + "\n")


def test_toml_and_yaml_say_the_same(tmp_path: Path) -> None:
    for name, text in (("a.toml", TOML), ("b.yaml", YAML)):
        (tmp_path / name).write_text(text)
    one, other = read_rule_set(tmp_path / "a.toml"), read_rule_set(tmp_path / "b.yaml")
    assert one.rules == other.rules
    assert one.targets == other.targets
    assert one.rules["busy"].for_ms == 300_000
    assert "hook" not in repr(one.targets)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", TOML.replace("0.8", "'x'"), "a.toml:6: rule busy: above: Expected float | null, got str"),
        ("a.yaml", YAML.replace("0.8", "x"), "a.yaml:6: rule busy: above: Expected float | null, got str"),
        ("a.toml", TOML.replace("above", "abov"), "a.toml:2: rule busy: Object contains unknown field abov"),
        ("a.toml", TOML.replace('"5m"', '"soon"'), "a.toml:7: rule busy: for"),
        ("a.toml", TOML.replace("[[rules]]", "[rules]"), "expected a list of rules"),
        ("a.toml", TOML.replace("=", "", 1), "line 3"),
        ("a.yaml", YAML.replace("name:", "name"), "line 4"),
        ("a.yaml", "- a", "expected rules and targets"),
        ("a.toml", TOML + "[other]", "expected rules and targets, got other"),
        ("a.toml", TOML.replace('["ops"]', '["opps"]'), "rule busy: targets: expected one of ops, got opps"),
        ("a.toml", TOML.replace("https://", "gopher://"), "a.toml:11: targets.ops.webhook"),
        (
            "a.toml",
            TOML.replace("file:secret", "file:missing"),
            "a.toml:12: targets.ops.secret: expected a text at file:missing, got nothing",
        ),
        ("a.toml", TOML.replace("file:secret", KEY), "a.toml:12: targets.ops.secret: expected env:NAME or file:PATH"),
        ("a.yaml", YAML.replace("file:secret", "env:NO_SUCH_VARIABLE"), "a.yaml:12: targets.ops.secret"),
        ("a.yaml", YAML.replace("webhook: https://example.org/hook", "apprise: nonsense"), "targets.ops.apprise"),
        ("a.json", "{}", "expected a name that ends in .toml"),
        ("a.toml", TOML + TOML.partition("[targets")[0], "busy stands in"),
        ("a.yaml", YAML.replace("above: 0.8", "above: 0.8\n    above: 0.9"), "the key above stands twice"),
        ("a.yaml", YAML + "rules: []\n", "the key rules stands twice"),
        ("a.toml", TOML.replace("above = 0.8", "above = 0.8\nabove = 0.9"), "Cannot overwrite a value"),
        (
            "a.yaml",
            YAML.replace("    above", "    users: [22:33:44:55:10:11]\n    above"),
            "a.yaml:6: rule busy: users.0: expected text, got 22:33:44:55:10:11, which YAML takes for something else",
        ),
        ("a.toml", TOML + '[routes]\nurgent = ["ops"]', "routes: expected info, warning, critical, got urgent"),
        ("a.toml", TOML + '[routes]\ncritical = ["opps"]', "routes: critical: expected one of ops, got opps"),
        ("a.toml", TOML.replace("above", 'inhibited_by = ["bussy"]\nabove'), "expected names of rules, got bussy"),
        ("a.toml", TOML.replace("above", 'inhibited_by = ["busy"]\nabove'), "expected other rules"),
        ("a.toml", TOML.replace("above", 'repeat = "1s"\nabove'), "repeat: expected at least 1m, got 1s"),
        ("a.yaml", YAML + "silences: [{from: 22:00}]", "silences[0].from: expected a time of day as a text"),
        ("a.toml", TOML + '[[silences]]\nzone = "Berlin"', "silences[0].zone: expected a zone of the IANA database"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(RuleFileError) as wrong:
        read_rule_set(path)
    assert message in str(wrong.value)
    assert KEY not in str(wrong.value)


def test_files_may_begin_with_a_byte_order_mark_and_utf_16_is_said_to_be_that(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(b"\xef\xbb\xbf" + TOML.encode())
    assert "busy" in read_rule_set(path).rules
    path.write_text(TOML, encoding="utf-16")
    with pytest.raises(RuleFileError, match="UTF-16: save it as UTF-8"):
        read_rule_set(path)


def test_rules_that_inhibit_each_other_in_a_circle_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    rule = "  - {{name: {}, kind: absence, after: 1m, inhibited_by: [{}]}}\n"
    path.write_text("rules:\n" + rule.format("a", "b") + rule.format("b", "c") + rule.format("c", "a"))
    with pytest.raises(RuleFileError, match="inhibited_by: expected no circle"):
        read_rule_set(path)


def test_a_rule_without_targets_is_told_to_those_of_its_severity(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    unaddressed = TOML.replace('targets = ["ops"]', "") + '[routes]\nwarning = ["ops"]\n'
    path.write_text(unaddressed)
    rule_set = read_rule_set(path)
    assert rule_set.routed(rule_set.rules["busy"]).targets == ["ops"]
    path.write_text(unaddressed.replace("[[rules]]", '[[rules]]\nseverity = "info"'))
    rule_set = read_rule_set(path)
    assert rule_set.routed(rule_set.rules["busy"]).targets == []


def test_a_folder_is_one_book_and_its_stamp_changes_with_it(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(TOML)
    (tmp_path / "b.yml").write_text(YAML.replace("name: busy", "name: other"))
    (tmp_path / "notes.txt").write_text("no rules")
    before = stamp(tmp_path)
    assert set(read_rule_set(tmp_path).rules) == {"busy", "other"}
    assert stamp(tmp_path) == before
    (tmp_path / "b.yml").unlink()
    assert stamp(tmp_path) != before


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(RuleFileError, match="cannot be read"):
        read_rule_set(tmp_path / "missing.toml")


def test_the_documentations_examples_are_rules_of_every_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs" / "rules.md").read_text()
    blocks = re.findall(r"(?:^ {4}\[\[?(?:rules|targets).*\n(?:^(?: {4}.*)?\n)*)", text, re.MULTILINE)
    assert len(blocks) >= 6
    monkeypatch.setenv("OPS_SECRET", KEY)
    (tmp_path / "mail-url").write_text("mailto://user:password@example.org")
    example = "\n".join(line[4:] for block in blocks for line in block.splitlines())
    example = example.replace("/etc/loadlens", str(tmp_path))
    # The target stands there twice: in the first example, and where targets are explained.
    first, _, rest = example.partition("[targets.ops]")
    file = tmp_path / "docs.toml"
    file.write_text(first + rest[rest.index("[[rules]]") :])
    rule_set = read_rule_set(file)
    assert {type(rule) for rule in rule_set.rules.values()} == set(KINDS)
    assert rule_set.targets["ops"].shown == "https://example.org/..."
    assert rule_set.targets["mail"].shown == "mailto://..."
