"""Where the params that MLflow has of a training are not those of its trial; see `pipelines.upkeep.findings`.

`study retrain` trains what MLflow says that a trial was.
"""

from collections.abc import Iterator, Mapping

from pipelines.upkeep.check_runs import same
from pipelines.upkeep.findings import Facts, Finding, SetParams, called
from study.errors import StudyError
from study.search.records import SearchRecord, TrialRecord
from study.tracking.runs import Run, as_param, epochs_of

OWN = ("epochs", "seed")
"""What a retraining may train otherwise than its trial."""
ANEW = "nothing: which of them the weights were trained with is not known; `study retrain` trains the trial anew"


def check_params(facts: Facts) -> Iterator[Finding]:
    """Params of trials' runs that are not Optuna's, and of retrainings that are not their trial's."""
    trained: dict[str, Mapping[str, str]] = {}
    for search in facts.searches:
        for trial in search.trials:
            runs = facts.of_trial(search, trial)
            if trial.params and runs and trial.state != "RUNNING" and not trial.fault:
                where = f"search {search.name}, trial {trial.number}, {called(runs[0])}"
                try:
                    true = _params(search, trial)
                except StudyError as error:
                    yield Finding(f"Optuna's parameters of it are none: {error}", where, "nothing: give its backup")
                    continue
                trained |= {run.id: true for run in runs}
                yield from _of_trial(trial, runs[0], true, where)
    for run in facts.of_stage("retrain"):
        # Killed at its very beginning, it had recorded none.
        if run.status == "FINISHED" or (run.status != "RUNNING" and run.params):
            yield from _of_retrained(run, trained, facts)


def _params(search: SearchRecord, trial: TrialRecord) -> dict[str, str]:
    return {name: as_param(value) for name, value in search.training(trial).params().items()}


def _of_trial(trial: TrialRecord, run: Run, true: Mapping[str, str], where: str) -> Iterator[Finding]:
    wrong = _differing(run.params, true)
    if not trial.counts:
        # As above.
        wrong = {name: value for name, value in wrong.items() if name in run.params}
    if wrong:
        what = f"Its params say something else than Optuna: {_listed(run.params, wrong)}."
        yield Finding(what, where, "keeps Optuna's", (SetParams(run.id, wrong),))


def _of_retrained(run: Run, trained: Mapping[str, Mapping[str, str]], facts: Facts) -> Iterator[Finding]:
    named = run.tags.get("trial_run", "")
    true = {name: value for name, value in trained.get(named, {}).items() if name not in OWN}
    if named in facts.by_id and (digest := facts.by_id[named].params.get("dataset_digest")):
        true["dataset_digest"] = digest
    if wrong := _differing(run.params, true):
        yield Finding(f"Its params say something else than its trial: {_listed(run.params, wrong)}.", called(run), ANEW)
    if (said := run.params.get("seed")) != (tagged := run.tags.get("seed")):
        yield Finding(f"Its seed is {said} as a param, and {tagged} as a tag.", called(run), ANEW)
    steps = {point.step for point in facts.curves.get(run.id, ())}
    # All epochs of one that ended well are there: it trained as many.
    if run.status == "FINISHED" and len(steps) > epochs_of(run) + 1 and steps == set(range(len(steps))):
        true = {"epochs": str(len(steps) - 1)}
        what = f"Its params say something else than its curve: {_listed(run.params, true)}."
        yield Finding(what, called(run), "sets what it trained", (SetParams(run.id, true),))


def _differing(said: Mapping[str, str], true: Mapping[str, str]) -> dict[str, str]:
    """Those of `true` of which `said` has nothing, or another value."""
    return {name: value for name, value in true.items() if name not in said or not _is_same(said[name], value)}


def _is_same(one: str, other: str) -> bool:
    try:
        return one == other or same(float(one), float(other))
    except ValueError:
        return False


def _listed(said: Mapping[str, str], true: Mapping[str, str]) -> str:
    return ", ".join(f"{name} is {said.get(name, 'missing')}, not {value}" for name, value in sorted(true.items()))
