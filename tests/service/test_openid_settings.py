"""What is set of a path prefix and of an OpenID Connect provider fits together, or is refused with what would."""

from typing import Any

import pytest

from contract.settings import load
from service.openid_settings import GroupRole
from service.settings import ServiceSettings

PROVIDER = {
    "openid_issuer": "https://login.example.org/realms/main",
    "openid_client_id": "loadlens",
    "openid_roles": ("sre=operator",),
    "public_url": "https://loadlens.example.org",
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"openid_client_id": ""}, "openid_client_id"),
        ({"openid_roles": ()}, "openid_roles"),
        ({"public_url": ""}, "public_url"),
        ({"path_prefix": "/loadlens"}, "path_prefix"),
        ({"openid_issuer": ""}, "openid_issuer"),
        ({"openid_roles": ("sre",)}, "GROUP=reader"),
        ({"openid_roles": ("=admin",)}, "GROUP=reader"),
        ({"openid_roles": ("sre=root",)}, "GROUP=reader"),
        ({"openid_roles": ("sre=agent",)}, "GROUP=reader"),
        ({"openid_roles": ("sre=reader:",)}, "GROUP=reader"),
        ({"openid_roles": ("sre=operator:web-*",)}, "GROUP=reader"),
    ],
)
def test_what_does_not_go_together_is_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ServiceSettings(**PROVIDER | change)


def test_groups_are_mapped_in_their_order_whatever_characters_they_have() -> None:
    roles = ("cn=sre,ou=it=operator", "web=reader:web-*", "all:staff=reader", "top=admin")
    settings = ServiceSettings(**PROVIDER | {"openid_roles": roles})
    assert settings.group_roles() == (
        GroupRole("cn=sre,ou=it", "operator", "*"),
        GroupRole("web", "reader", "web-*"),
        GroupRole("all:staff", "reader", "*"),
        GroupRole("top", "admin", "*"),
    )


@pytest.mark.parametrize(
    "arguments",
    [
        *(
            ["--path-prefix", text]
            for text in ("loadlens", "/loadlens/", "/", "/a//b", "/a/../b", "/..", "/a b", "/%41")
        ),
        *(["--path-prefix", text] for text in ("/a?b", "/a#b", "/a;b", "//evil.example", "/a\n", "/ä", '/a"b')),
        *(["--openid-issuer", text] for text in ("login.example.org", "http://login.example.org", "https://")),
        *(
            ["--openid-issuer", text]
            for text in ("https://a@b.example", "https://b.example/?x", "http://localhost.evil")
        ),
    ],
    ids=repr,
)
def test_what_is_no_path_and_no_issuer_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        load(ServiceSettings, arguments, program="loadlens-service", description="")
    assert ended.value.code == 2
    assert arguments[0] in capsys.readouterr().err


@pytest.mark.parametrize("path", ["", "/loadlens", "/a/b.c/d-e_f~g", "/..a"])
def test_a_path_is_segments_that_need_no_escape(path: str) -> None:
    assert ServiceSettings(path_prefix=path).path_prefix == path
