"""The hyperparameter search and the experiments: their trials, and their results."""
