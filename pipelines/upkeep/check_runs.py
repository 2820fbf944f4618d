"""What is wrong between the searches, their trials and the runs; see `pipelines.upkeep.findings`."""

import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator

from pipelines.upkeep.findings import (
    AddPoint,
    CreateRun,
    DeleteRun,
    EndRun,
    EndTrial,
    Facts,
    Finding,
    LogResults,
    RestoreRun,
    SetPoint,
    SetTags,
    called,
)
from study.search.records import SearchRecord, TrialRecord
from study.tracking.runs import Run, epochs_of

CURVES = {"trial": "val_accuracy", "retrain": "test_accuracy"}
"""The metric of which every epoch must be there, by stage."""
EXACT = 1e-12
"""How far apart, relatively, the same number may be in two databases."""


def check_searches(facts: Facts) -> Iterator[Finding]:
    """Search runs that are missing, there twice, left open, or behind their trials."""
    for search in facts.searches:
        if not search.trials:
            continue
        where, runs = f"search {search.name}", facts.of_search(search)
        if not runs:
            yield _missing(search, where, facts)
            continue
        yield from _surplus(runs, where, "run")
        yield from _search_run(search, runs[0], where, facts)


def _missing(search: SearchRecord, where: str, facts: Facts) -> Finding:
    deleted = facts.of_search(search, facts.deleted)
    if deleted:
        return Finding("Its run was deleted in MLflow.", where, "restores the run", (RestoreRun(deleted[0].id),))
    if not any(run.tags.get("search") == search.name for run in (*facts.runs, *facts.deleted)):
        mend = "no run of it is left that says on which images it was: give the --tracking-uri that it began with"
        return Finding("It has no run in MLflow, nor have its trials.", where, mend)
    return Finding("It has no run in MLflow.", where, "makes it anew from Optuna", (CreateRun(search.name),))


def _surplus(runs: list[Run], where: str, what: str) -> Iterator[Finding]:
    for run in runs[1:]:
        mend = f"deletes it, as MLflow does (it can be restored), and keeps {called(runs[0])}"
        yield Finding(f"One more {what} of it: {called(run)}.", where, mend, (DeleteRun(run.id),))


def _search_run(search: SearchRecord, run: Run, where: str, facts: Facts) -> Iterator[Finding]:
    where = f"{where}, {called(run)}"
    if run.status == "RUNNING":
        alive = {facts.trial_life(trial) for trial in search.trials if trial.state == "RUNNING"}
        if (alive | {facts.life(run.tags.get("worker", ""))}) <= {"gone"}:
            yield _orphan(run, where)
    elif run.status == "FINISHED" and (said := run.tags.get("trials")) != str(search.finished):
        what = f"Its figures are of {said or 'no'} trials; {search.finished} are finished."
        yield Finding(what, where, "draws them anew", (LogResults(search.name, run.id),))


def _orphan(run: Run, where: str) -> Finding:
    what = "It is RUNNING, and no process works on it."
    return Finding(what, where, "ends it: KILLED, interrupted", (EndRun(run.id, "KILLED", "interrupted"),))


def check_trials(facts: Facts) -> Iterator[Finding]:
    """Trials without a run, with several, or with one that says something else."""
    for search in facts.searches:
        parents = facts.of_search(search)
        for trial in search.trials:
            where = f"search {search.name}, trial {trial.number}"
            runs = facts.of_trial(search, trial)
            if trial.fault:
                what = f"Optuna's record of it is impossible: {trial.fault}."
                yield Finding(what, where, "nothing: it was altered; restore a backup of the storage")
            elif trial.state == "RUNNING":
                if facts.trial_life(trial) == "gone":
                    yield _orphaned(search, trial, runs, where)
            elif trial.state != "WAITING":
                yield from _ended(search, trial, runs, parents, where, facts)
    yield from _strangers(facts)


def _orphaned(search: SearchRecord, trial: TrialRecord, runs: list[Run], where: str) -> Finding:
    ends = tuple(EndRun(run.id, "KILLED", "interrupted") for run in runs[:1])
    mend = "ends it in both stores: FAIL, and KILLED, interrupted; `study tune` tries its parameters again"
    return Finding(
        "It is RUNNING, and no process works on it.", where, mend, (EndTrial(search.name, trial.number), *ends)
    )


