from pathlib import Path

import pytest

from tests.faults.load import STORES, load

TRIALS = 10


@pytest.mark.timeout(900)
@pytest.mark.parametrize("store", STORES)
def test_every_trial_of_several_workers_is_once_in_both_stores(
    store: str, tmp_path: Path, request: pytest.FixtureRequest
):
    if store == "PostgreSQL":
        # Skips the test, or fails it, where PostgreSQL is not installed.
        request.getfixturevalue("postgres")
    with STORES[store](tmp_path) as place:
        loaded = load(place, workers=2, trials=TRIALS, sampler="tpe")
    assert loaded.wrong(TRIALS) == []
    assert loaded.counts["trials"] == loaded.counts["runs"] == TRIALS
