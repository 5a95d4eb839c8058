"""The analyses: from frames of windows to answers."""
