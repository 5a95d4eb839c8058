"""`loadlens-service copy` in steps so small that it can be killed between any two."""

import sys

from service.commands.copy import transfer
from service.commands.copy.command import main

transfer._FLUSH_REPORTS = 10
transfer._USERS_AT_ONCE = 2

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
