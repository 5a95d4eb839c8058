"""Addresses of InfluxDB say where it is, and nothing that is secret."""

import pytest

from analytics.sources.influx_address import Address, Credentials, is_influx


@pytest.mark.parametrize(
    ("text", "url", "database"),
    [
        ("influx://localhost", "http://localhost:8086", "METRICS"),
        ("influx://localhost:8086/METRICS", "http://localhost:8086", "METRICS"),
        ("influx://db.example.org:80/a%20b/autogen", "http://db.example.org:80", "a b/autogen"),
        ("influxs://db.example.org/METRICS", "https://db.example.org:8086", "METRICS"),
        ("influx+https://db.example.org:443/x", "https://db.example.org:443", "x"),
        ("influx://[::1]:9999/x", "http://[::1]:9999", "x"),
    ],
)
def test_an_address_names_a_server_and_a_database(text: str, url: str, database: str) -> None:
    assert is_influx(text)
    address = Address.parse(text)
    assert (address.url, address.database) == (url, database)
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("influx://", "host is missing"),
        ("influx://me:s3cret@host/METRICS", "there are settings for them"),
        ("influx://host:99999/METRICS", "port is a number"),
        ("influx://host:port/METRICS", "port is a number"),
        ("influx://host/METRICS?token=s3cret", "nothing may follow"),
        ("influx://host/a%0Ab", "unprintable"),
        ("http://host/METRICS", "expected an address such as influx://localhost:8086/METRICS"),
        ("embedded", "expected an address such as influx://localhost:8086/METRICS"),
    ],
)
def test_a_wrong_address_is_told_what_is_right_without_its_secrets(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        Address.parse(text)
    assert "s3cret" not in str(error.value)


def test_credentials_show_no_secret() -> None:
    shown = repr(Credentials(token="s3cret", user="me", password="hidden", organization="acme"))
    assert "me" in shown
    assert "s3cret" not in shown
    assert "hidden" not in shown
