"""CPU trends of hosts and fleets, as DataFrames.

    import analytics

    with analytics.connect("http://localhost:8888") as service:
        month = service.fleet(rate="1h", start="2018-07-01", by="user")
    trend = analytics.fleet_trend(month)

Every function takes and gives frames of windows, the shape that `analytics.frames.frame` describes. What is listed
here is public; it is loaded when it is first used, so that a command line starts quickly.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analytics.frames.exchange import to_nixtla, to_text
    from analytics.frames.frame import FrameError, TooFewData, frame_of_values, from_frame, to_frame
    from analytics.frames.resampling import resample
    from analytics.frames.statistics import quantile
    from analytics.frames.weights import equal_weights, weigh
    from analytics.methods.anomalies import Detector, Tuning, Verdict, anomalies
    from analytics.methods.change_points import change_points
    from analytics.methods.clusters import cluster_profiles
    from analytics.methods.comparison import compare
    from analytics.methods.consumers import who
    from analytics.methods.forecasting import Forecast, forecast
    from analytics.methods.load_distribution import core_imbalance, load_duration_curve
    from analytics.methods.odd_one_out import odd_ones_out
    from analytics.methods.right_sizing import fit_together, right_size
    from analytics.methods.thresholds import saturation
    from analytics.methods.trends import fleet_trend
    from analytics.methods.week_profiles import hour_of_week_profile
    from analytics.sources.base import labels
    from analytics.sources.connecting import connect, connect_async
    from analytics.sources.live import LostEvent, ReportEvent, ValuesEvent, stream
    from analytics.sources.service_api import CutShortError, Patience, ProblemError, ServiceError, UnreachableError

__all__ = [
    "CutShortError",
    "Detector",
    "Forecast",
    "FrameError",
    "LostEvent",
    "Patience",
    "ProblemError",
    "ReportEvent",
    "ServiceError",
    "TooFewData",
    "Tuning",
    "UnreachableError",
    "ValuesEvent",
    "Verdict",
    "anomalies",
    "change_points",
    "cluster_profiles",
    "compare",
    "connect",
    "connect_async",
    "core_imbalance",
    "equal_weights",
    "fit_together",
    "fleet_trend",
    "forecast",
    "frame_of_values",
    "from_frame",
    "hour_of_week_profile",
    "labels",
    "load_duration_curve",
    "odd_ones_out",
    "quantile",
    "resample",
    "right_size",
    "saturation",
    "stream",
    "to_frame",
    "to_nixtla",
    "to_text",
    "weigh",
    "who",
]

_MODULES = {
    "analytics.frames.frame": ("FrameError", "TooFewData", "frame_of_values", "from_frame", "to_frame"),
    "analytics.frames.exchange": ("to_nixtla", "to_text"),
    "analytics.frames.resampling": ("resample",),
    "analytics.frames.statistics": ("quantile",),
    "analytics.frames.weights": ("equal_weights", "weigh"),
    "analytics.methods.anomalies": ("Detector", "Tuning", "Verdict", "anomalies"),
    "analytics.methods.change_points": ("change_points",),
    "analytics.methods.clusters": ("cluster_profiles",),
    "analytics.methods.comparison": ("compare",),
    "analytics.methods.consumers": ("who",),
    "analytics.methods.forecasting": ("Forecast", "forecast"),
    "analytics.methods.load_distribution": ("core_imbalance", "load_duration_curve"),
    "analytics.methods.odd_one_out": ("odd_ones_out",),
    "analytics.methods.right_sizing": ("fit_together", "right_size"),
    "analytics.methods.thresholds": ("saturation",),
    "analytics.methods.trends": ("fleet_trend",),
    "analytics.methods.week_profiles": ("hour_of_week_profile",),
    "analytics.sources.base": ("labels",),
    "analytics.sources.connecting": ("connect", "connect_async"),
    "analytics.sources.live": ("LostEvent", "ReportEvent", "ValuesEvent", "stream"),
    "analytics.sources.service_api": ("CutShortError", "Patience", "ProblemError", "ServiceError", "UnreachableError"),
}
"""What each module has of the public names."""
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    """A public name, whose module is imported now (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'analytics' has no attribute {name!r}")
    value: object = getattr(importlib.import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
