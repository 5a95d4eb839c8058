"""What is changed: settings and commands of agents, rules, silences; who is told, who changed it, who may."""

from typing import Any

from tests.service.recorded.asking import API, JSON, delete, get, patch, post, put, query, segment, send
from tests.service.recorded.fleet import moment, plain

__all__ = ["AGENTS", "GUARDED", "RULES"]

JsonObject = dict[str, Any]
EVENTS = "text/event-stream"
IN_FORCE = {"interval": 0.05, "samples": 100, "metrics": ["cpu", "memory"]}
ANY = {"If_Match": "*"}
NEW = {"If_None_Match": "*"}


def layer(selector: str) -> str:
    """The settings of a selector."""
    return f"/settings{query({'selector': selector})}"


def own(user: str) -> str:
    """The settings of one agent."""
    return f"/agents/{segment(user)}/settings"


def state(user: str, os_type: str = "Linux", **members: Any) -> JsonObject:
    """An agent says what is in force."""
    document = {
        "at": moment(2, 1), "os_type": os_type, "os_version": "12", "agent_version": "0.9", "settings": IN_FORCE,
    }  # fmt: skip
    return post(f"/agents/{segment(user)}/state", document | members)


def reported(user: str, minute: int, **status: Any) -> JsonObject:
    """A report of one agent, with what it says of itself."""
    agent = {"version": "0.9", "cpu_seconds": minute / 4, "resident_bytes": 25_000_000} | status
    return post("/metrics", plain(user, moment(2, 2, minute), 0.5, agent=agent))


def listed(**parameters: Any) -> JsonObject:
    """A page of agents."""
    return get(f"/agents{query(parameters)}")


_SETTINGS = [
    get("/settings"),
    get(layer("all")),
    put(layer("all"), {"interval": 0.1, "samples": 50}),
    put(layer("all"), {"interval": 0.1, "samples": 50}, If_Match='"3"'),
    put(layer("all"), {"interval": 0.1, "samples": 50}, **NEW),
    put(layer("all"), {"interval": 0.1, "samples": 50}, **NEW),
    put(layer("all"), {"interval": 0.1}, If_Match='W/"1"'),
    put(layer("all"), {"interval": 0.1, "samples": 50, "log_level": "debug"}, If_Match='"7", "1"'),
    get(layer("all")),
    get(layer("all"), If_None_Match='"2"'),
    get(layer("all"), If_None_Match="*"),
    get(layer("all"), If_None_Match='"1"'),
    patch(layer("all"), {"log_level": None, "metrics": ["cpu", "load"]}, If_Match='"2"'),
    patch(layer("all"), {"interval": 60}, Content_Type=JSON, **ANY),
    put(layer("os:linux"), {"interval": 0.2}, **NEW),
    put(layer("os:Windows") + "&rank=7", {"paused": True}, **NEW),
    put(layer("user:web-[ab]*"), {"samples": 10}, **NEW),
    put(layer("user:büro ?") + "&rank=1000", {"log_level": "error"}, **ANY),
    patch(layer("user:büro ?") + "&rank=300", {}, **ANY),
    put(own("db/main"), {"metrics": ["disk"]}, **NEW),
    get(own("db/main")),
    get(own("nobody")),
    patch(own("db/main"), {"samples": 20, "interval": 1.0}, If_Match='"3"'),
    patch(own("db/main"), {"samples": 20, "interval": 1.0}, **ANY, X_Loadlens_Actor="alice"),
    get("/settings"),
]

_WRONG_SETTINGS = [
    put(layer("all"), {"interval": 0.001, "samples": 0, "metrics": [], "paused": 1, "log_level": "loud"}, **ANY),
    put(layer("all"), {"intervall": 1, "nonsense": 2, "a/b~c": 3}, **ANY),
    put(layer("all"), {"metrics": ["cpu", "cpu"]}, **ANY),
    put(layer("all"), {"metrics": ["cpu", "gpu"]}, **ANY),
    put(layer("all"), {"interval": 0.01, "samples": 1}, **ANY),
    put(layer("all"), [], **ANY),
    put(layer("all"), None, **ANY),
    patch(layer("all"), [1], **ANY),
    patch(layer("all"), {"interval": "fast"}, **ANY),
    put(layer("all"), {}, Content_Type="text/plain", **ANY),
    put(layer("all"), {}, Content_Type="application/merge-patch+json", **ANY),
    patch(layer("all"), {}, Content_Type="application/x-www-form-urlencoded", **ANY),
    send("PUT", f"{API}{layer('all')}", {"text": "{"}, Content_Type=JSON, **ANY),
    put(layer("all") + "&rank=5", {}, **ANY),
    put(layer("os:Linux") + "&rank=0", {}, **ANY),
    put(layer("os:Linux") + "&rank=first", {}, **ANY),
    put("/settings", {}, **ANY),
    put(layer("os:BeOS"), {}, **ANY),
    get(layer("group:web")),
    delete(layer("user:"), **ANY),
    delete(layer("all")),
    delete(layer("all"), If_Match='"999"'),
    put(own("\u0007"), {}, **ANY),
    get(own("x" * 129)),
    put(own("lone"), {}),
    send("POST", f"{API}/settings"),
    send("POST", f"{API}{own('db/main')}"),
    delete(own("nobody"), **ANY),
    delete(layer("os:MacOS"), If_None_Match="*"),
    delete(layer("user:web-[ab]*"), **ANY),
]

