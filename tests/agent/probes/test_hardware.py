"""Frequency and temperature: as the system tells them, and said where it does not."""

from collections.abc import Sequence
from types import SimpleNamespace

import psutil
import pytest

from agent.probes import PROBES, MetricName, NotMeasured, QuantitySamples
from contract.metrics import Frequency, Temperature


def sensors(*degrees: float) -> list[SimpleNamespace]:
    return [SimpleNamespace(label="", current=one, high=None, critical=None) for one in degrees]


def sampled(name: MetricName) -> Sequence[float]:
    probe = PROBES[name](0.05)
    probe.restart(0.0)
    probe.sample(1.0)
    samples = probe.collect()
    assert isinstance(samples, QuantitySamples)
    return samples.series[0].values


@pytest.mark.parametrize(
    ("told", "degrees"),
    [
        ({"coretemp": sensors(61.0, 70.5, 68.0)}, 70.5),
        ({"nvme": sensors(90.0), "k10temp": sensors(44.25)}, 44.25),
        ({"acpitz": sensors(30.0), "cpu_thermal": sensors(51.0)}, 51.0),
        ({"coretemp": sensors(-12.0)}, 0.0),
    ],
)
def test_the_temperature_is_that_of_the_hottest_sensor_of_the_cpu(
    monkeypatch: pytest.MonkeyPatch, told: object, degrees: float
) -> None:
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: told, raising=False)
    assert sampled("temperature") == [degrees]
    assert Temperature.quantities[0].unit == "Cel"


def test_the_frequency_is_in_hertz(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "cpu_freq", lambda: SimpleNamespace(current=2600.5, min=0.0, max=0.0), raising=False)
    assert sampled("frequency") == [2_600_500_000.0]
    assert Frequency.quantities[0].unit == "Hz"


def fails() -> None:
    raise NotImplementedError("can't find current frequency file")


@pytest.mark.parametrize(
    ("name", "function", "read"),
    [
        ("frequency", "cpu_freq", lambda: None),
        ("frequency", "cpu_freq", lambda: SimpleNamespace(current=0.0, min=0.0, max=0.0)),
        ("frequency", "cpu_freq", fails),
        ("frequency", "cpu_freq", None),
        ("temperature", "sensors_temperatures", dict),
        ("temperature", "sensors_temperatures", lambda: {"nvme": sensors(40.0)}),
        ("temperature", "sensors_temperatures", lambda: {"coretemp": []}),
        ("temperature", "sensors_temperatures", None),
    ],
)
def test_a_system_that_does_not_tell_is_said(
    monkeypatch: pytest.MonkeyPatch, name: MetricName, function: str, read: object
) -> None:
    if read is None:
        monkeypatch.delattr(psutil, function, raising=False)
    else:
        monkeypatch.setattr(psutil, function, read, raising=False)
    with pytest.raises(NotMeasured, match="CPU"):
        sampled(name)
