"""The agent: samples a host, summarises windows of samples, spools them on disk and sends them in order."""
