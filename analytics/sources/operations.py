"""What a service can be asked and told besides values: agents, settings, rules, silences, annotations, reports."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from analytics.sources.service_api import IMPATIENT, JSON_TYPE, ApiResponse, Patience, ServiceApi, path_segment

Document = dict[str, Any]
"""A JSON object, as docs/api.md describes it."""
MERGE_PATCH = "application/merge-patch+json"
ANY_VERSION = "*"
"""In place of an ETag: whatever version is there."""
_FORMS = {"html": "text/html", "md": "text/markdown", "json": JSON_TYPE}


class Operations(ServiceApi):
    """Every endpoint of a service that answers no values, as a method; lists are read page by page to their end.

    What only asks is asked again while the service is busy or away, as `patience` says; what changes something is sent
    once, since it may have been done where no answer came. All raise as `ServiceApi.call`.
    """

    patience: Patience = IMPATIENT

    def agents(
        self, selector: str = "all", *, in_sync: bool | None = None, connected: bool | None = None
    ) -> list[Document]:
        """The agents that a selector names: what is asked of each, what is in force, and why the two differ."""
        return self._list("agents", "agents", {"selector": selector, "in_step": in_sync, "connected": connected})

    def agent(self, user: str) -> Document:
        """One agent, with the layers of settings that it stands under."""
        return self._document(f"agents/{path_segment(user)}")

    def forget_agent(self, user: str) -> None:
        """Forget an agent, its settings, commands and alarms, not its windows; one that still reports is back."""
        self.call("DELETE", f"agents/{path_segment(user)}")

    def forget_user(self, user: str) -> None:
        """Forget a user with all its windows, and its agent; what it sends afterwards is a new user's.

        ProblemError 501 where the windows are in InfluxDB 3, which cannot delete those of one user.
        """
        self.call("DELETE", f"users/{path_segment(user)}")

    def layers(self) -> list[Document]:
        """The layers of settings of the fleet and of selections, in the order in which they are laid."""
        return list(self._document("settings")["layers"])

    def settings(self, selector: str = "all", *, user: str | None = None) -> tuple[Document, str]:
        """The settings of a selector's layer, or of one agent's own, and their ETag."""
        path, params = _layer(selector, user)
        response = self._asked_for(path, params)
        return response.document(), response.headers["ETag"]

    def put_settings(
        self, settings: Mapping[str, Any], selector: str = "all", *, user: str | None = None, rank: int | None = None,
        if_match: str = ANY_VERSION,
    ) -> Document:  # fmt: skip
        """Have a layer hold these settings and no others; ProblemError 412 where `if_match` is not its newest ETag."""
        path, params = _layer(selector, user)
        headers = {"If-Match": if_match}
        answer = self.call("PUT", path, dict(settings), params=params | {"rank": rank}, headers=headers)
        return dict(answer.document())

    def change_settings(
        self, changes: Mapping[str, Any], selector: str = "all", *, user: str | None = None, rank: int | None = None,
        if_match: str = ANY_VERSION,
    ) -> Document:  # fmt: skip
        """Change some settings of a layer, None taking one out; the settings that it has then."""
        path, params = _layer(selector, user)
        headers = {"If-Match": if_match, "Content-Type": MERGE_PATCH}
        answer = self.call("PATCH", path, dict(changes), params=params | {"rank": rank}, headers=headers)
        return dict(answer.document())

    def delete_settings(self, selector: str = "all", *, user: str | None = None, if_match: str = ANY_VERSION) -> None:
        """Remove a layer; what remains are the others."""
        path, params = _layer(selector, user)
        self.call("DELETE", path, params=params, headers={"If-Match": if_match})

    def command(self, user: str, command: Literal["report_now", "diagnostics"], *, expires_s: float = 60.0) -> str:
        """Have an agent do something once, if it hears of it in time; the command's id."""
        document = {"command": command, "expires_s": expires_s}
        return str(self.call("POST", f"agents/{path_segment(user)}/commands", document).document()["id"])

    def commands(self, user: str) -> list[Document]:
        """The last commands of an agent, the newest first."""
        return list(self._document(f"agents/{path_segment(user)}/commands")["commands"])

    def command_result(self, command_id: str) -> Document:
        """What has become of a command, with its `document` where it is done."""
        return self._document(f"commands/{path_segment(command_id)}")

    def rules(self) -> list[Document]:
        """The rules by name, each with its `source`: `api` or `file`."""
        return self._list("rules", "rules")

    def rule(self, name: str) -> Document:
        """One rule."""
        return self._document(f"rules/{path_segment(name)}")

    def put_rule(self, name: str, rule: Mapping[str, Any], *, if_match: str | None = None) -> Document:
        """Make a rule, or change it: without an ETag whatever version is there."""
        path = f"rules/{path_segment(name)}"
        answer = self.call("PUT", path, dict(rule), headers={"If-Match": if_match or ANY_VERSION})
        return dict(answer.document())

    def delete_rule(self, name: str, *, if_match: str = ANY_VERSION) -> None:
        """Forget a rule; its alerts are resolved."""
        self.call("DELETE", f"rules/{path_segment(name)}", headers={"If-Match": if_match})

    def alerts(self, state: str | None = None, *, rule: str = "*", user: str = "*") -> list[Document]:
        """The alerts that are pending or firing, or those of a state, of some rules (a pattern) and users.

        `user` is an id, a pattern, or labels such as `role=web`.
        """
        return self._list("alerts", "alerts", {"state": state, "rule": rule, "user": user})

    def silences(self) -> list[Document]:
        """The silences in force, the next to end first."""
        return self._list("silences", "silences")

    def silence(
        self, *, rule: str = "*", user: str = "*", start: str | int | None = None, until: str | int | None = None,
        duration: str | None = None, comment: str = "",
    ) -> Document:  # fmt: skip
        """Notify nobody of some alerts until a moment or for a duration such as `2h`, from `start` on or at once."""
        times = {"start": start, "until": until, "duration": duration}
        document = {"rule": rule, "user": user, "comment": comment, **times}
        return dict(self.call("POST", "silences", document).document())

    def end_silence(self, silence_id: str) -> None:
        """End a silence."""
        self.call("DELETE", f"silences/{path_segment(silence_id)}")

    def notifications(self, state: str | None = None) -> list[Document]:
        """What is told to whom, the newest first."""
        return self._list("notifications", "notifications", {"state": state})

    def notification(self, message_id: str) -> Document:
        """What has become of one notification."""
        return self._document(f"notifications/{path_segment(message_id)}")

    def test_target(self, name: str) -> str:
        """Send a target a notification that says that it is a test; its id."""
        return str(self.call("POST", f"targets/{path_segment(name)}/test").document()["id"])

    def redeliver(self, message_id: str) -> None:
        """Send a notification again that was delivered or given up."""
        self.call("POST", f"notifications/{path_segment(message_id)}/redeliver")

    def annotations(
        self, *, start: str | int | None = None, end: str | int | None = None, tags: Sequence[str] = (),
        user: str | None = None,
    ) -> list[Document]:  # fmt: skip
        """What is said of the moments of a range, by time: with all of these tags, about this host."""
        params = {"start": start, "end": end, "tag": list(tags) or None, "user": user, "limit": 1000}
        return self._list("annotations", "annotations", params)

    def annotate(
        self, text: str, *, time: str | int | None = None, end: str | int | None = None, tags: Sequence[str] = (),
        user: str = "*",
    ) -> Document:  # fmt: skip
        """Say something of a moment, now unless told, or of a stretch of time up to `end`."""
        document = {"text": text, "time": time, "end": end, "tags": list(tags), "user": user}
        return dict(self.call("POST", "annotations", document).document())

    def annotation(self, annotation_id: int) -> Document:
        """One annotation."""
        return self._document(f"annotations/{annotation_id}")

    def delete_annotation(self, annotation_id: int) -> None:
        """Forget an annotation."""
        self.call("DELETE", f"annotations/{annotation_id}")

    def schedules(self) -> list[Document]:
        """The reports that the service makes by itself, and how the last run of each ended."""
        return self._list("schedules", "schedules")

    def schedule_report(
        self, user: str | None = None, *, days: Sequence[str] | None = None, at: str = "06:00", tz: str = "UTC",
        last: str = "7d", target: float = 0.8,
    ) -> Document:  # fmt: skip
        """Have the service make a report on one host, or on the fleet, on days (`mon` ...) at a time of a place."""
        document: Document = {"user": user, "at": at, "tz": tz, "last": last, "target": target}
        if days is not None:
            document["days"] = list(days)
        return dict(self.call("POST", "schedules", document).document())

    def schedule(self, schedule_id: int) -> Document:
        """One schedule."""
        return self._document(f"schedules/{schedule_id}")

    def scheduled_report(self, schedule_id: int) -> bytes:
        """The last report that a schedule has made, a page of HTML; ProblemError 404 where there is none yet."""
        return self._asked_for(f"schedules/{schedule_id}/report").body

    def delete_schedule(self, schedule_id: int) -> None:
        """Forget a schedule with its report."""
        self.call("DELETE", f"schedules/{schedule_id}")

    def audit(self, target: str | None = None) -> Iterator[Document]:
        """Who changed what, the newest first; the next page is asked for when it is needed."""
        return self._pages("audit", "entries", {"target": target, "limit": 1000})

    def send(self, *reports: Mapping[str, Any]) -> Document:
        """Send reports, as agents do; how many were taken, and which were refused and why.

        They may be sent again at will: known ones count once. So this is tried again as what only asks.
        """
        return dict(self.call("POST", "metrics", list(reports), patience=self.patience).document())

    def report(
        self, user: str | None = None, *, start: str | int | None = None, end: str | int | None = None,
        last: str | None = None, compare: str | None = None, target: float | None = None,
        form: Literal["html", "md", "json"] = "html",
    ) -> bytes:  # fmt: skip
        """The report to read on one host, or on the fleet."""
        path = "/reports/fleet" if user is None else f"/reports/users/{path_segment(user)}"
        params = {"start": start, "end": end, "last": last, "compare": compare, "target": target}
        return self.call("GET", path, params=params, headers={"Accept": _FORMS[form]}, patience=self.patience).body

    def analysis(self, user: str, kind: str, **parameters: str | int) -> Document:
        """What a method says of one host: `kind` is anomalies, changes, forecast, size or week (docs/api.md)."""
        return self._document(f"analysis/{path_segment(kind)}/byUser/{path_segment(user)}", parameters)

    def who_document(
        self, host: str | None = None, *, start: str | int | None = None, end: str | int | None = None,
        by: Literal["process", "unit"] = "process", top: int = 5, rate: str | None = None,
    ) -> Document:  # fmt: skip
        """Who used the CPU of a host, or of all, in a range, as docs/api.md has it; `rate` asks for buckets too."""
        params = {"host": host, "start": start, "end": end, "by": by, "top": top, "resample_rate": rate}
        return self._document("who", params)

    def backtest(self, rule: str | Mapping[str, Any], start: str, end: str, *, user: str = "*") -> Document:
        """When a rule, given by name or as a definition, would have fired in a range.

        Of the hosts that `user` means: an id, a pattern, or labels such as `role=web`.
        """
        some = {} if user == "*" else {"user": user}
        asked = (
            {"start": start, "end": end}
            | some
            | ({"rule": rule} if isinstance(rule, str) else {"definition": dict(rule)})
        )
        return dict(self.call("POST", "backtests", asked, patience=self.patience).document())

    def fleet_picture(self, **parameters: str | int) -> bytes:
        """All hosts over time as pixels of a heat map, as docs/api.md describes its bytes."""
        return self._asked_for("fleet/picture", parameters).body

    def identity(self) -> Document:
        """Who asks: the role, the scope and the id of the token that is sent."""
        return self._document("identity")

    def tokens(self) -> list[Document]:
        """All tokens by id, without what opens."""
        return self._list("tokens", "tokens")

    def token(self, token_id: str) -> Document:
        """One token, without what opens."""
        return self._document(f"tokens/{path_segment(token_id)}")

    def create_token(
        self, name: str, role: Literal["agent", "reader", "operator", "admin", "enrolment"], *, scope: str = "*",
        expires: str | int | None = None, lifetime: str | None = None, uses: int | None = None,
    ) -> Document:  # fmt: skip
        """Make a token: its member `token` is what opens, and is never answered again."""
        document = {
            "name": name, "role": role, "scope": scope, "expires": expires, "lifetime": lifetime, "uses": uses,
        }  # fmt: skip
        return dict(self.call("POST", "tokens", document).document())

    def change_token(self, token_id: str, **changes: str | int | None) -> Document:
        """Change the `name` of a token, or when it ends: `expires`, a moment, or `lifetime`, a duration from now."""
        return dict(self.call("PATCH", f"tokens/{path_segment(token_id)}", changes).document())

    def rotate_token(self, token_id: str, *, overlap: str = "1d") -> Document:
        """Give a token another text, in the member `token`; the one before goes on for `overlap`."""
        path = f"tokens/{path_segment(token_id)}/rotate"
        return dict(self.call("POST", path, {"overlap": overlap}).document())

    def revoke_token(self, token_id: str) -> None:
        """End a token for good."""
        self.call("DELETE", f"tokens/{path_segment(token_id)}")

    def sessions(self) -> list[Document]:
        """Browsers that have signed in: with any token for an admin, with the same for others."""
        return self._list("sessions", "sessions")

    def end_session(self, session_id: str) -> None:
        """Have a browser sign in anew."""
        self.call("DELETE", f"sessions/{path_segment(session_id)}")

    def health(self) -> Document:
        """The answer of `/healthz`: that the service runs."""
        return self._document("/healthz")

    def ready(self) -> Document:
        """Whether it takes reports: `status` is `ready`, or `full`."""
        return dict(self.call("GET", "/readyz", expected=(200, 503)).document())

    def own_metrics(self) -> str:
        """The service's own numbers, as Prometheus reads them."""
        return self._asked_for("/metrics").body.decode()

    def openapi(self) -> Document:
        """The interface, as an OpenAPI document."""
        return self._document("/openapi.json")

    def _document(self, path: str, params: Mapping[str, Any] | None = None) -> Document:
        return self._asked_for(path, params).document(Document)

    def _asked_for(self, path: str, params: Mapping[str, Any] | None = None) -> ApiResponse:
        return self.call("GET", path, params=params, patience=self.patience)

    def _list(self, path: str, member: str, params: Mapping[str, Any] | None = None) -> list[Document]:
        return [*self._pages(path, member, params or {})]

    def _pages(self, path: str, member: str, params: Mapping[str, Any]) -> Iterator[Document]:
        given = {name: str(value).lower() if isinstance(value, bool) else value for name, value in params.items()}
        after: str | int | None = None
        while True:
            page = self._document(path, given | {"after": after})
            yield from page[member]
            after = page.get("next")
            if after is None:
                return


def _layer(selector: str, user: str | None) -> tuple[str, dict[str, Any]]:
    if user is not None:
        return f"agents/{path_segment(user)}/settings", {}
    return "settings", {"selector": selector}
