"""Checks the runs of searches, trials and retrainings; `trials.mirror` compares a run with its trial."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from mlflow.entities import Experiment

from pipelines.report.search_results import log_results
from pipelines.session.display import Bar
from pipelines.trials.mirror import Mirror, differing, make_run, shown_params, surroundings
from pipelines.upkeep.findings import Facts, Finding, label, restore_run
from study.config import TrainConfig
from study.search.records import SearchRecord, TrialRecord
from study.system import interruption
from study.tracking.registry import delete_run
from study.tracking.runs import DIGEST, PARENT, Run
from study.tracking.tags import restored, search_tags, seed_param

MAY_DIFFER = {"epochs", "seed"}
"""Params in which a retraining may differ from its trial."""
UNREADABLE = "nothing: a newer version of this program made it, or it was altered"
RETRAIN = "nothing: it is unknown which of them the weights were trained with; `study retrain --again` trains it again"


def check_experiments(facts: Facts) -> Iterator[Finding]:
    """Experiments that were deleted, or renamed, on MLflow's page."""
    client = facts.store.client
    for key, runs in facts.hidden.items():
        message = f"It was deleted in MLflow, and {len(runs)} runs with it."
        where = f"experiment {client.get_experiment(key).name}"
        yield Finding(message, where, "restores it with its runs", partial(client.restore_experiment, key))
    datasets: dict[str, set[str]] = {}
    for run in facts.runs:
        if run.dataset_key:
            datasets.setdefault(run.experiment_id, set()).add(run.dataset_key)
    for key, names in sorted(datasets.items()):
        experiment, name = client.get_experiment(key), min(names)
        if experiment.name not in names:
            yield _renamed(experiment, name, client.get_experiment_by_name(name) is None, facts)


def _renamed(experiment: Experiment, name: str, is_free: bool, facts: Facts) -> Finding:
    message, where = f"It holds the runs on {name}, and was renamed in MLflow.", f"experiment {experiment.name}"
    if is_free:
        rename = partial(facts.store.client.rename_experiment, experiment.experiment_id, name)
        return Finding(message, where, f"renames it to {name}", rename)
    return Finding(message, where, f"nothing: another experiment is called {name}; delete the one without runs")


def check_searches(facts: Facts) -> Iterator[Finding]:
    """Search runs that are missing, duplicated, left open, or older than their trials."""
    for search in facts.searches:
        if not search.trials:
            continue
        where, runs = f"search {search.name}", facts.of_search(search)
        if search.fault:
            yield Finding(f"Its settings cannot be read: {search.fault}", where, UNREADABLE)
            continue
        if not runs:
            yield _missing_run(search, where, facts)
            continue
        yield from _duplicates(runs, where, facts)
        yield from _search_run(search, runs[0], where, facts)


def _missing_run(search: SearchRecord, where: str, facts: Facts) -> Finding:
    deleted = facts.of_search(search, facts.deleted)
    if deleted:
        return _deleted_run(deleted[0], where, facts)
    if source := _source_run(search, facts):
        repair = partial(_make_search_run, search, source, facts)
        return Finding("It has no run in MLflow.", where, "recreates it from Optuna", repair)
    remedy = "no run is left that records its images: give the --tracking-uri that it was started with"
    return Finding("It has no run in MLflow, nor have its trials.", where, remedy)


def _deleted_run(run: Run, where: str, facts: Facts) -> Finding:
    repair = partial(restore_run, facts.store, run)
    return Finding("Its run was deleted in MLflow.", where, "restores the run", repair)


def _source_run(search: SearchRecord, facts: Facts) -> Run | None:
    """A run of the search, its own or a trial's, which names the data set and the machine."""
    runs = [run for run in facts.runs if run.search == search.name]
    return min(runs, key=lambda run: run.stage != "search", default=None)


