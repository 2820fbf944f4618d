"""Selects the run that a command names: `best` (a model's best trial, retrained), a run id, an id prefix or a name.

It reads the tracking store alone, so a stage can run on another machine than the search did. The alias `best` of a
registered model is moved by `study.tracking.registry`.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from study.architectures import ARCHITECTURES, MODELS
from study.config import BUNDLED, DataConfig, TrainConfig
from study.errors import StudyError, unknown
from study.ranges import least_accuracy
from study.tracking.hints import command, images
from study.tracking.lookup import find, latest_dataset
from study.tracking.runs import Run, dataset_keys, metric
from study.tracking.store import Store

PACKAGED = {*MODELS, *ARCHITECTURES}
"""The models of this package."""


def best_trial(store: Store, dataset: str, model: str, data: DataConfig | None = None, prefer: str = "") -> Run:
    """The trial of `model` on the data set with key `dataset` that has the highest validation accuracy.

    Ties go to the lower validation loss, then to the lower number. `data` are the settings that the data set was loaded
    with, where it was. With `prefer` ``parameters:0.70`` it is the one with the fewest parameters of those that reach
    this accuracy.

    Raises:
        StudyError: where no trial was completed, or none reaches the accuracy.
    """
    least = least_accuracy(prefer)
    complete = complete_trials(store, dataset, model=model)
    if complete and least is not None:
        return _smallest(complete, least)
    if complete:
        return complete[0]
    trials = store.runs([dataset], stage="trial", model=model)
    if not trials:
        _require_model(store, model)
        option = next((run.model_option for run in store.runs(stage="search", model=model)), model)
        first = command(store, "tune", "--model", option, *_options(store, dataset, data))
        raise StudyError(f"No {model} was searched on {dataset}: run `{first}` first.")
    raise StudyError(
        f"None of the {len(trials)} trials of {model} on {dataset} was completed: raise --trials, or change the "
        "ranges with --lr and --decay under another --search."
    )


def _smallest(complete: Sequence[Run], least: float) -> Run:
    """Of the `complete` trials, best first, that reach an accuracy the one with the fewest parameters."""
    known = [run for run in complete if not math.isnan(run.parameters)]
    reaching = [run for run in known if metric(run, "best_val_accuracy") >= least]
    if not reaching:
        highest = f"{metric(known[0], 'best_val_accuracy'):.4f}, {known[0].full_name}" if known else "unknown"
        raise StudyError(
            f"No trial of a known number of parameters reaches a validation accuracy of {least:g}: the highest is "
            f"{highest}."
        )
    # Of several the best comes first.
    return min(reaching, key=lambda run: run.parameters)


def require_possible(store: Store, spec: str, model: str = "cnn") -> None:
    """Checks a spec as far as it can be without a data set: its model and preference, or that there is such a run.

    Args:
        store: where to look.
        spec: see `choose_retrained`.
        model: what a `best` without a model means.

    Raises:
        StudyError: for an unknown model or run, or a malformed preference.
    """
    if best := _best_of(spec, model):
        _require_model(store, best[0])
    else:
        find(store, spec)


def _best_of(spec: str, model: str) -> tuple[str, str] | None:
    """The model and the preference of a spec ``best[:MODEL][:PREFERENCE]``, by default `model`; None for another one.

    Raises:
        StudyError: for an unknown model or a malformed preference.
    """
    first, *words = spec.split(":")
    if first != "best":
        return None
    if words and words[0] not in ("accuracy", "parameters"):
        model = words.pop(0)
    prefer = ":".join(words)
    least_accuracy(prefer)
    return model, prefer


def _require_model(store: Store, model: str) -> None:
    """Checks that a model is one of this package's, or was searched.

    Raises:
        StudyError: where it is neither.
    """
    if not is_model(store, model):
        raise unknown("model", model, sorted(PACKAGED | _searched_models(store)))


def is_model(store: Store, name: str) -> bool:
    """Whether `name` is that of a model of this package, or of one that was searched."""
    return name in PACKAGED or name in _searched_models(store)


def _searched_models(store: Store) -> set[str]:
    return {run.model for run in store.runs(stage="search")}


def _options(store: Store, dataset: str, data: DataConfig | None) -> tuple[str, ...]:
    """The options that select the data set with key `dataset`; empty where they are unknown."""
    if dataset in BUNDLED:
        return images(DataConfig(dataset=dataset))
    if data:
        return images(data)
    recorded = next((run for run in store.runs([dataset]) if run.dataset), None)
    return images(recorded.data_config) if recorded else ()


def complete_trials(store: Store, dataset: str, **tags: str) -> list[Run]:
    """The completed trials with these tags on the data set with key `dataset`, the best first; see `best_trial`."""
    trials = store.runs([dataset], stage="trial", status="FINISHED", status_reason="complete", **tags)
    return sorted((run for run in trials if math.isfinite(metric(run, "best_val_accuracy"))), key=rank)


def rank(trial: Run) -> tuple[float, float, int]:
    """What the best trial has the lowest of: its negative validation accuracy, then its loss, then its number."""
    loss = metric(trial, "best_val_loss")
    # A run that `study doctor` restored has no loss, and NaN cannot be sorted.
    loss = math.inf if math.isnan(loss) else loss
    return -metric(trial, "best_val_accuracy"), loss, trial.trial_number


def choose_retrained(store: Store, spec: str, dataset: str | None = None, data: DataConfig | None = None) -> Run:
    """The retrained run that `spec` names.

    Args:
        store: where to look.
        spec: `best` (the CNN), `best:ffnn` or another network, `best:parameters:0.70` or `best:ffnn:parameters:0.70`
            (the smallest with at least this validation accuracy), a run id, a unique prefix of one, or a run name.
        dataset: the key of a data set for `best`; by default that of the latest retrained run.
        data: see `best_trial`.

    Raises:
        StudyError: where there is none, or several.
    """
    if best := _best_of(spec, "cnn"):
        model, prefer = best
        _require_model(store, model)
        try:
            return best_retrained(store, model, dataset, data, prefer)
        except StudyError as error:
            retrained = store.runs([dataset or latest_dataset(store, "retrain")], stage="retrain", status="FINISHED")
            others = sorted({run.model for run in retrained})
            choices = [] if model in others else [f"--run best:{other}" for other in others]
            # Of the same network on other images.
            elsewhere = store.runs(stage="retrain", status="FINISHED", model=model)
            choices += [f"--run {run.id[:8]} ({run.full_name})" for run in elsewhere[:1] if model not in others]
            if not choices:
                raise
            raise StudyError(f"{str(error).removesuffix('.')}, or choose {' or '.join(choices)}.") from None
    run = find(store, spec)
    if run.stage != "retrain":
        raise StudyError(
            f"Run {run.name} ({run.id}) is a {run.stage}, which keeps no weights: "
            f"name a retrained run (`{command(store, 'runs')}` lists them), or best."
        )
    return run


def choose_retrained_on(store: Store, spec: str, dataset: str) -> Run:
    """The retrained run that `spec` names, for `best` on a data set that need not be at hand.

    Args:
        store: where to look.
        spec: see `choose_retrained`.
        dataset: for `best`, a key or a value of --dataset; empty for that of the latest retrained run.

    Raises:
        StudyError: where there is none, or several.
    """
    if not dataset or not _best_of(spec, "cnn"):
        return choose_retrained(store, spec)
    runs = store.runs(stage="retrain", status="FINISHED")
    keys = dataset_keys(runs, dataset) if runs else {latest_dataset(store, "retrain")}
    return choose_retrained(store, spec, next(run.dataset_key for run in runs if run.dataset_key in keys))


def best_retrained(
    store: Store, model: str, dataset: str | None = None, data: DataConfig | None = None, prefer: str = ""
) -> Run:
    """The longest retraining of the best trial of `model` with the search's own seed; see `choose_retrained`.

    Raises:
        StudyError: for an unknown model, or where none is finished.
    """
    _require_model(store, model)
    trial = best_trial(store, dataset or latest_dataset(store, "retrain"), model, data, prefer)
    retrainings = store.runs(stage="retrain", trial_run=trial.id, seed=str(trial.base_seed))
    # A later, shorter retraining does not replace a longer one; ties go to the latest.
    runs = sorted((run for run in retrainings if run.status == "FINISHED"), key=lambda run: -run.epochs)
    if not runs:
        chosen = ("--run", f"best:{prefer}") if least_accuracy(prefer) is not None else ()
        words = ("retrain", "--model", model, *chosen, *_options(store, trial.dataset_key, data))
        others = store.runs(stage="retrain", trial_run=trial.id, status="FINISHED")
        only = f" with seed {trial.base_seed}, only with {others[0].seed} (--run {others[0].id[:8]})" if others else ""
        raise StudyError(
            f"The best {model} on {trial.dataset_key} (trial {trial.trial_number} of search {trial.search}) was "
            f"not retrained{only}: run `{command(store, *words)}` first."
        )
    return runs[0]


def default_epochs(store: Store, trial: Run) -> int:
    """Epochs for which a trial is retrained by default: its own where its search drew their number."""
    searches = store.runs([trial.dataset_key], stage="search", search=trial.search)
    return trial.epochs if any("epochs" in run.choices for run in searches) else TrainConfig.epochs


def finished_seeds(store: Store, trial: Run, epochs: int, precision: str) -> dict[int, Run]:
    """The latest finished retraining of `trial` with these `epochs` and `precision`, by seed."""
    runs = store.runs(stage="retrain", trial_run=trial.id, status="FINISHED")
    matching = [run for run in runs if (run.epochs, run.precision) == (epochs, precision)]
    return {run.seed: run for run in reversed(matching)}


def choose_trial(
    store: Store, spec: str, model: str, dataset: str | None = None, data: DataConfig | None = None
) -> Run:
    """The trial that `spec` names, to be retrained: a trial, or the trial of a retrained run.

    Raises:
        StudyError: where there is none, or several.
    """
    if best := _best_of(spec, model):
        chosen, prefer = best
        _require_model(store, chosen)
        return best_trial(store, dataset or latest_dataset(store, "trial", model=chosen), chosen, data, prefer)
    run = find(store, spec)
    if run.stage == "retrain":
        return store.get(run.trial_run)
    if run.stage != "trial":
        raise StudyError(f"Run {run.name} ({run.id}) is not a trial: name a trial, a retrained run, or best.")
    return run


def read_as(store: Store, spec: str, stage: str, dataset: str) -> DataConfig:
    """The settings of `dataset` (a value of --dataset) with the size and the skipping of the run that `spec` names.

    For `best` they are those of the latest run of `stage` on `dataset`; where there is none, the size is that of the
    latest on any, since images may have been moved.

    Raises:
        StudyError: for an unknown run.
    """
    data = DataConfig(dataset=dataset)
    if spec == "best" or spec.startswith("best:"):
        runs = store.runs(stage=stage)
        chosen = next((run for run in runs if run.dataset == data.recorded_dataset), None)
        if chosen is None:
            return replace(data, image_size=runs[0].image_size) if runs else data
    else:
        chosen = find(store, spec)
    return replace(data, image_size=chosen.image_size, skip_unreadable=chosen.skip_unreadable)


def require_searched_on(trial: Run, digest: str, source: str) -> None:
    """Checks that `trial` was searched on the images with this `digest`, from `source`.

    Raises:
        StudyError: where it was not.
    """
    if trial.dataset_digest != digest:
        raise StudyError(
            f"Trial {trial.trial_number} of {trial.search} was searched on other images than those of {source}."
        )
