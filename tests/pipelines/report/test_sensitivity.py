from pathlib import Path

import pandas as pd
import torch

from pipelines.report import sensitivity
from pipelines.report.cache import Cache
from pipelines.report.network import pull

CPU = torch.device("cpu")


def test_the_models_stand_side_by_side_and_the_second_time_nothing_is_computed(finished_study, tmp_path: Path):
    store, cache = finished_study.context.store, Cache(tmp_path)
    networks = {name: pull(store, store.get(run)) for name, run in finished_study.retrained.items()}
    exhibit = sensitivity.show(networks, finished_study.dataset.test, CPU, cache)
    assert set(exhibit.table["model"]) == set(networks)
    assert "sensitivity_maps" in exhibit.tables
    files = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    again = sensitivity.show(networks, finished_study.dataset.test, CPU, cache)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == files
    pd.testing.assert_frame_equal(again.table, exhibit.table)