def _make_search_run(search: SearchRecord, source: Run, facts: Facts) -> None:
    store = facts.store
    params = {**search.settings, **surroundings(search.config, source)}
    run_id = store.start(
        source.dataset_key, search.name, tags={**search_tags(search.config), **restored()}, params=params
    )
    log_results(run_id, facts.storage.opened(search.name), store)
    for run in store.runs(stage="trial", search=search.name):
        store.tag(run.id, **{PARENT: run_id})
    store.finish(run_id, "FINISHED", "complete")


def _duplicates(runs: Sequence[Run], where: str, facts: Facts) -> Iterator[Finding]:
    for run in runs[1:]:
        remedy = f"deletes it (it can be restored in MLflow), and keeps {label(runs[0])}"
        repair = partial(delete_run, facts.store.client, run.id)
        yield Finding(f"Duplicate run: {label(run)}.", where, remedy, repair)


def _search_run(search: SearchRecord, run: Run, where: str, facts: Facts) -> Iterator[Finding]:
    where = f"{where}, {label(run)}"
    if run.status == "RUNNING":
        alive = {facts.life(trial.worker) for trial in search.trials if trial.state == "RUNNING"}
        if (alive | {facts.life(run.worker)}) <= {"gone"}:
            yield _orphaned_run(run, where, facts)
    elif run.status == "FINISHED" and run.trials != search.finished:
        message = f"Its figures cover {run.trials or 'no'} trials, but {search.finished} are finished."
        redraw = partial(log_results, run.id, facts.storage.opened(search.name), facts.store)
        yield Finding(message, where, "draws them again", redraw)


def _orphaned_run(run: Run, where: str, facts: Facts) -> Finding:
    message = "It is RUNNING, but its process has ended."
    return Finding(message, where, "ends it: KILLED, interrupted", _end_as_killed(run, facts))


def _end_as_killed(run: Run, facts: Facts) -> Callable[[], None]:
    return partial(facts.store.finish, run.id, "KILLED", "interrupted")


def check_trials(facts: Facts, bar: Bar) -> Iterator[Finding]:
    """Trials without a run, with several, or with one that differs from Optuna."""
    for search in facts.searches:
        for trial in () if search.fault else search.trials:
            interruption.check()
            yield from _trial(search, trial, f"search {search.name}, trial {trial.number}", facts)
            bar.advance()
    yield from _without_trial(facts)


def _trial(search: SearchRecord, trial: TrialRecord, where: str, facts: Facts) -> Iterator[Finding]:
    if trial.fault:
        message = f"Optuna's record of it is impossible: {trial.fault}."
        yield Finding(message, where, "nothing: it was altered; restore a backup of the storage")
    elif trial.state == "RUNNING":
        if facts.life(trial.worker) == "gone":
            yield _orphaned_trial(search, trial, where, facts)
    elif trial.has_ended:
        yield from _ended_trial(search, trial, where, facts)


def _orphaned_trial(search: SearchRecord, trial: TrialRecord, where: str, facts: Facts) -> Finding:
    def end() -> None:
        facts.storage.end_trial(search.name, trial.number)
        for run in facts.of_trial(search, trial)[:1]:
            _end_as_killed(run, facts)()

    remedy = "ends it in both stores: FAIL, and KILLED, interrupted; `study tune` tries its parameters again"
    return Finding("It is RUNNING, but its process has ended.", where, remedy, end)


def _ended_trial(search: SearchRecord, trial: TrialRecord, where: str, facts: Facts) -> Iterator[Finding]:
    runs = facts.of_trial(search, trial)
    if not runs:
        # A trial that was stopped before it began has no run.
        if trial.counts or trial.run_id or trial.accuracies:
            yield _without_run(search, trial, where, facts)
        return
    if runs[0].status == "RUNNING" and facts.life(trial.worker) == "lives":
        # Its process ends the trial first and then the run.
        return
    yield from _duplicates(runs, where, facts)
    mirror = Mirror(facts.store, search.config, trial, runs[0], facts.parents[search.name])
    for difference in mirror.differences():
        yield Finding(difference.message, f"{where}, {label(runs[0])}", difference.remedy, difference.repair)


