"""The tables of the two databases in an archive: export deletes rows from them, and import checks them."""

import contextlib
import re
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking import MlflowClient

from pipelines.session.mlflow_pages import VIEW
from pipelines.upkeep.archive import ARTIFACTS, MANIFEST, ROOT, RUNS, SEARCHES, SUMS, malformed, require_path
from pipelines.upkeep.relocate import LOCATIONS, local
from study.home import SQLITE
from study.system.backups import damage
from study.tracking.queries import every
from study.tracking.registry import move_alias

OF_STUDY = {
    "alembic_version", "datasets", "experiment_tags", "experiments", "input_tags", "inputs", "latest_metrics",
    "logged_models", "logged_model_metrics", "logged_model_params", "logged_model_tags", "metrics",
    "model_version_tags", "model_versions", "params", "registered_model_aliases", "registered_model_tags",
    "registered_models", "runs", "tags", "workspaces",
}  # fmt: skip
"""MLflow's tables that a study fills; others, such as secrets and webhooks, are empty in an archive."""
DELETED = "REDACTED-SOURCE-PATH"
"""What MLflow writes in place of the source of a deleted model version."""
NUMBER = re.compile("INT|FLOAT|DOUBLE|REAL|NUMERIC", re.IGNORECASE)
"""Matches the type of a column of numbers, in which SQLite accepts text too."""
OF_MLFLOW = (
    r"CREATE TRIGGER prevent_secrets_aad_mutation\s+BEFORE UPDATE ON secrets\s+FOR EACH ROW\s+"
    r"WHEN OLD\.secret_id != NEW\.secret_id OR OLD\.secret_name != NEW\.secret_name\s+"
    r"BEGIN\s+SELECT RAISE\(ABORT, '[^']*'\);\s+END"
)
"""Matches the one trigger that MLflow creates."""


@contextlib.contextmanager
def opened(file: Path) -> Iterator[sqlite3.Connection]:
    """A connection to a database whose schema may call no harmful function; committed when the block ends."""
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        database.execute("PRAGMA trusted_schema = OFF")
        yield database


def keep_only(file: Path, run_ids: Collection[str]) -> None:
    """Deletes all other runs permanently from the tracking database `file`, with their models and experiments.

    Artifact files stay; `file` must be a copy, whose artifact locations are not those of the originals.
    """
    # The only public permanent deletion is `mlflow gc`, which deletes the files too.
    store, client = SqlAlchemyStore(SQLITE + str(file), ROOT), MlflowClient(SQLITE + str(file))
    with opened(file) as database:
        runs = database.execute("SELECT run_uuid, experiment_id FROM runs").fetchall()
        models = database.execute("SELECT model_id, source_run_id, lifecycle_stage FROM logged_models").fetchall()
        versions = database.execute(
            "SELECT name, version, run_id, source, current_stage FROM model_versions"
        ).fetchall()
        experiments = {row[0] for row in database.execute("SELECT experiment_id FROM experiments")}
    kept_models = {model_id for model_id, run_id, stage in models if run_id in run_ids and stage == "active"}
    kept_names = set()
    for name, version, run_id, source, stage in versions:
        if run_id in run_ids and source.removeprefix("models:/") in kept_models:
            kept_names.add(name)
        elif stage != "Deleted_Internal":
            client.delete_model_version(name, str(version))
    for model in every(client.search_registered_models):
        if model.name in kept_names:
            move_alias(client, model.name)
        else:
            client.delete_registered_model(model.name)
    for model_id, *_ in models:
        if model_id not in kept_models:
            store._hard_delete_logged_model(model_id)
    for run_id, _ in runs:
        if run_id not in run_ids:
            store._hard_delete_run(run_id)
    with opened(file) as database:
        # The views of searches, which name them.
        views = [(f"{VIEW}%-{run_id}",) for run_id, _ in runs if run_id not in run_ids]
        database.executemany("DELETE FROM experiment_tags WHERE key LIKE ?", views)
    kept = {experiment for run_id, experiment in runs if run_id in run_ids}
    # MLflow would create its default experiment again.
    for experiment in experiments - kept - {0}:
        if store.get_experiment(str(experiment)).lifecycle_stage != "deleted":
            store.delete_experiment(str(experiment))
        store._hard_delete_experiment(str(experiment))
    store._dispose_engine()
    _empty_unused_tables(file)


def _empty_unused_tables(file: Path) -> None:
    with opened(file) as database:
        for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            if table not in OF_STUDY:
                database.execute(f"DELETE FROM {_quoted(table)}")
        # MLflow leaves the links of deleted runs to their models and data sets.
        run_side = "CASE source_type WHEN 'DATASET' THEN destination_id ELSE source_id END"
        database.execute(f"DELETE FROM inputs WHERE {run_side} NOT IN (SELECT run_uuid FROM runs)")
        database.execute("DELETE FROM input_tags WHERE input_uuid NOT IN (SELECT input_uuid FROM inputs)")
        database.execute("DELETE FROM datasets WHERE dataset_uuid NOT IN (SELECT source_id FROM inputs)")


