"""For those who run the service: its own numbers for Prometheus, and the audit trail."""

import asyncio
import platform
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import falcon
import msgspec
from falcon.asgi import Request, Response
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from contract import __version__
from service.agents.remote_configuration import RemoteConfiguration
from service.alerts.runner import Runner
from service.cluster.partitions import Waiting
from service.control.audit import Audit
from service.control.database import ControlDatabase
from service.http.answers import AUDIT_BEFORE, warn_of
from service.http.listing import take_limit, whole_number
from service.http.operation_parameters import AuditParameters
from service.http.parameters import names_of
from service.http.request_log import RequestLog
from service.http.requests import Parameters
from service.http.requests import text as a_text
from service.ingest.acknowledgement import Ingest
from service.ingest.changed_values import ChangedValues
from service.ingest.maintenance import Maintenance
from service.journal.base import Log
from service.notifications.queue import NotificationQueue
from service.notifications.sender import NotificationSender
from service.reporting.maker import ReportMaker
from service.stores.base import Store
from service.stream.broker import Broker

_MAX_ID = 10**15


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The service's own counters and sizes, read where they are kept: a collector of prometheus-client."""

    ingest: Ingest
    changed_values: ChangedValues
    journal: Log
    store: Store
    maintenance: Maintenance
    broker: Broker
    rules: Runner
    queue: NotificationQueue
    sender: NotificationSender
    report_maker: ReportMaker
    remote_configuration: RemoteConfiguration
    control: ControlDatabase
    requests: RequestLog
    cluster_sizes: Callable[[], Sequence[tuple[str, str, float]]] = tuple
    """Of a process of a cluster, what to watch of it: names, explanations and values."""
    partitions: Callable[[], Sequence[Waiting]] = tuple
    """Of a process of a cluster, what waits in each partition of the log."""
    picture_bytes: Callable[[], float] = int
    """What is kept of the fleet for its picture takes of memory."""
    lost: int
    """Acknowledged reports that could not be read when the service started."""

    def collect(self) -> Iterator[Metric]:
        """The families, with their values now."""
        yield from self._lag()
        build = GaugeMetricFamily("loadlens_build_info", "1, with the version that runs.", labels=("version", "python"))
        build.add_metric((__version__, platform.python_version()), 1.0)
        yield build
        yield from self.requests.collect()
        failures = CounterMetricFamily(
            "loadlens_notifications_target_failures", "Attempts that failed, by target.", labels=("target",)
        )
        for target in self.rules.targets.keys() | self.sender.failures_of.keys():
            failures.add_metric((target,), self.sender.failures_of[target])
        yield failures
        ingest, journal, store, maintenance = self.ingest, self.journal, self.store, self.maintenance
        broker, rules, sender = self.broker, self.rules, self.sender
        report_maker, remote_configuration = self.report_maker, self.remote_configuration
        for name, text, value in (
            ("loadlens_reports_accepted", "Reports acknowledged and kept.", ingest.accepted),
            ("loadlens_reports_duplicate", "Reports acknowledged that were known already.", ingest.duplicates),
            ("loadlens_reports_changed", "Known reports that came with another value.", self.changed_values.found),
            ("loadlens_reports_rejected", "Reports refused as invalid.", ingest.rejected),
            ("loadlens_journal_commits", "Commits of the journal.", ingest.commits),
            ("loadlens_journal_failures", "Writes of the journal that failed.", journal.failures),
            ("loadlens_store_flushes", "Flushes of the store.", maintenance.flushes),
            ("loadlens_store_flush_failures", "Flushes that failed and are tried again.", maintenance.failures),
            ("loadlens_store_flush_seconds", "Time spent in flushes.", maintenance.flush_seconds),
            ("loadlens_rules_evaluated", "Reports that rules have looked at.", rules.evaluated),
            ("loadlens_rules_seconds", "Time spent in looking.", rules.seconds),
            ("loadlens_rules_skipped", "Reports that rules came too late for.", rules.skipped),
            ("loadlens_rules_reload_failures", "Times that rules could not be read again.", rules.reload_failures),
            ("loadlens_rules_transitions", "Alarms that began to fire, or were resolved.", rules.transitions),
            ("loadlens_rules_late", "Windows that came too late to matter.", rules.count("late")),
            ("loadlens_rules_refused", "Reports of users that are too many for a rule.", rules.count("refused")),
            ("loadlens_notifications_delivered", "Notifications delivered.", sender.delivered),
            ("loadlens_notifications_failures", "Attempts that failed.", sender.failures),
            ("loadlens_notifications_given_up", "Notifications given up.", sender.given_up),
            ("loadlens_reporting_made", "Reports to read that were made.", report_maker.made),
            ("loadlens_reporting_failures", "Reports to read that could not be made.", report_maker.failures),
            ("loadlens_reporting_refused", "Requests turned away while many reports were made.", report_maker.refused),
            (
                "loadlens_agents_turned_away",
                "Times that an agent was one too many.",
                remote_configuration.registry.turned_away,
            ),
            (
                "loadlens_agent_streams_refused",
                "Streams of agents that were one too many.",
                remote_configuration.streams.refused,
            ),
            ("loadlens_stream_encoded", "Events encoded for the live stream.", broker.encoded),
            ("loadlens_stream_delivered", "Events handed to consumers.", broker.delivered),
            ("loadlens_stream_missed", "Reports that consumers came too late for.", broker.missed),
            ("loadlens_stream_left", "Reports that consumers read from the journal for want of time.", broker.left),
            ("loadlens_stream_refused", "Consumers refused because there were too many.", broker.refused),
        ):
            yield CounterMetricFamily(name, text, value=value)
        for name, text, value in (
            ("loadlens_reporting_waiting", "Reports to read that are being made or wait.", report_maker.waiting),
            ("loadlens_reports_waiting", "Reports that wait for a commit.", ingest.waiting),
            ("loadlens_journal_bytes", "Bytes of reports in the journal that wait for the store.", journal.size),
            ("loadlens_journal_kept_bytes", "Bytes of flushed reports kept for the live stream.", journal.kept),
            ("loadlens_journal_lost", "Acknowledged reports that were damaged on disk and are lost.", self.lost),
            ("loadlens_rules_reload_failing", "1 while the rules in force are not those of the files.",
             float(rules.reload_problem is not None)),
            ("loadlens_rules", "Rules in force.", len(rules.engine.evaluations)),
            ("loadlens_rules_alarms", "Alarms that rules keep.", rules.alarms),
            ("loadlens_rules_behind", "Reports acknowledged that rules have not looked at.", rules.behind),
            ("loadlens_notifications_waiting", "Notifications that gather or wait.", self.queue.waiting),
            ("loadlens_agents", "Agents that were heard of.", len(remote_configuration.registry)),
            ("loadlens_agent_streams", "Streams that agents keep open.", len(remote_configuration.streams)),
            ("loadlens_picture_bytes", "Bytes of memory that hold the fleet for its picture.", self.picture_bytes()),
            ("loadlens_control_bytes", "Bytes of the control database in use.", self.control.size),
            ("loadlens_stream_consumers", "Consumers that follow the live stream.", broker.consumers),
            ("loadlens_stream_pending", "Reports that wait to be encoded for consumers.", broker.pending),
            ("loadlens_stream_waiting_bytes", "Encoded events held for consumers.", broker.live_bytes),
            ("loadlens_journal_limit_bytes", "Bytes at which the journal takes no more.", journal.limit_bytes),
            ("loadlens_journal_behind", "Reports in the journal that the store has not flushed.",
             journal.waiting(store.flushed)),
            *(("loadlens_store_" + name, text, value) for name, text, value in store.sizes()),
            *(("loadlens_cluster_" + name, text, value) for name, text, value in self.cluster_sizes()),
        ):  # fmt: skip
            yield GaugeMetricFamily(name, text, value=value)

    def _lag(self) -> Iterator[Metric]:
        """What waits in each partition of a cluster's log."""
        waiting = self.partitions()
        if not waiting:
            return
        behind = GaugeMetricFamily(
            "loadlens_cluster_partition_behind", "Reports of a partition that the store has not.", labels=("partition",)
        )
        seconds = GaugeMetricFamily(
            "loadlens_cluster_partition_waiting_seconds", "How long at least the oldest of these has waited.",
            labels=("partition",),
        )  # fmt: skip
        for one in waiting:
            behind.add_metric((str(one.partition),), one.reports)
            seconds.add_metric((str(one.partition),), one.seconds)
        yield from (behind, seconds)


