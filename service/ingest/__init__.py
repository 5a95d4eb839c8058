"""Ingest: from a valid report to its acknowledgement, and the maintenance of journal and store that follows."""
