"""Every wrong argument of every public function is a FrameError that says what was expected: walked, none left out."""

import inspect
import math
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

import analytics
from contract.settings import SettingsError

TIMES = pd.date_range("2024-03-04", periods=8 * 24, freq="1h", tz="UTC", name="time")
LOAD = 0.3 + 0.2 * np.sin(np.arange(len(TIMES)) / 4)
VALUES = pd.concat([pd.DataFrame({"user": name, "value": LOAD}, TIMES) for name in ("a", "b", "c")])
FRAME = analytics.frame_of_values(VALUES)
WINDOWS, LABELS = analytics.from_frame(FRAME)
CORES = FRAME.assign(core=pd.array([0] * len(FRAME), "Int64"))
USE = pd.DataFrame(
    {"name": "python", "user": "root", "unit": "", "command": "python", "cpu_s": 1.0, "busy_s": 2.0, "core_s": 9.0},
    TIMES,
)
RIGHT: dict[str, dict[str, Any]] = {
    "anomalies": {"frame": FRAME},
    "change_points": {"frame": FRAME},
    "cluster_profiles": {"frame": FRAME},
    "compare": {"first": FRAME, "second": FRAME},
    "core_imbalance": {"frame": CORES},
    "equal_weights": {"frame": FRAME},
    "fit_together": {"frame": FRAME, "cores": 4},
    "fleet_trend": {"frame": FRAME},
    "forecast": {"frame": FRAME},
    "frame_of_values": {"values": VALUES},
    "from_frame": {"frame": FRAME},
    "hour_of_week_profile": {"frame": FRAME},
    "load_duration_curve": {"frame": FRAME},
    "labels": {"users": pd.DataFrame({"user": ["a"], "labels": ["role=web"]}), "name": "role"},
    "odd_ones_out": {"frame": FRAME},
    "quantile": {"frame": FRAME, "q": 0.5},
    "resample": {"frame": FRAME, "rate": "1d"},
    "right_size": {"frame": FRAME, "cores": 4},
    "saturation": {"frame": FRAME},
    "to_frame": {"windows": WINDOWS, "labels": LABELS},
    "to_nixtla": {"frame": FRAME},
    "to_text": {"frame": FRAME},
    "weigh": {"frame": FRAME},
    "who": {"source": USE},
    "Tuning": {},
    "Detector": {},
}
"""A right call of each function of frames, and of what makes a detector."""
DOORS = {"connect", "connect_async", "stream"}
"""What opens a service or files, and raises what these do."""
ANSWERS = {
    "CutShortError", "Forecast", "FrameError", "LostEvent", "Patience", "ProblemError", "ReportEvent", "ServiceError",
    "TooFewData", "UnreachableError", "ValuesEvent", "Verdict",
}  # fmt: skip

NAIVE = datetime(2024, 1, 1, tzinfo=UTC).replace(tzinfo=None)

WRONG: dict[str, Any] = {
    "None": None,
    "True": True,
    "-1": -1,
    "NaN": math.nan,
    "infinity": math.inf,
    "-infinity": -math.inf,
    "a huge whole number": 10**20,
    "one beyond floats": 10**400,
    "a text": "nope",
    "no text": "",
    "a number as text": "0.5",
    "bytes": b"x",
    "NaT": pd.NaT,
    "NA": pd.NA,
    "no list": [],
    "nothing": (),
    "a list of none": [None],
    "a list of texts": ["nope"],
    "a list of NaN": [math.nan],
    "no mapping": {},
    "a mapping": {"a": "nope"},
    "an array": np.array([0.5, 7.0]),
    "an array without a dimension": np.array(7.0),
    "a Series": pd.Series([0.5, 7.0]),
    "a frame": pd.DataFrame({"x": [1.0, 2.0]}),
    "an object": object(),
}
TAKEN: dict[tuple[str, str], set[str]] = {
    ("fleet_trend", "quantiles"): {"no list", "nothing"},
    ("forecast", "levels"): {"no list", "nothing"},
    ("forecast", "frame"): {"a Series"},
    ("forecast", "bounds"): {"an array", "a Series"},
    ("fit_together", "cores"): {"a huge whole number"},
    ("labels", "name"): {"a text", "no text", "a number as text"},
    ("odd_ones_out", "peers"): {"no mapping", "a mapping", "a Series"},
    ("right_size", "cores"): {"a huge whole number"},
    ("right_size", "sizes"): {"an array", "a Series"},
    ("right_size", "headroom"): {"a huge whole number"},
    ("right_size", "least_days"): {"a huge whole number", "one beyond floats"},
    ("right_size", "core_hour_price"): {"a huge whole number"},
    ("cluster_profiles", "most"): {"a huge whole number", "one beyond floats"},
    ("weigh", "cores"): {"no mapping", "a mapping", "a Series"},
    ("who", "top"): {"a huge whole number", "one beyond floats"},
    ("Tuning", "quiet"): {"a huge whole number", "one beyond floats"},
    ("Tuning", "memory"): {"a huge whole number", "one beyond floats"},
    ("Tuning", "window"): {"a huge whole number", "one beyond floats"},
    ("Tuning", "grain"): {"a huge whole number"},
}
"""What is right for a parameter all the same, or of no matter: no levels are no intervals."""


