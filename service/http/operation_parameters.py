"""The parameters of what lists, settings, reports, streams and pictures are asked for, as types."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from contract.selectors import MAX_PATTERN
from service.http.parameters import (
    DEFAULT_LIMIT,
    DURATION,
    MAX_ALERTS,
    MAX_LIMIT,
    MAX_USERS,
    WINDOWS_METRIC,
    After,
    End,
    LabelsOf,
    Limit,
    Pattern,
    SelectionParameters,
    Start,
    UserId,
    Zone,
)


class UsersParameters(Struct, kw_only=True):
    """The hosts that have reported."""

    user: Annotated[
        list[Pattern],
        Meta(description="Ids of hosts, patterns, or labels such as `role=web`; all hosts unless said."),
    ] = []
    label: LabelsOf = ""
    limit: Annotated[int, Meta(ge=1, le=MAX_USERS, description="How many hosts a page has at most.")] = MAX_USERS
    after: After | None = None


class PageParameters(Struct, kw_only=True):
    """A page of a list."""

    limit: Limit = MAX_LIMIT
    after: After | None = None


class AgentsParameters(Struct, kw_only=True):
    """Agents."""

    selector: Annotated[
        str,
        Meta(
            description="`all`, `os:Linux`, `label:role=web`, `user:` with a pattern, or `agent:` with a user id.",
            extra_json_schema={"examples": ["os:Linux"]},
        ),
    ] = "all"
    in_step: (
        Annotated[Literal["true", "false"], Meta(description="Only those that are in sync, or are not.")] | None
    ) = None
    connected: Annotated[Literal["true", "false"], Meta(description="Only those that keep a stream open.")] | None = (
        None
    )
    limit: Limit = DEFAULT_LIMIT
    after: After | None = None


class AlertsParameters(Struct, kw_only=True):
    """Alerts."""

    state: Literal["pending", "firing", "resolved"] | None = None
    rule: Pattern = "*"
    user: Annotated[
        str, Meta(max_length=MAX_PATTERN, description="An id, a pattern, or labels such as `role=web`.")
    ] = "*"
    limit: Annotated[int, Meta(ge=1, le=MAX_ALERTS, description="How many alerts a page has at most.")] = 1000
    after: After | None = None


class NotificationsParameters(Struct, kw_only=True):
    """Notifications."""

    state: Literal["gathering", "waiting", "delivered", "dead"] | None = None
    limit: Limit = DEFAULT_LIMIT
    after: After | None = None


class AuditParameters(Struct, kw_only=True):
    """Entries of the audit trail."""

    target: Annotated[str, Meta(description="Only changes of this, such as `all` or `rule:hot`.")] | None = None
    limit: Limit = DEFAULT_LIMIT
    after: After | None = None
    before: (
        Annotated[str, Meta(description="As `after`; deprecated.", extra_json_schema={"deprecated": True})] | None
    ) = None


class AnnotationsParameters(Struct, kw_only=True):
    """Annotations."""

    start: Start | None = None
    end: End | None = None
    tag: Annotated[list[str], Meta(description="Those that have all of these tags.")] = []
    user: UserId | None = None
    sort: Annotated[Literal["time", "-time"], Meta(description="`-time`: the newest first.")] = "time"
    limit: Limit = DEFAULT_LIMIT
    after: After | None = None


class SettingsParameters(Struct, kw_only=True):
    """A layer of settings."""

    selector: Annotated[
        str,
        Meta(
            pattern=r"^(all|os:(Linux|MacOS|Windows)|label:[^=]+=.*|user:.{1,128})$",
            description="Whose: `all`, `os:Linux`, `label:role=web` or `user:` with a pattern.",
            extra_json_schema={"examples": ["os:Linux"]},
        ),
    ]


class RankedSettingsParameters(SettingsParameters, kw_only=True):
    """A layer of settings, and where it stands."""

    rank: Annotated[int, Meta(ge=1, le=1000, description="Of a selection: the higher wins. Not for `all`.")] | None = (
        None
    )


class ListedSettingsParameters(Struct, kw_only=True):
    """One layer, or all."""

    selector: Annotated[str, Meta(description="One layer; without it all are listed.")] | None = None


class ReportParameters(Struct, kw_only=True):
    """What a report to read is of."""

    start: Start | None = None
    end: End | None = None
    last: (
        Annotated[str, Meta(description="The range's length, in place of `start`.", extra_json_schema=DURATION)] | None
    ) = None
    compare: (
        Annotated[
            str, Meta(description="How far back the range lies that it is compared with.", extra_json_schema=DURATION)
        ]
        | None
    ) = None
    target: Annotated[float, Meta(gt=0, le=1, description="The utilization that sizes aim at.")] = 0.8
    tz: Zone | None = None
    format: Literal["html", "md", "json"] | None = None


class StreamParameters(Struct, kw_only=True):
    """Which reports to follow."""

    user: Annotated[list[Pattern], Meta(description="Hosts: ids or patterns.")] = []
    os: Annotated[list[str], Meta(description="Operating systems.")] = []
    type: Annotated[list[str], Meta(description="Types of metrics.")] = []
    metric: Annotated[str, Meta(description="The metric that `above` and `below` look at.")] | None = None
    stat: Annotated[str, Meta(description="Its statistic.")] | None = None
    above: Annotated[float, Meta(description="Only reports whose value is above this.")] | None = None
    below: Annotated[float, Meta(description="Only reports whose value is below this.")] | None = None
    fields: Annotated[list[str], Meta(description="Only these members, or values such as `cpuLoadAvg.p95`.")] = []
    after: Annotated[str, Meta(description="The id of the last event that is known.")] | None = None


class PictureParameters(SelectionParameters, kw_only=True):
    """All hosts over time."""

    stat: Annotated[Literal["mean", "max", "min"], Meta(description="What is shown of each bucket.")] = "mean"
    resample_rate: Annotated[str, Meta(description="The width of a column.", extra_json_schema=DURATION)] | None = None
    columns: Annotated[int, Meta(ge=1, le=1000, description="How many columns there may be.")] = 300
    rows: Annotated[int, Meta(ge=1, le=1000, description="How many rows of pixels there may be.")] = 400
    tables: Annotated[
        Literal["first", "last"],
        Meta(
            description="Where numbers and lists are: in the header, or as JSON behind the pixels, which come sooner."
        ),
    ] = "first"


class AnalysisParameters(Struct, kw_only=True):
    """What a method says of one host."""

    metric: WINDOWS_METRIC = "cpuUtilization"
    start: Start | None = None
    end: End | None = None
    tz: Zone | None = None
