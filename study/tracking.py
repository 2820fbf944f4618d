"""Where runs are recorded: their settings, metrics, weights and files; the only importer of mlflow.

Runs are addressed by explicit ids: MLflow's "active run" is one per thread, and an exception outside its `with`
leaves a failed run marked as finished.
"""

import contextlib
import getpass
import json
import math
import os
import sys
import tempfile
import time
import urllib.request
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")

import mlflow
import mlflow.exceptions
import numpy as np
import pandas as pd
import torch
from mlflow.entities import LifecycleStage, Metric, Param, RunTag, ViewType
from mlflow.tracking import MlflowClient
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from sqlalchemy.exc import SQLAlchemyError
from torch import Tensor, nn

from study.config import Home
from study.errors import StudyError, first_line
from study.files import SQLITE, locked, require_sqlite

MAX_BATCH = 1000
"""How many metrics MLflow takes in one write."""


class Point(NamedTuple):
    """One value of a metric."""

    name: str
    value: float
    time: int
    """Milliseconds since 1970."""
    step: int


def points(metrics: Mapping[str, float], step: int) -> list[Point]:
    """The metrics of one step, of now."""
    now = time.time_ns() // 1_000_000
    return [Point(name, value, now, step) for name, value in metrics.items()]


@dataclass(frozen=True)
class Run:
    """A run as it is recorded: `metrics` holds each metric's latest value."""

    id: str
    name: str
    status: str
    experiment_id: str
    started: int
    """Milliseconds since 1970."""
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]


def default_uri(home: Home) -> str:
    """The tracking database inside `home`."""
    return SQLITE + str(home.store / "mlflow.db")


