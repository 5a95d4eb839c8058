"""What the dashboard shows that no other answer has: the fleet as a picture, and what the methods say of a host."""
