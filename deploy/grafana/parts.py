"""What the dashboards are put together from: queries, variables and panels that look alike."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as dashboards
from grafana_foundation_sdk.builders import heatmap, stat, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models.dashboard import (
    Dashboard,
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode

from contract.influx import TIERS
from deploy.grafana.queries import SYSTEMS, USERS_OF_SYSTEMS

SOURCE = DataSourceRef(type_val="influxdb", uid="loadlens-influxdb")
PERCENT = "percentunit"
ALL = VariableOption(text="All", value="$__all", selected=True)


class InfluxQuery(Dataquery, Builder[Dataquery]):
    """A statement as Grafana's InfluxDB data source takes it; each series is named after `alias`."""

    def __init__(self, query: str, alias: str = "$col", form: Literal["time_series", "table"] = "time_series") -> None:
        self.query = query
        self.alias = alias
        self.form = form
        self.ref_id = "A"

    def build(self) -> Dataquery:
        """Itself."""
        return self

    def to_json(self) -> dict[str, object]:
        """The `target` of a panel."""
        return {
            "refId": self.ref_id,
            "datasource": SOURCE,
            "rawQuery": True,
            "query": self.query,
            "resultFormat": self.form,
            "alias": self.alias,
        }


def _dress(panel: Any, title: str, description: str, targets: Sequence[InfluxQuery], width: int, height: int) -> Any:
    for place, target in enumerate(targets):
        target.ref_id = chr(ord("A") + place)
        panel.with_target(target)
    return panel.title(title).description(description).datasource(SOURCE).span(width).height(height)


def graph(
    title: str,
    description: str,
    targets: Sequence[InfluxQuery],
    *,
    width: int = 24,
    height: int = 8,
    unit: str = PERCENT,
    nothing: str = "",
) -> timeseries.Panel:
    """Lines over time; a gap in the data is a gap in the line. `nothing` is shown where there are no data."""
    legend = common_builders.VizLegendOptions().show_legend(True).display_mode(common.LegendDisplayMode.LIST)
    legend = legend.placement(common.LegendPlacement.BOTTOM).calcs(["mean", "max"])
    tooltip = common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI)
    panel = timeseries.Panel().unit(unit).min(0).line_width(1).fill_opacity(8).span_nulls(False)
    panel = panel.show_points(common.VisibilityMode.AUTO).legend(legend).tooltip(tooltip)
    if nothing:
        panel = panel.no_value(nothing)
    dressed: timeseries.Panel = _dress(panel, title, description, targets, width, height)
    return dressed


def number(
    title: str,
    description: str,
    query: str,
    *,
    width: int = 6,
    unit: str = "short",
    decimals: int = 0,
    nothing: str = "",
) -> stat.Panel:
    """One number, large; `nothing` is shown where there is none."""
    options = common_builders.ReduceDataOptions().calcs(["lastNotNull"]).values(False)
    panel = stat.Panel().unit(unit).decimals(decimals).reduce_options(options)
    panel = panel.graph_mode(common.BigValueGraphMode.NONE).color_mode(common.BigValueColorMode.NONE)
    if nothing:
        panel = panel.no_value(nothing)
    dressed: stat.Panel = _dress(panel, title, description, [InfluxQuery(query)], width, 4)
    return dressed


def sorted_table(
    title: str,
    description: str,
    query: str,
    by: str,
    *,
    units: Mapping[str, str],
    descending: bool = True,
    hidden: Sequence[str] = (),
    most: int | None = None,
    width: int = 12,
    height: int = 10,
) -> table.Panel:
    """Rows in the order of one column; `units` by column; hosts lead to their own page."""
    ordered = common_builders.TableSortByFieldState().display_name(by).desc(descending)
    panel = table.Panel().sort_by([ordered])
    panel.with_transformation(
        DataTransformerConfig(id_val="sortBy", options={"sort": [{"field": by, "desc": descending}]})
    )
    if most is not None:
        panel.with_transformation(DataTransformerConfig(id_val="limit", options={"limitField": most}))
    for name in hidden:
        panel.override_by_name(name, [DynamicConfigValue("custom.hidden", True)])
    for name, unit in units.items():
        panel.override_by_name(name, [DynamicConfigValue("unit", unit)])
    page = {
        "title": "Look at this host",
        "url": "/d/loadlens-user?var-user=${__value.text:percentencode}&${__url_time_range}",
    }
    panel.override_by_name("userId", [DynamicConfigValue("links", [page])])
    dressed: table.Panel = _dress(panel, title, description, [InfluxQuery(query, form="table")], width, height)
    return dressed


def colours(
    title: str,
    description: str,
    targets: Sequence[InfluxQuery],
    *,
    unit: str,
    rows: str = "short",
    most: float | None = None,
    layout: common.HeatmapCellLayout = common.HeatmapCellLayout.UNKNOWN,
    width: int = 24,
    height: int = 10,
) -> heatmap.Panel:
    """A heat map with a row for each series, in their order; the colour is the value. `rows` is the unit of names."""
    scheme = heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Turbo").steps(64).min(0)
    if most is not None:
        scheme = scheme.max(most)
    panel = heatmap.Panel().calculate(False).color(scheme).cell_gap(0)
    panel = panel.rows_frame(heatmap.RowsHeatmapOptions().layout(layout))
    panel = panel.y_axis(heatmap.YAxisConfig().unit(rows))
    panel = panel.cell_values(heatmap.CellValues().unit(unit)).show_legend()
    dressed: heatmap.Panel = _dress(panel, title, description, targets, width, height)
    return dressed


def tier(default: str) -> dashboards.CustomVariable:
    """The width of the buckets, which is that of a rollup."""
    widths = [*TIERS.values()]
    options = [VariableOption(text=width, value=width, selected=width == default) for width in widths]
    variable = dashboards.CustomVariable("tier").label("Buckets").values(",".join(widths)).options(options)
    return variable.current(VariableOption(text=default, value=default, selected=True))


def _asked(name: str, label: str, query: str) -> dashboards.QueryVariable:
    variable = dashboards.QueryVariable(name).label(label).datasource(SOURCE).query(query)
    return variable.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).sort(VariableSort.ALPHABETICAL_ASC)


def system() -> dashboards.QueryVariable:
    """The operating systems whose hosts are looked at."""
    return _asked("os", "System", SYSTEMS).multi(True).include_all(True).all_value(".*").current(ALL)


def user(*, many: bool = True) -> dashboards.QueryVariable:
    """The hosts that are looked at: several of a fleet, or one."""
    variable = _asked("user", "Hosts" if many else "Host", USERS_OF_SYSTEMS)
    return variable.multi(True).include_all(True).current(ALL) if many else variable


def board(uid: str, title: str, description: str, since: str) -> dashboards.Dashboard:
    """An empty dashboard that looks back `since`, such as `now-6h`."""
    links = dashboards.DashboardLink("Loadlens").type(DashboardLinkType.DASHBOARDS).tags(["loadlens"])
    made = dashboards.Dashboard(title).uid(uid).description(description).tags(["loadlens"]).time(since, "now")
    made = made.refresh("1m").timezone("browser").tooltip(DashboardCursorSync.CROSSHAIR)
    return made.link(links.as_dropdown(True).include_vars(True).keep_time(True))


def finish(made: dashboards.Dashboard) -> Dashboard:
    """The dashboard, with its panels numbered, so that links to them last."""
    dashboard = made.build()
    for number_, panel in enumerate(dashboard.panels or [], 1):
        panel.id_val = number_
    return dashboard
