"""The live stream: every acknowledged report, in order, to whoever follows."""
