"""What `analytics` offers: these names, documented, and nothing heavy until one is used."""

import pkgutil
import subprocess
import sys

import pytest

import analytics

FUNCTIONS = {
    "anomalies", "change_points", "cluster_profiles", "compare", "connect", "connect_async", "core_imbalance",
    "equal_weights", "fit_together",
    "fleet_trend", "forecast", "frame_of_values", "from_frame", "hour_of_week_profile", "labels",
    "load_duration_curve", "odd_ones_out",
    "quantile", "resample", "right_size", "saturation", "stream", "to_frame", "to_nixtla", "to_text", "weigh", "who",
}  # fmt: skip
CLASSES = {"Detector", "Forecast", "LostEvent", "Patience", "ReportEvent", "Tuning", "ValuesEvent", "Verdict"}
ERRORS = {"CutShortError", "FrameError", "ProblemError", "ServiceError", "TooFewData", "UnreachableError"}


def test_these_names_are_public_and_no_others() -> None:
    assert set(analytics.__all__) == FUNCTIONS | CLASSES | ERRORS
    assert set(analytics.__all__) <= set(dir(analytics))


@pytest.mark.parametrize("name", analytics.__all__)
def test_a_public_name_is_documented_and_what_it_seems(name: str) -> None:
    value = getattr(analytics, name)
    assert callable(value)
    assert value.__doc__
    assert isinstance(value, type) == (name in CLASSES | ERRORS)
    assert (name in ERRORS) == (isinstance(value, type) and issubclass(value, Exception))
    assert getattr(analytics, name) is value


def test_no_module_has_the_name_of_a_function() -> None:
    assert not {module.name for module in pkgutil.iter_modules(analytics.__path__)} & set(analytics.__all__)


@pytest.mark.parametrize(
    "code",
    [
        "import analytics; assert 'connect' in dir(analytics); heavy = {'numpy', 'pandas'}",
        "import analytics.cli; heavy = {'numpy', 'pandas'}",
        "import analytics.reports.text; heavy = {'numpy', 'pandas', 'plotly'}",
        "import analytics.reports.data; heavy = {'plotly', 'scipy'}",
        "import analytics.reports.html; heavy = {'plotly'}",
    ],
)
def test_what_needs_little_loads_nothing_heavy(code: str) -> None:
    check = f"import sys; {code}; assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True, timeout=60)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'connec'"):
        _ = analytics.connec  # type: ignore[attr-defined]
