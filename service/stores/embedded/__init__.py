"""The embedded store: DuckDB and Parquet files in a folder of the service's own."""
