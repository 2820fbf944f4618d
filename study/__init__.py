"""The experiment: what is trained, on what, how, and where it is recorded.

From Python: `load_dataset`, `build_model`, `train`, `predict` and `best`, imported at their first use.
"""

import importlib
import logging
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from study.interface import best, build_model, load_dataset, predict, train

__all__ = ["best", "build_model", "load_dataset", "predict", "train"]

MLFLOW_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # Models are exported on a CPU, and cannot be loaded on the GPU that MLflow would choose where there is one.
    "MLFLOW_DEFAULT_PREDICTION_DEVICE": "cpu",
    # To load a pickle is to run it, and none is needed here.
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
}
"""MLflow's settings, whatever the environment says."""

TRACKING_URI = os.environ.get("MLFLOW_TRACKING_URI") or None
"""The tracking store that the user's environment names; MLflow sets the variable to each that is opened."""

# Before the first import of mlflow, which reads them.
os.environ.update(MLFLOW_SETTINGS)
# MLflow cannot be imported with a level that does not exist.
if os.environ.get("MLFLOW_LOGGING_LEVEL", "").upper() not in logging.getLevelNamesMapping():
    os.environ["MLFLOW_LOGGING_LEVEL"] = "WARNING"


def __getattr__(name: str) -> Any:
    # Lazy (PEP 562): they need torch and MLflow, which most commands do without.
    if name in __all__:
        return getattr(importlib.import_module("study.interface"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
