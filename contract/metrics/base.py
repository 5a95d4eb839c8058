"""What every metric type is made of: quantities, their distributions over a window, and the bounds of numbers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace

from contract.devices import LISTED, DeviceName
from contract.histogram import LINEAR, LOGARITHMIC, Bins, flatten

MAX_VALUE = 1e300
"""What a number of a report that is kept already may be."""
MAX_QUANTITY = 1e18
"""What a number of a report that comes in may be: more than any quantity, and sums of its squares are still numbers."""
ROUNDING = 1e-9
"""How far floating point may carry a number out of its range; what is out by less is clipped (`contract.rounding`)."""
MAX_SHARE_VARIANCE = 0.25
"""The highest variance of values in [0, 1] (Popoviciu 1935)."""

Share = Annotated[float, Meta(ge=0.0, le=1.0)]
SquaredShare = Annotated[float, Meta(ge=0.0, le=MAX_SHARE_VARIANCE)]
"""The variance of values in [0, 1]."""
NonNegative = Annotated[float, Meta(ge=0.0, le=MAX_VALUE)]
Count = Annotated[int, Meta(ge=1, le=2**40)]
MAX_CORES = 4096
IDLEST_CORE, BUSIEST_CORE = 65534, 65535
"""Numbers that stand for the idlest and the busiest core, whichever they were: all that points of the original system
say of cores."""
LAST_CORE = IDLEST_CORE - 1
"""The highest number that a core of a report that comes in may have."""
Cores = Meta(max_length=MAX_CORES)
Histogram = Annotated[list[int], Meta(max_length=2 * (LINEAR.last - LINEAR.first + 1))]
NamedDevices = Annotated[list[DeviceName], Meta(max_length=LISTED)]
DeviceShares = Annotated[list[Share], Meta(max_length=LISTED)]
DeviceRates = Annotated[list[Annotated[float, Meta(ge=0.0, le=MAX_QUANTITY)]], Meta(max_length=LISTED)]


class Distribution(
    Struct,
    gc=False,
    frozen=True,
    omit_defaults=True,
    rename={"mean": "avg", "variance": "var", "minimum": "min", "maximum": "max"},
):
    """The samples of one quantity over a window, summarised."""

    mean: NonNegative
    variance: NonNegative = 0.0
    """Population variance."""
    minimum: NonNegative | UnsetType = UNSET
    maximum: NonNegative | UnsetType = UNSET
    histogram: list[int] | UnsetType = UNSET
    """`[bin, count, ...]`, see `contract.histogram`."""
    observations: Count | UnsetType = UNSET
    """How many samples; the report's `observations_per_metric` where it is left out."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """One number that is sampled, as it is stored and shown."""

    name: str
    """The stored name, unique over all types."""
    attribute: str
    """The member of the report's metric that holds it."""
    title: str
    unit: str
    """`1` for a share of a whole, otherwise a UCUM unit such as `By/s`."""
    bounded: bool
    """True for values in [0, 1] with a linear histogram, False for values >= 0 with a logarithmic one."""

    @property
    def bins(self) -> Bins:
        """How its samples are counted."""
        return LINEAR if self.bounded else LOGARITHMIC

    @property
    def camel(self) -> str:
        """Its name as queries and InfluxDB's fields write it, such as `diskReadBytes`."""
        first, *rest = self.name.replace(".", "_").split("_")
        return first + "".join(word.capitalize() for word in rest)


class Metric(Struct, gc=False, frozen=True, tag_field="type", omit_defaults=True):
    """The base of every metric type: a member for each of its quantities."""

    quantities: ClassVar[tuple[Quantity, ...]]
    of_cores: ClassVar[tuple[Quantity, ...]] = ()
    """Those of its quantities that may be told of single cores too."""
    of_devices: ClassVar[tuple[Quantity, ...]] = ()
    """Those that are told of devices by name; a type has cores or devices, or neither."""

    def distributions(self) -> Iterator[tuple[Quantity, Distribution]]:
        """Each quantity with its samples of the whole host."""
        for quantity in self.quantities:
            yield quantity, getattr(self, quantity.attribute)

    def core_numbers(self) -> Sequence[int]:
        """The cores that it tells of one by one."""
        return ()

    def core_values(self) -> Sequence[Sequence[float]]:
        """For each quantity of `of_cores` a number of the whole window for each core of `core_numbers`."""
        return ()

    def device_names(self) -> Sequence[str]:
        """The devices that it tells of one by one."""
        return ()

    def device_values(self) -> Sequence[Sequence[float]]:
        """For each quantity of `of_devices` a number of the whole window for each device of `device_names`."""
        return ()

    def of_some_devices(self, places: Sequence[int]) -> Self:
        """The same with the devices at some places of `device_names` only."""
        lists: dict[str, Sequence[Any]] = {"devices": self.device_names()}
        for quantity, values in zip(self.of_devices, self.device_values(), strict=True):
            lists[f"{quantity.attribute}_by_device"] = values
        return replace(self, **{name: [values[place] for place in places] for name, values in lists.items()})

    def parts(self) -> Iterator[tuple[Quantity, Sequence[float]]]:
        """Each quantity that is told of cores or devices, with the number of each."""
        yield from zip(self.of_cores, self.core_values(), strict=True)
        yield from zip(self.of_devices, self.device_values(), strict=True)


def whole_window(quantity: Quantity, value: float, observations: int) -> Distribution:
    """A number of a whole window, that counts for each of its observations."""
    return Distribution(value, 0.0, value, value, flatten({quantity.bins.index(value): observations}), observations)
