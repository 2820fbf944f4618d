"""A finished study that tests damage, and `study doctor` examines."""

import contextlib
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from pipelines.session.context import Context
from pipelines.trials.mirror import recorded_points
from pipelines.upkeep.doctor import Options, Result, examine
from pipelines.upkeep.relocate import Tables
from study.home import Home
from study.tracking.store import Point, Store
from tests.conftest import Finished, copy_of, surroundings

CHECK, FIX = Options(), Options(fix=True)


def dead_process() -> str:
    """The id of an ended process of this machine."""
    code = "from study.system.processes import this_process; print(this_process())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@dataclass(frozen=True)
class Patient:
    """A copy of a finished study to be damaged, with a selected model and trial."""

    context: Context
    finished: Finished
    model: str = "cnn"
    number: int = 0

    @property
    def store(self) -> Store:
        return self.context.store

    @property
    def trial(self) -> str:
        """Id of the trial's run."""
        return self.store.runs(stage="trial", search=f"digits-{self.model}", optuna_trial=str(self.number))[0].id

    @property
    def parent(self) -> str:
        """Id of the search's run."""
        return self.finished.parents[self.model]

    @property
    def retrained(self) -> str:
        return self.finished.retrained[self.model]

    def points(self, name: str = "val_accuracy") -> list[Point]:
        """All values of a metric of the trial's run."""
        return recorded_points(self.store, self.store.get(self.trial), name)

    def sql(self, statement: str, *values: object, database: str = "mlflow") -> None:
        with contextlib.closing(sqlite3.connect(self.context.home.store / f"{database}.db")) as connection, connection:
            connection.execute(statement, values)
            assert connection.total_changes, statement

    def erase(self, run_id: str) -> None:
        """Removes a run as MLflow's garbage collection does."""
        database = sqlite3.connect(self.context.home.store / "mlflow.db")
        with contextlib.closing(database), database:
            for table in ("metrics", "latest_metrics", "params", "tags"):
                database.execute(f"DELETE FROM {table} WHERE run_uuid = ?", (run_id,))
        self.sql("DELETE FROM runs WHERE run_uuid = ?", run_id)

    def file(self, name: str) -> Path:
        root = self.store.root(self.retrained)
        assert root
        return root / name

    def examine(self, options: Options = CHECK) -> Result:
        return examine(surroundings(self.context.home, self.context.machine), options)


def moved_copy(source: Home, root: Path) -> Home:
    home = copy_of(source, root)
    shutil.copytree(source.store / "artifacts", home.store / "artifacts")
    tables = Tables(home.tracking_uri)
    tables.move((source.store / "artifacts").as_uri(), (home.store / "artifacts").as_uri())
    tables.close()
    return home
