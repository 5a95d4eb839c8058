"""Findings: they fit a terminal, say what to do, and decide the exit code."""

import msgspec
import pytest

from contract.checkup import CheckResult, as_document, exit_code, in_words

WORKS = CheckResult("service", "works", "It answers.")
NOTE = CheckResult("agent", "note", "It is paused.")
FAILS = CheckResult("spool", "fails", "It fills: " + "many words " * 20, "Let the service take reports " + "soon " * 20)


@pytest.mark.parametrize(("findings", "code"), [([], 0), ([WORKS, NOTE], 0), ([WORKS, FAILS], 1)])
def test_only_what_fails_makes_the_exit_code_1(findings: list[CheckResult], code: int) -> None:
    assert exit_code(findings) == code
    assert as_document(findings)["works"] is (code == 0)


def test_words_fit_80_characters_and_each_remedy_stands_below_its_finding() -> None:
    lines = in_words([WORKS, FAILS]).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "works service     It answers."
    assert lines[1].startswith("FAILS spool       It fills: many words")
    assert sum("-> Let the service" in line for line in lines) == 1


def test_text_from_elsewhere_tells_the_terminal_nothing() -> None:
    assert "\x1b" not in in_words([CheckResult("service", "fails", "\x1b[31mred\n\x07")])


def test_programs_get_the_findings_as_json() -> None:
    assert msgspec.json.decode(msgspec.json.encode(as_document([NOTE]))) == {
        "works": True,
        "findings": [{"about": "agent", "state": "note", "says": "It is paused."}],
    }
