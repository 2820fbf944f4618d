"""The report of a run: its figures and tables, what of them is cached, and its page."""
