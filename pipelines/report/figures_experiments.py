"""What the experiments found, from their runs to tables and figures in a report."""

import math
from collections.abc import Callable, Iterator, Sequence

import pandas as pd

from analysis.exhibit import Exhibit
from analysis.searches import dead_filters, findings, winner
from pipelines.report.exhibits import command_line
from study.config import CNNConfig
from study.tracking.runs import Run, experiment_tags, metric
from study.tracking.store import Store

HEADINGS = {
    "dead-filters": "Why filters fall silent and collapse",
    "winner": "Is the search's winner really the winner",
}


def show_latest(
    store: Store, name: str, dataset: str, model: str, where: Sequence[str], source: str
) -> Iterator[Exhibit]:
    """The latest experiment `name` on the data set with key `dataset`; where there is none, the command is named.

    `source` is that data set as `--dataset` names it.
    """
    found = [run for run in store.runs([dataset], **experiment_tags(name, model)) if run.conditions]
    if found:
        yield from exhibits(store, found[0])
        return
    command = command_line(
        where, "experiment", name, "--dataset", source, *([] if model == "cnn" else ["--model", model])
    )
    text = f"Not yet measured on {dataset}: `{command}` trains and compares, and the next analysis shows it."
    yield Exhibit(name, HEADINGS[name], text)


def exhibits(store: Store, parent: Run) -> Iterator[Exhibit]:
    """Figure and tables of the experiment that the run `parent` stands for; the first says what was found."""
    return _SHOWN[parent.experiment](store, parent)


def compared(store: Store, parent: Run) -> list[Run]:
    """The finished replicates that the experiment's run compared last, in the order of its seeds and conditions."""
    finished = store.runs([parent.dataset_key], stage="replicate", parent=parent.id, status="FINISHED")
    found = {(run.seed, run.condition): run for run in finished}
    wanted = [(seed, condition) for seed in parent.seeds for condition in parent.conditions]
    return [found[replicate] for replicate in wanted if replicate in found]


def show_dead_filters(store: Store, parent: Run) -> Iterator[Exhibit]:
    """Why filters fall silent: the figure, then every condition, then the comparisons."""
    trainings, counts = dead_filters_tables(store, parent)
    table = dead_filters.ends(trainings, counts)
    text, points, note = findings.caption(table), findings.points(table, counts), findings.note(table)
    heading = HEADINGS["dead-filters"]
    figure = dead_filters.draw(table, counts)
    summary = dead_filters.summary(table)
    beside = {"dead_filters_trainings": table, "dead_filters_means": summary}
    yield Exhibit("dead_filters", heading, text, counts, figure, points=points, note=note, tables=beside)
    shown, about = dead_filters.readable(summary), dead_filters.caption(summary)
    yield Exhibit("dead_filters_conditions", f"{heading}: every condition", about, shown, note=CONDITIONS_NOTE)
    contrasts = findings.contrasts(table)
    shown, about = findings.readable(contrasts), findings.contrasts_caption(contrasts)
    yield Exhibit("dead_filters_contrasts", f"{heading}: the comparisons", about, contrasts, shown=shown, note=note)


CONDITIONS_NOTE = "Means ± standard deviations over the seeds, after the last epoch, on the validation images."


def dead_filters_tables(store: Store, parent: Run) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables of `analysis.searches.dead_filters`: a row per training, and a row per training and counted step."""
    trainings, counted = [], []
    for run in compared(store, parent):
        config, history = run.train_config, store.history(run.id)
        assert isinstance(config.model, CNNConfig)
        diverged = run.reason == "diverged"
        trainings.append(
            {
                "condition": run.condition,
                "seed": config.seed,
                "group": run.group,
                "optimiser": config.optimiser,
                "learning_rate": config.learning_rate,
                "warmup_steps": config.warmup_steps,
                "weight_decay": config.weight_decay,
                "filters_conv1": config.model.filters[0],
                "filters_conv2": config.model.filters[1],
                "epochs": config.epochs,
                "diverged": diverged,
                "val_accuracy": math.nan if diverged else metric(run, "val_accuracy"),
            }
        )
        # These were recorded by optimiser step, in whose place the table has everything's step.
        steps_of = history.rename(columns={"epoch": "step"})[["step", *dead_filters.COUNTS]].dropna()
        counted.append(steps_of.astype(int).assign(condition=run.condition, seed=config.seed))
    return pd.DataFrame(trainings), pd.concat(counted, ignore_index=True)


def show_winner(store: Store, parent: Run) -> Iterator[Exhibit]:
    """Whether the search's winner still wins: the figure, then the trials."""
    trainings = winner_table(store, parent)
    table = winner.ranking(trainings)
    text, points = winner.caption(table), winner.points(table)
    yield Exhibit(
        "winner", HEADINGS["winner"], text, trainings, winner.draw(trainings), points=points, note=winner.NOTE
    )
    heading, about = f"{HEADINGS['winner']}: the trials", winner.table_caption(table)
    yield Exhibit("winner_ranking", heading, about, table, shown=winner.readable(table), note=winner.NOTE)


def winner_table(store: Store, parent: Run) -> pd.DataFrame:
    """The table that `analysis.searches.winner` takes: a row per training, the search's best trial first."""
    rows = []
    for run in compared(store, parent):
        config, diverged = run.train_config, run.reason == "diverged"
        rows.append(
            {
                "trial": run.trial_number,
                "learning_rate": config.learning_rate,
                "weight_decay": config.weight_decay,
                "searched": metric(store.get(run.trial_run), "best_val_accuracy"),
                "seed": config.seed,
                "val_accuracy": math.nan if diverged else metric(run, "best_val_accuracy"),
            }
        )
    return pd.DataFrame(rows)


_SHOWN: dict[str, Callable[[Store, Run], Iterator[Exhibit]]] = {
    "dead-filters": show_dead_filters,
    "winner": show_winner,
}
