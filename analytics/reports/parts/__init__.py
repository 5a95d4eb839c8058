"""The parts of a report, a module each: from the data to a section with its findings."""
