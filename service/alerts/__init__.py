"""Rules: what shall be noticed in the reports as they arrive, and said to whom."""
