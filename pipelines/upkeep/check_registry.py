"""Checks the registered models: missing versions, altered scores, and the alias `best` on the wrong version."""

import math
from collections.abc import Callable, Collection, Iterator
from functools import partial

from mlflow.entities.model_registry import ModelVersion

from pipelines.upkeep.check_files import RunFiles
from pipelines.upkeep.findings import Facts, Finding, label
from study.system import interruption
from study.tracking.queries import every, quoted
from study.tracking.registry import (
    BEST,
    SCORE,
    alias_holder,
    best_version,
    is_usable,
    model_name,
    move_alias,
    ready_model,
    register,
    score_of,
    versions_of,
)
from study.tracking.runs import metric


def check_registry(facts: Facts, all_files: Collection[RunFiles]) -> Iterator[Finding]:
    """Models that are not registered, scores that differ from the trial, and aliases on versions that are not best."""
    damaged = {files.run.id for files in all_files if files.model == {} or files.altered_model}

    def usable(version: ModelVersion) -> bool:
        is_whole = version.run_id in facts.by_id and version.run_id not in damaged
        return is_whole and is_usable(facts.store.client, version)

    yield from _unregistered(facts, [files for files in all_files if files.model and files.run.id not in damaged])
    registered = {model.name for model in every(facts.store.client.search_registered_models)}
    runs = [run for run in (*facts.runs, *facts.deleted) if run.dataset_key and run.model]
    for name in sorted(registered & set(map(model_name, runs))):
        interruption.check()
        # By a wrong score the alias would move to the wrong version.
        yield from list(_scores(name, facts)) or _alias(name, usable, facts)


def _unregistered(facts: Facts, all_files: Collection[RunFiles]) -> Iterator[Finding]:
    client = facts.store.client
    for run in sorted((files.run for files in all_files), key=lambda run: run.started):
        interruption.check()
        trial, exported, name = facts.by_id.get(run.trial_run), ready_model(client, run.id), model_name(run)
        if trial and exported and not versions_of(client, name, exported):
            repair = partial(register, client, exported, name, metric(trial, "best_val_accuracy"))
            yield Finding(f"Its model is not registered as {name}.", label(run), "registers it", repair)


def _scores(name: str, facts: Facts) -> Iterator[Finding]:
    client = facts.store.client
    for version in every(client.search_model_versions, f"name = {quoted(name)}"):
        run = facts.by_id.get(str(version.run_id))
        trial = facts.by_id.get(run.trial_run) if run else None
        score = metric(trial, "best_val_accuracy") if trial else math.nan
        if math.isfinite(score) and score_of(version) != score:
            recorded = version.tags.get(SCORE)
            message = f"Its tag {SCORE} is {recorded}; its trial has {score:.6g}."
            if recorded is None:
                message = f"It has no tag {SCORE}; its trial has {score:.6g}."
            repair = partial(client.set_model_version_tag, name, str(version.version), SCORE, str(score))
            yield Finding(message, f"registered model {name}, version {version.version}", "restores it", repair)


def _alias(name: str, usable: Callable[[ModelVersion], bool], facts: Facts) -> Iterator[Finding]:
    client = facts.store.client
    holder, best = alias_holder(client, name), best_version(client, name, usable)
    if holder == (best and str(best.version)):
        return
    remedy = "removes it: no other version is whole"
    if best:
        remedy = f"gives it to version {best.version} (validation accuracy {score_of(best):.4f})"
    message = f"No version of it has the alias {BEST}."
    if holder:
        version = client.get_model_version(name, holder)
        message = f"The alias {BEST} is on version {holder}, {_reason(version, usable, facts)}."
    yield Finding(message, f"registered model {name}", remedy, partial(move_alias, client, name, usable))


def _reason(version: ModelVersion, usable: Callable[[ModelVersion], bool], facts: Facts) -> str:
    if usable(version):
        return f"which is not the best (validation accuracy {score_of(version):.4f})"
    if version.run_id in facts.by_id:
        return "whose files are missing or altered"
    return (
        "whose run was deleted" if version.run_id in {run.id for run in facts.deleted} else "whose run does not exist"
    )
