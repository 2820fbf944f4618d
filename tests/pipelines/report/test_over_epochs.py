from pathlib import Path

import pytest

from pipelines.report import over_epochs
from pipelines.report.cache import Cache
from pipelines.report.network import pull
from study.selection import select_image


def test_the_epochs_of_a_run_are_compared_and_the_second_time_nothing_is_computed(finished_study, tmp_path: Path):
    store, dataset, cache = finished_study.context.store, finished_study.dataset, Cache(tmp_path)
    network = pull(store, store.get(finished_study.retrained["cnn"]))
    exhibit = over_epochs.show(network, dataset, select_image(dataset, ""), (3, 5), cache)
    assert exhibit.table is not None
    assert exhibit.table["epoch"].tolist() == network.epochs(1)
    last = exhibit.table.iloc[-1][["pool1", "pool2", "fc", "filters", "pixels"]]
    assert last.tolist() == pytest.approx([1.0] * 5, abs=1e-5)
    files = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    over_epochs.show(network, dataset, select_image(dataset, ""), (3, 5), cache)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == files
