"""The experiment: what is trained, on what, how, and where it is recorded."""