def _ended(
    search: SearchRecord, trial: TrialRecord, runs: list[Run], parents: list[Run], where: str, facts: Facts
) -> Iterator[Finding]:
    if not runs:
        # One that was stopped before it had begun never had a run.
        if trial.counts or trial.run_id or trial.accuracies:
            yield _without_run(search, trial, where, facts)
        return
    run = runs[0]
    if run.status == "RUNNING" and facts.trial_life(trial) == "lives":
        # Its process ends the one and then the other.
        return
    yield from _surplus(runs, where, "run")
    where = f"{where}, {called(run)}"
    expected = (trial.outcome.status, trial.outcome.reason)
    if (said := (run.status, run.tags.get("status_reason", ""))) != expected:
        what = f"Optuna has {trial.state} ({expected[1]}), MLflow {said[0]} ({said[1] or 'no reason'})."
        yield Finding(what, where, f"sets the run to {expected[0]}, {expected[1]}", (EndRun(run.id, *expected),))
    if wrong := _wrong_tags(search, trial, run, parents):
        what = "Its tags say something else than Optuna: " + ", ".join(sorted(wrong)) + "."
        yield Finding(what, where, "sets them", (SetTags(run.id, wrong),))
    if trial.counts:
        yield from _curve(trial, run, where, facts)
        yield from _best(trial, run, where)


def _without_run(search: SearchRecord, trial: TrialRecord, where: str, facts: Facts) -> Finding:
    deleted = facts.of_trial(search, trial, deleted=True)
    if deleted:
        return Finding("Its run was deleted in MLflow.", where, "restores the run", (RestoreRun(deleted[0].id),))
    what = f"Optuna has {trial.state}, MLflow has no run of it."
    if not any(run.tags.get("search") == search.name for run in facts.runs):
        return Finding(what, where, "see the search: no run of it is left that says on which images it was")
    return Finding(what, where, "makes it anew from Optuna", (CreateRun(search.name, trial.number),))


def trial_tags(search: SearchRecord, trial: TrialRecord, parent: Run | None) -> dict[str, str]:
    """What the run of a trial is tagged with, as far as Optuna and the search's run know."""
    tags = {
        "stage": "trial",
        "model": str(search.settings["model"]),
        "search": search.name,
        "optuna_trial": str(trial.number),
        "base_seed": str(search.settings["seed"]),
    }
    if trial.retry_of is not None:
        tags["retry_of"] = str(trial.retry_of)
    if parent:
        tags |= {"mlflow.parentRunId": parent.id, "dataset": parent.tags["dataset"]}
    return tags


def _wrong_tags(search: SearchRecord, trial: TrialRecord, run: Run, parents: list[Run]) -> dict[str, str]:
    expected = trial_tags(search, trial, parents[0] if parents else None)
    return {name: value for name, value in expected.items() if run.tags.get(name) != value}


def _curve(trial: TrialRecord, run: Run, where: str, facts: Facts) -> Iterator[Finding]:
    """Differences between what both stores have of the epochs' validation accuracy."""
    recorded: dict[int, list[float]] = {}
    for point in facts.curves.get(run.id, ()):
        recorded.setdefault(point.step, []).append(point.value)
    for epoch in sorted(set(recorded) | set(trial.accuracies)):
        values, true = recorded.get(epoch, []), trial.accuracies.get(epoch)
        if true is None:
            what = f"MLflow has a val_accuracy of epoch {epoch}, which Optuna does not know."
            yield Finding(what, where, "nothing: which of them is right cannot be known")
        elif not values:
            add = AddPoint(run.id, "val_accuracy", epoch, true)
            yield Finding(f"The val_accuracy of epoch {epoch} is missing in MLflow.", where, "records Optuna's", (add,))
        elif len(values) > 1 or not same(values[0], true):
            what = f"Optuna's val_accuracy of epoch {epoch} is {true:.6g}, MLflow's {shown(values)}."
            if len(values) > 1:
                what = f"The val_accuracy of epoch {epoch} is in MLflow {len(values)} times ({shown(values)})."
            yield Finding(what, where, "keeps Optuna's", (SetPoint(run.id, "val_accuracy", epoch, true),))


def _best(trial: TrialRecord, run: Run, where: str) -> Iterator[Finding]:
    if (true := trial.best) is None:
        return
    said = run.metrics.get("best_val_accuracy")
    if said is None:
        best = {"best_val_accuracy": true, "best_epoch": float(trial.best_epoch)}
        adds = tuple(AddPoint(run.id, name, 0, value) for name, value in best.items() if name not in run.metrics)
        yield Finding("MLflow lacks its best_val_accuracy.", where, "records Optuna's", adds)
    elif not same(said, true):
        what = f"Optuna's best validation accuracy is {true:.6g}, MLflow's {shown([said])}."
        yield Finding(what, where, "keeps Optuna's", (SetPoint(run.id, "best_val_accuracy", 0, true),))


def same(one: float, other: float) -> bool:
    """Whether two databases hold the same number."""
    return math.isclose(one, other, rel_tol=EXACT)


