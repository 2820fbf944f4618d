import shlex
from collections.abc import Callable

import pytest

from study.errors import StudyError
from study.tracking.store import Store

TAGS = {"stage": "trial", "dataset": "toys"}


@pytest.fixture
def key(store: Store) -> str:
    """The experiment of one run."""
    store.start("toys", "a run", tags=TAGS, params={})
    return store.experiment("toys")


def rename(store: Store, key: str) -> None:
    store.client.rename_experiment(key, "other's toys")


def delete(store: Store, key: str) -> None:
    store.client.delete_experiment(key)


def rename_and_delete(store: Store, key: str) -> None:
    rename(store, key)
    delete(store, key)


@pytest.mark.parametrize(
    ("change", "message", "command"),
    [
        (rename, "experiment toys was renamed to other's toys", "rename --experiment-id KEY --new-name toys"),
        (delete, "experiment toys was deleted", "restore -x KEY"),
        (rename_and_delete, "experiment other's toys was deleted", "restore -x KEY"),
    ],
)
def test_an_experiment_that_was_renamed_or_deleted_is_told_with_the_remedy(
    store: Store, key: str, change: Callable[[Store, str], None], message: str, command: str
):
    change(store, key)
    uri = shlex.quote(store.uri)
    remedy = f"`MLFLOW_TRACKING_URI={uri} mlflow experiments {command.replace('KEY', key)}`"
    for use in (lambda: store.runs(["toys"]), lambda: Store(store.home).experiment("toys")):
        with pytest.raises(StudyError, match=message) as raised:
            use()
        assert remedy in str(raised.value)
    if "deleted" in message:
        store.client.restore_experiment(key)
    store.client.rename_experiment(key, "toys")
    assert [run.tags["dataset"] for run in store.runs(["toys"])] == ["toys"]


def test_a_new_data_set_has_no_experiment_whatever_others_hold(store: Store, key: str):
    assert store.experiments.find("birds") is None
    assert store.experiments.find('it\'s "new"') is None
    assert store.runs(["birds"]) == []
    assert store.experiments.find("toys") == key


def test_what_is_sought_is_looked_for_in_deleted_experiments(store: Store, key: str):
    store.experiments.require_not_deleted(lambda run: True)
    delete(store, key)
    store.experiments.require_not_deleted(lambda run: run.tags["stage"] == "retrain")
    with pytest.raises(StudyError, match="experiment toys was deleted"):
        store.experiments.require_not_deleted(lambda run: run.tags["stage"] == "trial")
    assert [[run.name for run in runs] for runs in store.experiments.deleted().values()] == [["a run"]]


def test_runs_of_other_programs_in_deleted_experiments_are_none_of_ours(store: Store):
    foreign = store.client.create_experiment("foreign")
    store.client.create_run(foreign)
    store.client.delete_experiment(foreign)
    assert store.experiments.deleted() == {}


def test_tags_of_an_experiment_are_written_where_they_differ(store: Store, key: str, monkeypatch: pytest.MonkeyPatch):
    store.experiments.tag(key, {"mlflow.note.content": "toys", "other": "1"})
    written: list[str] = []
    monkeypatch.setattr(store.experiments._client, "set_experiment_tag", lambda _, name, value: written.append(name))
    store.experiments.tag(key, {"mlflow.note.content": "toys", "other": "2"})
    assert store.experiments.tags(key)["mlflow.note.content"] == "toys"
    assert written == ["other"]
