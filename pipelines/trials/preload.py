"""What the fork server of search workers imports once, instead of each worker anew.

None of it may start a thread of Python's or touch a GPU, neither of which a forked process could use.
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
    # Which the first optimiser imports.
    "torch._dynamo",
)

for name in MODULES:
    import_module(name)
# Collecting garbage would copy the memory that the workers share.
gc.freeze()
# The server has nothing to put in order, and libraries complain of what was frozen; workers do not come by here.
atexit.register(os._exit, 0)
