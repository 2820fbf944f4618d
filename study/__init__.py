"""The experiment: what is trained, on what, how, and where it is recorded."""

import os

# Before the first import of mlflow, which reads them.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
# Registered models are exported on a CPU, and cannot be loaded on the GPU that MLflow would choose where there is one.
os.environ.setdefault("MLFLOW_DEFAULT_PREDICTION_DEVICE", "cpu")
# Whatever the surroundings say: to load a pickle is to run it, and none is needed here.
os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
