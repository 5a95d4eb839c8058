"""Where windows come from: a service, its live stream, InfluxDB, Parquet files."""
