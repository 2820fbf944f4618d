"""The search, and the experiments: what was tried, and what came of it."""
