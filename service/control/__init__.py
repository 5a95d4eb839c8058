"""What operators decide, and who decided it."""
