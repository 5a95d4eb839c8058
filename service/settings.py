"""The service's settings: they come in once, here, and nothing below reads the environment."""

import ipaddress
import itertools
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from analytics.sources.influx_address import Address, is_influx
from contract.logs import LogFormat
from contract.times import format_seconds, parse_duration, parse_seconds
from service.openid_settings import OpenIdSettings

Role = Literal["all", "api", "writer", "rules"]
"""Of a process of a cluster: api takes reports and answers, writer puts them into the store, rules evaluates rules."""
LogRequests = Literal["all", "failed", "none"]
_TIMES = "forever, or a duration such as 90d"
_FOREVER = "forever"
_LONGEST_MS = 100 * 366 * 24 * 60 * 60 * 1000


StoreMemory = Annotated[
    str,
    Meta(
        pattern=r"^[0-9]+(\.[0-9]+)?(MB|GB|MiB|GiB)$",
        description="Most memory the database may use for a query or for sorting.",
        extra={"metavar": "SIZE", "examples": ["4GB"], "expected": "a size such as 512MB or 4GB"},
    ),
]
"""What DuckDB may use, wherever it is opened."""
StoreToken = Annotated[
    str, Meta(description="API token of InfluxDB 2 or 3.", extra={"metavar": "TOKEN", "secret": True})
]
StoreUser = Annotated[str, Meta(description="User of InfluxDB 1.", extra={"metavar": "NAME"})]
StorePassword = Annotated[
    str, Meta(description="Password of that user.", extra={"metavar": "PASSWORD", "secret": True})
]
StoreOrg = Annotated[str, Meta(description="Organization of InfluxDB 2, its name or id.", extra={"metavar": "NAME"})]
"""These four say who asks an InfluxDB."""


def check_influx(store: str, token: str, user: str, password: str) -> None:
    """Raise ValueError for what is no address of an InfluxDB, and for what does not open one together."""
    try:
        Address.parse(store)
    except ValueError as error:
        raise ValueError(f"store: {error}") from None
    if token and user:
        raise ValueError("store_token: does not go with store_user; InfluxDB 1 has users, 2 and 3 have tokens")
    if bool(user) != bool(password):
        raise ValueError("store_user: goes with store_password")


