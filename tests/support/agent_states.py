"""What agents say, as JSON."""

from typing import Any
from urllib.parse import quote

import httpx

from contract import times

__all__ = ["agent", "settings_of", "state"]

SETTINGS = {"interval": 0.05, "samples": 100, "metrics": ["cpu"], "paused": False, "log_level": "info"}


def state(**members: Any) -> dict[str, Any]:
    """An agent's state; `members` replace its own or are added."""
    return {
        "at": times.now_ms(),
        "os_type": "Linux",
        "os_version": "Debian GNU/Linux 12",
        "agent_version": "0.1.0",
        "settings": SETTINGS,
    } | members


def agent(user_id: str) -> str:
    """The path of an agent."""
    return f"/api/v1/agents/{quote(user_id, safe='')}"


def settings_of(client: httpx.Client, path: str, **parameters: Any) -> tuple[dict[str, Any], str]:
    """A layer and its ETag."""
    answer = client.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json(), answer.headers["ETag"]
