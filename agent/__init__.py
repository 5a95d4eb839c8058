"""The agent: samples a machine, summarises windows of samples, spools them on disk and sends them in order."""
