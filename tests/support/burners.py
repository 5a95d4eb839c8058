"""Programs that use a known share of a core."""

DUTIES = {"burner-red": 0.7, "burner-green": 0.4, "burner-blue": 0.2}
"""Their names, and the share that each asks for."""
BURN = """
import sys, time
duty, began = float(sys.argv[1]), time.monotonic()
while True:
    if time.process_time() < duty * (time.monotonic() - began):
        sum(range(2000))
    else:
        time.sleep(0.01)
"""
"""What each of them does; the share is its argument."""
