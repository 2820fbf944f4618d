"""Schema of a run's tags and params, which `Run` reads as typed fields, and the points of a run's metrics.

No other module but `study.tracking.tags`, which builds them, spells out the name of a tag or a param.
"""

import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from study.architectures import CustomConfig, model_option
from study.config import IMAGE_SIZE, DataConfig, TrainConfig
from study.errors import StudyError, unknown
from study.params import BOOLEANS
from study.system.processes import is_gone
from study.tracking.run_fields import PARAMS, TAGS, RunField, T

PARENT = "mlflow.parentRunId"
"""MLflow's tag for the parent run."""
WORKER, BIRTH = "mlflow.study.worker", "mlflow.study.birth"
"""The tags of the process that works on a run, and of the request that created it; MLflow's pages hide its own tags."""
HEARTBEAT = "mlflow.study.heartbeat"
"""The tag that a process changes while it works on a run."""
DIGEST = "dataset_digest"
NOT_CONTINUED = ("diverged", "incomplete")
"""Reasons of ended retrainings that are not continued, since they would end the same way again."""
DATA_PARAMS = ("dataset", DIGEST, "validation_fraction", "split_seed", "skip_unreadable", "image_size")
"""The params that describe a retrained run's data set, which its analysis records too."""
STAGE_TAGS = {
    "search": ("search", "model", "dataset"),
    "trial": ("search", "model", "dataset", "optuna_trial", "base_seed"),
    "retrain": ("search", "model", "dataset", "optuna_trial", "trial_run", "seed"),
    "analysis": ("model", "dataset", "retrain_run"),
    "experiment": ("experiment", "dataset"),
    "replicate": ("experiment", "condition", "model", "dataset"),
}
"""The tags that a run of each stage must have."""
NAME_TAGS = ("dataset", "search", "experiment", "model")
"""The tags that name files and folders."""
NUMBER_TAGS = ("optuna_trial", "base_seed", "seed", "retry_of", "stopped_epoch")
"""The tags that are whole numbers."""
REFERENCES = (PARENT, "trial_run", "retrain_run")
"""The tags that are ids of other runs."""
TRAINING_PARAMS = (DIGEST, "git_commit", "device", "precision")
"""The params that the run of a training must have, besides its settings."""
LOG_RATES = ("log10_learning_rate", "log10_weight_decay")
"""The params of a trial that give its rates on the scale on which they are searched; MLflow's charts have none."""
PARAMETERS = "parameters"
"""The param of a trial that is its network's number of parameters."""


class Point(NamedTuple):
    """One value of a metric."""

    name: str
    value: float
    time: int
    """Milliseconds since 1970."""
    step: int


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict(json.loads(text)))


def _list(text: str) -> tuple[Any, ...]:
    return tuple(json.loads(text))


