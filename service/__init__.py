"""The service: takes reports, keeps them, answers queries."""
