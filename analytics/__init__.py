"""CPU trends of machines and fleets, as DataFrames.

    import analytics

    with analytics.connect("http://localhost:8888") as service:
        month = service.fleet(rate="1h", start="2018-07-01", by="user")
    trend = analytics.fleet_trend(month)

Every function takes and gives frames of windows, the shape that `analytics.frames.frame` describes. What is listed
here is public; it is loaded when it is first used, so that a command line starts quickly.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analytics.frames.aggregation import equal_weights
    from analytics.frames.resampling import resample
    from analytics.methods.anomalies import anomalies
    from analytics.methods.change_points import change_points
    from analytics.methods.clusters import cluster_profiles
    from analytics.methods.comparison import compare
    from analytics.methods.core_balance import core_imbalance
    from analytics.methods.forecasting import forecast
    from analytics.methods.load_duration import load_duration_curve
    from analytics.methods.right_sizing import right_size
    from analytics.methods.thresholds import saturation
    from analytics.methods.trends import fleet_trend
    from analytics.methods.week_profiles import hour_of_week_profile
    from analytics.sources.connecting import connect
    from analytics.sources.live import stream

__all__ = [
    "anomalies",
    "change_points",
    "cluster_profiles",
    "compare",
    "connect",
    "core_imbalance",
    "equal_weights",
    "fleet_trend",
    "forecast",
    "hour_of_week_profile",
    "load_duration_curve",
    "resample",
    "right_size",
    "saturation",
    "stream",
]

_HOMES = {
    "anomalies": "analytics.methods.anomalies",
    "change_points": "analytics.methods.change_points",
    "cluster_profiles": "analytics.methods.clusters",
    "compare": "analytics.methods.comparison",
    "connect": "analytics.sources.connecting",
    "core_imbalance": "analytics.methods.core_balance",
    "equal_weights": "analytics.frames.aggregation",
    "fleet_trend": "analytics.methods.trends",
    "forecast": "analytics.methods.forecasting",
    "hour_of_week_profile": "analytics.methods.week_profiles",
    "load_duration_curve": "analytics.methods.load_duration",
    "resample": "analytics.frames.resampling",
    "right_size": "analytics.methods.right_sizing",
    "saturation": "analytics.methods.thresholds",
    "stream": "analytics.sources.live",
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
