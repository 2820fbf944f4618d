"""The tracking store in MLflow: starts, records, finds and ends runs; `study.tracking.artifacts` holds their files.

Runs are addressed by explicit ids: MLflow's "active run" is one per thread, and an exception outside its `with`
leaves a failed run marked as finished.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import mlflow
import mlflow.exceptions
import pandas as pd
from alembic.util import CommandError
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag, ViewType
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT
from sqlalchemy.exc import SQLAlchemyError

from study.errors import StoreFault, StudyError, first_line
from study.home import SQLITE, Home
from study.system.databases import locked_database
from study.system.files import locked
from study.system.processes import this_process
from study.system.redaction import masked
from study.system.retry import Retry, RetryingClient
from study.tracking.artifacts import Artifacts
from study.tracking.client import require_answering
from study.tracking.experiments import Experiments
from study.tracking.permissions import Resource, experiment, recorded_user, registered_model, require_permission
from study.tracking.queries import every, is_quotable, quoted
from study.tracking.runs import BIRTH, PARENT, WORKER, Point, Run, as_param, as_run, points

DIGEST_LENGTH = 16
"""Characters of a data set's digest in MLflow's dataset inputs, which take up to 36."""
MAX_BATCH = 1000
"""Maximum number of metrics in one write, set by MLflow."""


class Store(Artifacts):
    """The tracking store: a local SQLite file with a folder of artifacts, or an MLflow server."""

    def __init__(self, home: Home, uri: str | None = None, say: Callable[[str], None] = print):
        """Opens the store at `uri` (default: inside `home`), creating it where it is new.

        `say` is called with a message while the store is unavailable.

        Raises:
            StudyError: where it is no database, or no server answers.
        """
        self.home = home
        self.uri = uri or home.tracking_uri
        self.say = say
        self._ids: dict[str, str] = {}
        self._retry = Retry(masked(self.uri).removeprefix(SQLITE), self._say)
        # Opening a new database migrates it, and two processes doing that at once crash.
        with ExitStack() as locks:
            locks.enter_context(locked(home))
            require_answering(self.uri)
            try:
                locks.enter_context(locked_database(self.uri))
                mlflow.set_tracking_uri(self.uri)
                client = self.wait(lambda: MlflowClient(self.uri))
                super().__init__(cast(MlflowClient, RetryingClient(client, self._retry)), self.artifacts_root)
                self.experiments = Experiments(self.client, self.uri, self.artifacts_root)
                self.client.search_experiments(max_results=1)
            except StoreFault as error:
                raise StudyError(str(error)) from None
            except (mlflow.exceptions.MlflowException, SQLAlchemyError, CommandError, OSError) as error:
                raise StudyError(f"The store {masked(self.uri)} cannot be opened: {first_line(error)}") from None

    def _say(self, text: str) -> None:
        self.say(text)

    def wait(self, action: Callable[[], Any]) -> Any:
        """Returns the result of `action`, which uses this store and is retried while the store is unavailable.

        Raises:
            StoreFault: where the store is away for too long, or fails for another known reason.
        """
        return self._retry.wait(action)

    @property
    def is_away(self) -> bool:
        """Whether the latest call is still waiting for the store, or gave it up."""
        return self._retry.is_away

    def give_up(self) -> None:
        """Ends all waiting for the store, in every thread, until it answers again."""
        self._retry.give_up()

    def experiment(self, name: str) -> str:
        """Id of the experiment `name`, created where it is new."""
        if name not in self._ids:
            self._ids[name] = self.writable(name) or self.experiments.make(name)
        return self._ids[name]

    def writable(self, name: str, model: str = "", permission: str = "EDIT") -> str | None:
        """Id of the experiment `name`; None where there is none.

        Args:
            name: of the experiment.
            model: the name of a registered model, which need not exist, of which a version is to be made as well.
            permission: what is needed on a server with a login, one of `permissions.ACTIONS`.

        Raises:
            StudyError: where it was renamed or deleted, its files are where the home was before it was moved, or the
                user of the server may not record in it or in the model.
        """
        key = self.experiments.find(name)
        if key and self.uri.startswith(SQLITE):
            self.experiments.require_not_moved(name, key)
        if self.uri.startswith("http"):
            needed = [experiment(name, key)] if key else []
            if model and self.client.search_registered_models(f"name = {quoted(model)}"):
                needed.append(registered_model(model))
            self.require_permission(*needed, permission=permission)
        return key

    def require_permission(self, *resources: Resource, permission: str) -> None:
        """Checks that the user may work on experiments and registered models; only a server with a login refuses.

        Raises:
            StudyError: where the user may not.
        """
        self.wait(lambda: require_permission(self.uri, *resources, permission=permission))

    @property
    def is_shared(self) -> bool:
        """Whether other machines may record in it: it is no file."""
        return not self.uri.startswith(SQLITE)

    @property
    def artifacts_root(self) -> str | None:
        """Root URI of the artifacts of a store without a server; None for a server, which decides itself.

        Absolute, since MLflow resolves a relative one against the working directory.
        """
        if self.uri.startswith("http"):
            return None
        folder = (
            Path(self.uri.removeprefix(SQLITE)).resolve().parent if self.uri.startswith(SQLITE) else self.home.store
        )
        return (folder / "artifacts").as_uri()

    def start(
        self,
        experiment: str,
        name: str,
        *,
        tags: Mapping[str, str],
        params: Mapping[str, Any],
        parent: str | None = None,
    ) -> str:
        """Starts a run in `experiment` (the key of its data set) and returns its id."""
        own = {
            "mlflow.user": recorded_user(self.uri),
            "mlflow.source.name": Path(sys.argv[0]).name,
            "mlflow.source.type": "LOCAL",
            "dataset": experiment,
            WORKER: this_process(),
        }
        if parent:
            own[PARENT] = parent
        run_id = self._create(self.experiment(experiment), name, {**own, **tags})
        self.describe(run_id, params)
        return run_id

    def _create(self, experiment_id: str, name: str, tags: dict[str, str]) -> str:
        birth = uuid4().hex
        attempts = 0

        def create() -> str:
            # A request that failed may have reached the server, and a repeated one would create a second run.
            nonlocal attempts
            attempts += 1
            if attempts > 1:
                for run in self.client.search_runs([experiment_id], f"tags.`{BIRTH}` = '{birth}'"):
                    return str(run.info.run_id)
            return str(self.client.create_run(experiment_id, run_name=name, tags={**tags, BIRTH: birth}).info.run_id)

        return str(self.wait(create))

    def describe(self, run_id: str, params: Mapping[str, Any]) -> None:
        """Records the params of a run, which may never change; `start` does so too, unless it is killed before."""
        self.client.log_batch(run_id, params=[Param(key, as_param(value)) for key, value in params.items()])

    def log_dataset(
        self, run_id: str, *, name: str, digest: str, source: str, profile: Mapping[str, float], used: Sequence[str]
    ) -> None:
        """Records the data set of a run as MLflow's dataset input.

        Args:
            run_id: the run.
            name: the data set's key.
            digest: of all its images and labels.
            source: where it is from.
            profile: its numbers, the same for all runs: MLflow keeps the first.
            used: names of the splits that the run uses.
        """
        dataset = Dataset(
            name=name,
            digest=digest[:DIGEST_LENGTH],
            source_type="study",
            source=json.dumps({"dataset": source}),
            profile=json.dumps(profile),
        )
        context = [InputTag(MLFLOW_DATASET_CONTEXT, " + ".join(used))]
        self.client.log_inputs(run_id, [DatasetInput(dataset, context)])

    def tag(self, run_id: str, **tags: object) -> None:
        """Sets tags of a run."""
        self.client.log_batch(run_id, tags=_as_tags(tags))

    def log(self, run_id: str, metrics: Mapping[str, float], step: int = 0) -> None:
        """Records metrics of one step, in one write."""
        self.log_points(run_id, points(metrics, step))

    def log_points(self, run_id: str, recorded: Sequence[Point], **tags: object) -> None:
        """Records values of metrics, of any number of steps, and tags, in as few writes as MLflow allows.

        A request that failed may have reached the server. Repeated, it changes nothing: MLflow leaves out values that
        it has with the same step and time.
        """
        for start in range(0, max(len(recorded), bool(tags)), MAX_BATCH):
            metrics = [Metric(*point) for point in recorded[start : start + MAX_BATCH]]
            self.client.log_batch(run_id, metrics=metrics, tags=_as_tags({} if start else tags))

    def finish(self, run_id: str, status: str, reason: str, last: Sequence[Point] = (), **tags: object) -> None:
        """Ends a run as FINISHED, FAILED or KILLED for `reason`, with its `last` metrics; tags of None are ignored."""
        self.log_points(run_id, last, status_reason=reason, **tags)
        self.close(run_id, status)

    def close(self, run_id: str, status: str) -> None:
        """Ends a run as FINISHED, FAILED or KILLED that has its last metrics and tags, such as its `status_reason`."""
        self.client.set_terminated(run_id, status, time.time_ns() // 1_000_000)

    def resume(self, run_id: str) -> None:
        """Marks an ended run as running again."""
        self.client.update_run(run_id, status="RUNNING")

    def claim(self, run_id: str) -> None:
        """Marks a run as running again, in this process."""
        self.resume(run_id)
        # It has no reason yet to have ended.
        self.tag(run_id, status_reason="", **{WORKER: this_process()})

    def get(self, run_id: str) -> Run:
        """The run with exactly this id."""
        return as_run(self.client.get_run(run_id))

    def runs(
        self, experiments: Sequence[str] | None = None, *, status: str = "", parent: str = "", **tags: str
    ) -> list[Run]:
        """The runs with all these tags, in the named experiments (default: all), the latest first.

        Args:
            experiments: their names.
            status: only runs that are RUNNING, FINISHED, FAILED or KILLED.
            parent: only children of the run with this id.
            tags: the values that tags of the run must have.

        Raises:
            StudyError: where a named experiment was renamed or deleted.
        """
        if parent:
            tags[PARENT] = parent
        if experiments is None:
            active = every(self.client.search_experiments, view_type=ViewType.ACTIVE_ONLY)
            ids = [experiment.experiment_id for experiment in active]
        else:
            ids = [key for name in experiments if (key := self.experiments.find(name))]
        wanted = {f"tags.`{key}`": value for key, value in tags.items()}
        if status:
            wanted["attributes.status"] = status
        query = " and ".join(f"{key} = {quoted(value)}" for key, value in wanted.items() if is_quotable(value))
        latest = ["attributes.start_time DESC"]
        matches = every(self.client.search_runs, ids, query, order_by=latest) if ids else []
        return [run for run in map(as_run, matches) if all(run.tags.get(key) == value for key, value in tags.items())]

    def history(self, run_id: str) -> pd.DataFrame:
        """All metrics of a run, one row per epoch: `epoch` and a column per metric; NaN where it was not recorded."""
        columns = {}
        for key in self.client.get_run(run_id).data.metrics:
            points = self.client.get_metric_history(run_id, key)
            columns[key] = pd.Series({point.step: point.value for point in points}, dtype=float)
        table = pd.DataFrame(columns).sort_index()
        return table.rename_axis("epoch").reset_index()


def _as_tags(tags: Mapping[str, object]) -> list[RunTag]:
    return [RunTag(key, as_param(value)) for key, value in tags.items() if value is not None]
