"""Reports on a fleet and on single hosts, as HTML, PDF, PNG, Markdown or JSON."""
