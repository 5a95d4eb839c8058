"""Where to look: addresses and commands to copy, as a person is shown them."""

import shlex
from urllib.parse import quote

from contract.service_address import SERVICE_URL


def browser(url: str, *, token: bool = False) -> list[str]:
    """The lines that say which address to open in a browser."""
    hint = " (sign in with LOADLENS_TOKEN)" if token else ""
    return ["", f"  Reports and hosts, in a browser{hint}", f"    {url}/"]


def this_host(url: str, user: str | None, *, token: bool = False) -> list[str]:
    """What to ask of the host that reports as `user`; nothing without one."""
    if user is None:
        return []
    address = f"{url}/api/v1/metrics/cpuLoadAvg/byUser/{quote(user, safe=':')}"
    return _command(f"This host, {user}, in steps of 5 s", f"{address}?resample_rate=5s", token)


def fleet(url: str, user: str | None, *, token: bool = False) -> list[str]:
    """What to ask of a fleet, and of `user`, one of it; nothing without one."""
    if user is None:
        return []
    api = f"{url}/api/v1/metrics/cpuLoadAvg"
    return [
        *_command("The whole fleet, hour by hour", f"{api}/fleet?resample_rate=1h", token, csv=True),
        *_command("Its ten busiest hosts", f"{api}/fleet?by=user&top=10&resample_rate=1d", token, csv=True),
        *_command(
            "The 95th percentile of one", f"{api}/byUser/{quote(user)}?stat=p95&resample_rate=1h", token, csv=True
        ),
    ]


def other_programs(url: str) -> list[str]:
    """What the other programs need to be told; nothing where they look for the service by themselves."""
    if url == SERVICE_URL:
        return []
    return ["", "  Where the other programs find it", f"    export LOADLENS_URL={shlex.quote(url)}"]


def service(url: str, *, token: bool = False) -> list[str]:
    """What to ask of the service itself."""
    return [
        *_command("Users, and what can be asked for", f"{url}/api/v1/users", token),
        *_command("", f"{url}/api/v1/metrics", token),
        *_command("The service's own numbers, for Prometheus", f"{url}/metrics", token),
    ]


def _command(words: str, address: str, token: bool, *, csv: bool = False) -> list[str]:
    headers = ['-H "Authorization: Bearer $LOADLENS_TOKEN"'] if token else []
    headers += ["-H 'Accept: text/csv'"] if csv else []
    quoted = f"'{address}'" if "?" in address else address
    return [*(["", f"  {words}"] if words else []), "    " + " ".join(["curl", *headers, quoted])]
