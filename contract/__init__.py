"""What agent, service and analytics agree on."""

__version__ = "0.1.0"
