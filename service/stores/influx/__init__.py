"""InfluxDB of every generation as a store."""
