"""Addresses of services: what can be called is taken, anything else is refused before it is tried."""

import pytest

from contract.service_address import SERVICE_URL, ServiceAddress, check_service_url, proxy_for
from contract.settings import load


@pytest.mark.parametrize(
    "url",
    [SERVICE_URL, "https://loadlens.example.org", "http://[::1]:8888/", "http://user:secret@host/behind/a/proxy"],
)
def test_http_addresses_are_taken(url: str) -> None:
    check_service_url(url)
    assert ServiceAddress(url=url).url == url


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8888", "http://", "ftp://host", "http://host:port", "http://host:0", "http://host:70000",
     "http://host/?a=b", "http://host/#a", "http://a host", "http://host/\n", "http://höst", "http://[::1"],
)  # fmt: skip
def test_anything_else_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="expected an address such as http://localhost:8888, got "):
        check_service_url(url)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--url", "localhost:8888"), "--url: expected an address such as http://localhost:8888, got localhost:8888"),
        (("--token", "two words"), "--token: expected printable ASCII characters without a space"),
    ],
)
def test_a_program_says_which_setting_is_wrong(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    with pytest.raises(SystemExit):
        load(ServiceAddress, arguments, program="loadlens-analytics users", description="", environ={})
    assert capsys.readouterr().err == f"loadlens-analytics users: error: {message}\n"


def test_the_token_is_not_shown() -> None:
    assert "s3cret" not in repr(ServiceAddress(token="s3cret"))


@pytest.mark.parametrize(
    ("url", "environ", "proxy"),
    [
        ("http://loadlens.example.org", {"HTTP_PROXY": "http://p:1"}, "http://p:1"),
        ("http://loadlens.example.org", {"http_proxy": "p:1", "HTTP_PROXY": "http://q:1"}, "http://p:1"),
        ("http://loadlens.example.org", {"https_proxy": "http://p:1"}, None),
        ("https://loadlens.example.org", {"https_proxy": "http://p:1"}, "http://p:1"),
        ("https://loadlens.example.org", {"ALL_PROXY": "http://p:1"}, "http://p:1"),
        ("https://loadlens.example.org", {"all_proxy": "http://p:1", "no_proxy": "example.org"}, None),
        ("https://loadlens.example.org", {"all_proxy": "http://p:1", "NO_PROXY": "*"}, None),
        ("https://loadlens.example.org", {"all_proxy": ""}, None),
        ("http://loadlens.example.org:8888", {"all_proxy": "p:1", "no_proxy": "a, .example.org"}, None),
        ("http://loadlens.example.org:8888", {"all_proxy": "p:1", "no_proxy": "loadlens.example.org:8888"}, None),
        (
            "http://loadlens.example.org:8889",
            {"all_proxy": "p:1", "no_proxy": "loadlens.example.org:8888"},
            "http://p:1",
        ),
        ("http://loadlens.example.org", {"all_proxy": "p:1", "no_proxy": "notexample.org,10.0.0.0/8"}, "http://p:1"),
        ("http://10.1.2.3:8888", {"all_proxy": "p:1", "NO_PROXY": "x/8, 10.0.0.0/8"}, None),
        ("http://10.1.2.3:8888", {"all_proxy": "p:1", "NO_PROXY": "10.1.2.3"}, None),
        ("http://11.1.2.3:8888", {"all_proxy": "p:1", "NO_PROXY": "10.0.0.0/8"}, "http://p:1"),
        ("http://[fd00::1]:8888", {"all_proxy": "p:1", "NO_PROXY": "fd00::/8"}, None),
        ("http://10.1.2.3:8888", {"all_proxy": "p:1", "NO_PROXY": "nonsense/8"}, "http://p:1"),
        ("http://localhost:8888", {"http_proxy": "http://p:1"}, None),
        ("http://127.0.0.1:8888", {"http_proxy": "http://p:1"}, None),
        ("http://[::1]:8888", {"all_proxy": "http://p:1"}, None),
        ("http://loadlens.example.org", {}, None),
    ],
)
def test_a_proxy_is_found_as_curl_does_and_never_for_this_host(
    url: str, environ: dict[str, str], proxy: str | None
) -> None:
    assert proxy_for(url, environ) == proxy
