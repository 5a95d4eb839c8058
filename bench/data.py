"""Where the data of the benchmarks lie: what ships with the project, and what may lie beside it (`../shared/data`)."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"

FLEET = SHARED / "planetlab-fleet.parquet"
"""CPU of 3,079 PlanetLab hosts, six days at 5 minutes."""
SAMPLE = ROOT / "service" / "commands" / "demo" / "data" / "planetlab-sample.parquet"
"""Some of them; ships with the project."""
ALIBABA = SHARED / "alibaba-2018-fleet-300s.csv"
"""The averages of a data centre, eight days at 5 minutes."""
NAB = ROOT / "tests" / "data" / "nab"
"""The Numenta Anomaly Benchmark's five AWS CPU files and its labels; ships with the project."""
NAB_OTHER = SHARED / "nab-other"
"""47 further series of it: disks, networks, requests, known causes, traffic, tweets, made up."""
