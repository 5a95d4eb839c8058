"""The control database: what operators decide, who decided it, and what alerts and notifications must not lose."""
