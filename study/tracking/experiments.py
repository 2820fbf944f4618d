"""MLflow's experiments, one per data set; finds those that were renamed or deleted in MLflow's own interface.

A tag of each run names its data set, so that its runs are found whatever the experiment is called now.
"""

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from mlflow.entities import Experiment, LifecycleStage, ViewType
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode
from mlflow.tracking import MlflowClient

from study.errors import StudyError, first_line
from study.system.redaction import masked
from study.tracking.queries import every, is_quotable, quoted
from study.tracking.runs import Run, as_run


class Experiments:
    """The experiments of the store at `uri`, accessed through `client`."""

    def __init__(self, client: MlflowClient, uri: str, root: str | None):
        """`root` is the URI of the folder of all artifacts; None where a server keeps them."""
        self._client, self._uri, self._root = client, uri, root

    def find(self, name: str) -> str | None:
        """The id of the experiment called `name`; None where there is none.

        Raises:
            StudyError: where it was deleted, or the runs on this data set are in one that was renamed.
        """
        experiment = self._client.get_experiment_by_name(name) or self._renamed(name)
        if experiment is None:
            return None
        if experiment.lifecycle_stage != LifecycleStage.ACTIVE:
            raise self._deleted(experiment)
        if experiment.name != name:
            command = f"rename --experiment-id {experiment.experiment_id} --new-name {shlex.quote(name)}"
            remedy = self._remedy(command, "gives it its name back")
            raise StudyError(f"MLflow's experiment {name} was renamed to {experiment.name}: {remedy}")
        return str(experiment.experiment_id)

    def ending(self, text: str) -> list[str]:
        """The names of the experiments that end with `text`."""
        experiments = every(self._client.search_experiments, view_type=ViewType.ACTIVE_ONLY)
        return [experiment.name for experiment in experiments if experiment.name.endswith(text)]

    def _renamed(self, name: str) -> Experiment | None:
        """The experiment that holds runs on the data set `name`, whatever it is called."""
        query = f"tags.dataset = {quoted(name)}"
        for view, runs_view in ((ViewType.ACTIVE_ONLY, ViewType.ACTIVE_ONLY), (ViewType.DELETED_ONLY, ViewType.ALL)):
            experiments = every(self._client.search_experiments, view_type=view)
            ids = [experiment.experiment_id for experiment in experiments]
            is_sought = bool(ids) and is_quotable(name)
            if runs := self._client.search_runs(ids, query, runs_view, 1) if is_sought else []:
                return self._client.get_experiment(runs[0].info.experiment_id)
        return None

    def make(self, name: str) -> str:
        """Makes the experiment `name`, and returns its id."""
        if "/" in name or not name.strip("."):
            raise StudyError(f"The experiment name {name!r} cannot name a folder of artifacts: leave out / and dots.")
        location = f"{self._root}/{quote(name)}" if self._root else None
        try:
            return str(self._client.create_experiment(name, artifact_location=location))
        except MlflowException as error:
            if error.error_code == ErrorCode.Name(RESOURCE_ALREADY_EXISTS) and (existing := self.find(name)):
                # Another process was first.
                return existing
            raise StudyError(
                f"The experiment {name} cannot be made in {masked(self._uri)}: {first_line(error)}"
            ) from None

    def tags(self, key: str) -> dict[str, str]:
        """The tags of the experiment with the id `key`."""
        return dict(self._client.get_experiment(key).tags)

    def tag(self, key: str, tags: Mapping[str, str]) -> None:
        """Sets tags of the experiment with the id `key`, where they differ."""
        recorded = self.tags(key)
        for name, value in tags.items():
            if recorded.get(name) != value:
                self._client.set_experiment_tag(key, name, value)

    def require_not_moved(self, name: str, key: str) -> None:
        """Refuses to write where a home was before it was moved, or to the home of which it is a copy.

        Args:
            name: of the experiment.
            key: its id.

        Raises:
            StudyError: where its files lie elsewhere than MLflow looks for them.
        """
        location, ours = self._client.get_experiment(key).artifact_location, f"{self._root}/{quote(name)}"
        if not location.startswith("file:") or not ours.startswith("file:"):
            return
        there, here = (Path(unquote(urlsplit(place).path)) for place in (location, ours))
        if here.is_dir() and here.resolve() != there.resolve():
            raise StudyError(
                f"MLflow looks for the files of {name} in {there}, and they are in {here}: the folder was moved or "
                f"copied, and `study doctor --fix` corrects the location."
            )

    def deleted(self) -> dict[str, list[Run]]:
        """The runs of this program in deleted experiments, by the experiment's id."""
        experiments = every(self._client.search_experiments, view_type=ViewType.DELETED_ONLY)
        runs = {
            str(key): every(self._client.search_runs, [key], run_view_type=ViewType.ALL)
            for key in (experiment.experiment_id for experiment in experiments)
        }
        stages = {key: [run for run in map(as_run, value) if run.stage] for key, value in runs.items()}
        return {key: value for key, value in stages.items() if value}

    def require_not_deleted(self, is_wanted: Callable[[Run], bool]) -> None:
        """Checks that no wanted run is in a deleted experiment.

        Raises:
            StudyError: where one is.
        """
        for key, runs in self.deleted().items():
            if any(map(is_wanted, runs)):
                raise self._deleted(self._client.get_experiment(key))

    def _deleted(self, experiment: Experiment) -> StudyError:
        remedy = self._remedy(f"restore -x {experiment.experiment_id}", "restores it with all its runs")
        return StudyError(f"MLflow's experiment {experiment.name} was deleted: {remedy}")

    def _remedy(self, command: str, effect: str) -> str:
        uri = shlex.quote(masked(self._uri))
        return f"`MLFLOW_TRACKING_URI={uri} mlflow experiments {command}` {effect}, as does `study doctor --fix`."