_OLD = {"version": "0.1", "cpu_seconds": 1.5, "resident_bytes": 25_000_000}
"""What an agent says of itself that knows of no settings."""

_AGENTS = [
    listed(),
    get("/agents/web-1"),
    state("web-1"),
    state("db/main", "MacOS", settings_version="not-this-one"),
    reported("web-2", 1),
    reported("web-2", 2, remote=True, spooled=3, dropped=1, refused=2, settings={"interval": 0.05}),
    reported("lone", 1, remote=False, settings_version="other"),
    reported("büro 7", 3, remote=True),
    post("/metrics", [plain(user, moment(2, 3), 0.5, agent=_OLD) for user in ("line-1", "line-2")]),
    state("büro 7", "Windows", refused={"version": "0000000000000000", "problems": []}),
    state("web-1", settings_version="7777777777777777",
          refused={"version": "7777777777777777", "problems": [{"pointer": "/interval", "detail": "is too short"}]}),
    listed(),
    listed(limit=2),
    listed(limit=2, after="db/main"),
    listed(selector="os:Linux", in_step="false"),
    listed(selector="user:web-*", connected="false"),
    listed(selector="agent:db/main"),
    listed(selector="agent:nobody"),
    listed(in_step="true"),
    get("/agents/web-1"),
    get("/agents/db%2Fmain"),
    get("/agents/db%2fmain"),
    get(f"/agents/{segment('büro 7')}"),
    get("/agents/nobody"),
    get("/agents/db/main"),
    get("/agents/"),
    get("/agents/web-1/nonsense"),
    listed(limit=0),
    listed(limit=1001),
    listed(limit="many"),
    listed(selector="everybody"),
    listed(in_step="perhaps"),
    listed(connected="perhaps"),
    send("POST", f"{API}/agents"),
    send("DELETE", f"{API}/agents/nobody"),
    state(""),
    state("web-1", settings={"interval": 0}),
    state("web-1", settings_version="v" * 65),
    state("web-1", os_type="BeOS"),
    state("web-1", outcomes=[{"id": "a b", "status": "done"}]),
    post("/agents/web-1/state", {}),
    post("/agents/web-1/state", []),
    send("POST", f"{API}/agents/web-1/state", {"text": "{"}),
    send("POST", f"{API}/agents/web-1/state", {"text": " ", "times": 131_073}),
    send("GET", f"{API}/agents/web-1/state"),
]  # fmt: skip

