"""Rules that are evaluated on a log, without a service."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from service.alerts.repository import RuleRepository
from service.alerts.runner import Runner
from service.control.audit import Audit
from service.control.database import ControlDatabase
from service.journal.base import Log
from service.notifications.queue import NotificationQueue

__all__ = ["BUSY", "evaluating"]

BUSY = '[[rules]]\nname = "busy"\nkind = "threshold"\nmetric = "cpuLoadAvg"\nabove = 0.8\n'


@contextlib.contextmanager
def evaluating(journal: Log, folder: Path, **of_cluster: Callable[[], bool]) -> Iterator[Runner]:
    """One rule is evaluated on a log, with its files in `folder`, until the block ends or `stop` is called."""
    path = folder / "rules.toml"
    path.write_text(BUSY)
    control = ControlDatabase(folder / "control.db")
    runner = Runner(
        journal, RuleRepository(control, Audit(control), "."), NotificationQueue(control), path, **of_cluster
    )
    runner.start()
    yield runner
    runner.stop()
    control.close()
