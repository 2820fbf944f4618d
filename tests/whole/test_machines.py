"""Three machines on one search: one is killed, one frozen, one cut off; a short form of `tests.faults.machines`."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.machines import Scenario
from tests.support.postgres import programs, running_cluster

pytestmark = pytest.mark.timeout(1800)


def test_whatever_stops_machines_and_servers_leaves_both_stores_equal_and_nothing_to_repair(
    tmp_path: Path,
) -> None:
    if programs() is None:
        pytest.skip("PostgreSQL is not installed (its initdb was not found)")
    with ExitStack() as stack:
        scenario = Scenario(tmp_path / "machines", stack.enter_context(running_cluster()), stack)
        assert scenario.run(40, away=1, cut=4) == []