class Store:
    """The tracking store: a local SQLite file with a folder of artifacts, or an MLflow server."""

    def __init__(self, home: Home, uri: str | None = None):
        """Opens the store at `uri` (default: inside `home`), making it where it is new.

        Raises:
            StudyError: where it is no database, or no server answers.
        """
        self.home = home
        self.uri = uri or default_uri(home)
        self._experiments: dict[str, str] = {}
        # Opening a new database migrates it, and two processes doing that at once crash.
        with locked(home):
            require_sqlite(self.uri)
            _require_server(self.uri)
            try:
                mlflow.set_tracking_uri(self.uri)
                self.client = MlflowClient(self.uri)
                self.client.search_experiments(max_results=1)
            except (mlflow.exceptions.MlflowException, SQLAlchemyError, OSError) as error:
                raise StudyError(f"The store {self.uri} cannot be opened: {first_line(error)}") from None

    def experiment(self, name: str) -> str:
        """The id of the experiment called `name`, made where it is new."""
        if name not in self._experiments:
            self._experiments[name] = self._find_experiment(name) or self._make_experiment(name)
        return self._experiments[name]

    def _find_experiment(self, name: str) -> str | None:
        found = self.client.get_experiment_by_name(name)
        if found and found.lifecycle_stage != LifecycleStage.ACTIVE:
            raise StudyError(f"The experiment {name} was deleted in MLflow: restore it there, or use another store.")
        return str(found.experiment_id) if found else None

    def _make_experiment(self, name: str) -> str:
        location = f"{self.artifacts_root}/{quote(name)}" if self.artifacts_root else None
        try:
            return str(self.client.create_experiment(name, artifact_location=location))
        except mlflow.exceptions.MlflowException:
            # Another process was first.
            found = self._find_experiment(name)
            assert found
            return found

    @property
    def artifacts_root(self) -> str | None:
        """Where a store without a server keeps artifacts; None for a server, which decides itself.

        Absolute: MLflow would anchor a relative one to where the command was typed.
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
        """Starts a run in `experiment` and returns its id."""
        own = {
            "mlflow.user": _user(),
            "mlflow.source.name": Path(sys.argv[0]).name,
            "mlflow.source.type": "LOCAL",
        }
        if parent:
            own["mlflow.parentRunId"] = parent
        run = self.client.create_run(self.experiment(experiment), run_name=name, tags={**own, **tags})
        recorded = [Param(key, _text(value)) for key, value in params.items()]
        self.client.log_batch(run.info.run_id, params=recorded)
        return str(run.info.run_id)

    def tag(self, run_id: str, **tags: object) -> None:
        """Sets tags of a run."""
        self.client.log_batch(run_id, tags=[RunTag(key, str(value)) for key, value in tags.items()])

    def log(self, run_id: str, metrics: Mapping[str, float], step: int = 0) -> None:
        """Records metrics of one step, in one write."""
        self.log_points(run_id, points(metrics, step))

    def log_points(self, run_id: str, recorded: Sequence[Point]) -> None:
        """Records values of metrics, of any number of steps, in as few writes as MLflow allows."""
        for start in range(0, len(recorded), MAX_BATCH):
            batch = recorded[start : start + MAX_BATCH]
            self.client.log_batch(run_id, metrics=[Metric(*point) for point in batch])

    def finish(self, run_id: str, status: str, reason: str, last: Sequence[Point] = (), **tags: object) -> None:
        """Ends a run as FINISHED, FAILED or KILLED, for `reason`, with its `last` metrics and tags, in one write."""
        recorded = [RunTag(key, str(value)) for key, value in {"status_reason": reason, **tags}.items()]
        self.client.log_batch(run_id, metrics=[Metric(*point) for point in last], tags=recorded)
        self.client.set_terminated(run_id, status)

    def resume(self, run_id: str) -> None:
        """Marks an ended run as running again."""
        self.client.update_run(run_id, status="RUNNING")

    def get(self, run_id: str) -> Run:
        """The run with exactly this id."""
        return _run(self.client.get_run(run_id))

    def runs(self, experiments: Sequence[str] | None = None, *, status: str = "", **tags: str) -> list[Run]:
        """The runs with all these tags, the latest first; in the named experiments, by default in all.

        Args:
            experiments: their names.
            status: only runs that are RUNNING, FINISHED, FAILED or KILLED.
            tags: the values that tags of the run must have.
        """
        if experiments is None:
            ids = [found.experiment_id for found in self.client.search_experiments(view_type=ViewType.ACTIVE_ONLY)]
        else:
            known = [self.client.get_experiment_by_name(name) for name in experiments]
            ids = [found.experiment_id for found in known if found]
        wanted = {f"tags.`{key}`": value for key, value in tags.items()}
        if status:
            wanted["attributes.status"] = status
        query = " and ".join(f"{key} = {_quoted(value)}" for key, value in wanted.items())
        found, token = [], None
        while ids:
            page = self.client.search_runs(
                ids, query, order_by=["attributes.start_time DESC"], max_results=1000, page_token=token
            )
            found += [_run(run) for run in page]
            token = page.token
            if not token:
                break
        return found

    def history(self, run_id: str) -> pd.DataFrame:
        """All metrics of a run, a row per epoch: `epoch` and a column per metric; NaN where it was not recorded."""
        columns = {}
        for key in self.client.get_run(run_id).data.metrics:
            points = self.client.get_metric_history(run_id, key)
            columns[key] = pd.Series({point.step: point.value for point in points}, dtype=float)
        table = pd.DataFrame(columns).sort_index()
        return table.rename_axis("epoch").reset_index()

    def log_tensors(self, run_id: str, path: str, tensors: Mapping[str, Tensor], **metadata: str) -> None:
        """Keeps tensors as the artifact `path`, a safetensors file."""
        with _folder() as folder:
            file = folder / Path(path).name
            save_file(dict(tensors), file, metadata=metadata or None)
            self.client.log_artifact(run_id, str(file), str(Path(path).parent))

    def load_tensors(self, run_id: str, path: str) -> tuple[dict[str, Tensor], dict[str, str]]:
        """The tensors of the artifact `path`, and what was said of them.

        Raises:
            StudyError: where the artifact is missing or no whole safetensors file.
        """
        with _folder() as folder, self._artifact(run_id, path, folder) as file:
            try:
                with safe_open(file, "pt") as opened:
                    names = opened.keys()
                    return {name: opened.get_tensor(name) for name in names}, dict(opened.metadata() or {})
            except (SafetensorError, OSError) as error:
                raise StudyError(f"The artifact {path} of run {run_id} cannot be read: {first_line(error)}") from None

    def log_json(self, run_id: str, path: str, content: Mapping[str, Any]) -> None:
        """Keeps `content` as the artifact `path`."""
        self.client.log_dict(run_id, dict(content), path)

    def load_json(self, run_id: str, path: str) -> dict[str, Any]:
        """What `log_json` kept at `path`.

        Raises:
            StudyError: where there is no such artifact.
        """
        with _folder() as folder, self._artifact(run_id, path, folder) as file:
            return dict(json.loads(file.read_text(encoding="utf-8")))

    def load_table(self, run_id: str, path: str) -> pd.DataFrame:
        """The table in the CSV file that is the artifact `path`.

        Raises:
            StudyError: where there is no such artifact.
        """
        with _folder() as folder, self._artifact(run_id, path, folder) as file:
            return pd.read_csv(file)

    def log_folder(self, run_id: str, folder: Path, path: str | None = None) -> None:
        """Keeps all files below `folder` as artifacts below `path`."""
        self.client.log_artifacts(run_id, str(folder), path)

    def log_model(self, run_id: str, model: nn.Module, example: np.ndarray, *, register_as: str, score: float) -> None:
        """Keeps `model` as an MLflow model and registers it; the alias `best` moves to it if its `score` is higher.

        Args:
            run_id: the run it belongs to.
            model: what is exported (torch.export), on the CPU.
            example: an input of at least two items, which fixes the signature; the batch size stays free.
            register_as: the registered model's name.
            score: what decides about the alias, e.g. the validation accuracy that chose the settings.
        """
        import mlflow.pytorch
        from mlflow.models import infer_signature

        model.eval()
        with torch.no_grad():
            output = model(torch.from_numpy(example)).numpy()
        # Entering an existing run is the only way to say which run a model belongs to.
        with warnings.catch_warnings(), mlflow.start_run(run_id=run_id, log_system_metrics=False):
            # torch.export's about weights that are not on a CPU; these are.
            warnings.filterwarnings("ignore", "No complete tensor found", UserWarning)
            logged = mlflow.pytorch.log_model(
                model,
                name="model",
                signature=infer_signature(example, output),
                input_example=example,
                pip_requirements=[f"torch=={torch.__version__.split('+')[0]}", f"numpy=={np.__version__}"],
            )
        with contextlib.suppress(mlflow.exceptions.MlflowException):  # where it is registered already
            self.client.create_registered_model(register_as)
        version = self.client.create_model_version(
            register_as, logged.model_uri, run_id=run_id, model_id=logged.model_id
        ).version
        self._move_alias(register_as, str(version), score)

    def _move_alias(self, name: str, version: str, score: float) -> None:
        self.client.set_model_version_tag(name, version, "val_accuracy", str(score))
        best = self.client.get_registered_model(name).aliases.get("best")
        before = self.client.get_model_version(name, best).tags.get("val_accuracy") if best else None
        if math.isfinite(score) and (before is None or score > float(before)):
            self.client.set_registered_model_alias(name, "best", version)

    def artifacts(self, run_id: str, path: str) -> list[str]:
        """The paths of the artifacts directly below `path`, in order of their names; empty where there are none."""
        return sorted(str(info.path) for info in self.client.list_artifacts(run_id, path) if not info.is_dir)

    @contextlib.contextmanager
    def _artifact(self, run_id: str, path: str, folder: Path) -> Iterator[Path]:
        try:
            yield Path(self.client.download_artifacts(run_id, path, str(folder)))
        except (mlflow.exceptions.MlflowException, FileNotFoundError) as error:
            raise StudyError(f"Run {run_id} has no artifact {path}: {first_line(error)}") from None


def metric(run: Run, name: str) -> float:
    """A run's metric; NaN where it has none or none that is finite (MLflow keeps infinity as 1.8e308)."""
    value = run.metrics.get(name, math.nan)
    return value if abs(value) < sys.float_info.max else math.nan


def _run(run: Any) -> Run:
    return Run(
        id=run.info.run_id,
        name=run.info.run_name or "",
        status=run.info.status,
        experiment_id=run.info.experiment_id,
        started=run.info.start_time,
        tags=dict(run.data.tags),
        params=dict(run.data.params),
        metrics=dict(run.data.metrics),
    )


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="study-") as folder:
        yield Path(folder)


def _require_server(uri: str) -> None:
    if not uri.startswith(("http://", "https://")):
        return
    try:
        with urllib.request.urlopen(uri.rstrip("/") + "/health", timeout=10):
            pass
    except (OSError, HTTPException, ValueError) as error:
        raise StudyError(
            f"No MLflow server answers at {uri} ({first_line(error)}): start it, or unset MLFLOW_TRACKING_URI."
        ) from None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container's user id without a name.
        return str(os.getuid())


def _quoted(value: str) -> str:
    quote_mark = '"' if "'" in value else "'"
    return f"{quote_mark}{value}{quote_mark}"


def _text(value: object) -> str:
    return json.dumps(value) if isinstance(value, dict | list | tuple) else str(value)
