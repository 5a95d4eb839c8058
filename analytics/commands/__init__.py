"""The commands of `loadlens-analytics`, a module each: its settings, and `run`, which answers the exit code."""
