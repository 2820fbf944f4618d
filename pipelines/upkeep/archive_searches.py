"""Searches on their way out of a storage and into another one; like `study.search` it speaks Optuna.

A search that is being imported has the user attribute `importing`, and is not opened by anything until it is whole.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast

import optuna
from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from pipelines.upkeep.archive_format import SearchRecord, TrialRecord, exported, malformed
from study.errors import StudyError, first_line
from study.search.records import MARK, config_of
from study.search.search import running
from study.search.space import draw_of, first_attempt, training

RUN = "mlflow_run"
"""The user attribute of a trial that names the run which mirrors it."""
NEW, HERE, OTHER = "new", "here", "other"
"""What a search of an archive is to a storage: not there, there with at least its trials, there with others."""


def names(storage: RDBStorage) -> set[str]:
    """The names of the searches in it."""
    return set(optuna.get_all_study_names(storage))


def record_of(storage: RDBStorage, name: str) -> SearchRecord:
    """A search as it is written to an archive.

    Raises:
        StudyError: where trials of it are under way, or it is half imported.
    """
    search = optuna.load_study(study_name=name, storage=storage)
    if under_way := running(search):
        raise StudyError(
            f"Trial {', '.join(map(str, sorted(under_way)))} of search {name} is under way: wait for it, or name other "
            "searches with --search; what a killed process left, `study doctor --fix` or the same `study tune` closes."
        )
    return _record(storage, search)


def _record(storage: RDBStorage, search: optuna.Study) -> SearchRecord:
    with exported(f"Search {search.study_name}"):
        return SearchRecord(
            name=search.study_name,
            user_attrs={key: value for key, value in search.user_attrs.items() if key != MARK},
            system_attrs=dict(storage.get_study_system_attrs(search._study_id)),
            trials=tuple(_trial(trial) for trial in search.get_trials(deepcopy=False)),
        )


def _trial(trial: FrozenTrial) -> TrialRecord:
    return TrialRecord(
        number=trial.number,
        state=cast(Any, trial.state.name),
        value=trial.value,
        params=dict(trial.params),
        distributions={name: json.loads(distribution_to_json(one)) for name, one in trial.distributions.items()},
        intermediate_values={str(step): value for step, value in trial.intermediate_values.items()},
        user_attrs=dict(trial.user_attrs),
        system_attrs=dict(trial.system_attrs),
        started=trial.datetime_start,
        ended=trial.datetime_complete,
    )


def require_whole(record: SearchRecord) -> None:
    """Checks that there can be such a search: its settings, its trials, and what each of them trained.

    Raises:
        StudyError: where there cannot.
    """
    try:
        config = config_of(record.name, cast(Any, record.user_attrs["settings"]))
    except (StudyError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise malformed(f"the settings of the search {record.name!r} cannot be: {first_line(error)}") from None
    for trial in record.trials:
        made = frozen(trial, record.name)
        try:
            if {"learning_rate", "weight_decay"} <= set(made.params):
                training(config, draw_of(made), made.params)
        except (StudyError, ValueError, TypeError) as error:
            raise malformed(
                f"trial {trial.number} of the search {record.name!r} cannot be: {first_line(error)}"
            ) from None


def frozen(trial: TrialRecord, search: str) -> FrozenTrial:
    """The trial that a record describes.

    Raises:
        StudyError: where there can be no such trial.
    """
    try:
        made = FrozenTrial(
            number=trial.number,
            state=TrialState[trial.state],
            value=trial.value,
            datetime_start=_local(trial.started),
            datetime_complete=_local(trial.ended),
            params=dict(trial.params),
            distributions={name: json_to_distribution(json.dumps(one)) for name, one in trial.distributions.items()},
            user_attrs=dict(trial.user_attrs),
            system_attrs=dict(trial.system_attrs),
            intermediate_values={int(step): value for step, value in trial.intermediate_values.items()},
            trial_id=trial.number,
        )
        made._validate()
        _require_what_is_read(made)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise malformed(f"trial {trial.number} of the search {search!r} cannot be: {first_line(error)}") from None
    return made


def _local(moment: datetime | None) -> datetime | None:
    if moment and moment.tzinfo:
        raise ValueError(f"its time {moment.isoformat()} is not a local one")
    return moment


def _require_what_is_read(trial: FrozenTrial) -> None:
    """Checks what `study.search.search` relies on when it reads a trial."""
    if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) and not {"learning_rate", "weight_decay"} <= set(
        trial.params
    ):
        raise ValueError("it has no learning_rate and weight_decay")
    for name, kind in (("status_reason", str), ("worker", str), (RUN, str)):
        if not isinstance(trial.user_attrs.get(name, kind()), kind):
            raise ValueError(f"its {name} is {trial.user_attrs[name]!r}")
    first_attempt(trial)
    draw_of(trial)
    if not isinstance(trial.system_attrs.get("fixed_params", {}), dict):
        raise ValueError("its fixed_params are no parameters")


def relation(storage: RDBStorage, record: SearchRecord) -> str:
    """What the search is to the storage: `NEW`, `HERE` or `OTHER`."""
    if record.name not in names(storage):
        return NEW
    here = _record(storage, optuna.load_study(study_name=record.name, storage=storage))
    before = record.trials
    alike = all(_is_same(old, now) for old, now in zip(before, here.trials, strict=False))
    equal_settings = here.user_attrs.get("settings") == record.user_attrs.get("settings")
    return HERE if alike and equal_settings and len(before) <= len(here.trials) else OTHER


def _is_same(before: TrialRecord, now: TrialRecord) -> bool:
    """Whether `now` is the trial `before`, or what became of it."""
    if before.state == "WAITING":
        return before.system_attrs.get("fixed_params") == now.system_attrs.get("fixed_params")
    return _content(before) == _content(now)


def _content(trial: TrialRecord) -> dict[str, Any]:
    own = trial.model_dump(mode="json")
    own["user_attrs"].pop(RUN, None)  # which is called otherwise in every store
    return own


def bring(storage: RDBStorage, record: SearchRecord, runs: Mapping[str, str], token: str) -> None:
    """Makes the search, marked with `token`, with all its trials; it does not yet count.

    Args:
        storage: where.
        record: the search.
        runs: the ids of runs here by those in the archive.
        token: the process that imports.
    """
    search = optuna.create_study(study_name=record.name, storage=storage, direction="maximize")
    search.set_user_attr(MARK, token)
    for name, value in record.system_attrs.items():
        storage.set_study_system_attr(search._study_id, name, value)
    for trial in record.trials:
        made = frozen(trial, record.name)
        if RUN in made.user_attrs:
            made.set_user_attr(RUN, runs.get(made.user_attrs[RUN], made.user_attrs[RUN]))
        search.add_trial(made)
    for name, value in record.user_attrs.items():
        search.set_user_attr(name, value)


def unfinished(storage: RDBStorage) -> dict[str, str]:
    """The searches whose import did not end, and the processes that import or imported them."""
    found = optuna.get_all_study_summaries(storage, include_best_trial=False)
    return {one.study_name: one.user_attrs[MARK] for one in found if one.user_attrs.get(MARK)}


def complete(storage: RDBStorage, name: str) -> None:
    """Has an imported search count from now on."""
    optuna.load_study(study_name=name, storage=storage).set_user_attr(MARK, "")


def undo(storage: RDBStorage, name: str) -> None:
    """Deletes a search whose import was cut off."""
    optuna.delete_study(study_name=name, storage=storage)