def compact(source: Path, target: Path) -> None:
    """Copies the database `source` to the new file `target`, without what was deleted from it."""
    with contextlib.closing(sqlite3.connect(source)) as database:
        database.execute("VACUUM INTO ?", (str(target),))


def require_harmless(folder: Path, names: Collection[str]) -> None:
    """Checks the databases of the archive in `folder`, whose files are `names`, before a library opens them.

    Raises:
        StudyError: where one is damaged, runs code of its own, or names files that are not in the archive.
    """
    for name in (MANIFEST, RUNS, SEARCHES):
        if name not in names:
            raise malformed(f"it has no file {name}")
    try:
        for name in (RUNS, SEARCHES):
            _require_plain(folder / name)
        places = _places(folder / RUNS)
    except sqlite3.Error as error:
        raise malformed(f"its databases cannot be read: {error}") from None
    for name in sorted(set(names) - {MANIFEST, RUNS, SEARCHES, SUMS}):
        parts = name.split("/")
        # artifacts/EXPERIMENT/RUN/artifacts/… or artifacts/EXPERIMENT/models/MODEL/artifacts/…
        if not any(len(parts) > depth and "/".join(parts[:depth]) in places for depth in (4, 5)):
            raise malformed(f"{name} does not belong in it")


def _require_plain(file: Path) -> None:
    if reason := damage(SQLITE + str(file)):
        raise malformed(f"{file.name} is damaged: {reason}")
    with opened(file) as database:
        for kind, name, statement in database.execute("SELECT type, name, sql FROM sqlite_master"):
            text = str(statement or "")
            is_plain = kind in ("table", "index") and not re.match(r"\s*CREATE\s+VIRTUAL", text, re.IGNORECASE)
            if not is_plain and not (kind == "trigger" and re.fullmatch(OF_MLFLOW, text)):
                raise malformed(f"{file.name} has the {kind} {str(name)[:100]!r}, which runs code of its own")
        for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            is_unused = file.name == RUNS and table not in OF_STUDY
            if is_unused and database.execute(f"SELECT 1 FROM {_quoted(table)} LIMIT 1").fetchone():
                raise malformed(f"{file.name} has rows in the table {str(table)[:100]!r}, which no study fills")
            for _, column, kind, *_ in database.execute(f"PRAGMA table_info({_quoted(table)})").fetchall():
                if NUMBER.search(str(kind)) and _has_text(database, table, column):
                    raise malformed(f"{file.name} has a text among the numbers {str(column)[:100]} of {table[:100]}")


def _has_text(database: sqlite3.Connection, table: str, column: str) -> bool:
    is_text = f"typeof({_quoted(column)}) IN ('text', 'blob')"
    return database.execute(f"SELECT 1 FROM {_quoted(table)} WHERE {is_text} LIMIT 1").fetchone() is not None


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _places(file: Path) -> set[str]:
    """The artifact folders of runs and models, relative to the archive."""
    with opened(file) as database:
        values = {
            (table, column): database.execute(f"SELECT {column} FROM {table}").fetchall() for table, column in LOCATIONS
        }
    for (table, _), rows in values.items():
        for (value,) in rows:
            is_model = table == "model_versions" and re.fullmatch(rf"models:/m-[0-9a-f]{{32}}|{DELETED}", str(value))
            if not (value is None or is_model):
                _archive_path(value)
    return {_archive_path(row[0]) for table, column in LOCATIONS[1:3] for row in values[table, column]}


def _archive_path(value: object) -> str:
    """The path in the archive of an artifact location from its database."""
    if not isinstance(value, str) or not value.startswith(ROOT + "/") or re.search(r"[?#;\x00-\x1f\x7f]", value):
        raise malformed(f"{str(value)[:100]!r} is not a location of artifacts inside it")
    return require_path(f"{ARTIFACTS}/{local(value).relative_to(local(ROOT))}")


def counted(folder: Path) -> dict[str, int]:
    """Counts of runs, models, searches and trials in the databases in `folder`."""
    kinds: Sequence[tuple[str, str, str]] = (
        ("runs", RUNS, "runs"),
        ("models", RUNS, "logged_models"),
        ("searches", SEARCHES, "studies"),
        ("trials", SEARCHES, "trials"),
    )
    counts = {}
    for kind, name, table in kinds:
        with opened(folder / name) as database:
            counts[kind] = database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    return counts
