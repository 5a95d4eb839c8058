"""Reports on demand: made in a process of their own, a few at a time, and kept for a moment."""
