"""How all tests run."""

import os

from hypothesis import settings

# Machines that share their cores miss deadlines that say nothing about the code. A failure in CI repeats itself.
settings.register_profile("loadlens", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("loadlens")
