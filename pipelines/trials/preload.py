"""What the fork server of search workers imports once, instead of each worker anew.

No import may start a Python thread or touch a GPU: a forked process could use neither.
"""

import atexit
import gc
import os
from importlib import import_module

MODULES = (
    "pipelines.trials.worker",
    "mlflow.store.tracking.sqlalchemy_store",
    "optuna.samplers._tpe.sampler",
    "sklearn.datasets",
    "sklearn.model_selection",
    # Imported by the first optimiser.
    "torch._dynamo",
)

for name in MODULES:
    import_module(name)
# Collecting garbage would copy the memory that the workers share.
gc.freeze()
# The server has nothing to clean up, and libraries complain of frozen objects; workers do not run this.
atexit.register(os._exit, 0)
