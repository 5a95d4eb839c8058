"""The whole fleet at a glance, however many hosts it has."""

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.common import HeatmapCellLayout
from grafana_foundation_sdk.models.dashboard import Dashboard, Panel

from deploy.grafana.parts import (
    PERCENT,
    InfluxQuery,
    board,
    colours,
    finish,
    graph,
    number,
    sorted_table,
    system,
    tier,
    user,
)
from deploy.grafana.queries import (
    BUCKET_MEAN,
    COUNT_OF_HOSTS,
    CPU,
    EACH_BUCKET,
    EACH_USER,
    LAST_REPORTS,
    SATURATED,
    mean,
    quoted,
    select,
    select_of_means,
    share_between,
)

_MAX_ROWS = 100
"""Hosts that a heat map has rows for."""
_PERCENT_SATURATED = f"{SATURATED:.0%}"
_IS_SATURATED = f"{BUCKET_MEAN} >= {SATURATED:g}"
_EACH_TENTH = [(place / 10, (place + 1) / 10 if place < 9 else None) for place in range(10)]
_QUANTILES = {f"{share} % of hosts are below": f"PERCENTILE({BUCKET_MEAN}, {share})" for share in (50, 95)}


def fleet() -> Dashboard:
    """The dashboard "Fleet"."""
    made = board("loadlens-fleet", "Fleet", "All hosts, or those that are chosen.", "now-24h")
    made = made.with_variable(system()).with_variable(user()).with_variable(tier("15m"))
    for panel in (*_numbers(), *_over_time(), *_tables()):
        made = made.with_panel(panel)
    return finish(made)


def _numbers() -> list[Builder[Panel]]:
    saturated = select_of_means({"buckets": f"COUNT({BUCKET_MEAN})"}, where=_IS_SATURATED, by=(EACH_USER,))
    busy = f'SELECT COUNT("buckets") AS "hosts" FROM ({saturated}) WHERE $timeFilter'
    return [
        number("Hosts", "How many have reported in this time.", COUNT_OF_HOSTS, nothing="0"),
        number("Utilization", "The mean of all samples.", select({"mean": mean()}), unit=PERCENT, decimals=1),
        number(
            "Highest sample",
            "Of any host as a whole.",
            select({"maximum": f"MAX({quoted(CPU.maximum)})"}),
            unit=PERCENT,
        ),
        number(
            "Saturated at some time",
            f"Hosts with a bucket whose mean was {_PERCENT_SATURATED} or more.",
            busy,
            nothing="0",
        ),
    ]


def _over_time() -> list[Builder[Panel]]:
    tenths = [InfluxQuery(share_between(low, high), f"{low + 0.1:.1f}") for low, high in _EACH_TENTH]
    each = select({"mean": mean()}, by=(EACH_BUCKET, EACH_USER), fill="null")
    return [
        graph(
            "Utilization",
            "The mean of all samples, and what half of the hosts, and 95 % of them, stay below.",
            [
                InfluxQuery(select({"the fleet": mean()}, by=(EACH_BUCKET,), fill="null")),
                InfluxQuery(select_of_means(_QUANTILES, by=(EACH_BUCKET,), fill="null")),
            ],
            width=12,
        ),
        graph(
            "Saturation",
            f"How many hosts have a mean of {_PERCENT_SATURATED} or more.",
            [InfluxQuery(share_between(SATURATED, None), "saturated hosts")],
            width=12,
            unit="short",
            nothing="0",
        ),
        colours(
            "Hosts by utilization",
            "How many hosts have a mean in each tenth; a name is the upper bound.",
            tenths,
            unit="short",
            rows=PERCENT,
            layout=HeatmapCellLayout.LE,
            height=8,
        ),
        colours(
            "Users over time",
            f"The mean of each host; {_MAX_ROWS} of those that are chosen have a row.",
            [InfluxQuery(f"{each} SLIMIT {_MAX_ROWS}", "$tag_userId")],
            unit=PERCENT,
            most=1,
            height=16,
        ),
    ]


def _tables() -> list[Builder[Panel]]:
    top = select({"mean": mean(), "highest": f"MAX({quoted(CPU.maximum)})"}, by=(EACH_USER,))
    return [
        sorted_table(
            "Top users",
            "The twenty hosts with the highest mean of all samples.",
            top,
            "mean",
            units={"mean": PERCENT, "highest": PERCENT},
            hidden=("Time",),
            most=20,
        ),
        sorted_table(
            "Last reports",
            "When the newest window of each host ended, in the time that is looked at; the longest silent is first.",
            LAST_REPORTS,
            "Time",
            units={"Time": "dateTimeFromNow", "load": PERCENT},
            descending=False,
        ),
    ]
