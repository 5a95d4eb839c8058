"""The HTTP resources by subject."""
