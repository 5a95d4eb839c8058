"""Where a store keeps its windows, so that one suite can open, close and crash any of them."""

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from service.stores.base import Store
from service.stores.embedded.store import EmbeddedStore

__all__ = ["STORES", "EmbeddedPlace", "Place"]


class Place(Protocol):
    """A place that starts empty."""

    def open(self) -> Store:
        """The store of this place; one at a time."""

    def crash(self, store: Store) -> Store:
        """What a process finds that starts after the one with `store` was killed."""


class EmbeddedPlace:
    """A folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._images = itertools.count(1)

    def open(self) -> EmbeddedStore:
        """The embedded store in this folder."""
        return EmbeddedStore(self.folder, "256MB")

    def crash(self, store: Store) -> EmbeddedStore:
        """The files as they are now are what a killed process leaves: they are copied before the store is closed."""
        image = self.folder.with_name(f"{self.folder.name.partition('-')[0]}-{next(self._images)}")
        shutil.copytree(self.folder, image)
        store.close()
        shutil.rmtree(self.folder)
        self.folder = image
        return self.open()


STORES: dict[str, Callable[[Path], Place]] = {"embedded": EmbeddedPlace}
"""Every store, by name; the contract suite runs against each."""
