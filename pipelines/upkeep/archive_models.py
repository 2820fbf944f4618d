"""Registered models on their way out of a tracking store and into another one; this too speaks MLflow."""

import contextlib
import json
from collections.abc import Mapping

import mlflow
from mlflow.exceptions import MlflowException

from pipelines.upkeep.archive_format import Registered, RunRecord, Version
from study.search.records import MARK
from study.tracking.registry import move_alias
from study.tracking.retry import at_once
from study.tracking.store import Store, every, quoted

ALIASES = f"{MARK}_aliases"
"""The tag of a model version that is being imported: the aliases that it had."""


def registered_of(store: Store, runs: Mapping[str, RunRecord]) -> tuple[Registered, ...]:
    """The registered models with versions from these runs, and those versions."""
    sources: dict[tuple[str | None, str | None], str] = {
        (run.id, f"models:/{model.id}"): model.id for run in runs.values() for model in run.models
    }
    found = []
    for model in every(store.client.search_registered_models):
        versions = [
            Version(version=int(one.version), run=str(one.run_id), model=sources[one.run_id, one.source], tags=one.tags)
            for one in every(store.client.search_model_versions, f"name={quoted(model.name)}")
            if (one.run_id, one.source) in sources
        ]
        numbers = {version.version for version in versions}
        aliases = {alias: int(number) for alias, number in model.aliases.items() if int(number) in numbers}
        if versions:
            ordered = tuple(sorted(versions, key=lambda version: version.version))
            found.append(Registered(name=model.name, versions=ordered, aliases=aliases))
    return tuple(found)


def bring_versions(store: Store, model: Registered, runs: Mapping[str, str], models: Mapping[str, str]) -> None:
    """Registers those versions of `model` whose logged models were brought; its aliases wait for `give_aliases`.

    Args:
        store: where.
        model: as it is in the archive.
        runs: the ids of runs here by those in the archive.
        models: the ids of the models that were brought, by those in the archive.
    """
    versions = [version for version in model.versions if version.model in models]
    if versions:
        # MLflow looks a version's source up in the store that was opened last.
        mlflow.set_tracking_uri(store.uri)
        with contextlib.suppress(MlflowException):  # where it is registered already
            store.client.create_registered_model(model.name)
    for version in versions:
        _bring_version(store, model, version, runs, models)


def _bring_version(
    store: Store, model: Registered, version: Version, runs: Mapping[str, str], models: Mapping[str, str]
) -> None:
    had = [alias for alias, number in model.aliases.items() if number == version.version]
    model_id = models[version.model]
    with at_once():
        store.client.create_model_version(
            model.name,
            f"models:/{model_id}",
            run_id=runs[version.run],
            model_id=model_id,
            tags={**version.tags, ALIASES: json.dumps(had)},
        )


def give_aliases(store: Store, run_id: str) -> None:
    """Gives the versions of a run the aliases that they had: here only to a better one, where an alias is taken."""
    client = store.client
    for version in client.search_model_versions(f"run_id='{run_id}'"):
        if ALIASES not in version.tags:
            continue
        for alias in json.loads(version.tags[ALIASES]):
            move_alias(client, version, alias)
        client.delete_model_version_tag(version.name, version.version, ALIASES)
