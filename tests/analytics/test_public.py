"""What `analytics` offers: functions, whatever modules were imported before, and nothing heavy until one is used."""

import importlib
import pkgutil
import subprocess
import sys

import pytest

import analytics


@pytest.mark.parametrize("name", analytics.__all__)
def test_a_public_name_is_a_documented_function(name: str) -> None:
    function = getattr(analytics, name)
    assert callable(function)
    assert function.__doc__


def test_a_module_of_the_same_name_does_not_hide_a_function() -> None:
    modules = {module.name for module in pkgutil.iter_modules(analytics.__path__)}
    for name in modules & set(analytics.__all__):
        importlib.import_module(f"analytics.{name}")
        assert callable(getattr(analytics, name))


def test_the_package_alone_loads_nothing_heavy() -> None:
    code = (
        "import sys, analytics; assert 'connect' in dir(analytics); assert not {'numpy', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'connec'"):
        _ = analytics.connec  # type: ignore[attr-defined]
