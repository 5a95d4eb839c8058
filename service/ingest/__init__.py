"""From a valid report to its acknowledgement, and the work in the background that follows."""
