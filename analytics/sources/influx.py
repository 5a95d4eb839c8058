"""InfluxDB itself as a source of windows, as the service, or the original system, has written them."""

from collections.abc import Iterator, Mapping

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
from pandas.api.types import union_categoricals

from analytics.frames.progress import progress
from analytics.frames.resampling import RAW_MS
from analytics.frames.tiers import RAW, Piece, Rolled, pieces
from analytics.sources.base import users_of
from analytics.sources.influx_address import Address, Credentials
from analytics.sources.influx_client import InfluxClient
from analytics.sources.influx_points import Cores, Points, frame_of, select
from analytics.sources.influx_state import state_of
from analytics.sources.windowed import Asked, Found, WindowedSource, metrics_of
from contract.devices import Names
from contract.influx import TIERS, USER_ID, USERS, fields_of, identifier, measurement_of, tag_literal, tag_value
from contract.metrics import QUANTITIES, TYPE_OF, Cpu, type_name
from contract.times import now_ms

_DEVICES = msgspec.json.Decoder(dict[str, dict[str, int]])


class Influx(WindowedSource):
    """The database at an address such as `influx://localhost:8086/METRICS`; a source (`analytics.sources.base`).

    `token` for 2.x and 3.x, and for 1.x `user:password`. Raises ValueError for a wrong address. Questions raise
    `analytics.sources.influx_client.InfluxError` where the server does not answer, or refuses.
    """

    def __init__(self, address: str, token: str | None = None) -> None:
        where = Address.parse(address)
        user, colon, password = (token or "").partition(":")
        who = Credentials(user=user, password=password) if colon else Credentials(token=user)
        self._client = InfluxClient(where, who)

    def users(self) -> pd.DataFrame:
        """The users, and when their first and last window ended; systems and cores the service knows."""
        mean = identifier(fields_of(Cpu.quantities[0]).mean)
        moments = {}
        for name, end in (("first_seen", "first"), ("last_seen", "last")):
            found = self._client.execute(
                f"SELECT {end}({mean}) FROM {identifier(measurement_of())} GROUP BY {identifier(USER_ID)}"
            )
            names = [tag_value(series["tags"][USER_ID]) for series in found]
            time = np.array([series["values"][0][0] for series in found], "datetime64[ms]")
            index = pd.Index(names, name="user", dtype="str")
            moments[name] = pd.Series(pd.DatetimeIndex(time).tz_localize("UTC"), index=index)
        seen = pd.DataFrame(moments).sort_index()
        return users_of(seen)

    def metrics(self) -> pd.DataFrame:
        """The metrics that can be asked for (`analytics.sources.base`)."""
        return metrics_of(QUANTITIES.values())

    def close(self) -> None:
        """Connections are let go of when they are not used."""

    def _windows(self, asked: Asked) -> Found:
        start, end, hosts = self._range(asked)
        numbers = {} if asked.device is None else self._devices(asked)
        core = asked.core
        if asked.device is not None:
            core = "each" if asked.device == "each" else numbers[asked.device]
        kinds: list[Cores] = ["whole"] if core is None else ["whole", "each"] if core == "each" else [core]
        users = [] if asked.user is None else [asked.user]
        generation = self._client.server().generation
        steps = [
            step
            for piece in self._pieces(start, end, asked.rate_ms)
            for kind in kinds
            for step in Points(asked.quantity, piece.tier, piece.start_ms, piece.end_ms, users, kind).steps(
                hosts, generation
            )
        ]
        parts = [self._frame(Points(asked.quantity, RAW, start, start, users, kinds[0]), asked)]
        with progress(f"reading {asked.quantity.title}", len(steps)) as step_done:
            for step in steps:
                parts.append(self._frame(step, asked))
                step_done()
        frames = [part for part in parts if len(part)] or parts[:1]
        frame = pd.concat(frames)
        frame = frame.assign(user=union_categoricals([part["user"] for part in frames], sort_categories=True))
        return Found(frame if asked.device is None else _with_devices(frame, numbers))

    def _devices(self, asked: Asked) -> dict[str, int]:
        """The numbers of a user's devices by name; raises LookupError where the one that is asked for is not known."""
        text = f"SELECT devices FROM {identifier(USERS)} WHERE {identifier(USER_ID)} = {tag_literal(asked.user or '')}"
        rows = self._client.select(f"{text} ORDER BY time DESC LIMIT 1", {"devices": pa.string()})
        told = _DEVICES.decode(rows["devices"][0].as_py() or "{}") if len(rows) else {}
        numbers = told.get(type_name(TYPE_OF[asked.quantity.name]), {})
        if asked.device != "each" and asked.device not in numbers:
            known = ", ".join(sorted(numbers)) or "none"
            raise LookupError(f"{asked.user!r} has no device {asked.device!r}; its devices are {known}")
        return numbers

    def _frame(self, points: Points, asked: Asked) -> pd.DataFrame:
        frame = frame_of(select(self._client, points, histograms=asked.histograms), points, histograms=asked.histograms)
        if "each" in (asked.core, asked.device) and points.cores == "whole":
            frame.insert(1, "core", pd.Series(pd.NA, frame.index, "Int64"))
        return frame

    def _range(self, asked: Asked) -> tuple[int, int, int]:
        """From when until when, and how many hosts are asked for."""
        start, end, hosts = asked.start_ms, asked.end_ms, 1
        if start is None or end is None or asked.user is None:
            seen = self.users()
            first, last = (seen[name].dt.as_unit("ms").astype("int64") for name in ("first_seen", "last_seen"))
            start = int(first.min()) if start is None and len(seen) else start or 0
            end = int(last.max()) + 1 if end is None and len(seen) else end or 0
            hosts = len(seen) if asked.user is None else 1
        return start, end, hosts

    def _pieces(self, start_ms: int, end_ms: int, rate_ms: int | None) -> Iterator[Piece]:
        """The plan of a range, of windows alone where no rollup can serve the rate."""
        rate_ms = rate_ms or RAW_MS
        served = any(rate_ms % tier == 0 for tier in TIERS)
        return pieces(start_ms, end_ms, rate_ms, self._rolled() if served else Rolled.nothing())

    def _rolled(self) -> Rolled:
        state = state_of(self._client, now_ms())
        return state.rolled if state else Rolled.nothing()


def _with_devices(frame: pd.DataFrame, numbers: Mapping[str, int]) -> pd.DataFrame:
    """The frame with names in place of the numbers that devices have where cores have theirs."""
    names = Names(numbers)
    told = [None if pd.isna(number) else names[number] for number in frame["core"]]
    return frame.assign(device=pd.Categorical(told)).drop(columns="core")