def _without_run(search: SearchRecord, trial: TrialRecord, where: str, facts: Facts) -> Finding:
    deleted = facts.of_trial(search, trial, deleted=True)
    if deleted:
        return _deleted_run(deleted[0], where, facts)
    message = f"Optuna has {trial.state}, MLflow has no run of it."
    if source := _source_run(search, facts):
        repair = partial(make_run, facts.store, search.config, trial, source, facts.parents[search.name])
        return Finding(message, where, "recreates it from Optuna", repair)
    return Finding(message, where, "see the search: no run is left that records its images")


def _without_trial(facts: Facts) -> Iterator[Finding]:
    """Runs of trials that Optuna does not have."""
    known = {search.name: search for search in facts.searches if search.trials}
    unknown = Counter(run.search for run in facts.of_stage("trial"))
    for name, count in sorted(unknown.items()):
        if name not in known:
            message = f"MLflow has {count} runs of its trials, and {facts.storage.name} has none of them."
            yield Finding(message, f"search {name}", "nothing: give the --storage that it is in")
    for run in facts.of_stage("trial"):
        search = known.get(run.search)
        number = run.trial_text
        if search and not (number.isdecimal() and int(number) < len(search.trials)):
            if any(trial.run_id == run.id for trial in search.trials):
                continue
            message = f"It is the run of trial {number or '(none)'}, which Optuna does not have."
            repair = _end_as_killed(run, facts) if run.status == "RUNNING" else None
            remedy = (
                "ends it"
                if repair
                else "nothing: give Optuna's newer database, or delete the run on MLflow's page of it"
            )
            yield Finding(message, f"search {search.name}, {label(run)}", remedy, repair)


def check_others(facts: Facts) -> Iterator[Finding]:
    """Orphaned retrainings, analyses and experiments: no process works on them, or the run they name is missing."""
    for run in facts.runs:
        if run.stage in ("search", "trial"):
            continue
        # A replicate is trained by the process that works on its experiment.
        parent = facts.by_id.get(run.parent, run)
        if run.status == "RUNNING" and facts.life(run.worker or parent.worker) == "gone":
            yield _orphaned_run(run, label(run), facts)
        if run.trial_run and run.trial_run not in facts.by_id:
            yield _dangling_retraining(run, facts)


def _dangling_retraining(run: Run, facts: Facts) -> Finding:
    message = f"It retrains the trial of run {run.trial_run[:12]}, which does not exist."
    wanted = (run.search, run.trial_text)
    for trial in facts.of_stage("trial"):
        if (trial.search, trial.trial_text) == wanted:
            repair = partial(facts.store.tag, run.id, trial_run=trial.id)
            return Finding(message, label(run), f"refers it to the trial's {label(trial)}", repair)
    return Finding(message, label(run), "nothing, while the trial itself has no run")


def check_retrained(facts: Facts) -> Iterator[Finding]:
    """Retrainings whose params are not those of their trial."""
    readable = (search for search in facts.searches if not search.fault)
    names = {search.name: TrainConfig(model=search.config.model).params().keys() - MAY_DIFFER for search in readable}
    for run in facts.of_stage("retrain"):
        trial = facts.by_id.get(run.trial_run)
        # A run that was killed at its start has recorded none.
        if trial and (run.status == "FINISHED" or (run.status != "RUNNING" and run.params)):
            compared = names.get(run.search, set()) | {DIGEST}
            expected = {name: trial.params[name] for name in sorted(compared & trial.params.keys())}
            if wrong := differing(run.params, expected | seed_param(run)):
                message = f"Its params differ from its trial's: {shown_params(run.params, wrong)}."
                yield Finding(message, label(run), RETRAIN)