def shown(values: list[float]) -> str:
    """Values as a finding names them; MLflow keeps infinity as 1.8e308."""
    return ", ".join("infinite" if abs(value) >= sys.float_info.max else f"{value:.6g}" for value in values)


def _strangers(facts: Facts) -> Iterator[Finding]:
    """Runs of trials that do not exist."""
    known = {search.name: search for search in facts.searches}
    unknown = Counter(run.tags.get("search", "") for run in facts.of_stage("trial"))
    for name, count in sorted(unknown.items()):
        if name not in known:
            what = f"MLflow has {count} runs of its trials, and {facts.backs} has no such search."
            yield Finding(what, f"search {name}", "nothing: give the --storage that it is in")
    for run in facts.of_stage("trial"):
        search = known.get(run.tags.get("search", ""))
        number = run.tags.get("optuna_trial", "")
        if search and not (number.isdecimal() and int(number) < len(search.trials)) and not _is_named(search, run):
            what = f"Optuna has no trial {number or 'that it names'}, of which this is the run."
            repairs = (EndRun(run.id, "KILLED", "interrupted"),) if run.status == "RUNNING" else ()
            mend = "ends it" if repairs else "nothing: give Optuna's newer database, or delete the run in `study ui`"
            yield Finding(what, f"search {search.name}, {called(run)}", mend, repairs)


def _is_named(search: SearchRecord, run: Run) -> bool:
    return any(trial.run_id == run.id for trial in search.trials)


def check_others(facts: Facts) -> Iterator[Finding]:
    """Retrainings, analyses and experiments that nobody works on, or that name a run that is not there."""
    for run in facts.runs:
        if run.tags["stage"] in ("search", "trial"):
            continue
        # A replicate is trained by the process that works on its experiment.
        above = facts.by_id.get(run.tags.get("mlflow.parentRunId", ""), run)
        worker = run.tags.get("worker") or above.tags.get("worker", "")
        if run.status == "RUNNING" and facts.life(worker) == "gone":
            yield _orphan(run, called(run))
        if (named := run.tags.get("trial_run")) and named not in facts.by_id:
            yield _dangling(run, named, facts)


def _dangling(run: Run, named: str, facts: Facts) -> Finding:
    what = f"It trains again a trial's run {named[:12]}, which is not there."
    wanted = (run.tags.get("search"), run.tags.get("optuna_trial"))
    found = [one for one in facts.of_stage("trial") if (one.tags.get("search"), one.tags.get("optuna_trial")) == wanted]
    if found:
        mend = f"names the trial's {called(found[0])}"
        return Finding(what, called(run), mend, (SetTags(run.id, {"trial_run": found[0].id}),))
    return Finding(what, called(run), "nothing, while the trial itself has no run")


def check_values(facts: Facts) -> Iterator[Finding]:
    """Metrics that are no finite numbers; a training that diverged has none of them recorded."""
    for run in facts.runs:
        if run.tags["stage"] in ("trial", "retrain", "replicate") and run.status == "FINISHED":
            bad = sorted(name for name, value in run.metrics.items() if not abs(value) < sys.float_info.max)
            # What Optuna knows better is found there.
            bad = [name for name in bad if run.tags["stage"] != "trial" or "val_accuracy" not in name]
            if bad:
                what = f"Not finite, which MLflow shows as 1.8e308: {', '.join(bad)}."
                yield Finding(what, called(run), "nothing: what it was is not known")


def check_curves(facts: Facts) -> Iterator[Finding]:
    """Epochs of finished retrainings that MLflow has no value of."""
    for run in facts.of_stage("retrain"):
        if run.status == "FINISHED":
            there = {point.step for point in facts.curves.get(run.id, ())}
            missing = [str(epoch) for epoch in range(epochs_of(run) + 1) if epoch not in there]
            if missing:
                what = f"Its {CURVES['retrain']} has no value of epoch {', '.join(missing)}."
                yield Finding(what, called(run), "nothing: what it was is not known")


def check_duplicates(facts: Facts, twice: Iterable[tuple[str, str, int, int]]) -> Iterator[Finding]:
    """Metrics of a step that were recorded more than once: `twice` has run, name, step and how often."""
    by_id = {run.id: run for run in facts.runs if run.tags["stage"] in ("trial", "retrain", "replicate")}
    for run_id, name, step, count in twice:
        run = by_id.get(run_id)
        if (
            run
            and run.status != "RUNNING"
            and not (run.tags["stage"] == "trial" and run_id in facts.curves and name == "val_accuracy")
        ):
            keep = SetPoint(run_id, name, step)
            yield Finding(f"The {name} of step {step} is there {count} times.", called(run), "keeps the last", (keep,))
