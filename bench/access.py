"""What it costs to look at a token: of each report, microseconds.

    python -m bench.access

Makes a store of 10,000 tokens, and times what stands between a request and its resource: the text is taken from the
header, looked up, hashed, compared, the request is counted, and the route's roles and the scope are looked at. CPU
time, the median of many rounds.
"""

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from falcon.asgi import Request, Response
from falcon.testing import create_asgi_req

from service.control.audit import Actor, Audit
from service.control.database import ControlDatabase
from service.credentials.attempts import FailedAttempts
from service.credentials.sessions import Sessions
from service.credentials.tokens import Tokens
from service.http.authentication import Authentication
from service.http.token_limits import TokenLimits
from service.settings import ServiceSettings

TOKENS, ROUNDS, CHECKS = 10_000, 50, 2_000
BENCH = Actor("bench", "")


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        control = ControlDatabase(Path(folder) / "control.db")
        tokens = Tokens(control, Audit(control))
        with control.transaction():
            made = [
                tokens.create(f"agent {number}", "agent", f"host-{number}", expires_ms=None, actor=BENCH)
                for number in range(TOKENS)
            ]
        text = made[TOKENS // 2].text
        now_ms = time.time_ns() // 1_000_000
        look_up = _median(lambda: tokens.identity(text, now_ms, "192.0.2.7"))
        sessions, limits = (
            Sessions(control, Audit(control), tokens),
            TokenLimits(ServiceSettings(token_requests=1_000_000)),
        )
        whole = asyncio.run(_whole(Authentication(tokens, sessions, FailedAttempts(300), limits), text))
        nothing = asyncio.run(_whole(None, text))
        control.close()
    print(f"{TOKENS} tokens; median of {ROUNDS} rounds of {CHECKS} checks")
    print(f"look-up, SHA-256 and comparison: {look_up:.2f} us")
    print(f"all that a report passes: {whole - nothing:.2f} us more than without tokens")


def _median(work: object) -> float:
    assert callable(work)
    rounds = []
    for _ in range(ROUNDS):
        start = time.process_time()
        for _ in range(CHECKS):
            work()
        rounds.append((time.process_time() - start) / CHECKS * 1e6)
    return statistics.median(rounds)


async def _whole(access: Authentication | None, text: str) -> float:
    """Microseconds of both steps of the middleware; without it, those of the loop that calls it."""
    req: Request = create_asgi_req(path="/api/v1/metrics", method="POST", headers={"Authorization": f"Bearer {text}"})
    req.uri_template = "/api/v1/metrics"
    resp = Response()
    rounds = []
    for _ in range(ROUNDS):
        start = time.process_time()
        for _ in range(CHECKS):
            if access is not None:
                await access.process_request(req, resp)
                await access.process_resource(req, resp, None, {})
        rounds.append((time.process_time() - start) / CHECKS * 1e6)
    return statistics.median(rounds)


if __name__ == "__main__":
    main()
