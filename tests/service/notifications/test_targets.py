"""Notifications reach whom they should, and nobody else."""

import contextlib
import logging
import socket
import socketserver
import threading
from pathlib import Path

import httpx
import pytest

from service.notifications.delivery import DeliveryFailed, check_answer, post_webhook, send_by_apprise
from service.notifications.targets import ForbiddenAddress, InvalidTarget, Target, check_host, parse_target
from tests.support.webhooks import KEY, Receiver


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "10.1.2.3", "192.168.0.1", "172.16.5.4", "169.254.169.254", "100.64.0.1", "0.0.0.0",
        "224.0.0.1", "::1", "fe80::1", "fd00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "ff02::1",
        "2130706433", "0x7f.1", "64:ff9b:1::a00:1", "::127.0.0.1", "::ffff:0:127.0.0.1", "fec0::1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public_are_refused(host: str) -> None:
    with pytest.raises(ForbiddenAddress):
        check_host(host, 443, private=False)


@pytest.mark.parametrize("host", ["1.1.1.1", "2606:4700:4700::1111"])
def test_public_addresses_are_called(host: str) -> None:
    assert check_host(host, 443, private=False) == host


def test_what_is_allowed_is_called() -> None:
    assert check_host("localhost", 80, private=True) in ("127.0.0.1", "::1")
    with pytest.raises(ForbiddenAddress, match="has no address"):
        check_host("no-such-host.invalid", 80, private=True)


def webhook(url: str, timeout: float = 5.0) -> Target:
    import base64

    return Target(
        name="it", url=url, is_webhook=True, key=base64.b64decode(KEY.removeprefix("whsec_")), timeout_s=timeout
    )


