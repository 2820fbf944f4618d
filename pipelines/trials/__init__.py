"""The trials of a search: run, recovered, spread over processes, mirrored in MLflow."""
