"""The original system's dashboard: its two panels, exact and on rollups."""

from grafana_foundation_sdk.models.dashboard import Dashboard, DynamicConfigValue

from deploy.grafana.parts import PERCENT, InfluxQuery, board, finish, graph, sorted_table, system, tier, user
from deploy.grafana.queries import BUCKET_MEAN, EACH_BUCKET, EACH_USER, mean, select, select_of_means, variance

_LOADS = select({"load average": mean(), "load variance": variance()}, by=(EACH_BUCKET,), fill="null")
_OF_CORES = select_of_means(
    {"core maximum": f"MAX({BUCKET_MEAN})", "core minimum": f"MIN({BUCKET_MEAN})"},
    cores=True,
    by=(EACH_BUCKET,),
    fill="null",
)
_PERCENTILE = select_of_means({"percentile": f"PERCENTILE({BUCKET_MEAN}, 95)"}, by=(EACH_USER,))


def hive() -> Dashboard:
    """The dashboard "Hive"."""
    made = board("loadlens-hive", "Hive", "The original system's dashboard.", "now-6h")
    made = made.with_variable(system()).with_variable(user()).with_variable(tier("5m"))
    made = made.with_panel(
        graph(
            "CPU Loads",
            "Mean and variance of all samples of the chosen hosts; the highest and the lowest mean of a core.",
            [InfluxQuery(_LOADS), InfluxQuery(_OF_CORES)],
            height=12,
        ).override_by_name("load variance", [DynamicConfigValue("unit", "short")])
    )
    made = made.with_panel(
        sorted_table(
            "95 Percentile Load per User",
            "The 95th percentile of the means of each host's buckets, and when it was reached.",
            _PERCENTILE,
            "percentile",
            units={"percentile": PERCENT},
            width=24,
            height=12,
        )
    )
    return finish(made)
