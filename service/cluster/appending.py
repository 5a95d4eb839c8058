"""Putting messages behind each other: each is stored once, and only behind the one that its sender knows to be last."""

import secrets
import time

import nats.errors
import nats.js.errors

from service.cluster import ClusterError
from service.cluster.connection import Cluster, words_of

WRONG_LAST = (10071, 10164)
"""JetStream's codes for a message that is not behind the one that its sender knows of."""
_ANSWER_S = 2.0
_PAUSE_S = 0.1


class NotLast(ClusterError):
    """There is a newer message than the one that its sender knows of."""


def append(cluster: Cluster, subject: str, payload: bytes, after: int, try_s: float) -> int:
    """Put a message behind the one at sequence `after`, the last of its subject; its own sequence.

    It is sent again for `try_s`, and stored once, where no word comes. Raises NotLast, and ClusterError where JetStream
    does not take it; it may be stored then.
    """
    headers = {"Nats-Expected-Last-Subject-Sequence": str(after), "Nats-Msg-Id": secrets.token_hex(12)}
    end = time.monotonic() + try_s
    while True:
        publishing = cluster.jetstream.publish(subject, payload, timeout=_ANSWER_S, headers=dict(headers))
        try:
            return cluster.call(publishing).seq
        except nats.js.errors.APIError as error:
            if error.err_code in WRONG_LAST:
                raise NotLast(f"there is a newer message of {subject}") from None
            problem = error.description or words_of(error)
        except (nats.errors.Error, TimeoutError) as error:
            problem = words_of(error)
        if time.monotonic() > end:
            raise ClusterError(f"{cluster.address}: {problem}") from None
        time.sleep(_PAUSE_S)
