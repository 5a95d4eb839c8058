"""What it costs to look at a token: of each report, microseconds.

    .venv/bin/python bench/access.py [--tokens 10000] [--rounds 50]

Makes a store of many tokens, and times what stands between a request and its resource: the text is taken from the
header and looked up, the request is counted, and the route's roles and the scope are looked at. The first request with
a token has its text hashed and compared besides. CPU time, the median of many rounds.
"""

import asyncio
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from falcon.asgi import Request, Response
from falcon.testing import create_asgi_req
from options import Options, scratch
from output import machine, table

from service.control.audit import Actor, Audit
from service.control.database import ControlDatabase
from service.credentials.rates import FailedAttempts
from service.credentials.sessions import Sessions
from service.credentials.tokens import Tokens
from service.http.authentication import Authentication
from service.http.token_limits import TokenLimits
from service.settings import ServiceSettings

CHECKS = 2_000
BENCH = Actor("bench", "")


def main() -> None:
    """Measure and print a table."""
    parser = Options(__doc__)
    parser.size("--tokens", 10_000, tiny=10, help="tokens that there are")
    parser.size("--rounds", 50, tiny=2, help="how often each is measured; the median counts")
    options = parser.parse()
    print(f"{machine()}\n")
    with scratch(options) as folder:
        control = ControlDatabase(Path(folder) / "control.db")
        tokens = Tokens(control, Audit(control))
        with control.transaction():
            made = [
                tokens.create(f"agent {place}", "agent", f"host-{place}", expires_ms=None, actor=BENCH)
                for place in range(options.tokens)
            ]
        text = made[options.tokens // 2].text
        now_ms = time.time_ns() // 1_000_000
        look_up = _median(lambda: tokens.identity(text, now_ms, "192.0.2.7"), options.rounds)
        texts = [one.text for one in made]
        first_s = time.process_time()
        for one in texts:
            tokens.identity(one, now_ms, "192.0.2.7")
        first = (time.process_time() - first_s) / len(texts) * 1e6
        sessions = Sessions(control, Audit(control), tokens)
        limits = TokenLimits(ServiceSettings(token_requests=1_000_000))
        access = Authentication(tokens, sessions, FailedAttempts(300), limits)
        whole = asyncio.run(_whole(access, text, options.rounds))
        nothing = asyncio.run(_whole(None, text, options.rounds))
        control.close()
    rows = [
        ["look-up", f"{look_up:.2f}"],
        ["the first of a token: look-up, SHA-256 and comparison", f"{first:.2f}"],
        ["all that a report passes, beyond none", f"{whole - nothing:.2f}"],
    ]
    print(table(("Of each report", "CPU us"), rows))


def _median(work: Callable[[], object], times: int) -> float:
    rounds = []
    for _ in range(times):
        start = time.process_time()
        for _ in range(CHECKS):
            work()
        rounds.append((time.process_time() - start) / CHECKS * 1e6)
    return statistics.median(rounds)


async def _whole(access: Authentication | None, text: str, times: int) -> float:
    """Microseconds of both steps of the middleware; without it, those of the loop that calls it."""
    req: Request = create_asgi_req(path="/api/v1/metrics", method="POST", headers={"Authorization": f"Bearer {text}"})
    req.uri_template = "/api/v1/metrics"
    resp = Response()
    rounds = []
    for _ in range(times):
        start = time.process_time()
        for _ in range(CHECKS):
            if access is not None:
                await access.process_request(req, resp)
                await access.process_resource(req, resp, None, {})
        rounds.append((time.process_time() - start) / CHECKS * 1e6)
    return statistics.median(rounds)


if __name__ == "__main__":
    main()
