"""Where a store keeps its windows, so that one suite can open, close and crash any of them."""

import itertools
import shutil
from pathlib import Path
from typing import Any, Protocol

import pytest

from analytics.sources.influx_address import Address, Credentials
from service.stores.base import Store
from service.stores.embedded.store import EmbeddedStore
from service.stores.influx.store import InfluxStore
from tests.support.influxd import RunningInflux

__all__ = ["STORES", "EmbeddedPlace", "InfluxPlace", "Place", "marked", "place_of"]


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


class InfluxPlace:
    """A database of its own, and a folder for what this machine knows of it."""

    _databases = itertools.count(1)

    def __init__(self, folder: Path, influx: RunningInflux) -> None:
        self.folder = folder
        self.influx = influx
        self.database = f"METRICS {next(self._databases)}"
        self._images = itertools.count(1)

    def open(self) -> InfluxStore:
        """The store of this database."""
        return InfluxStore(Address(self.influx.url, self.database), Credentials(), self.folder)

    def crash(self, store: Store) -> InfluxStore:
        """InfluxDB has what it has; the files are those that a killed process leaves."""
        assert isinstance(store, InfluxStore)
        image = self.folder.with_name(f"{self.folder.name.partition('-')[0]}-{next(self._images)}")
        shutil.copytree(self.folder, image)
        store._remembered.close()
        self.folder = image
        return self.open()


STORES = ("embedded", "influx")


def marked(kind: str, *more: str) -> Any:
    """A parameter of a kind of store and whatever goes with it; those that need a server are marked so."""
    return pytest.param(
        (kind, *more) if more else kind,
        id="-".join((kind, *more)),
        marks=[pytest.mark.server] if kind == "influx" else [],
    )


"""Every store, by name; the contract suite runs against each."""


def place_of(kind: str, folder: Path, request: pytest.FixtureRequest) -> Place:
    """An empty place for a store of a kind."""
    if kind == "influx":
        return InfluxPlace(folder, request.getfixturevalue("influx"))
    return EmbeddedPlace(folder)
