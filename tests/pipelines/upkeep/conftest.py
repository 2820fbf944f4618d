import contextlib
import sqlite3
from pathlib import Path

import pytest

from pipelines.upkeep.doctor import Options, examine
from study.device import Machine
from study.home import Home
from study.tracking.runs import WORKER
from tests.conftest import Finished, surroundings
from tests.support.patient import Patient, dead_process, moved_copy


@pytest.fixture(scope="session")
def healthy(finished_study: Finished, machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = moved_copy(finished_study.context.home, tmp_path_factory.mktemp("doctor") / "home")
    gone = dead_process()
    for name, change in {
        "optuna.db": "UPDATE trial_user_attributes SET value_json = json_quote(?) WHERE key = 'worker'",
        "mlflow.db": f"UPDATE tags SET value = ? WHERE key = '{WORKER}'",
    }.items():
        with contextlib.closing(sqlite3.connect(home.store / name)) as opened, opened:
            opened.execute(change, (gone,))
    assert not examine(surroundings(home, machine), Options(fix=True, backup=False)).left
    return home


@pytest.fixture
def patient(healthy: Home, finished_study: Finished, machine: Machine, tmp_path: Path) -> Patient:
    return Patient(surroundings(moved_copy(healthy, tmp_path / "home"), machine), finished_study)
