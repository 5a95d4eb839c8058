"""Where an InfluxDB is, and who asks it: what settings name, without what it takes to ask."""

from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

from contract.influx import DATABASE

_SCHEMES = {"influx": "http", "influx+http": "http", "influxs": "https", "influx+https": "https"}
_PORT = 8086


def is_influx(text: str) -> bool:
    """Whether a text looks like the address of an InfluxDB."""
    return text.partition("://")[0].lower() in _SCHEMES and "://" in text


@dataclass(frozen=True, slots=True)
class Address:
    """A database (in 2.x: a bucket) of a server."""

    url: str
    """The address of the server, such as `http://localhost:8086`."""
    database: str

    @classmethod
    def parse(cls, text: str) -> "Address":
        """The address in `influx://HOST[:PORT][/DATABASE]`; `influxs` is encrypted.

        The port is 8086 and the database METRICS where they are left out. Raises ValueError where something else is
        in it; its words never repeat a password.
        """
        parts = urlsplit(text)
        if not is_influx(text):
            raise ValueError("expected an address such as influx://localhost:8086/METRICS")
        if parts.username is not None or parts.password is not None:
            raise ValueError("user and password do not belong into the address: there are settings for them")
        if parts.query or parts.fragment:
            raise ValueError("nothing may follow the database, as in influx://localhost:8086/METRICS")
        try:
            port = parts.port or _PORT
        except ValueError:
            raise ValueError("the port is a number up to 65535, as in influx://localhost:8086/METRICS") from None
        host = parts.hostname
        if not host:
            raise ValueError("a host is missing, as in influx://localhost:8086/METRICS")
        database = unquote(parts.path.removeprefix("/")) or DATABASE
        if not database.isprintable():
            raise ValueError("the database has unprintable characters in its name")
        shown = f"[{host}]" if ":" in host else host
        return cls(f"{_SCHEMES[parts.scheme.lower()]}://{shown}:{port}", database)

    def __str__(self) -> str:
        scheme, _, rest = self.url.partition("://")
        return f"{'influxs' if scheme == 'https' else 'influx'}://{rest}/{quote(self.database)}"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who asks; its text shows no secret."""

    token: str = field(default="", repr=False)
    """Of 2.x and 3.x."""
    user: str = ""
    password: str = field(default="", repr=False)
    organization: str = ""
    """Of 2.x: its name or id."""