class ServiceSettings(OpenIdSettings, frozen=True, kw_only=True):
    """What an operator can set, by flag, by `LOADLENS_*` or in the `[service]` table of a file."""

    host: Annotated[
        str,
        Meta(
            description="Address to listen on. Any address but a loopback one needs a token.",
            extra={"metavar": "ADDRESS", "examples": ["0.0.0.0"]},
        ),
    ] = "127.0.0.1"
    port: Annotated[
        int, Meta(ge=0, le=65535, description="Port to listen on; 0 takes a free one.", extra={"metavar": "PORT"})
    ] = 8888
    store: Annotated[
        str,
        Meta(
            description="Where windows are kept: `embedded` (DuckDB and Parquet in the data directory), or InfluxDB.",
            extra={
                "metavar": "STORE",
                "examples": ["influx://localhost:8086/METRICS"],
                "expected": "embedded, influx://HOST:PORT/DATABASE, or influxs:// for TLS",
            },
        ),
    ] = "embedded"
    store_token: StoreToken = ""
    store_user: StoreUser = ""
    store_password: StorePassword = ""
    store_org: StoreOrg = ""
    journal: Annotated[
        str,
        Meta(
            description="Where reports wait for the store: `embedded` (the data directory), or NATS JetStream.",
            extra={
                "metavar": "JOURNAL",
                "examples": ["nats://a,b,c"],
                "secret": True,
                "expected": "embedded, nats://HOST:PORT,HOST:PORT/NAME, or tls:// for TLS",
            },
        ),
    ] = "embedded"
    role: Annotated[
        Role,
        Meta(
            description="What this process does in a cluster, with a journal in NATS.",
            extra={"metavar": "ROLE", "expected": "all, api, writer or rules"},
        ),
    ] = "all"
    workers: Annotated[
        int,
        Meta(
            ge=1,
            le=64,
            description="Processes that take reports and answer at this port, with a journal in NATS.",
            extra={"metavar": "N"},
        ),
    ] = 1
    data_dir: Annotated[
        str, Meta(min_length=1, description="Folder for the journal and the embedded store.", extra={"metavar": "DIR"})
    ] = "var/loadlens"
    token: Annotated[
        str,
        Meta(
            description="Bearer token that every request but the health checks must carry; empty asks for none.",
            extra={"metavar": "TOKEN", "secret": True},
        ),
    ] = ""
    operator_token: Annotated[
        str,
        Meta(
            description="Bearer token for everything; the other one is then good for what agents do, and no more.",
            extra={"metavar": "TOKEN", "secret": True},
        ),
    ] = ""
    tls_certificate: Annotated[
        Path | None,
        Meta(
            description="Speak HTTPS with this certificate (PEM, with its chain); read again when it changes.",
            extra={"metavar": "FILE", "default": "plain HTTP"},
        ),
    ] = None
    tls_key: Annotated[
        Path | None,
        Meta(
            description="Its key, without a password.",
            extra={"metavar": "FILE", "default": "in the certificate's file"},
        ),
    ] = None
    tls_client_ca: Annotated[
        Path | None,
        Meta(
            description="Agents may show certificates of this CA in place of tokens; the common name is the user id.",
            extra={"metavar": "FILE", "default": "none is asked for"},
        ),
    ] = None
    path_prefix: Annotated[
        str,
        Meta(
            pattern=r"^(/(?!\.{1,2}(/|\Z))[A-Za-z0-9._~-]+)*\Z",
            description="Serve everything under this path, which a proxy in front hands on as it came.",
            extra={"metavar": "PATH", "examples": ["/loadlens"], "default": "none",
                   "expected": "a path without a slash at its end, such as /loadlens"},
        ),
    ] = ""  # fmt: skip
    trusted_proxies: Annotated[
        tuple[str, ...],
        Meta(
            description="Addresses or networks of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed.",
            extra={"metavar": "ADDRESS", "examples": ["10.0.0.0/8"]},
        ),
    ] = ()
    failed_sign_ins: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Most wrong tokens a minute from an address; then it gets 429.",
            extra={"metavar": "NUMBER"},
        ),
    ] = 300
    token_requests: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000,
            description="Most requests a second of a token, averaged over a minute; then it gets 429. 0 for no limit.",
            extra={"metavar": "NUMBER"},
        ),
    ] = 200
    address_requests: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000,
            description="Most requests a second of an address, averaged over a minute; then 429. 0 for no limit.",
            extra={"metavar": "NUMBER"},
        ),
    ] = 0
    token_streams: Annotated[
        int,
        Meta(
            ge=0,
            le=10_000,
            description="Most live streams that a token may have open; more get 429. 0 for no limit.",
            extra={"metavar": "NUMBER"},
        ),
    ] = 200
    agent_daily_bytes: Annotated[
        int,
        Meta(
            ge=0,
            le=1 << 50,
            description="Most bytes of reports a day of an agent's own token; then it gets 429. 0 for no limit.",
            extra={"metavar": "BYTES"},
        ),
    ] = 0
    agent_daily_reports: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000_000,
            description="Most reports a day of an agent's own token; then it gets 429. 0 for no limit.",
            extra={"metavar": "NUMBER"},
        ),
    ] = 0
    agent_streams: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000,
            description="Most agents that may keep a stream open; others hear with the answers to their reports.",
            extra={"metavar": "N"},
        ),
    ] = 10_000
    max_users: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000_000,
            description="Most hosts that are let in; reports of others get 429.",
            extra={"metavar": "NUMBER"},
        ),
    ] = 100_000
    max_series: Annotated[
        int,
        Meta(
            ge=100,
            le=1_000_000_000,
            description="Most series that are kept, quantities of hosts, their cores and devices; reports that"
            " would add to them get 429.",
            extra={"metavar": "NUMBER"},
        ),
    ] = 5_000_000
    journal_bytes: Annotated[
        int,
        Meta(
            ge=16 * 1024 * 1024,
            description="Most bytes of reports that wait for the store; at the limit new ones get 503.",
            extra={"metavar": "BYTES"},
        ),
    ] = 1024 * 1024 * 1024
    stream_keep: Annotated[
        int,
        Meta(
            ge=0,
            le=1 << 40,
            description="About so many bytes of the newest reports stay readable for consumers that come back.",
            extra={"metavar": "BYTES"},
        ),
    ] = 64 * 1024 * 1024
    stream_consumers: Annotated[
        int,
        Meta(ge=0, le=10_000, description="Most consumers of the live stream; others get 503.",
             extra={"metavar": "NUMBER"}),
    ] = 1200  # fmt: skip
    cors_origins: Annotated[
        tuple[str, ...],
        Meta(
            description="Pages of these origins may use the interface in a browser; `*` lets any other read.",
            extra={"metavar": "ORIGIN", "examples": ["https://grafana.example.org"]},
        ),
    ] = ()
    rules: Annotated[
        Path | None,
        Meta(
            description="Rules and targets: a TOML or YAML file, or a folder of them; read again when it changes.",
            extra={"metavar": "PATH"},
        ),
    ] = None
    public_url: Annotated[
        str,
        Meta(
            pattern=r"^(https?://[^\s/?#@]+[^\s?#]*)?$",
            description="Where people reach the dashboard; notifications link there.",
            extra={"metavar": "URL", "examples": ["https://loadlens.example.org"], "default": "no links",
                   "expected": "an address such as https://loadlens.example.org"},
        ),
    ] = ""  # fmt: skip
    notify_private: Annotated[bool, Meta(description="Let notifications go to any address, private ones too.")] = False
    flush_interval: Annotated[
        Annotated[float, Meta(ge=0.1, le=3600)] | None,
        Meta(description="Longest time that reports stay in memory and journal only.",
             extra={"metavar": "TIME", "parse": parse_seconds, "format": format_seconds, "expected": "100ms to 1h",
                    "default": "5m, with InfluxDB 10s"}),
    ] = None  # fmt: skip
    store_memory: StoreMemory = "1GB"
    keep_windows: Annotated[
        str,
        Meta(
            description="How long windows are kept as they came; rollups answer for older times.",
            extra={"metavar": "TIME", "examples": ["90d"], "expected": _TIMES},
        ),
    ] = "forever"
    keep_5m: Annotated[
        str,
        Meta(description="How long rollups of 5 minutes are kept.", extra={"metavar": "TIME", "expected": _TIMES}),
    ] = "forever"
    keep_1h: Annotated[
        str, Meta(description="How long rollups of 1 hour are kept.", extra={"metavar": "TIME", "expected": _TIMES})
    ] = "forever"
    keep_1d: Annotated[
        str, Meta(description="How long rollups of 1 day are kept.", extra={"metavar": "TIME", "expected": _TIMES})
    ] = "forever"
    keep_processes: Annotated[
        str,
        Meta(
            description="How long it is kept which processes used the CPU, by the window for a week, then by the hour.",
            extra={"metavar": "TIME", "examples": ["400d"], "expected": _TIMES},
        ),
    ] = "90d"
    keep_agents: Annotated[
        str,
        Meta(
            description="How long agents that are silent stay in lists of agents.",
            extra={"metavar": "TIME", "examples": ["90d"], "expected": _TIMES},
        ),
    ] = "forever"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="The least that is logged.", extra={"metavar": "LEVEL"}),
    ] = "info"
    log_format: Annotated[
        LogFormat, Meta(description="Lines for people, or JSON for programs.", extra={"metavar": "FORMAT"})
    ] = "text"
    log_requests: Annotated[
        LogRequests | None,
        Meta(
            description="Which requests are logged, with method, path, status, time and bytes.",
            extra={"metavar": "WHICH", "default": "all with --log-format json, otherwise none"},
        ),
    ] = None

    def __post_init__(self) -> None:
        """Raise ValueError for an unknown store, and for times to keep that are no durations or do not fit."""
        self._check_store()
        self._check_journal()
        self._check_tls()
        self.check_openid(self.public_url, self.path_prefix)
        if self.operator_token and self.operator_token == self.token:
            raise ValueError("operator_token: must differ from token, or it would keep nobody out")
        if self.operator_token and not self.token:
            raise ValueError("operator_token: needs a token beside it, for agents")
        _kept("keep_agents", self.keep_agents)
        _kept("keep_processes", self.keep_processes)
        times = self.retention()
        for (finer, one), (coarser, other) in itertools.pairwise(zip(_KEPT, times, strict=True)):
            if other is not None and (one is None or one > other):
                raise ValueError(f"{finer} must not be longer than {coarser}: coarser rollups stand in for finer data")

    def _check_tls(self) -> None:
        for name in ("tls_key", "tls_client_ca"):
            if getattr(self, name) is not None and self.tls_certificate is None:
                raise ValueError(f"{name}: goes with tls_certificate")
        for proxy in self.trusted_proxies:
            try:
                ipaddress.ip_network(proxy)
            except ValueError:
                raise ValueError(
                    f"trusted_proxies: expected addresses or networks such as 10.0.0.0/8, got {proxy}"
                ) from None

    def _check_journal(self) -> None:
        if not self.is_clustered:
            if self.role != "all":
                raise ValueError("role: goes with a journal in NATS, such as --journal nats://a,b,c")
            if self.workers > 1:
                raise ValueError(
                    "workers: goes with a journal in NATS, such as --journal nats://a,b,c: what is kept in the data "
                    "directory has one process"
                )
            return
        if not self.journal.startswith(("nats://", "tls://")):
            raise ValueError("journal: expected embedded, nats://HOST:PORT,HOST:PORT/NAME, or tls:// for TLS")
        if self.store == "embedded":
            raise ValueError(
                "journal: goes with a store that processes share, such as --store influx://localhost:8086/METRICS"
            )
        if self.workers > 1 and self.role == "writer":
            raise ValueError("workers: expected 1 with role writer, of which one process writes at a time")
        if self.workers > 1 and self.openid_issuer:
            raise ValueError("workers: expected 1 with openid_issuer: who signs in is known to one process")

    def _check_store(self) -> None:
        if self.store == "embedded":
            given = [name for name in _OF_INFLUX if getattr(self, name)]
            if given:
                raise ValueError(f"{given[0]}: goes with an InfluxDB, such as --store influx://localhost:8086/METRICS")
            return
        if not is_influx(self.store):
            raise ValueError(
                "store: expected embedded or influx://HOST:PORT/DATABASE, got another text "
                "(not shown, as it may hold a password)"
            )
        check_influx(self.store, self.store_token, self.store_user, self.store_password)

    @property
    def is_clustered(self) -> bool:
        """Whether this is one process of several, which share a log in NATS and a store."""
        return self.journal != "embedded"

    @property
    def keep_agents_ms(self) -> int | None:
        """How long silent agents stay in lists, ms; None for ever."""
        return _kept("keep_agents", self.keep_agents)

    @property
    def keep_processes_ms(self) -> int | None:
        """How long it is kept who used the CPU, ms; None for ever."""
        return _kept("keep_processes", self.keep_processes)

    @property
    def requests_logged(self) -> LogRequests:
        """`log_requests`, or what goes with the format."""
        return self.log_requests or ("all" if self.log_format == "json" else "none")

    @property
    def flush_seconds(self) -> float:
        """`flush_interval`, or what is right for the store: dashboards read InfluxDB itself."""
        return self.flush_interval or (300.0 if self.store == "embedded" else 10.0)

    def retention(self) -> tuple[int | None, ...]:
        """How long windows and the rollups of 5 min, 1 h and 1 day are kept, ms; None for ever."""
        return tuple(_kept(name, getattr(self, name)) for name in _KEPT)


_OF_INFLUX = ("store_token", "store_user", "store_password", "store_org")
_KEPT = ("keep_windows", "keep_5m", "keep_1h", "keep_1d")


def _kept(name: str, text: str) -> int | None:
    if text == _FOREVER:
        return None
    try:
        return parse_duration(text, least_ms=60 * 60 * 1000, most_ms=_LONGEST_MS)
    except ValueError as error:
        raise ValueError(f"{name}: {error}, or {_FOREVER}") from None
