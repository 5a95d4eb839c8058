"""The journal: a write-ahead log of accepted reports, and what reads it."""
