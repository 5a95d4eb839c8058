"""InfluxDB of every generation: the schema of Loadlens in it, quoting, asking and reading."""
