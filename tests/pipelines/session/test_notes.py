import re

import pytest

from pipelines.session.mlflow_pages import search_pages
from pipelines.session.notes import NOTE, describe_retrained, describe_search
from study.config import TrainConfig
from study.tracking.best import complete_trials
from study.tracking.runs import Run, metric
from study.tracking.store import Store
from tests.conftest import Finished


@pytest.fixture
def store(finished_study: Finished) -> Store:
    return finished_study.context.store


@pytest.fixture
def retrained(finished_study: Finished, store: Store) -> Run:
    return store.get(finished_study.retrained["cnn"])


def test_a_search_says_its_best_accuracy_its_links_and_the_command_that_continues_it(
    finished_study: Finished, store: Store
):
    note = store.get(finished_study.parents["cnn"]).tags[NOTE]
    best = complete_trials(store, "digits", search="digits-cnn")[0]
    assert f"**{metric(best, 'best_val_accuracy'):.2%}** ([trial {best.trial_number}](" in note
    command = re.search(r"Continued by `(.*)`\.", note)
    assert command
    assert command[1] == (
        "study tune --dataset digits --model cnn --search digits-cnn --trials 3 --lr 0.001:0.01 --epochs 2 "
        "--filters 4/6"
    )
    assert "[its trials](#/experiments/" in note


def test_a_retrained_run_and_its_model_say_their_test_accuracy_and_origin(store: Store, retrained: Run):
    accuracy = f"**{metric(retrained, 'final_test_accuracy'):.2%}**"
    (version,) = store.client.search_model_versions(f"run_id = '{retrained.id}'")
    for note in (retrained.tags[NOTE], version.description):
        assert f"test accuracy {accuracy}" in note
        assert f"settings of trial {retrained.trial_number} of the search digits-cnn" in note
        assert f"`study retrain --run {retrained.trial_run} --epochs 2 --seed 0`" in note
        assert "[the same settings with other seeds](#/experiments/" in note
    assert f"runs/{retrained.id}" in version.description


def test_an_experiment_links_to_its_stages(store: Store, retrained: Run):
    note = store.experiments.tags(retrained.experiment_id)[NOTE]
    assert re.findall(r"\[([a-z ]+)\]\(#/experiments/", note) == ["searches", "their trials", "retrainings"]


def test_a_description_by_somebody_else_stays(store: Store, retrained: Run, finished_study: Finished):
    search, before = store.get(finished_study.parents["cnn"]), {}
    for run in (search, retrained):
        before[run.id] = run.tags[NOTE]
        store.tag(run.id, **{NOTE: "my own words"})
    describe_search(store, store.get(search.id), [], search_pages(store, search, []), "study tune")
    describe_retrained(store, store.get(retrained.id))
    for run_id, note in before.items():
        assert store.get(run_id).tags[NOTE] == "my own words"
        store.tag(run_id, **{NOTE: note})
    describe_retrained(store, store.get(retrained.id))
    assert store.get(retrained.id).tags[NOTE] == before[retrained.id]


def test_names_are_no_markdown(store: Store, retrained: Run):
    tags = {"stage": "search", "search": "a_b*c*", "model": "cnn"}
    run = store.get(store.start("digits", "a [name](x)", tags=tags, params=TrainConfig().params()))
    describe_search(store, run, [run], {}, "study tune")
    note = store.get(run.id).tags[NOTE]
    store.client.delete_run(run.id)
    assert "[a \\[name\\]\\(x\\)](#/experiments/" in note
