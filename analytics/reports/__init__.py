"""Reports on a fleet and on single machines, as HTML, PDF, PNG, Markdown or JSON."""
