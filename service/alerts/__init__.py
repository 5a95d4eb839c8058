"""Alerts: rules, their evaluation as reports arrive, alarms, silences, and who is notified."""
