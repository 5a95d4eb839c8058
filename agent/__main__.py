"""`python -m agent` is `loadlens-agent`."""

import sys

from agent.cli import main

sys.exit(main())
