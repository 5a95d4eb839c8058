"""CPU trends of machines and fleets, as DataFrames.

    import analytics

    with analytics.connect("http://localhost:8888") as service:
        month = service.fleet(rate="1h", start="2018-07-01", by="user")
    trend = analytics.fleet_trend(month)

Every function takes and gives frames of windows, the shape that `analytics.frames` describes. What is listed here is
public; it is loaded when it is first used, so that a command line starts quickly.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analytics.anomalies import anomalies
    from analytics.connecting import connect
    from analytics.forecasting import forecast
    from analytics.resampling import resample
    from analytics.right_sizing import right_size

__all__ = ["anomalies", "connect", "forecast", "resample", "right_size"]

_HOMES = {
    "anomalies": "analytics.anomalies",
    "connect": "analytics.connecting",
    "forecast": "analytics.forecasting",
    "resample": "analytics.resampling",
    "right_size": "analytics.right_sizing",
}
"""The module of each public function."""


class _Package(ModuleType):
    """Keeps `analytics.name` the function where a module has the same name, which importing it would put there."""

    def __getattr__(self, name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module 'analytics' has no attribute {name!r}")
        value: object = getattr(importlib.import_module(_HOMES[name]), name)
        setattr(self, name, value)
        return value

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *_HOMES})


sys.modules[__name__].__class__ = _Package
