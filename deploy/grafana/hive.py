"""The original system's dashboard: its two panels, exact and on rollups."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.parts import PERCENT, InfluxQuery, board, finish, graph, sorted_table, system, tier, user
from deploy.grafana.queries import CORES, EACH_BUCKET, EACH_USER, POINT_MEAN, mean, select, variance

_LOADS = select({"load average": mean(), "load variance": variance()}, by=(EACH_BUCKET,), fill="null")
_OF_CORES = select(
    {"core maximum": f"MAX({POINT_MEAN})", "core minimum": f"MIN({POINT_MEAN})"}, CORES, by=(EACH_BUCKET,), fill="null"
)
_PERCENTILE = select({"percentile": f"PERCENTILE({POINT_MEAN}, 95)"}, by=(EACH_USER,))


def hive() -> Dashboard:
    """The dashboard "Hive"."""
    made = board("loadlens-hive", "Hive", "The original system's dashboard.", "now-6h")
    made = made.with_variable(system()).with_variable(user()).with_variable(tier("5m"))
    made = made.with_panel(
        graph(
            "CPU Loads",
            "Mean and variance of all samples of the chosen machines; the highest and the lowest mean of a core.",
            [InfluxQuery(_LOADS), InfluxQuery(_OF_CORES)],
            height=12,
        )
    )
    made = made.with_panel(
        sorted_table(
            "95 Percentile Load per User",
            "The 95th percentile of the means of each machine's buckets, and when it was reached.",
            _PERCENTILE,
            "percentile",
            units={"percentile": PERCENT},
            width=24,
            height=12,
        )
    )
    return finish(made)