_COMMANDS = [
    get("/agents/web-1/commands"),
    get("/agents/web-1/commands", Accept=EVENTS, blocks=2),
    get("/agents/web-1/commands", Accept=EVENTS, Last_Event_ID="none", blocks=2),
    post("/agents/web-1/commands", {"command": "diagnostics"}, keep={"first": "id"}, X_Loadlens_Actor="bob"),
    post("/agents/web-1/commands", {"command": "report_now", "expires_s": 3600}, keep={"second": "id"}),
    post("/agents/db%2Fmain/commands", {"command": "report_now", "expires_s": 1}, keep={"brief": "id"}),
    get("/agents/web-1/commands", Accept=EVENTS, blocks=2),
    get("/agents/web-1/commands"),
    get("/commands/${first}"),
    reported("web-1", 9, remote=True, settings_version="7777777777777777"),
    state("web-1", outcomes=[
        {"id": "${first}", "status": "done", "detail": "well", "document": {"cores": 4, "ok": [True, None]}},
        {"id": "${second}", "status": "refused", "detail": "not now"},
        {"id": "unknown", "status": "done"},
    ]),
    get("/commands/${first}"),
    get("/commands/${second}"),
    get("/commands/${brief}", until='"status":"expired"'),
    get("/agents/db%2Fmain/commands"),
    get("/commands/unknown"),
    post("/agents/nobody/commands", {"command": "report_now"}),
    get("/agents/nobody/commands"),
    get("/agents/nobody/commands", Accept=EVENTS),
    post("/agents/lone/commands", {"command": "report_now"}),
    post("/agents/web-1/commands", {"command": "reboot"}),
    post("/agents/web-1/commands", {"command": "report_now", "expires_s": 0}),
    post("/agents/web-1/commands", {"command": "report_now", "more": 1}),
    post("/agents/web-1/commands", []),
    post("/agents/web-1/commands", {}, Content_Type="text/plain"),
    send("POST", f"{API}/agents/web-1/commands", {"text": "{"}, Content_Type=JSON),
    *(post("/agents/web-1/commands", {"command": "report_now"}) for _ in range(17)),
    send("PUT", f"{API}/agents/web-1/commands"),
    send("POST", f"{API}/commands/unknown"),
]  # fmt: skip

_AUDIT = [
    get("/audit"),
    get("/audit?limit=3"),
    get("/audit?limit=2&before=5"),
    get(f"/audit{query({'target': 'agent:db/main'})}"),
    get(f"/audit{query({'target': 'all', 'limit': 1})}"),
    get("/audit?target=nonsense"),
    get("/audit?limit=0"),
    get("/audit?limit=1001"),
    get("/audit?before=first"),
    send("DELETE", f"{API}/audit"),
]

AGENTS = [*_SETTINGS, *_WRONG_SETTINGS, *_AGENTS, *_COMMANDS, *_AUDIT]

_CHANGE = {"kind": "change", "metric": "load1m", "above": 2, "over": "10m", "users": ["web-*"]}
_ANOMALY = {"kind": "anomaly", "metric": "cpuLoadAvg", "enabled": False}
_FLEET = {"kind": "fleet", "metric": "cpuLoadAvg", "above": 0.9, "share": 0.5, "users": ["alarm-*"], "least": 9}
_SLOW = {
    "kind": "threshold", "metric": "cpuLoadAvg", "above": 0.9, "clear": 0.5, "for": "1h", "users": ["alarm-*"],
    "targets": ["ops"], "group": "1h",
}  # fmt: skip
_GATHERS = _SLOW | {"for": "0s", "stat": "max", "description": "Told an hour later.", "users": ["gather-*"]}


# The list is read before the counts: only what both say is over.
_TWO_TOLD = r'"state":"(dead"|delivered".*"state":"delivered").*"waiting":0,"delivered":2,"dead":1'


def rule(name: str) -> str:
    """The place of a rule."""
    return f"/rules/{name}"


_MADE = [
    get("/rules"),
    get(rule("busy")),
    get(rule("nonsense")),
    put(rule("slow"), _SLOW),
    put(rule("slow"), _SLOW, If_Match='"1"'),
    put(rule("slow"), _SLOW, **NEW),
    put(rule("slow"), _SLOW, **NEW),
    put(rule("slow"), _SLOW | {"severity": "info"}, **ANY),
    put(rule("gathers"), _GATHERS, **NEW),
    put(rule("change"), _CHANGE | {"name": "change"}, **NEW),
    put(rule("anomaly"), _ANOMALY, **NEW),
    put(rule("fleet"), _FLEET, **NEW),
    get(rule("slow")),
    get("/rules"),
]

