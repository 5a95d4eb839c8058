"""Windows themselves as an answer: every summary column, histograms if asked for, piece by piece."""