def test_the_address_that_was_checked_is_the_one_that_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that means another address the next time it is looked up (DNS rebinding) gains nothing by it."""
    look_ups = []
    real = socket.getaddrinfo

    def rebinding(host: str, port: int, *options: int, **named: int) -> list[object]:
        look_ups.append(host)
        if host == "rebinding.example":
            address = "127.0.0.1" if len(look_ups) == 1 else "192.0.2.1"
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]
        return list(real(host, port, *options, **named))

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    with Receiver() as receiver:
        url = receiver.url.replace("127.0.0.1", "rebinding.example")
        post_webhook(webhook(url), "msg_1", "{}", private=True)
        assert len(receiver.accepted) == 1
        assert receiver.accepted[0].headers["host"].startswith("rebinding.example:")
    assert look_ups.count("rebinding.example") == 1


def test_redirects_are_not_followed() -> None:
    with Receiver(lambda place: 307 if place == 0 else 204) as receiver:
        with pytest.raises(DeliveryFailed, match="redirects are not followed"):
            post_webhook(webhook(receiver.url), "msg_1", "{}", private=True)
        assert len(receiver.requests) == 1


def test_what_goes_wrong_is_told_without_the_address() -> None:
    with Receiver(lambda _: None) as receiver:
        with pytest.raises(DeliveryFailed, match="did not answer within") as refused:
            post_webhook(webhook(receiver.url, timeout=0.2), "msg_1", "{}", private=True)
        assert "secret-path" not in str(refused.value)
    with pytest.raises(DeliveryFailed, match="cannot be reached") as refused:
        post_webhook(webhook("http://127.0.0.1:9/secret-path"), "msg_1", "{}", private=True)
    assert "secret-path" not in str(refused.value)


class Trickle(socketserver.BaseRequestHandler):
    """It never stops to answer, and never has answered."""

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            self.request.sendall(b"HTTP/1.1 200 OK\r\n")
            for _ in range(100):
                self.request.sendall(b"X: y\r\n")
                threading.Event().wait(0.05)


def test_a_receiver_that_answers_bit_by_bit_gains_no_time() -> None:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Trickle) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        with pytest.raises(DeliveryFailed, match=r"did not answer within 0\.3 s"):
            post_webhook(webhook(f"http://127.0.0.1:{server.server_address[1]}/", 0.3), "msg_1", "{}", private=True)
        server.shutdown()


def test_a_name_in_any_script_can_be_called(monkeypatch: pytest.MonkeyPatch) -> None:
    with Receiver() as receiver:
        port = httpx.URL(receiver.url).port
        real = socket.getaddrinfo

        def look_up(host: str, port: int, *options: int, **named: int) -> list[object]:
            return list(real({"xn--bcher-kva.example": "127.0.0.1"}.get(host, host), port, *options, **named))

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        post_webhook(webhook(f"http://bücher.example:{port}/hook"), "msg_1", "{}", private=True)
        assert receiver.accepted[0].headers["host"] == f"xn--bcher-kva.example:{port}"


@pytest.mark.parametrize(("wait", "expected"), [("7", 7.0), ("999999", 3600.0), ("soon", 0.0), ("", 0.0)])
def test_a_receiver_can_ask_for_time(wait: str, expected: float) -> None:
    with pytest.raises(DeliveryFailed) as refused:
        check_answer(httpx.Response(503, headers={"Retry-After": wait}))
    assert refused.value.wait_s == expected


class Mailbox(socketserver.StreamRequestHandler):
    """An SMTP server that keeps what it is given."""

    letters: list[str] = []

    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        letter: list[str] | None = None
        for raw in self.rfile:
            line = raw.decode().rstrip("\r\n")
            if letter is not None:
                if line == ".":
                    self.letters.append("\n".join(letter))
                    letter = None
                    self.wfile.write(b"250 kept\r\n")
                else:
                    letter.append(line)
            elif line.upper().startswith("DATA"):
                letter = []
                self.wfile.write(b"354 go on\r\n")
            elif line.upper().startswith("QUIT"):
                self.wfile.write(b"221 bye\r\n")
                return
            else:
                self.wfile.write(b"250 fine\r\n")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of a module that apprise imports
def test_mail_is_delivered_by_apprise(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mailbox) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        url = f"mailto://127.0.0.1:{server.server_address[1]}/?from=loadlens@example.org&to=ops@example.org&name=hush"
        target = parse_target("mail", {"apprise": url}, Path())
        with pytest.raises(DeliveryFailed, match="not public"):
            send_by_apprise(target, "busy", "web-1: firing", private=False)
        send_by_apprise(target, "busy", "web-1: firing", private=True)
        server.shutdown()
    (letter,) = Mailbox.letters
    assert "Subject: busy" in letter
    assert "web-1: firing" in letter
    assert "hush" not in caplog.text


KNOWN = {
    "discord://123456789012345678/abcdefghijklmnopqrstuvwxyz": "discord.com",
    "https://discord.com/api/webhooks/123456789012345678/abcdefghijklmnopqrstuvwxyz": "discord.com",
    "mailgun://user@example.org/0123456789abcdef0123456789abcdef-01234567-89abcdef/": "api.mailgun.net",
    "opsgenie://01234567-89ab-cdef-0123-456789abcdef": "api.opsgenie.com",
    "pagerduty://integration@apikey": "events.pagerduty.com",
    "pbul://abcdefghijklmnopqrstuvwxyz": "api.pushbullet.com",
    "pover://abcdefghijklmnopqrstuvwxyz1234@abcdefghijklmnopqrstuvwxyz1234": "api.pushover.net",
    "sendgrid://abcdefghijkl:from@example.org/to@example.org": "api.sendgrid.com",
    "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/": "hooks.slack.com",
    "slack://xoxb-1234-1234-4ddbc191d40ee098cbaae6f3523ada2d/general": "slack.com",
    "tgram://123456789:abcdefg_hijklmnop/12315544/": "api.telegram.org",
    "workflows://prod-1.westeurope.logic.azure.com:443/0123456789abcdef/signature": "prod-1.westeurope.logic.azure.com",
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("url", KNOWN)
def test_services_that_are_allowed_call_their_own_host_only(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    called = set()

    def look_up(host: str | bytes, *_: object, **__: object) -> list[object]:
        called.add(host.decode() if isinstance(host, bytes) else host)
        raise socket.gaierror("no network in tests")

    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(DeliveryFailed, match="did not take it"):
        send_by_apprise(parse_target("it", {"apprise": url}, Path()), "title", "text", private=False)
    assert called == {KNOWN[url]}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "url",
    [
        "json://example.org/hook",
        "syslog://",
        "form://example.org",
        "gotify://2130706433:{port}/token",
        "gotify://localhost:{port}/token",
        "ntfy://example.org/topic",
        "workflows://127.0.0.1:{port}/0123456789abcdef/signature",
        "workflows://127.0.0.1%2Fx.logic.azure.com/0123456789abcdef/signature",
        "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/?template=http://127.0.0.1:{port}/",
        "mailtos://user:password@example.org?wkd=yes",
        "mailtos://user:password@example.org?pgppub=http://127.0.0.1:{port}/",
    ],
)
def test_what_could_call_anything_is_not_for_everybody(url: str) -> None:
    with Receiver() as receiver:
        url = url.format(port=httpx.URL(receiver.url).port)
        with pytest.raises(
            DeliveryFailed, match=r"--notify-private only|expected an address that apprise knows"
        ) as refused:
            send_by_apprise(parse_target("it", {"apprise": url}, Path()), "title", "text", private=False)
        assert refused.value.permanent
        assert receiver.requests == []
        assert receiver.invalid == 0


@pytest.mark.parametrize("host", ["2130706433", "localhost", "127.0.0.1"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_mail_server_inside_is_not_for_everybody(host: str) -> None:
    for url in (f"mailto://{host}/?from=a@example.org", f"mailtos://user:password@example.org?smtp={host}"):
        with pytest.raises(DeliveryFailed, match="not public; --notify-private allows it"):
            send_by_apprise(parse_target("it", {"apprise": url}, Path()), "title", "text", private=False)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_apprise_follows_no_redirects() -> None:
    with Receiver(lambda _: 307) as receiver:
        url = f"json://127.0.0.1:{httpx.URL(receiver.url).port}/hook?redirect=yes"
        with pytest.raises(DeliveryFailed, match="did not take it"):
            send_by_apprise(parse_target("it", {"apprise": url}, Path()), "title", "text", private=True)
        assert len(receiver.requests) + receiver.invalid == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_address_that_apprise_does_not_know_is_given_up() -> None:
    with pytest.raises(DeliveryFailed, match="expected an address that apprise knows") as refused:
        send_by_apprise(parse_target("it", {"apprise": "nonsense://secret"}, Path()), "title", "text", private=True)
    assert refused.value.permanent
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("document", "wrong"),
    [
        ({}, "/webhook"),
        ({"webhook": "https://a.example", "apprise": "slack://"}, "/webhook"),
        ({"webhook": "https://user:password@a.example", "secret": "env:KEY"}, "/webhook"),
        ({"webhook": "https://a.example:99999/hook", "secret": "env:KEY"}, "/webhook"),
        ({"webhook": "https://a.example:x/hook", "secret": "env:KEY"}, "/webhook"),
        ({"webhook": "https://a.exa\x01mple/hook", "secret": "env:KEY"}, "/webhook"),
        ({"webhook": "https://a.example/ho\nok", "secret": "env:KEY"}, "/webhook"),
        ({"webhook": "https://\udcff.example/hook", "secret": "env:KEY"}, "/webhook"),
        ({"webhook": "https://[::1/hook", "secret": "env:KEY"}, "/webhook"),
        ({"webhook": "https://a.example"}, "/secret"),
        ({"webhook": "https://a.example", "secret": "env:SHORT"}, "/secret"),
        ({"webhook": "https://a.example", "secret": "env:KEY", "timeout": 0}, "/timeout"),
        ({"apprise": "slack://a/b/c", "secret": "env:KEY"}, "/secret"),
    ],
)
def test_wrong_targets_are_told_without_secrets(
    document: dict[str, object], wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", KEY)
    monkeypatch.setenv("SHORT", "whsec_c2hvcnQ=")
    with pytest.raises(InvalidTarget) as invalid:
        parse_target("it", document, Path())
    assert invalid.value.problem.pointer == wrong
    assert "password" not in str(invalid.value).replace("without a password", "")
