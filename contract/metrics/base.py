"""What a metric type is made of."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from msgspec import UNSET, Meta, Struct, UnsetType

from contract.histogram import LINEAR, LOGARITHMIC, Bins

__all__ = ["Distribution", "Metric", "NonNegative", "Quantity", "Share", "SquaredShare"]

MAX_VALUE = 1e300
ROUNDING = 1e-9
"""How far a variance computed in floating point may lie above its true bound."""

Share = Annotated[float, Meta(ge=0.0, le=1.0)]
SquaredShare = Annotated[float, Meta(ge=0.0, le=0.25 + ROUNDING)]
"""The variance of values in [0, 1], which is at most 1/4 (Popoviciu 1935)."""
NonNegative = Annotated[float, Meta(ge=0.0, le=MAX_VALUE)]
Count = Annotated[int, Meta(ge=1, le=2**40)]


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

    def distributions(self) -> Iterator[tuple[Quantity, Distribution]]:
        """Each quantity with its samples of the whole machine."""
        for quantity in self.quantities:
            yield quantity, getattr(self, quantity.attribute)
