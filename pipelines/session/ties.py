"""Says that the best trial is tied with others, so that what chose between them is no evidence for it."""

from collections.abc import Callable, Sequence

from study.tracking.best import complete_trials, rank
from study.tracking.runs import Run, metric
from study.tracking.store import Store

ACCURACY = "best_val_accuracy"


def say_ties(spec: str, run: Run, store: Store, say: Callable[[str], None]) -> None:
    """Says which trials of all searches are tied with the trial that `best` chose; nothing for another `spec`.

    Args:
        spec: the value of --run.
        run: the trial, or its retraining.
        store: where they are recorded.
        say: called with the sentence.
    """
    if spec.partition(":")[0] != "best":
        return
    trial = store.get(run.trial_run) if run.trial_run else run
    complete = complete_trials(store, trial.dataset_key, model=trial.model)
    # `best:parameters:0.70` chooses another one than the best.
    if complete[0].id == trial.id and (sentence := ties(complete)):
        say(f"The best is {trial.full_name}, validation accuracy {metric(trial, ACCURACY):.4f}. {sentence}")


def ties(best_first: Sequence[Run]) -> str:
    """A sentence on the trials with the same validation accuracy as the first, and what decided; empty for none.

    Trials of another search than the first are named with their search.
    """
    tied = tied_trials(best_first)
    if not tied:
        return ""
    first = best_first[0]
    names = [f"{run.trial_number}{'' if run.search == first.search else f' of {run.search}'}" for run in tied]
    named = f"trial {names[0]}" if len(names) == 1 else f"{len(names)} more trials ({', '.join(names)})"
    return f"Tied with {named}: {_decided(first, tied[0])} decided."


def tied_trials(best_first: Sequence[Run]) -> list[Run]:
    """The trials with the same validation accuracy as the first, without it."""
    highest = [run for run in best_first if metric(run, ACCURACY) == metric(best_first[0], ACCURACY)]
    return highest[1:]


def _decided(first: Run, second: Run) -> str:
    """What ranks the first of two tied trials before the second."""
    if rank(first)[1] < rank(second)[1]:
        return "the lowest validation loss"
    return "the lowest number" if first.trial_number < second.trial_number else "the later start"
