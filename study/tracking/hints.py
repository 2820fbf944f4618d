"""Commands of this program as they can be typed again, on the home and the tracking store at hand."""

import os
import shlex
import shutil
import sys
from pathlib import Path

from study.config import Home, default_home
from study.system.redaction import masked
from study.tracking.runs import Run
from study.tracking.store import Store, default_uri


def command(store: Store, *words: str) -> str:
    """A command of this program, by its name and options, on `store` and its home."""
    return command_at(store.home, store.uri, *words)


def command_at(home: Home, uri: str, *words: str) -> str:
    """The same for the store at `uri`, which need not exist."""
    return f"{_name()} {shlex.join([*words, *where(home, uri)])}"


def retraining(store: Store, run: Run) -> str:
    """The command that retrains as `run` was, or continues it."""
    settings = ("--epochs", str(run.epochs), "--seed", str(run.seed))
    return command(store, "retrain", "--run", run.trial_run, *settings)


def where(home: Home, uri: str) -> tuple[str, ...]:
    """The options that lead a command to a home and a store; none for the defaults, and no password."""
    options = () if home == default_home() else ("--home", str(home.root))
    return options if uri == default_uri(home) else (*options, "--tracking-uri", masked(uri))


def _name() -> str:
    """How this command can be typed again: by its name where the shell would find it, else by its path."""
    typed = Path(sys.argv[0])
    found = shutil.which("study")
    if typed.name != "study" or (found and Path(found).resolve() == typed.resolve()):
        return "study"
    return os.path.relpath(typed)
