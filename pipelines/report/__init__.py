"""The report of a run: its figures and tables, their cache, and its page."""
