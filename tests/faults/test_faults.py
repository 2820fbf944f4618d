"""A few cases of `make faults`, and tests that its invariants detect damage."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy

from tests.faults import invariants
from tests.faults.cases import Case
from tests.faults.harness import Harness, open_harness, stores_here
from tests.faults.invariants import Broken
from tests.faults.places import Place

# Starts a dozen processes, which takes minutes on a busy machine.
pytestmark = pytest.mark.timeout(1800)
SEARCH, TRIALS = "digits-ffnn", 2


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    with open_harness(tmp_path_factory.mktemp("faults")) as harness:
        yield harness


@pytest.mark.parametrize(
    "case",
    [
        # Several workers are killed in tests/pipelines/trials/test_pool.py.
        Case("tune, 1 worker", "PostgreSQL", seed=0, kills=1),
        Case("retrain", "SQLite", seed=2, kills=1),
        Case("analyse", "SQLite", seed=0, kills=1),
    ],
    ids=str,
)
def test_a_command_that_is_killed_again_and_again_leaves_what_one_that_is_not_leaves(
    harness: Harness, case: Case
) -> None:
    if case.store not in stores_here():
        pytest.skip("PostgreSQL is not installed")
    result = harness.run(case)
    assert result.broken.all() == [], result
    assert result.completed


def copied(harness: Harness, folder: Path) -> Place:
    return harness.kind("SQLite").place(folder / "copy", harness.base("SQLite"))


def checked(place: Place) -> Broken:
    """The violated invariants of a search that was never interrupted."""
    broken = Broken()
    before = invariants.finished(invariants.trials_of(place, SEARCH))
    invariants.check_search(place, SEARCH, TRIALS, before, broken)
    return broken


def test_what_was_never_interrupted_holds(harness: Harness, tmp_path: Path) -> None:
    assert checked(copied(harness, tmp_path)).all() == []


@pytest.mark.parametrize(
    ("store", "change"),
    [
        ("tracking", "UPDATE metrics SET value = value + 0.001 WHERE key = 'val_accuracy' AND step = 1"),
        ("tracking", "INSERT INTO metrics SELECT key, value, timestamp + 1, run_uuid, step, is_nan FROM metrics"),
        ("tracking", "DELETE FROM metrics WHERE key = 'best_val_accuracy'"),
        ("tracking", "UPDATE runs SET status = 'RUNNING'"),
        ("tracking", "UPDATE runs SET lifecycle_stage = 'deleted'"),
        ("tracking", "UPDATE tags SET value = 'pruned' WHERE key = 'status_reason'"),
        ("tracking", "UPDATE tags SET value = '0' WHERE key = 'optuna_trial'"),
        ("storage", "UPDATE trial_values SET value = value + 0.001"),
        ("storage", "UPDATE trial_intermediate_values SET intermediate_value = 0.5"),
        ("storage", "UPDATE trial_params SET param_value = 0.001"),
        ("storage", "UPDATE trials SET state = 'RUNNING' WHERE number = 1"),
        ("storage", "UPDATE trials SET state = 'FAIL' WHERE number = 1"),
    ],
)
def test_a_changed_store_is_noticed(harness: Harness, tmp_path: Path, store: str, change: str) -> None:
    place = copied(harness, tmp_path)
    with sqlalchemy.create_engine(getattr(place, store), poolclass=sqlalchemy.NullPool).begin() as connection:
        connection.execute(sqlalchemy.text(change))
    assert checked(place).disagreements


def test_a_finished_trial_that_changes_is_noticed(harness: Harness, tmp_path: Path) -> None:
    place, broken = copied(harness, tmp_path), Broken()
    before = invariants.finished(invariants.trials_of(place, SEARCH))
    with sqlalchemy.create_engine(place.storage, poolclass=sqlalchemy.NullPool).begin() as connection:
        connection.execute(sqlalchemy.text("UPDATE trial_params SET param_value = 0.001"))
    invariants.check_search(place, SEARCH, TRIALS, before, broken)
    assert len(broken.lost) == TRIALS


def test_an_altered_weight_is_noticed_by_its_value_and_by_its_hash(harness: Harness, tmp_path: Path) -> None:
    place, expected = copied(harness, tmp_path), harness.base("SQLite")
    [run] = invariants.runs_of(place, stage="retrain", model="ffnn")
    [untouched] = invariants.runs_of(expected, stage="retrain", model="ffnn")
    unharmed, harmed = Broken(), Broken()
    invariants.check_retrained(run, 1, untouched.artifacts, unharmed)
    assert unharmed.all() == []

    file = run.artifacts / "weights" / "epoch_001.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    invariants.check_retrained(run, 1, untouched.artifacts, harmed)
    assert len(harmed.unequal) == 2
    assert all("epoch_001" in line for line in harmed.unequal)