class Prometheus:
    """Shows the service's own numbers as Prometheus reads them, with those of the process and of Python."""

    def __init__(self, numbers: Numbers) -> None:
        self._registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        self._registry.register(numbers)
        # Whatever keeps other threads busy: this is where one sees it.
        self._thread = ThreadPoolExecutor(1, "metrics")

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 with the exposition."""
        resp.content_type = CONTENT_TYPE_LATEST
        shown = asyncio.get_running_loop().run_in_executor(self._thread, generate_latest, self._registry)
        resp.data = await shown


class AuditTrail:
    """Shows the entries of the audit trail, newest first."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 with a page of entries; `before` is the old name of `after`."""
        asked = await Parameters.read(req, names_of(AuditParameters))
        limit, target = take_limit(asked), asked.take("target", a_text, None)
        behind = [asked.take(name, lambda value: whole_number(value, 1, _MAX_ID), None) for name in ("after", "before")]
        asked.check()
        if "before" in req.params:
            warn_of(resp, AUDIT_BEFORE)
        before = min((number for number in behind if number is not None), default=None)
        entries = await asyncio.to_thread(self._audit.entries, target=target, before=before, limit=limit)
        resp.content_type = falcon.MEDIA_JSON
        resp.data = msgspec.json.encode(
            {"entries": entries, "next": entries[-1]["id"] if len(entries) == limit else None}
        )