def wrong_frames() -> Iterator[tuple[str, Any]]:
    yield "two indexes", FRAME.set_index("user", append=True)
    yield "no zone", FRAME.tz_localize(None)
    yield "no moments", FRAME.reset_index(drop=True)
    yield "a missing moment", FRAME.set_axis(pd.DatetimeIndex([pd.NaT, *FRAME.index[1:]]))
    yield "a repeated column", pd.concat([FRAME, FRAME[["mean", "user"]]], axis=1)
    yield "two hosts", FRAME.rename(columns={"user": "host"})
    yield "two pods", FRAME.rename(columns={"user": "pod"})
    yield "two hosts by number", FRAME.drop(columns="user").assign(machine_id=np.arange(len(FRAME)) % 2)
    yield "no columns", FRAME[[]]


def parameters() -> list[tuple[str, str]]:
    return [
        (name, parameter)
        for name in RIGHT
        for parameter in inspect.signature(getattr(analytics, name)).parameters
        if (name, parameter) != ("Detector", "self")
    ]


def is_refused(name: str, call: Callable[[], object], what: str) -> str | None:
    """None where the call raises FrameError or TooFewData with a message, else in words what it did."""
    try:
        call()
    except (analytics.FrameError, analytics.TooFewData) as error:
        return None if str(error) and len(str(error)) < 600 and "\n" not in str(error) else f"{what}: says {error}"
    except Exception as error:  # noqa: BLE001 - any other is the fault that is looked for
        return f"{what}: raises {type(error).__name__}: {error}"
    return f"{what}: is taken"


@pytest.mark.parametrize(("name", "parameter"), parameters())
def test_a_wrong_value_of_any_kind_is_refused_by_each_parameter(name: str, parameter: str) -> None:
    function, right = getattr(analytics, name), RIGHT[name]
    annotation = str(inspect.signature(function).parameters[parameter].annotation)
    taken = TAKEN.get((name, parameter), set())
    taken = (
        taken
        | ({"None"} if re.search("None|Optional", annotation) else set())
        | ({"True"} if "bool" in annotation else set())
    )
    wrong = {what: value for what, value in WRONG.items() if what not in taken}
    if parameter in ("frame", "first", "second", "values"):
        wrong |= dict(wrong_frames())
    faults = [
        is_refused(name, lambda v=value: function(**right | {parameter: v}), what) for what, value in wrong.items()
    ]
    assert [fault for fault in faults if fault] == []


def test_no_public_name_is_left_out_of_the_walk() -> None:
    assert {*RIGHT, *DOORS} | (ANSWERS & {*analytics.__all__}) == {*analytics.__all__}


@pytest.mark.parametrize(
    ("name", "parameter"),
    [
        (name, parameter)
        for name in sorted(DOORS)
        for parameter in inspect.signature(getattr(analytics, name)).parameters
    ],
)
def test_doors_refuse_wrong_values_of_any_kind(name: str, parameter: str) -> None:
    function = getattr(analytics, name)
    annotation = str(inspect.signature(function).parameters[parameter].annotation)
    texts = {"a text", "no text", "a number as text"} if parameter not in ("url", "source", "ca_file") else set()
    taken = {"None"} if re.search("None|Optional", annotation) else set()
    taken |= {"True"} if "bool" in annotation else set()
    taken |= texts if re.search("str|Statistic|Literal", annotation) else set()
    taken |= {"a list of texts"} if "Sequence" in annotation else set()
    taken |= {"a huge whole number", "one beyond floats"} if parameter == "after" else set()
    taken |= {"-1", "a huge whole number", "one beyond floats"} if parameter in ("above", "below") else set()
    for what, value in WRONG.items():
        if what not in taken:
            with pytest.raises((ValueError, FileNotFoundError)) as caught:
                function(**{parameter: value})
            assert type(caught.value) in (analytics.FrameError, ValueError, FileNotFoundError, SettingsError), what


@pytest.mark.parametrize("value", [None, True, "0.5", "", pd.NaT, pd.NA, [], b"1", 10**400, np.array([1.0])], ids=repr)
def test_a_detector_refuses_what_is_no_number(value: Any) -> None:
    with pytest.raises(analytics.FrameError, match=r"^value: expected a number"):
        analytics.Detector().update(0, value)


@pytest.mark.parametrize("time", [None, True, "0", math.nan, pd.NaT, [], NAIVE], ids=repr)
def test_a_detector_refuses_what_is_no_moment(time: Any) -> None:
    with pytest.raises(analytics.FrameError, match=r"^time: expected"):
        analytics.Detector().update(time, 0.5)


@pytest.mark.parametrize("value", [0, 1.0, np.float32(0.5), np.int64(1), math.nan], ids=repr)
def test_a_detector_takes_any_number_and_any_moment(value: Any) -> None:
    assert analytics.Detector().update(datetime(1970, 1, 1, tzinfo=UTC), value).time_ms == 0