_WRONG_RULES = [
    put(rule("busy"), _SLOW, **ANY),
    delete(rule("busy"), **ANY),
    delete(rule("nonsense"), **ANY),
    delete(rule("slow")),
    delete(rule("slow"), If_Match='"1"'),
    put(rule("other"), _SLOW | {"name": "slow"}, **NEW),
    put(rule("Other"), _SLOW, **NEW),
    put(rule("other"), _SLOW | {"targets": ["ops", "nobody"]}, **NEW),
    put(rule("other"), {}, **NEW),
    put(rule("other"), {"kind": "treshold"}, **NEW),
    put(rule("other"), [], **NEW),
    put(rule("other"), _SLOW | {"metric": "cpuLoadAvrg"}, **NEW),
    put(rule("other"), _SLOW | {"stat": "median"}, **NEW),
    put(rule("other"), _SLOW | {"below": 0.5}, **NEW),
    put(rule("other"), _SLOW | {"clear": 0.95}, **NEW),
    put(rule("other"), _SLOW | {"for": "1 h", "group": "soon"}, **NEW),
    put(rule("other"), _SLOW | {"users": []}, **NEW),
    put(rule("other"), _SLOW | {"os": ["BeOS"]}, **NEW),
    put(rule("other"), _SLOW | {"more": 1}, **NEW),
    put(rule("other"), _CHANGE | {"over": "0s"}, **NEW),
    put(rule("other"), {"kind": "absence", "after": "8d"}, **NEW),
    put(rule("other"), {"kind": "absence", "after": "1h", "for": "1m"}, **NEW),
    put(rule("other"), {"kind": "absence", "after": "10ms"}, **NEW),
    put(rule("other"), _ANOMALY | {"every": "0s"}, **NEW),
    put(rule("other"), _FLEET | {"clear_share": 0.9}, **NEW),
    put(rule("other"), _FLEET | {"share": 1.0}, **NEW),
    put(rule("other"), _SLOW, Content_Type="text/plain", **NEW),
    send("PUT", f"{API}{rule('other')}", {"text": "{"}, Content_Type=JSON, **NEW),
    send("POST", f"{API}/rules"),
    send("PATCH", f"{API}{rule('slow')}"),
]

_ALERTS = [
    get("/alerts"),
    get("/notifications"),
    # Six rules in force: what is reported from here on is judged by all of them.
    get("//metrics", until=r"\nloadlens_rules 6\.0\n"),
    post("/metrics", [plain("alarm-1", moment(2, 5), 0.95), plain("alarm-2", moment(2, 5), 0.5)]),
    get("/alerts", until='"state":"firing".*"state":"pending"'),
    get(
        "/notifications?state=delivered",
        until='"state":"delivered".*"delivered":1',
        keep={"told": "notifications.0.id"},
    ),
    post("/metrics", [plain("alarm-1", moment(2, 5, 5), 0.005), plain("alarm-2", moment(2, 5, 5), 0.5)]),
    get("/alerts?state=resolved", until='"rule":"busy"'),
    get("/notifications?state=dead", until=_TWO_TOLD, keep={"lost": "notifications.0.id"}),
    get("/notifications?state=delivered", until=_TWO_TOLD),
    post("/metrics", [plain("gather-1", moment(2, 5), 0.95), plain("gather-2", moment(2, 5), 1.0)]),
    get("/alerts?rule=gathers", until='"total":2'),
    get("/notifications?state=gathering"),
    get("/alerts?user=alarm-*"),
    get("/alerts?rule=bus?&state=resolved"),
    get("/alerts?user=alarm-[12]"),
    get("/alerts?state=pending"),
    get("/alerts?state=firing&limit=1"),
    get("/alerts?state=over"),
    get("/alerts?limit=0"),
    get("/notifications?limit=1001"),
    get("/notifications?state=lost"),
    get("/notifications?state=waiting"),
    send("POST", f"{API}/notifications/${{lost}}/redeliver"),
    get("/notifications?state=dead", until=_TWO_TOLD),
    send("POST", f"{API}/notifications/${{told}}/redeliver"),
    get("/notifications?state=delivered", until=_TWO_TOLD),
    send("POST", f"{API}/notifications/msg_unknown/redeliver"),
    send("GET", f"{API}/notifications/msg_unknown/redeliver"),
    get("/notifications/${told}", until='"state":"delivered"'),
    get("/notifications/msg_unknown"),
    send("POST", f"{API}/targets/nobody/test"),
    send("POST", f"{API}/notifications"),
    send("POST", f"{API}/alerts"),
]

_SILENCES = [
    get("/silences"),
    post("/silences", {"duration": "2h", "user": "alarm-1", "comment": "known"}, keep={"silence": "id"}),
    post("/silences", {"rule": "busy", "duration": "1d"}, X_Loadlens_Actor="carol"),
    get("/silences"),
    post("/metrics", plain("alarm-1", moment(2, 5, 10), 0.99)),
    get("/alerts?rule=busy", until='"silenced":true'),
    send("DELETE", f"{API}/silences/${{silence}}"),
    send("DELETE", f"{API}/silences/${{silence}}"),
    get("/silences"),
    post("/silences", {}),
    post("/silences", {"duration": "2h", "until": "2025-03-10T00:00:00Z"}),
    post("/silences", {"until": "2025-03-10T00:00:00Z"}),
    post("/silences", {"until": "tomorrow"}),
    post("/silences", {"duration": "400d"}),
    post("/silences", {"duration": "1h", "rule": ""}),
    post("/silences", {"duration": "1h", "comment": "c" * 501}),
    post("/silences", {"duration": "1h", "more": 1}),
    post("/silences", {"duration": 5}),
    post("/silences", [], Content_Type="text/plain"),
    send("POST", f"{API}/silences", {"text": "{"}, Content_Type=JSON),
    send("PUT", f"{API}/silences/unknown"),
    send("PUT", f"{API}/silences"),
]

