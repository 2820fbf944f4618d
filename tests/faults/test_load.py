from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.load import load, on_sqlite
from tests.faults.places import Place
from tests.support.postgres import Databases

TRIALS = 10


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """New stores: files that the command creates, or databases on the server of the tests."""
    if request.param == "PostgreSQL":
        databases: Databases = request.getfixturevalue("databases")
        yield Place(tmp_path, databases.tracking, databases.storage)
    else:
        with on_sqlite(tmp_path) as place:
            yield place


@pytest.mark.timeout(900)
def test_every_trial_of_several_workers_is_once_in_both_stores(place: Place):
    loaded = load(place, workers=2, trials=TRIALS, sampler="tpe")
    assert loaded.wrong(TRIALS) == []
    assert loaded.counts["trials"] == loaded.counts["runs"] == TRIALS
