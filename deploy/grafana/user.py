"""One host: the whole of it, and core by core."""

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import Dashboard, Panel

from deploy.grafana.parts import PERCENT, InfluxQuery, board, colours, finish, graph, number, system, tier, user
from deploy.grafana.queries import (
    BUCKET_MEAN,
    CPU,
    EACH_BUCKET,
    by_core,
    deviation,
    mean,
    quoted,
    select,
    select_of_means,
    variance,
)

_EXTREMES = {"highest sample": f"MAX({quoted(CPU.maximum)})", "lowest sample": f"MIN({quoted(CPU.minimum)})"}
_CORE = "core $tag_core"


def host() -> Dashboard:
    """The dashboard "User"."""
    made = board("loadlens-user", "User", "One host, and each of its cores.", "now-6h")
    made = made.with_variable(system()).with_variable(user(many=False)).with_variable(tier("5m"))
    for panel in (*_numbers(), *_over_time()):
        made = made.with_panel(panel)
    return finish(made)


def _numbers() -> list[Builder[Panel]]:
    return [
        number("Utilization", "The mean of all samples.", select({"mean": mean()}), unit=PERCENT, decimals=1),
        number("Standard deviation", "Of all samples.", select({"sd": deviation()}), unit=PERCENT, decimals=1),
        number(
            "Highest sample",
            "Of the host as a whole.",
            select({"maximum": f"MAX({quoted(CPU.maximum)})"}),
            unit=PERCENT,
        ),
        number("Samples", "How many there are of this time.", select({"samples": f"SUM({quoted(CPU.count)})"})),
    ]


def _over_time() -> list[Builder[Panel]]:
    each_bucket = (EACH_BUCKET,)
    spread = select_of_means({"imbalance": f"SPREAD({BUCKET_MEAN})"}, cores=True, by=each_bucket, fill="null")
    return [
        graph(
            "Utilization",
            "The mean of each bucket's samples, and the highest and the lowest of them.",
            [InfluxQuery(select({"mean": mean()} | _EXTREMES, by=each_bucket, fill="null"))],
        ),
        graph(
            "Cores",
            "The mean of each core.",
            [InfluxQuery(by_core({"mean": mean()}), _CORE)],
            width=12,
        ),
        graph(
            "Imbalance of the cores",
            "The mean of the busiest core less that of the idlest.",
            [InfluxQuery(spread)],
            width=12,
        ),
        colours(
            "Cores over time",
            "The mean of each core.",
            [InfluxQuery(by_core({"mean": mean()}), _CORE)],
            unit=PERCENT,
            most=1,
        ),
        graph(
            "Variance",
            "The population variance of each bucket's samples: how restless the host is within a bucket.",
            [InfluxQuery(select({"variance": variance()}, by=each_bucket, fill="null"))],
            unit="short",
        ),
    ]
