"""How fast and how hot the CPU runs, where the system tells."""

import psutil

from agent.probes.base import NotMeasured
from agent.probes.system import Gauges
from contract.metrics import Frequency, Temperature

_HZ = 1e6
_OF_THE_CPU = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "cpu-thermal", "soc_thermal", "x86_pkg_temp", "acpitz")
"""Sensors that are the CPU's, the best first: of Intel and AMD, of boards with ARM, of firmware."""


def frequency_probe(interval_s: float) -> Gauges:
    """The probe of the CPU's frequency; its samples raise NotMeasured where the system does not tell."""
    return Gauges(Frequency, interval_s, _read_frequency)


def _read_frequency() -> tuple[float]:
    # Some systems have it as a function that fails, some do not have the function.
    read = getattr(psutil, "cpu_freq", None)
    try:
        frequency = read() if read is not None else None
    except (OSError, NotImplementedError) as error:
        raise NotMeasured(f"the frequency of the CPU cannot be read: {error}") from None
    if frequency is None or frequency.current <= 0:
        raise NotMeasured("the system does not tell the frequency of the CPU")
    return (frequency.current * _HZ,)


def temperature_probe(interval_s: float) -> Gauges:
    """The probe of the CPU's temperature; its samples raise NotMeasured where the system does not tell."""
    return Gauges(Temperature, interval_s, _read_temperature)


def _read_temperature() -> tuple[float]:
    read = getattr(psutil, "sensors_temperatures", None)
    sensors = read() if read is not None else {}
    name = next((name for name in _OF_THE_CPU if sensors.get(name)), None)
    if name is None:
        raise NotMeasured("the system tells no temperature of the CPU, as is usual in a virtual machine")
    return (max(0.0, *(sensor.current for sensor in sensors[name])),)
