"""Modules that are imported when they are first used, so that a program starts without waiting for them.

What PEP 810 brings to the language (`lazy import`). Where a module uses numpy and is itself part of a start:

    if TYPE_CHECKING:
        import numpy as np
    else:
        np = later("numpy")

Annotations must not be evaluated there (`from __future__ import annotations`), or the import is made for their sake.
"""

import importlib
import sys
from types import ModuleType
from typing import Any


class _Later(ModuleType):
    """Stands for a module."""

    def __getattr__(self, name: str) -> Any:
        module_name = self.__name__
        # Another thread may be importing it: what is in it so far is not all.
        module = sys.modules[module_name] if is_imported(module_name) else importlib.import_module(module_name)
        return getattr(module, name)


def later(module: str) -> Any:
    """The module of this name, imported for the first use of anything in it, by whichever thread that is."""
    return _Later(module)


def is_imported(module: str) -> bool:
    """Whether a module is there, so that using it waits for nothing."""
    found = sys.modules.get(module)
    return found is not None and not getattr(found.__spec__, "_initializing", False)
