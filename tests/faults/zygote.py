"""Forks `study` commands from a process that has imported everything, which spares each of them seconds.

What is forked is a process of its own, in a session of its own, that runs the command's `main`; the workers of a search
are started by it as ever. A line of JSON on the standard input is a command; its process id and then its exit code come
back, a line each.
"""

import importlib
import json
import os
import signal
import sys

IMPORTED = (
    "pipelines.reproduce",
    "pipelines.analyse",
    "pipelines.show",
    "study.tracking.store",
    "mlflow.pytorch",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
    "psycopg",
    "sklearn.datasets",
)


def serve() -> None:
    for name in IMPORTED:
        importlib.import_module(name)
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        number = os.fork()
        if number == 0:
            _become(**order)
            return
        print(number, flush=True)
        _, status = os.waitpid(number, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _become(arguments: list[str], surroundings: dict[str, str], log: str) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(written, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(surroundings)
    # Which sets what MLflow is to read there.
    importlib.reload(importlib.import_module("study"))
    sys.argv = ["study", *arguments]
    from pipelines.cli.app import main

    try:
        main()
    finally:
        # An interruption that left an exec() of text, which makes every dataclass, has `python -m` end by SIGINT,
        # whatever came of it and unlike the command itself, unless there was another exec() since.
        exec("")


if __name__ == "__main__":
    serve()