_UNMADE = [
    delete(rule("gathers"), **ANY),
    get("/alerts?state=resolved&rule=gathers", until='"total":2'),
    get(rule("gathers")),
    get("/audit?target=rule:gathers"),
    get("/audit?target=rule:slow"),
    get("/audit?limit=6"),
]

RULES = [*_MADE, *_WRONG_RULES, *_ALERTS, *_SILENCES, *_UNMADE]

_AGENT = {"Authorization": "Bearer agents"}
_OPERATOR = {"Authorization": "Bearer operator"}

GUARDED = [
    get("//healthz"),
    get("//readyz"),
    get("/users"),
    get("/users", Authorization="Bearer wrong"),
    get("/users", Authorization="Basic b3BlcmF0b3I="),
    get("/users", **_AGENT),
    get("/users", **_OPERATOR),
    get("//", Host="any.example", **_OPERATOR),
    get("/metrics", **_AGENT),
    get("//nonsense"),
    post("/metrics", plain("web-1", moment(0, 1), 0.5)),
    post("/metrics", plain("web-1", moment(0, 1), 0.5), **_AGENT),
    post("/metrics", [plain("web-1", moment(0, 1), 0.5), plain("", moment(0, 1), 0.5)], **_AGENT),
    post("/agents/web-1/state", {"at": moment(0, 1), "os_type": "Linux", "os_version": "12", "agent_version": "1",
                                 "settings": IN_FORCE}, **_AGENT),
    get("/agents/web-1/commands", Accept=EVENTS, **_AGENT),
    get("/agents/web-1/commands", **_AGENT),
    get("/agents/web-1/commands", **_OPERATOR),
    post("/agents/web-1/commands", {"command": "report_now"}, **_AGENT),
    put(own("web-1"), {"paused": True}, **_AGENT, **ANY),
    put(own("web-1"), {"paused": True}, **_OPERATOR, **ANY),
    get("/audit", **_OPERATOR),
    get("/stream", **_AGENT),
    get("/stream", **_OPERATOR),
    send("WEBSOCKET", f"{API}/stream"),
    send("WEBSOCKET", f"{API}/stream", **_OPERATOR),
    get("/rules", **_OPERATOR),
    get("/metrics/cpuLoadAvg/fleet?start=2025-03-10&end=2025-03-11", **_OPERATOR),
    get("/metrics/cpuLoadAvg/fleet?start=2025-03-10&end=2025-03-11&resample_rate=1d", **_OPERATOR),
    get("/windows/fleet?start=2025-03-10&end=2025-03-11&resample_rate=raw", **_OPERATOR),
    get("/windows/fleet?start=2025-03-10&end=2025-03-11&resample_rate=1h", Accept="text/csv", **_OPERATOR),
    send("GET", f"{API}/metrics/cpuLoadAvg/fleet", {"json": {"start": "2025-03-10", "end": "2025-03-11"}}, **_OPERATOR),
    get("/identity"),
    get("/identity", **_AGENT),
    get("/identity", **_OPERATOR),
    get("/tokens", **_OPERATOR),
    post("/tokens", {"name": "mine", "role": "agent"}, **_OPERATOR),
    get("/tokens/0123456789ab", **_OPERATOR),
    patch("/tokens/0123456789ab", {"name": "yours"}, **_OPERATOR),
    post("/tokens/0123456789ab/rotate", {}, **_OPERATOR),
    delete("/tokens/0123456789ab", **_OPERATOR),
    post("/enrolments", {"user_id": "web-1"}, **_OPERATOR),
    get("/sessions", **_OPERATOR),
    delete("/sessions/0123456789abcdef", **_OPERATOR),
    get("//sign-in"),
    post("//sign-in", {"token": "operator"}),
    get("//sign-in/openid"),
    get("//sign-in/openid/callback?state=x&code=y"),
    post("//sign-out", {}),
]  # fmt: skip
"""Where tokens are asked for, nothing is kept for long, and nobody may listen."""
