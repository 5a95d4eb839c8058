"""Records the answers anew: `python -m tests.service.recorded.record`.

Only where an answer is meant to change: the difference of `exchanges.jsonl` is then what clients will see.
"""

import tempfile
from pathlib import Path

from tests.service.recorded.replay import EXCHANGES, replay, write_exchanges
from tests.service.recorded.requests import REQUESTS

__all__ = ["main"]


def main() -> None:
    """Ask everything, and write what is answered."""
    with tempfile.TemporaryDirectory() as folder:
        answers = list(replay(REQUESTS, Path(folder)))
    write_exchanges({"request": request, "answer": answer} for request, answer in zip(REQUESTS, answers, strict=True))
    print(f"{len(answers)} exchanges recorded in {EXCHANGES}")


if __name__ == "__main__":
    main()
