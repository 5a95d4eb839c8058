"""The command `loadlens-agent`."""

import logging
import sys
from collections.abc import Sequence

from agent.settings import AgentSettings
from contract.settings import Command, dispatch, load

PROGRAM = "loadlens-agent"
DESCRIPTION = """\
Samples this host's CPU, every core of it, and reports a summary of each window of samples to the service.
What cannot be sent waits on disk."""
EPILOG = """\
examples:
  loadlens-agent status
  sudo loadlens-agent install --url https://loadlens.example.org
  loadlens-agent --url https://loadlens.example.org
  loadlens-agent --once --samples 20
  loadlens-agent --metrics cpu,memory,disk --interval 100ms --samples 50"""

_log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; its exit code: 0 at the end, 1 for a failure, 2 for a wrong setting."""
    return dispatch(PROGRAM, argv, _COMMANDS, _sample)


def _sample(argv: Sequence[str]) -> int:
    settings = load(AgentSettings, argv, program=PROGRAM, description=DESCRIPTION, epilog=EPILOG, commands=_COMMANDS)
    if not settings.url.startswith("https:"):
        _leave_out_ssl()
    from agent.enrolment import EnrolmentFailed
    from agent.identity import NoIdentity
    from agent.probes import NotMeasured
    from agent.run import run
    from agent.spool_file import SpoolInUse
    from contract.logs import configure

    configure(settings.log_level, "text")
    try:
        run(settings)
    except (NoIdentity, NotMeasured, SpoolInUse, EnrolmentFailed) as error:
        # An interface may come up, another agent may end: whoever runs this agent may start it again.
        _log.error("%s", error)
        return 1
    except BrokenPipeError:
        raise  # whoever read the printed reports has enough
    except OSError as error:
        _log.error("the agent cannot go on: %s", error)
        return 1
    return 0


def _leave_out_ssl() -> None:
    """Import http.client without ssl, which it does not need for plain HTTP: 4 MB of the agent's 25."""
    if "ssl" in sys.modules:
        return
    sys.modules["ssl"] = None  # type: ignore[assignment]
    try:
        import http.client  # noqa: F401
    finally:
        del sys.modules["ssl"]


def _status(argv: Sequence[str]) -> int:
    # Imported when it is wanted: an agent that samples has no use for it.
    from agent.status import main

    return main(argv)


def _enrol(argv: Sequence[str]) -> int:
    from agent.enrolment import main

    return main(argv)


def _install(argv: Sequence[str]) -> int:
    from agent.installation import main

    return main(argv)


_COMMANDS = {
    "status": Command("say what works, what does not and what to do", _status),
    "enrol": Command("get a token of this agent's own", _enrol),
    "install": Command("run as a service of this machine: systemd, launchd, Windows", _install),
}
