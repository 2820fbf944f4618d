"""Optuna's database with light statements beside those of its object mapper; relies on its private interface.

They ask for the states of trials, load several trials, and write several values of a trial in one transaction.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, Executable, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

Model = Any
"""One of Optuna's models of a table."""
Rows = dict[Model, list[dict[str, Any]]]
"""Rows to be written, by Optuna's model of their table."""
UPSERTS: Mapping[str, Callable[[Any], Any]] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}
"""The statement that inserts or replaces rows, by the kind of database."""
KEYS: Mapping[Model, tuple[str, ...]] = {
    models.TrialParamModel: ("trial_id", "param_name"),
    models.TrialValueModel: ("trial_id", "objective"),
    models.TrialIntermediateValueModel: ("trial_id", "step"),
    models.TrialUserAttributeModel: ("trial_id", "key"),
    models.TrialSystemAttributeModel: ("trial_id", "key"),
    models.StudySystemAttributeModel: ("study_id", "key"),
}
"""The unique columns of what is written, by its model."""
AT_ONCE = 500
"""Maximum number of trials that one statement names."""
TRIALS: Any = models.TrialModel.__table__
_parsed: Callable[[str], BaseDistribution] = lru_cache(maxsize=1000)(json_to_distribution)


class Database(RDBStorage):
    """Optuna's database."""

    @property
    def can_replace(self) -> bool:
        """Whether it has a statement that inserts or replaces rows."""
        return self.engine.name in UPSERTS

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """A transaction without Optuna's session, whose objects cost more than the statements.

        Raises:
            StorageInternalError: Optuna's, for any failure of the database.
        """
        try:
            with self.engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise StorageInternalError("A transaction failed.") from error

    def states(self, study_id: int, lowest: int) -> dict[int, TrialState]:
        """The states of a search's trials whose ids are at least `lowest`, by id."""
        chosen = (TRIALS.c.study_id == study_id, TRIALS.c.trial_id >= lowest)
        query = select(TRIALS.c.trial_id, TRIALS.c.state).where(*chosen)
        with self._transaction() as connection:
            return {row.trial_id: row.state for row in connection.execute(query)}

    def load(self, ids: Sequence[int]) -> list[FrozenTrial]:
        """The trials with these ids."""
        with self._transaction() as connection:
            parts = (ids[start : start + AT_ONCE] for start in range(0, len(ids), AT_ONCE))
            return [trial for part in parts for trial in _load(connection, part)]

    def write(self, trial_id: int, rows: Rows, end: tuple[TrialState, datetime] | None = None) -> None:
        """Writes rows of a trial that has not ended, and perhaps its end, in one transaction.

        Raises:
            UpdateFinishedTrialError: where it has ended.
        """
        this = TRIALS.c.trial_id == trial_id
        with self._transaction() as connection:
            if connection.execute(select(TRIALS.c.state).where(this).with_for_update()).scalar_one().is_finished():
                raise UpdateFinishedTrialError(f"Trial {trial_id} has ended.")
            for model, values in rows.items():
                connection.execute(_upsert(model, self.engine.name), values)
            if end:
                state, time = end
                utc = time.astimezone(UTC).replace(tzinfo=None)
                connection.execute(update(TRIALS).where(this).values(state=state, datetime_complete=utc))


@lru_cache
def _upsert(model: Model, database: str) -> Executable:
    table: Any = model.__table__
    statement = UPSERTS[database](table)
    # The first column is the row's own number.
    changed = {column.name: statement.excluded[column.name] for column in list(table.columns)[1:]}
    upsert: Executable = statement.on_conflict_do_update(index_elements=KEYS[model], set_=changed)
    return upsert


def _load(connection: Connection, ids: Sequence[int]) -> Iterator[FrozenTrial]:
    # First: what is recorded before a trial ends is there where it has ended.
    names = ("trial_id", "number", "state", "datetime_start", "datetime_complete")
    query = select(*(TRIALS.c[name] for name in names)).where(TRIALS.c.trial_id.in_(ids)).order_by(TRIALS.c.trial_id)
    heads = connection.execute(query).all()

    def rows(model: Any, *names: str) -> dict[int, list[Any]]:
        columns, found = model.__table__.c, defaultdict(list)
        own = (columns[name] for name in names)
        for key, *values in connection.execute(select(columns.trial_id, *own).where(columns.trial_id.in_(ids))):
            found[key].append(values)
        return found

    params = rows(models.TrialParamModel, "param_id", "param_name", "param_value", "distribution_json")
    values = rows(models.TrialValueModel, "objective", "value", "value_type")
    steps = rows(models.TrialIntermediateValueModel, "step", "intermediate_value", "intermediate_value_type")
    user = rows(models.TrialUserAttributeModel, "key", "value_json")
    system = rows(models.TrialSystemAttributeModel, "key", "value_json")
    of_value = models.TrialValueModel.stored_repr_to_value
    of_step = models.TrialIntermediateValueModel.stored_repr_to_intermediate_value
    for key, number, state, start, end in heads:
        drawn = sorted(params[key])
        yield FrozenTrial(
            number=number,
            state=state,
            value=None,
            values=[of_value(*value) for _, *value in sorted(values[key])] or None,
            datetime_start=_local(start),
            datetime_complete=_local(end),
            params={name: _parsed(text).to_external_repr(value) for _, name, value, text in drawn},
            distributions={name: _parsed(text) for _, name, _, text in drawn},
            user_attrs={name: json.loads(text) for name, text in user[key]},
            system_attrs={name: json.loads(text) for name, text in system[key]},
            intermediate_values={step: of_step(*value) for step, *value in steps[key]},
            trial_id=key,
        )


def _local(time: datetime | None) -> datetime | None:
    return time and time.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)
