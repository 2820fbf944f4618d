from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pandas as pd

from pipelines.report.material import Material
from pipelines.report.network import pull
from pipelines.report.tracked import comparable, differences, grid_command, trials
from study.architectures import CNNConfig
from study.config import TrainConfig
from study.names import LONGEST_NAME
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


def test_the_command_of_the_grid_has_all_that_must_agree():
    search = replace(OWN, params={**SETTINGS, "dataset": "digits", "image_size": "64", "seed": "3", "epochs": "4"})
    trained = TrainConfig(model=CNNConfig(kernel=3, filters=(8, 16)), optimiser="adamw", schedule="cosine")
    words = grid_command(search, trained, ())
    for option in ("--image-size 64", "--seed 3", "--kernel 3", "--filters 8/16", "--epochs 4", "--schedule cosine"):
        assert option in words
    assert "--optimiser adamw" in words
    long = replace(search, tags={"search": "x" * LONGEST_NAME})
    assert "--search grid" in grid_command(long, trained, ())


def test_of_a_diverged_trial_the_whole_epochs_count_and_what_it_did_not_draw_is_empty(finished_study):
    store = finished_study.context.store
    [search] = store.runs(stage="search", model="cnn")
    trial = store.runs(stage="trial", search=search.search, status_reason="complete")[0]
    without_pooling = {**trial.params, "pool": "1", "pooling": "average", "epochs": "9"}
    diverged = replace(
        trial, params=without_pooling, tags={**trial.tags, "status_reason": "diverged", "stopped_epoch": "3"}
    )
    with patch.object(store, "runs", lambda *args, **kwargs: [diverged]):
        drawn = replace(search, params={**search.params, "choices": '{"pool": "1,2", "pooling": "max,average"}'})
        [row] = trials(store, drawn).to_dict("records")
    assert (row["epochs"], row["pool"], row["pooling"]) == (2, 1, None)


def test_commits_with_and_without_changes_differ():
    own, other = (grid(name, git_commit=commit) for name, commit in (("a", "0123456789ab"), ("b", "0123456789ab+")))
    assert differences([own, other]) == {"git_commit": ("0123456789", "0123456789+")}
