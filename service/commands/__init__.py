"""The commands of `loadlens-service`."""
