"""Windows as arrays and DataFrames: exact merging and resampling, loading from a service, a command line."""
