"""The contract for settings, commands, rules and silences, kept by SQLite alone, or alike by two processes.

Each case changes something at one process and asks another: by itself a service is both.
"""

import asyncio

import pytest
from msgspec import UNSET

from contract import times
from service.agents import layers
from service.agents.layers import ALL, Layer, TooManyLayers
from service.alerts import repository
from service.alerts.repository import TooMany
from tests.support.deciding import (
    OPERATOR,
    any_version,
    count_at_once,
    rule_of,
)
from tests.support.deciding_service import MINUTE_MS, Service, saying


def test_settings_that_one_sets_the_other_asks_agents_for(service: Service) -> None:
    service.here.set(ALL.text, samples=20)
    service.here.set("os:Linux", samples=25)
    service.here.set("agent:web-1", samples=30)
    service.settle()
    for user, os_type, samples in (("web-1", "Linux", 30), ("web-2", "Linux", 25), ("web-3", "Windows", 20)):
        asked, version = service.there.layers.desired(user, os_type, {})
        assert asked.samples == samples
        assert (asked, version) == service.here.layers.desired(user, os_type, {})
    for target in (ALL.text, "os:Linux", "agent:web-1"):
        assert service.there.layers.get(target) == service.here.layers.get(target)
    assert service.there.layers.get(ALL.text).revision > 0


def test_settings_that_are_taken_back_ask_for_nothing_and_never_have_a_revision_again(service: Service) -> None:
    first = service.here.set(ALL.text, samples=20)
    service.settle()
    service.there.layers.change(ALL.text, OPERATOR, lambda layer: None)
    service.settle()
    assert service.here.layers.get(ALL.text).revision == 0
    assert service.here.layers.desired("web-1", "Linux", {})[0].samples is UNSET
    again = service.here.set(ALL.text, samples=20)
    service.settle()
    assert service.there.layers.get(ALL.text) == again
    assert again.revision > first.revision


def test_an_edit_sees_the_newest_settings_and_may_refuse(service: Service) -> None:
    service.here.set(ALL.text, samples=20)
    service.settle()
    trail = service.here.trail

    def refuse(layer: Layer) -> Layer:
        assert layer.settings.samples == 20
        raise ValueError("another revision")

    with pytest.raises(ValueError, match="another revision"):
        service.there.layers.change(ALL.text, OPERATOR, refuse)
    service.settle()
    assert service.here.layers.get(ALL.text).settings.samples == 20
    assert [process.trail for process in service.processes] == [trail, trail]


def test_many_who_change_the_same_settings_at_once_lose_nothing(service: Service) -> None:
    count_at_once(service.processes, ALL.text, 20)
    service.settle()
    assert [process.layers.get(ALL.text).settings.samples for process in service.processes] == [40, 40]
    assert service.here.layers.get(ALL.text) == service.there.layers.get(ALL.text)


def test_only_so_many_selections_have_settings(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "MAX_SELECTIONS", 2)
    service.here.set("os:Linux", samples=20)
    service.settle()
    service.there.set("os:Windows", samples=20)
    service.settle()
    for process in service.processes:
        with pytest.raises(TooManyLayers):
            process.set("os:MacOS", samples=20)


def test_a_command_and_its_outcome_are_known_everywhere(service: Service) -> None:
    async def command() -> None:
        for process in service.processes:
            assert await process.agents.exchange("web-1", saying()) is not None
        id_ = await service.here.agents.command(service.here.agents.registry.get("web-1"), "report_now", 600, OPERATOR)
        await asyncio.to_thread(service.settle)
        assert service.there.agents.commands.get(id_)["status"] == "waiting"
        await service.there.agents.exchange("web-1", saying(outcomes=[{"id": id_, "status": "done"}]))
        await asyncio.to_thread(service.settle)
        for process in service.processes:
            assert process.agents.commands.get(id_)["status"] == "done"
        assert service.there.agents.commands.of("web-1", 9) == service.here.agents.commands.of("web-1", 9)

    asyncio.run(command())


def test_rules_are_the_same_with_versions_that_never_come_again(service: Service) -> None:
    first = service.here.repository.change_rule("busy", rule_of(), OPERATOR, any_version)
    service.settle()
    assert service.there.repository.rules() == {"busy": (rule_of(), first)}
    found: list[int] = []
    second = service.there.repository.change_rule("busy", rule_of(above=0.5), OPERATOR, found.append)
    service.settle()
    assert found == [first]
    assert service.here.repository.rules() == {"busy": (rule_of(above=0.5), second)}
    service.here.repository.change_rule("busy", None, OPERATOR, any_version)
    service.settle()
    assert service.there.repository.rules() == {}
    third = service.there.repository.change_rule("busy", rule_of(), OPERATOR, any_version)
    assert first < second < third


def test_a_rule_of_another_version_than_was_meant_stays(service: Service) -> None:
    version = service.here.repository.change_rule("busy", rule_of(), OPERATOR, any_version)
    service.settle()

    def refuse(found: int) -> None:
        assert found == version
        raise ValueError("another version")

    with pytest.raises(ValueError, match="another version"):
        service.there.repository.change_rule("busy", rule_of(above=0.5), OPERATOR, refuse)
    service.settle()
    for process in service.processes:
        assert process.repository.rules() == {"busy": (rule_of(), version)}
        assert process.trail == [("rule", "rule:busy")]


def test_only_so_many_rules_and_silences_are_kept(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repository, "_MAX_RULES", 1)
    monkeypatch.setattr(repository, "_MAX_SILENCES", 1)
    service.here.repository.change_rule("busy", rule_of(), OPERATOR, any_version)
    service.here.repository.add_silence("*", "*", times.now_ms() + MINUTE_MS, "", OPERATOR)
    service.settle()
    for process in service.processes:
        with pytest.raises(TooMany):
            process.repository.change_rule("idle", rule_of(name="idle"), OPERATOR, any_version)
        with pytest.raises(TooMany):
            process.repository.add_silence("*", "*", times.now_ms() + MINUTE_MS, "", OPERATOR)


def test_a_silence_holds_everywhere_until_it_is_ended_anywhere(service: Service) -> None:
    now_ms = times.now_ms()
    later = service.here.repository.add_silence("busy", "web-*", now_ms + 9 * MINUTE_MS, "a deploy", OPERATOR)
    sooner = service.here.repository.add_silence("*", "*", now_ms + MINUTE_MS, "", OPERATOR, start_ms=now_ms + 10)
    service.settle()
    assert service.there.silences == service.here.silences == [sooner, later]
    assert service.there.repository.end_silence(later.id, OPERATOR)
    service.settle()
    assert service.here.silences == [sooner]
    assert not service.here.repository.end_silence(later.id, OPERATOR)
