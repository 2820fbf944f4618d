"""The record of runs in MLflow: parameters, metrics, artifacts, registered models."""
