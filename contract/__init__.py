"""What agent, service and analytics agree on."""
