"""Settings of the sign-in by OpenID Connect: who the provider is, and what its groups may do here."""

from typing import Annotated, Literal, NamedTuple, cast, get_args

from msgspec import Meta

from contract.settings import Settings

_ROLES = Literal["reader", "operator", "admin"]
_EVERYONE = "*"


class GroupRole(NamedTuple):
    """What the members of a group may do."""

    group: str
    role: _ROLES
    scope: str
    """A pattern of user ids, `*` for all."""


class OpenIdSettings(Settings, frozen=True, kw_only=True):
    """What the service has to know of a provider; without an issuer there is none."""

    openid_issuer: Annotated[
        str,
        Meta(
            pattern=r"^((https://[^\s/?#@]+|http://(localhost|127\.0\.0\.1)(:\d+)?)(/[^\s?#]*)?)?\Z",
            description="People sign in at this OpenID Connect provider, its issuer as it names itself.",
            extra={"metavar": "URL", "examples": ["https://login.example.org/realms/main"], "default": "none",
                   "expected": "an address such as https://login.example.org"},
        ),
    ] = ""  # fmt: skip
    openid_client_id: Annotated[
        str, Meta(description="What the provider calls this service.", extra={"metavar": "ID"})
    ] = ""
    openid_client_secret: Annotated[
        str,
        Meta(
            description="The secret that goes with it; a client without one is public.",
            extra={"metavar": "SECRET", "secret": True},
        ),
    ] = ""
    openid_roles: Annotated[
        tuple[str, ...],
        Meta(
            description="GROUP=ROLE or GROUP=reader:PATTERN; the first whose group a person is in counts.",
            extra={"metavar": "GROUP=ROLE", "examples": ["sre=operator"]},
        ),
    ] = ()
    openid_groups_claim: Annotated[
        str, Meta(min_length=1, description="Claim of the id token that has the groups.", extra={"metavar": "NAME"})
    ] = "groups"
    openid_scopes: Annotated[
        tuple[str, ...],
        Meta(
            description="Scopes that are asked for besides openid.",
            extra={"metavar": "SCOPE", "examples": ["groups"]},
        ),
    ] = ("profile",)

    def check_openid(self, public_url: str, path_prefix: str) -> None:
        """Raise ValueError for what does not go together."""
        if not self.openid_issuer:
            if self.openid_client_id or self.openid_client_secret or self.openid_roles:
                raise ValueError("openid_client_id, openid_client_secret and openid_roles: go with openid_issuer")
            return
        for name in ("openid_client_id", "openid_roles"):
            if not getattr(self, name):
                raise ValueError(f"openid_issuer: goes with {name}")
        if not public_url:
            raise ValueError("openid_issuer: goes with public_url, where the provider sends people back to")
        if not public_url.rstrip("/").endswith(path_prefix):
            raise ValueError(f"public_url: expected an address that ends in path_prefix, {path_prefix}")
        self.group_roles()

    def group_roles(self) -> tuple[GroupRole, ...]:
        """What each group may do, in the order in which they count. Raises ValueError."""
        return tuple(map(_group_role, self.openid_roles))


def _group_role(text: str) -> GroupRole:
    # From the right: a group may be a distinguished name, such as CN=sre.
    group, _, rest = text.rpartition("=")
    role, colon, scope = rest.partition(":")
    if not group or role not in get_args(_ROLES) or (colon and not scope) or (scope and role != "reader"):
        raise ValueError(
            f"openid_roles: expected GROUP=reader, GROUP=reader:PATTERN, GROUP=operator or GROUP=admin, got {text}"
        )
    return GroupRole(group, cast("_ROLES", role), scope or _EVERYONE)
