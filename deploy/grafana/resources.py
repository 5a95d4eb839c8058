"""What hosts have beside their CPU: memory, disks and the network."""

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import Dashboard, Panel

from contract.influx import Fields, fields_of
from contract.metrics import QUANTITIES
from deploy.grafana.parts import PERCENT, InfluxQuery, board, finish, graph, number, sorted_table, system, tier, user
from deploy.grafana.queries import EACH_BUCKET, EACH_USER, mean, quoted, select

_BYTES_A_SECOND, _A_SECOND, _PROCESSES = "Bps", "ops", "short"
_MEMORY, _SWAP = fields_of(QUANTITIES["memory.utilization"]), fields_of(QUANTITIES["swap.utilization"])
_READ, _WRITTEN = fields_of(QUANTITIES["disk.read_bytes"]), fields_of(QUANTITIES["disk.written_bytes"])
_READS, _WRITES = fields_of(QUANTITIES["disk.reads"]), fields_of(QUANTITIES["disk.writes"])
_RECEIVED, _SENT = fields_of(QUANTITIES["network.received_bytes"]), fields_of(QUANTITIES["network.sent_bytes"])
_LOADS = {f"{name} min": fields_of(QUANTITIES[f"load.{name}m"]) for name in ("1", "5", "15")}
_MOST = 20


def resources() -> Dashboard:
    """The dashboard "Resources"."""
    about = "Memory, disks and network of hosts, and their load average."
    made = board("loadlens-resources", "Resources", about, "now-6h")
    made = made.with_variable(system()).with_variable(user()).with_variable(tier("5m"))
    for panel in (*_numbers(), *_over_time(), *_tables()):
        made = made.with_panel(panel)
    return finish(made)


def _highest(fields: Fields) -> str:
    return f"MAX({quoted(fields.maximum)})"


def _over(columns: dict[str, str]) -> list[InfluxQuery]:
    """Of all that are chosen together, bucket by bucket."""
    return [InfluxQuery(select(columns, by=(EACH_BUCKET,), fill="null"))]


def _numbers() -> list[Builder[Panel]]:
    return [
        number("Memory in use", "The mean of all samples.", select({"mean": mean(_MEMORY)}), unit=PERCENT, decimals=1),
        number("Most memory in use", "In any sample.", select({"most": _highest(_MEMORY)}), unit=PERCENT, decimals=1),
        number("Swap in use", "The mean of all samples.", select({"mean": mean(_SWAP)}), unit=PERCENT, decimals=1),
        number(
            "Most load",
            "The highest load average of a minute: processes that run or wait.",
            select({"most": _highest(_LOADS["1 min"])}),
            unit=_PROCESSES,
            decimals=1,
        ),
    ]


def _over_time() -> list[Builder[Panel]]:
    return [
        graph(
            "Memory",
            "The share in use: the mean of each bucket's samples, and the highest.",
            _over({"memory": mean(_MEMORY), "memory, highest": _highest(_MEMORY), "swap": mean(_SWAP)}),
            width=12,
        ),
        graph(
            "Load average",
            "Processes that run or wait, of a host: the mean over the last 1, 5 and 15 minutes.",
            _over({name: mean(fields) for name, fields in _LOADS.items()}),
            width=12,
            unit=_PROCESSES,
        ),
        graph(
            "Disk traffic",
            "Bytes a second that a host reads and writes.",
            _over({"read": mean(_READ), "written": mean(_WRITTEN)}),
            width=12,
            unit=_BYTES_A_SECOND,
        ),
        graph(
            "Disk operations",
            "Reads and writes a second of a host.",
            _over({"reads": mean(_READS), "writes": mean(_WRITES)}),
            width=12,
            unit=_A_SECOND,
        ),
        graph(
            "Network traffic",
            "Bytes a second that a host receives and sends.",
            _over({"received": mean(_RECEIVED), "sent": mean(_SENT)}),
            unit=_BYTES_A_SECOND,
        ),
    ]


def _tables() -> list[Builder[Panel]]:
    memory = select({"mean": mean(_MEMORY), "highest": _highest(_MEMORY)}, by=(EACH_USER,))
    traffic = {"received": mean(_RECEIVED), "sent": mean(_SENT), "read": mean(_READ), "written": mean(_WRITTEN)}
    return [
        sorted_table(
            "Most memory",
            f"The {_MOST} hosts with the highest mean of the memory in use.",
            memory,
            "mean",
            units={"mean": PERCENT, "highest": PERCENT},
            hidden=("Time",),
            most=_MOST,
        ),
        sorted_table(
            "Most traffic",
            f"The {_MOST} hosts that receive most; what they send, read and write.",
            select(traffic, by=(EACH_USER,)),
            "received",
            units=dict.fromkeys(traffic, _BYTES_A_SECOND),
            hidden=("Time",),
            most=_MOST,
        ),
    ]
