"""Frames of windows: the one shape of data, and what merges, resamples and reads them exactly."""
