"""The command line of `loadlens-service`."""

import gc
from collections.abc import Sequence

from contract.logs import configure
from contract.settings import dispatch, fail, load
from service.commands import failed, lazy_command
from service.settings import ServiceSettings

_PROGRAM = "loadlens-service"
_DESCRIPTION = "Takes the reports of Loadlens agents, keeps them, and answers history and fleet queries over HTTP."
_EPILOG = """examples:
  loadlens-service                                    on http://127.0.0.1:8888, data in ./var/loadlens
  loadlens-service --port 9000 --data-dir /srv/loadlens
  LOADLENS_TOKEN=... loadlens-service --host 0.0.0.0  reachable from other hosts
  loadlens-service up                                 the service and an agent for this machine
  loadlens-service status                             what works, what does not and what to do
  loadlens-service agents                             what agents do, and whether that is what was asked
  loadlens-service tokens create --offline --role admin me
                                                      the first token, while the service is stopped
  loadlens-service demo                               fill a running service with a real fleet
  loadlens-service copy --from embedded:var/loadlens --to embedded:/srv/loadlens
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code: 0, 1 for a failure, 2 for a wrong setting."""
    return dispatch(_PROGRAM, argv, _COMMANDS, _serve)


def _serve(argv: Sequence[str]) -> int:
    settings = load(
        ServiceSettings, argv, program=_PROGRAM, description=_DESCRIPTION, epilog=_EPILOG, commands=_COMMANDS
    )
    configure(settings.log_level, settings.log_format)
    # What the server is built of is imported only when it is wanted: --help answers at once. It makes some
    # hundred thousand objects that stay; to look again and again which of them are garbage takes a tenth of the time.
    gc.disable()
    from service.server import ServerError, SettingError, serve

    gc.enable()
    try:
        serve(settings)
    except SettingError as error:
        fail(_PROGRAM, str(error))
    except ServerError as error:
        return failed(_PROGRAM, error)
    return 1


_COMMANDS = {
    "up": lazy_command("service.commands.up:main", "run the service and an agent for this machine, until Ctrl-C"),
    "status": lazy_command("service.commands.status:main", "say what works, what does not and what to do"),
    "check": lazy_command("service.commands.check:main", "try whether an InfluxDB does what the store needs"),
    "agents": lazy_command("service.commands.agents:main", "show agents, and say how they are to sample"),
    "tokens": lazy_command("service.commands.tokens:main", "make, list, change, rotate and revoke tokens"),
    "demo": lazy_command(
        "service.commands.demo.command:main", "load a real fleet into a running service, shifted so that it ends now"
    ),
    "rules": lazy_command("service.commands.rules:main", "list, test and backtest rules; silence alerts; try targets"),
    "copy": lazy_command("service.commands.copy.command:main", "copy a store into another, and compare them"),
    "export": lazy_command("service.commands.export:main", "write summaries as Parquet files, for analyses in bulk"),
    "forward": lazy_command("service.commands.forward:main", "write reports to others as they come, by remote write"),
    "backup": lazy_command("service.commands.backup:main", "copy the data folder, while the service runs"),
    "restore": lazy_command("service.commands.backup:restore", "put a backup into an empty data folder"),
    "verify": lazy_command("service.commands.backup:verify", "find what is damaged in backups, or in a data folder"),
    "repair": lazy_command("service.commands.repair:main", "make the embedded store's catalogue from its files"),
}
