"""What agents are asked to do, what they say of themselves, and how the one reaches the other."""
