"""Where windows are kept: one protocol, one folder a store."""
