"""Dashboards that ask the service itself, so that they show the embedded store too: Grafana's Infinity data source."""
