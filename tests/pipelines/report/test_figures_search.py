from dataclasses import replace
from pathlib import Path

import pandas as pd

from pipelines.report.material import Material
from pipelines.report.network import pull
from pipelines.report.tracked import comparable, trials
from study.tracking.runs import Run
from tests.support.material import written

SETTINGS = {
    "sampler": "tpe",
    "pruner": "percentile",
    "model_settings": "{}",
    "epochs": "10",
    "precision": "bf16",
    "seed": "0",
    "dataset_digest": "ab",
}
OWN = Run("own", "own", "FINISHED", "1", 0, {"search": "own"}, SETTINGS, {})


def grid(name: str, **settings: str) -> Run:
    return replace(OWN, id=name, params={**SETTINGS, "sampler": "grid", **settings})


def test_only_a_search_with_the_same_settings_stands_beside_another():
    names = ("model_settings", "epochs", "precision", "seed", "dataset_digest")
    others = [grid(name, **{name: "other"}) for name in names]
    assert comparable(OWN, [OWN, *others]) == []
    same = grid("same")
    assert comparable(OWN, [OWN, *others, same]) == [same]
    assert comparable(same, [OWN, same]) == [OWN]


def test_an_unpruned_grid_goes_first_and_else_the_newest():
    newest, older, unpruned = grid("newest"), grid("older"), grid("unpruned", pruner="none")
    assert comparable(OWN, [newest, older, unpruned]) == [unpruned, newest, older]


def test_what_a_search_has_not_recorded_is_not_compared():
    old = grid("old")
    del old.params["precision"]
    assert comparable(OWN, [old]) == [old]


def test_the_heatmaps_numbers_have_the_epochs_and_the_command_that_adds_a_grid(finished_study, tmp_path: Path):
    store = finished_study.context.store
    network = pull(store, store.get(finished_study.retrained["cnn"]))
    report = written(Material(network, {}, where=("--home", "/a folder")), tmp_path, ["search_heatmap"])
    [search] = store.runs(stage="search", model="cnn")
    table, tracked_trials = pd.read_csv(tmp_path / "search_heatmap.csv"), trials(store, search)
    assert sorted(table["epochs"]) == sorted(tracked_trials["epochs"])
    assert (tracked_trials.query("state == 'complete'")["epochs"] == int(search.params["epochs"])).all()
    [point] = report.sections[0].points
    for words in ("--sampler grid --pruner none", f"--epochs {search.params['epochs']}", "--home '/a folder'"):
        assert words in point
