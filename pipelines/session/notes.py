"""Descriptions that MLflow shows on the pages of an experiment, a search, a retrained run, a comparison and a model.

Each is Markdown: what it is, how it did, its command, and links to what belongs to it. A description that somebody
wrote in MLflow stays.
"""

from collections.abc import Mapping, Sequence

from analysis.drawing.wording import counted, hyperparameter, listed, model_label, settings
from pipelines.session.mlflow_pages import COMPARISON_FILES, REPORT_FILES, page_of, run_page, runs_page
from pipelines.session.setup import MLFLOW_PORT
from study.config import RATES
from study.system.redaction import one_line, without_login
from study.tracking.hints import retraining_anywhere
from study.tracking.queries import quoted
from study.tracking.runs import Run, metric
from study.tracking.store import Store

NOTE = "mlflow.note.content"
"""MLflow's tag for a description."""
SIGNATURE = "*Written by `study`.*"
"""Last line of a description; without it, a description is somebody's own."""
TEST, VALIDATION = "final_test_accuracy", "best_val_accuracy"
STAGES = {"search": ("searches", VALIDATION), "trial": ("their trials", VALIDATION), "retrain": ("retrainings", TEST)}
"""The stages that the description of an experiment links to, with their names and the metric that orders them."""


def describe_search(store: Store, search: Run, complete: Sequence[Run], pages: Mapping[str, str], command: str) -> None:
    """Describes a search and its experiment.

    Args:
        store: where they are.
        search: its run.
        complete: its complete trials, the best first.
        pages: addresses of its pages by name, see `search_pages`.
        command: continues the search.
    """
    result = "no trial was completed"
    if complete:
        best = complete[0]
        result = (
            f"the best of {len(complete)} complete trials has a validation accuracy of "
            f"**{metric(best, VALIDATION):.2%}** ({_link(best)}: {_settings(best)})"
        )
    links = [_markdown_link(f"its {name}" if name == "trials" else name, page) for name, page in pages.items()]
    drawn = listed([hyperparameter(name) for name in (*RATES, *search.choices)])
    about = f"Search for the {drawn} of a {model_label(search.model)} on {_plain(search.dataset_key)}"
    _note(store, search, [f"{about}: {result}.", " · ".join(links), f"Continued by `{command}`."])
    describe_experiment(store, search)


def trial_note(store: Store, dataset: str, run_id: str) -> str:
    """A note on a trial, for optuna-dashboard: the address of its run, on the data set with key `dataset`."""
    page, is_server = page_of(store.experiment(dataset), run_id), store.uri.startswith("http")
    server = without_login(store.uri).rstrip("/") if is_server else f"http://127.0.0.1:{MLFLOW_PORT}"
    return f"[Its run in MLflow]({server}{page})" + ("" if is_server else ", while `study ui` serves it")


def describe_experiment(store: Store, run: Run) -> None:
    """Describes the experiment of `run`, with links to its runs of each stage."""
    if not _is_ours(store.experiments.tags(run.experiment_id).get(NOTE, "")):
        return
    links = [
        _markdown_link(name, runs_page(run.experiment_id, f"tags.stage = '{stage}'", order))
        for stage, (name, order) in STAGES.items()
    ]
    about = f"Networks on the data set {_plain(run.dataset_key)}, the best first: {', '.join(links)}."
    store.experiments.tag(run.experiment_id, {NOTE: _signed([about])})


def describe_retrained(store: Store, run: Run) -> None:
    """Describes a finished retraining, the versions of its model, and its experiment."""
    test, train = (metric(run, f"final_{split}_accuracy") for split in ("test", "train"))
    about = (
        f"{model_label(run.model)} on {_plain(run.dataset_key)}, seed {run.seed}, {counted(run.epochs, 'epoch')}: test "
        f"accuracy **{test:.2%}**, {train:.2%} on the training images."
    )
    origin = (
        f"Trained with the settings of trial {run.trial_number} of the search {_plain(run.search)} ({_settings(run)}) "
        "on all training images; the test images were held out."
    )
    files = set(store.artifacts(run.id, "report"))
    links = [_markdown_link(name, run_page(run, file)) for name, file in REPORT_FILES.items() if file in files]
    siblings = f"tags.stage = 'retrain' AND tags.trial_run = {quoted(run.trial_run)}"
    links.append(_markdown_link("the same settings with other seeds", runs_page(run.experiment_id, siblings, TEST)))
    command = f"Trained by `{retraining_anywhere(run)}`; analysed by `study analyse --run {run.id}`."
    _note(store, run, [about, origin, " · ".join(links), command])
    for version in store.client.search_model_versions(f"run_id = '{run.id}'"):
        if _is_ours(version.description or ""):
            text = _signed([about, origin, " · ".join([f"the run: {_link(run)}", *links]), command])
            store.client.update_model_version(version.name, version.version, text)
    describe_experiment(store, run)


def describe_comparison(store: Store, run: Run, result: str, command: str) -> None:
    """Describes the run of a `study experiment`, and the experiment of MLflow that holds it.

    Args:
        store: where it is.
        run: the run.
        result: what was found, in words; lines after the first may be items of a list.
        command: repeats or continues it.
    """
    first, *rest = result.splitlines()
    lines = [f"- {_plain(line.removeprefix('- '))}" if line.startswith("- ") else _plain(line) for line in rest]
    link = _markdown_link("tables and figure", run_page(run, COMPARISON_FILES))
    _note(store, run, [f"**{_plain(first)}**", "\n".join(lines), link, f"Continued by `{command}`."])
    describe_experiment(store, run)


def _settings(run: Run) -> str:
    return settings(run.train_config.differing())


def _note(store: Store, run: Run, parts: Sequence[str]) -> None:
    if _is_ours(run.tags.get(NOTE, "")):
        store.tag(run.id, **{NOTE: _signed(parts)})


def _signed(parts: Sequence[str]) -> str:
    return "\n\n".join([*filter(None, parts), SIGNATURE])


def _is_ours(description: str) -> bool:
    return not description or description.endswith(SIGNATURE)


def _link(run: Run) -> str:
    return _markdown_link(run.name, run_page(run))


def _markdown_link(name: str, page: str) -> str:
    return f"[{_plain(name)}]({page.removeprefix('/')})"


def _plain(name: str) -> str:
    """A name without characters that Markdown would read."""
    return "".join(f"\\{char}" if char in r"\`*_{}[]()<>#|!" else char for char in one_line(name))
