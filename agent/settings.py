"""The agent's settings: each is a flag, a `LOADLENS_` variable, and a member of the table `[agent]` of a file."""

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta

from contract.agent_protocol import (
    METRICS_EXPECTED,
    IntervalS,
    LogLevel,
    MetricName,
    SamplesPerReport,
    SettingsInForce,
)
from contract.problems import plural
from contract.processes import ProcessDetail
from contract.selectors import MAX_USER_ID, parse_labels
from contract.service_address import SERVICE_URL, ServiceAddress, check_service_url, proxy_for, tls_context
from contract.times import DAY_S, format_seconds, parse_seconds

if TYPE_CHECKING:
    import ssl

_NAME = "loadlens-agent"
_VAR_LIB = Path("/var/lib")


def default_spool_dir(environ: Mapping[str, str], system: str = sys.platform, *, root: bool | None = None) -> Path:
    """The directory for data of the host where the agent runs as root, otherwise that for state of its user.

    `root` is found out where it is None.
    """
    home = Path(environ.get("HOME") or Path.home())
    if system == "win32":
        return Path(environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / _NAME
    if root is None:
        root = os.geteuid() == 0 and os.access(_VAR_LIB, os.W_OK)
    if system == "darwin":
        return (Path("/") if root else home) / "Library" / "Application Support" / _NAME
    return (_VAR_LIB if root else Path(environ.get("XDG_STATE_HOME") or home / ".local" / "state")) / _NAME


MAX_PERIOD_S = 600.0
"""A host that says nothing for longer looks like one that is down."""
MIB = 1024 * 1024
_SIZES = {"": 1, "B": 1, "K": 1024, "M": MIB, "G": 1024 * MIB}


def _bytes(text: str) -> int:
    """The bytes of `256M`, `256MB`, `256MiB` (all the same) or a plain number; raises ValueError."""
    match = re.fullmatch(r"(\d{1,15})\s*([KMG]?)(i?B)?", text, re.IGNORECASE)
    if match is None:
        raise ValueError("expected a number of bytes such as 256M or 1G")
    return int(match[1]) * _SIZES[match[2].upper()]


def check_proxy(proxy: str | None) -> None:
    """Raise ValueError where a proxy is none that an agent can speak to; None is no proxy."""
    if proxy is None:
        return
    try:
        check_service_url(proxy)
    except ValueError:
        raise ValueError("--proxy: expected an address such as http://proxy.example.org:3128") from None
    if not proxy.startswith("http:"):
        raise ValueError("--proxy: expected a proxy that is spoken to by http://")


UserId = Annotated[
    Annotated[str, Meta(min_length=1, max_length=MAX_USER_ID)] | None,
    Meta(
        description="The name under which this host reports.",
        extra={"metavar": "ID", "default": "the MAC address of the first real network interface"},
    ),
]
"""A setting that several programs of the agent have."""


class AgentAddress(ServiceAddress, frozen=True, kw_only=True):
    """How the agent of this host comes to its service, and where it keeps what is its own."""

    client_certificate: Annotated[
        Path | None,
        Meta(
            description="Shown to a service that takes certificates for tokens; its common name is the user id.",
            extra={"metavar": "FILE", "default": "none is shown"},
        ),
    ] = None
    client_key: Annotated[
        Path | None,
        Meta(description="Its key.", extra={"metavar": "FILE", "default": "in the certificate's file"}),
    ] = None
    proxy: Annotated[
        str | None,
        Meta(
            description="An HTTP proxy on the way to the service; none is used to reach this machine itself.",
            extra={
                "metavar": "URL",
                "default": "as https_proxy, http_proxy, all_proxy and no_proxy say",
                "examples": ["http://proxy.example.org:3128"],
                "secret": True,
            },
        ),
    ] = None
    spool_dir: Annotated[
        Path | None,
        Meta(
            description="Where reports wait until the service has them.",
            extra={"metavar": "DIR", "default": "the system's place for such data"},
        ),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_proxy(self.proxy_to(self.url))

    def tls(self, url: str) -> "ssl.SSLContext | None":
        """What HTTPS to `url` is checked with, and what is shown; None for plain HTTP. Raises SettingsError."""
        if not url.startswith("https:"):
            return None
        return tls_context(self.ca_file, self.client_certificate, self.client_key)

    def proxy_to(self, url: str) -> str | None:
        """The address of the proxy on the way to `url`; None where there is none."""
        return proxy_for(url, {"all_proxy": self.proxy} if self.proxy else None)

    @property
    def directory(self) -> Path:
        """Where spool, token and heartbeat are."""
        return self.spool_dir or default_spool_dir(os.environ)


class AgentSettings(AgentAddress, frozen=True, kw_only=True):
    """Settings of `loadlens-agent`."""

    url: Annotated[
        str,
        Meta(
            description="The service; reports are posted to its /api/v1/metrics.",
            extra={"examples": ["https://loadlens.example.org"]},
        ),
    ] = SERVICE_URL
    token: Annotated[str | None, Meta(description="Sent to the service as a bearer token.", extra={"secret": True})] = (
        None
    )
    enrolment_token: Annotated[
        str,
        Meta(
            description="Gets this agent its own token, at its first start; kept beside the spool from then on.",
            extra={"metavar": "TOKEN", "secret": True},
        ),
    ] = ""
    user_id: UserId = None
    label: Annotated[
        tuple[str, ...],
        Meta(
            description="What the service groups and selects this host by; several, or one flag each.",
            extra={
                "metavar": "NAME=VALUE",
                "examples": ["role=web,zone=eu-1"],
                "expected": "a list of labels such as role=web",
                "repeatable": True,
            },
        ),
    ] = ()
    metrics: Annotated[
        Annotated[tuple[MetricName, ...], Meta(min_length=1)],
        Meta(
            description="What to sample; all but cpu about once a second.",
            extra={"examples": ["cpu,memory,disk"], "expected": METRICS_EXPECTED},
        ),
    ] = ("cpu",)
    scope: Annotated[
        Literal["host", "cgroup"],
        Meta(description="Whose CPU is sampled: the host's, or that of the control group that the agent is in."),
    ] = "host"
    processes: Annotated[
        ProcessDetail,
        Meta(
            description="Also say which processes and units used the CPU: their names, or their command lines too.",
            extra={"expected": "off, names or full"},
        ),
    ] = "off"
    interval: Annotated[
        IntervalS,
        Meta(
            description="Time between two samples, in seconds or with a unit.",
            extra={
                "metavar": "TIME",
                "parse": parse_seconds,
                "format": format_seconds,
                "expected": "10ms to 60s",
                "examples": ["50ms", "1s", "0.05"],
            },
        ),
    ] = 0.05
    samples: Annotated[SamplesPerReport, Meta(description="Samples in one report.", extra={"metavar": "N"})] = 100
    spool_bytes: Annotated[
        Annotated[int, Meta(ge=MIB)],
        Meta(
            description="Most bytes of reports that wait; then the oldest are dropped.",
            extra={
                "metavar": "SIZE",
                "parse": _bytes,
                "format": lambda size: f"{size // MIB}M" if size % MIB == 0 else str(size),
                "expected": "at least 1M",
            },
        ),
    ] = 256 * MIB
    spool_age: Annotated[
        Annotated[float, Meta(ge=60.0, le=3650 * DAY_S)],
        Meta(
            description="How long a report waits at most; then it is dropped.",
            extra={"metavar": "TIME", "parse": parse_seconds, "format": format_seconds, "expected": "1m to 3650d"},
        ),
    ] = 14 * DAY_S
    remote: Annotated[
        bool,
        Meta(description="Let the service change how this agent samples; it can do nothing else."),
    ] = True
    once: Annotated[bool, Meta(description="Sample one window, print its report as JSON and end.")] = False
    dry_run: Annotated[bool, Meta(description="Print each report instead of sending it; the spool is not touched.")] = (
        False
    )
    log_level: Annotated[
        LogLevel,
        Meta(description="The least serious messages to write to standard error."),
    ] = "info"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.user_id is not None and not self.user_id.isprintable():
            raise ValueError("--user-id: expected printable characters")
        if len(set(self.metrics)) < len(self.metrics):
            raise ValueError("--metrics: expected each metric once, got one twice")
        try:
            parse_labels(self.label)
        except ValueError as error:
            raise ValueError(f"--label: {error}") from None
        if self.period_s > MAX_PERIOD_S:
            raise ValueError(
                f"--interval and --samples: expected a report at least every {format_seconds(MAX_PERIOD_S)}, got"
                f" {plural(self.samples, 'sample')} {format_seconds(self.interval)} apart: every "
                f"{format_seconds(self.period_s)}; a number without a unit is seconds: write 50ms for milliseconds, or "
                "fewer --samples"
            )

    @property
    def period_s(self) -> float:
        """The seconds from one report to the next."""
        return self.interval * self.samples

    @property
    def labels(self) -> dict[str, str]:
        """The labels of this host, by name."""
        return parse_labels(self.label)

    def in_force(self) -> SettingsInForce:
        """Those of the settings that the service may change."""
        return SettingsInForce(
            interval=self.interval, samples=self.samples, metrics=list(self.metrics), processes=self.processes,
            log_level=self.log_level,
        )  # fmt: skip