@dataclass(frozen=True)
class Run:
    """A run as it is recorded: `metrics` holds each metric's latest value.

    Its tags and params are read as typed attributes, and as the configs of its training and its data. A text that the
    run lacks (one of another kind or program) is empty; a missing number or config raises a StudyError.
    """

    id: str
    name: str
    status: str
    experiment_id: str
    started: int
    """Milliseconds since 1970."""
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]

    stage = RunField(str, default="")
    """One of `study.config.STAGES`."""
    model = RunField(str, default="")
    dataset_key = RunField(str, "dataset", default="")
    """Key of the data set, which also names the experiment of its runs."""
    worker = RunField(str, WORKER, formerly="worker", default="")
    """The process that works or worked on the run; see `study.system.processes.this_process`."""
    heartbeat = RunField(str, HEARTBEAT, default="")
    """Counter that the process increments; see `study.tracking.heartbeat`."""
    reason = RunField(str, "status_reason", default="")
    """Why it ended."""
    parent = RunField(str, PARENT, default="")
    """Id of the parent run."""
    user = RunField(str, "mlflow.user", default="")
    """Who recorded it: the login at the server, else that of the machine."""
    mlflow_name = RunField(str, "mlflow.runName", default="")
    """Its name in MLflow's own tag."""
    restored = RunField(str, default="")
    """When it was restored from Optuna's record, after the original was lost; empty if it was not."""

    search = RunField(str, default="")
    """The search that it is, belongs to, or whose trial it retrains."""
    trials = RunField[int | None](int, default=None)
    """Number of finished trials in the figures of a search."""
    trial_number = RunField(int, "optuna_trial")
    """Optuna's number of the trial."""
    trial_text = RunField(str, "optuna_trial", default="")
    """The same as recorded text, for runs that may have been altered."""
    base_seed = RunField(int)
    """The seed of a trial's search."""
    stopped_epoch = RunField[int | None](int, default=None)
    """The epoch in which a trial or replicate was pruned or diverged."""
    trial_run = RunField(str, default="")
    """The id of the run of the trial that a retraining or replicate trains again."""

    experiment = RunField(str, default="")
    """One of `pipelines.config.EXPERIMENTS`."""
    conditions = RunField[tuple[Any, ...]](_list, default=())
    """Conditions of an experiment's latest comparison; with `seeds`."""
    seeds = RunField[tuple[Any, ...]](_list, default=())
    condition = RunField(str, default="")
    """Condition of a replicate, one of its experiment's."""
    group = RunField(str, default="")
    """Group of the condition; see `study.experiments`."""

    dataset = RunField(str, where=PARAMS, default="")
    """The data set as the option --dataset names it."""
    image_size = RunField(int, where=PARAMS, default=IMAGE_SIZE)
    """Side of its images, in pixels; those of earlier versions had the default."""
    skip_unreadable = RunField(lambda text: BOOLEANS.get(text.lower(), False), where=PARAMS, default=False)
    """Whether image files that cannot be read were left out."""
    dataset_digest = RunField(str, where=PARAMS, default="")
    precision = RunField(str, where=PARAMS, default="")
    epochs = RunField(int, where=PARAMS, default=0)
    """Number of epochs to train; 0 where it was killed before they were recorded."""
    seed = RunField(int, where=(*TAGS, *PARAMS))
    """Seed of the initial weights and of the order of the images; for a search, the base of its trials' seeds."""
    device = RunField(str, where=PARAMS, default="")
    git_commit = RunField(str, where=PARAMS, default="")
    learning_rate = RunField(_number, where=PARAMS, default=math.nan)
    """Of a training; NaN for a search, which has a range."""
    weight_decay = RunField(_number, where=PARAMS, default=math.nan)
    parameters = RunField(_number, PARAMETERS, where=PARAMS, default=math.nan)
    """Number of parameters of a trial's network; NaN where it is not recorded."""
    choices = RunField[tuple[str, ...]](_names, where=PARAMS, default=())
    """Names of the hyperparameters that a search draws beside both rates."""
    objectives = RunField[tuple[Any, ...]](_list, where=PARAMS, default=())
    """Objectives of a search; empty for one of earlier versions, whose only one is the accuracy."""
    sampler = RunField(str, where=PARAMS)
    pruner = RunField(str, where=PARAMS, default="")

    @property
    def model_option(self) -> str:
        """The value of --model that means the network of a search, or of a training."""
        path = self.params.get("model_path") or self._model_settings.get("model_path")
        return model_option(CustomConfig(model_path=path)) if path else self.model

    @property
    def _model_settings(self) -> dict[str, Any]:
        """The settings of the network of a search; empty where none are recorded."""
        try:
            settings = json.loads(self.params.get("model_settings", ""))
        except ValueError:
            return {}
        return settings if isinstance(settings, dict) else {}

    @property
    def full_name(self) -> str:
        """Its name with its search, which those of earlier versions name already."""
        end = f" of {self.search}"
        return self.name if self.stage == "search" or self.name.endswith(end) or not self.search else self.name + end

    @property
    def references(self) -> dict[str, str]:
        """Ids of the runs that it refers to, by tag."""
        return {name: self.tags[name] for name in REFERENCES if name in self.tags}

    @property
    def train_config(self) -> TrainConfig:
        """The settings that it trained with."""
        return self._config(TrainConfig.from_params)

    @property
    def data_config(self) -> DataConfig:
        """Which images it trained on, and how they were split."""
        return self._config(DataConfig.from_params)

    def _config(self, from_params: Callable[[Mapping[str, str]], T]) -> T:
        try:
            return from_params(self.params)
        except StudyError as error:
            reason = str(error)
            raise StudyError(
                f"The settings of run {self.name} ({self.id}) cannot be read: {reason[0].lower()}{reason[1:]}"
            ) from None


def as_run(run: Any) -> Run:
    """An MLflow run as a `Run`."""
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


def dataset_keys(runs: Iterable[Run], dataset: str) -> set[str]:
    """The keys of the data sets of `runs` that `dataset` names: a key, or a value of --dataset.

    Raises:
        StudyError: where no run is on such a data set.
    """
    # Of a folder that was renamed, a key has several sources.
    sources = {(run.dataset_key, run.dataset) for run in runs if run.dataset_key and run.dataset}
    keys = {key for key, _ in sources}
    if dataset in keys:
        return {dataset}
    source = DataConfig(dataset=dataset).recorded_dataset
    if named := {key for key, recorded in sources if recorded == source}:
        return named
    raise unknown("data set", dataset, sorted(keys) or ["none: nothing was searched yet"])


def differing_params(run: Run, other: Run, names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Both values of each of the params `names` that the two runs record with different values."""
    both = {name: (run.params[name], other.params[name]) for name in names if name in run.params.keys() & other.params}
    return {name: values for name, values in both.items() if values[0] != values[1]}


def is_under_way(run: Run) -> bool:
    """Whether a process works on a run, or may do so on another host, where that is unknown."""
    return run.status == "RUNNING" and bool(run.worker) and not is_gone(run.worker)


def as_param(value: object) -> str:
    """A value as the text of a param or tag."""
    return json.dumps(value) if isinstance(value, dict | list | tuple) else str(value)


def metric(run: Run, name: str) -> float:
    """A run's metric; NaN where it is missing or not finite (MLflow stores infinity as 1.8e308)."""
    value = run.metrics.get(name, math.nan)
    return value if abs(value) < sys.float_info.max else math.nan


def points(metrics: Mapping[str, float], step: int) -> list[Point]:
    """The metrics of one step as points, with the current time."""
    now = time.time_ns() // 1_000_000
    return [Point(name, value, now, step) for name, value in metrics.items()]
