"""Pages of MLflow's interface: paths to append to the address of its server, and the views that they open with.

A view is a tag of the experiment, in the format of MLflow's "share view": its filter, order, columns and charts.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from analysis.drawing.wording import counted
from study.config import RATES
from study.errors import StudyError
from study.tracking.queries import quoted
from study.tracking.runs import LOG_RATES, PARAMETERS, Run, metric

if TYPE_CHECKING:
    from study.tracking.store import Store

MODE = "workflowType=machine_learning"
"""Without it MLflow opens the pages of its mode for language models, which lack the charts of runs."""
VIEW = "mlflow.sharedViewState."
"""Prefix of the tags that hold MLflow's views."""
REPORT_FILES = {"report": "report/index.html", "explorer": "report/explorer.html"}
"""The pages of a report among the artifacts of its run."""
COMPARISON_FILES = "experiment"
"""The folder of the tables and figure of a `study experiment` among the artifacts of its run."""
BEST = "best_val_accuracy"
COLUMNS = (
    f"metrics.`{BEST}`",
    "params.`learning_rate`",
    "params.`weight_decay`",
    "metrics.`best_epoch`",
    "tags.`status_reason`",
)
"""Columns of the table of trials, in their order."""
NAME, CREATED, DURATION = "attributes.`Run Name`", "runDateAndNestInfo", "duration"
"""MLflow's columns that no view can hide."""
WIDTHS = {CREATED: 40, COLUMNS[0]: 150, COLUMNS[1]: 165, COLUMNS[2]: 165}
"""In pixels: of when a run was created only its status shows, of a rate all digits, since an exponent comes last."""
FAR_WORSE = 0.5
"""Lowest share of the best validation accuracy that is compared: beside a worse one all others have the same colour."""
BY_STATUS = {"aggregateFunction": "max", "groupByKeys": [{"mode": "tag", "groupByData": "status_reason"}]}
"""Trials by how they ended: the best epoch of a pruned one would else stand among the results of the complete ones."""


def run_page(run: Run, artifact: str = "") -> str:
    """The page of a run, or one of its artifacts."""
    return page_of(run.experiment_id, run.id, f"/artifacts/{artifact}" if artifact else "")


def page_of(experiment_id: str, run_id: str, place: str = "") -> str:
    """The page of a run, or a `place` on it, by its id."""
    return f"/#/experiments/{experiment_id}/runs/{run_id}{place}?{MODE}"


def runs_page(experiment_id: str, query: str, order: str) -> str:
    """The page of the runs that match a query, those with the highest value of the metric `order` first."""
    ordered = f"orderByKey={quote(f'metrics.`{order}`')}&orderByAsc=false"
    return f"/#/experiments/{experiment_id}/runs?{MODE}&searchFilter={quote(query)}&{ordered}"


def model_page(name: str, version: str | int) -> str:
    """The page of a version of a registered model."""
    return f"/#/models/{quote(name, safe='')}/versions/{version}?{MODE}"


def pages_of(store: "Store", run: Run) -> dict[str, str]:
    """The pages of a run: itself; of a search its views; of a retraining what its report has, and its model.

    Those of an analysis are of the retraining that it analysed.
    """
    if analysed := run.references.get("retrain_run"):
        run = store.get(analysed)
    pages = {"run": run_page(run)}
    if run.stage == "search":
        return pages | search_pages(store, run, complete_of(store, run))
    if run.stage == "retrain":
        files = set(store.artifacts(run.id, "report"))
        pages |= {kind: run_page(run, file) for kind, file in REPORT_FILES.items() if file in files}
        if versions := store.client.search_model_versions(f"run_id = '{run.id}'"):
            pages["model"] = model_page(versions[0].name, versions[0].version)
    return pages


def complete_of(store: "Store", search: Run) -> list[Run]:
    """The complete trials of a search, the best first."""
    # Imports MLflow, which commands that print only addresses do not need.
    from study.tracking.best import complete_trials

    # Not found where the experiment was renamed, which can be undone on these pages.
    with suppress(StudyError):
        return complete_trials(store, search.dataset_key, search=search.search)
    return []


def search_pages(store: "Store", search: Run, complete: Sequence[Run]) -> dict[str, str]:
    """The pages of a search, whose views are recorded: its trials, and a comparison where two `complete` ones are."""
    views = {"trials": _trials_view(search)}
    compared = _comparable(complete)
    if len(compared) > 1:
        has_logs = all(name in complete[0].params for name in LOG_RATES)
        rates = LOG_RATES if has_logs else RATES
        views["compare"] = _compare_view(search, [*rates, *_params(search)], _least(complete), left_out(complete))
    keys = {kind: f"{kind}-{search.id}" for kind in views}
    store.experiments.tag(search.experiment_id, {VIEW + keys[kind]: json.dumps(view) for kind, view in views.items()})
    charts = {"compare": "&compareRunsMode=CHART"}
    page = f"/#/experiments/{search.experiment_id}/runs?{MODE}"
    return {kind: f"{page}&viewStateShareKey={key}{charts.get(kind, '')}" for kind, key in keys.items()}


def left_out(complete: Sequence[Run]) -> str:
    """Which of a search's complete trials its comparison leaves out, in words; empty if none."""
    worse = len(complete) - len(_comparable(complete))
    if not worse:
        return ""
    return f"without {counted(worse, 'trial')} below {_least(complete):.4g}, half of the best validation accuracy"


def _comparable(complete: Sequence[Run]) -> list[Run]:
    least = _least(complete) if complete else 0.0
    return [run for run in complete if metric(run, BEST) >= least]


def _least(complete: Sequence[Run]) -> float:
    """The lowest validation accuracy that is compared."""
    return FAR_WORSE * max(metric(run, BEST) for run in complete)


def _params(search: Run) -> list[str]:
    """The params of the hyperparameters that the search draws beside both rates, and of the number of parameters."""
    # A CNN's filters are drawn for each layer, and recorded as one param.
    of_layers = ("filters1", "filters2") if search.model == "cnn" else ()
    names = dict.fromkeys("filters" if name in of_layers else name for name in search.choices)
    return [*names, PARAMETERS] if names else []


def _trials_view(search: Run) -> dict[str, Any]:
    """The view of a search's trials by how they ended, the highest validation accuracy first."""
    columns = [*COLUMNS, *(f"params.`{name}`" for name in _params(search))]
    return {
        "searchFilter": f"tags.stage = 'trial' AND tags.search = {quoted(search.search)}",
        "orderByKey": f"metrics.`{BEST}`",
        "orderByAsc": False,
        "groupBy": BY_STATUS,
        "selectedColumns": columns,
        "columnOrder": [NAME, CREATED, *columns, DURATION],
        "columnWidths": WIDTHS,
    }


def _compare_view(search: Run, params: Sequence[str], least: float, without: str) -> dict[str, Any]:
    """The view of a search's complete trials in parallel coordinates: the `params`, and the accuracy they gave.

    Args:
        search: the search.
        params: the params that are axes.
        least: the lowest accuracy of a trial that is shown.
        without: which trials are not, in words.
    """
    view = _trials_view(search)
    section = {
        "uuid": "search",
        # MLflow cuts a name after some 35 characters.
        "name": f"W{without[1:]}" if without else "Settings and validation accuracy",
        "display": True,
        "isReordered": False,
        "columns": 1,
        "cardHeight": 420,
    }
    chart = {
        "uuid": "trials",
        "type": "PARALLEL",
        "metricSectionId": section["uuid"],
        "selectedParams": params,
        "selectedMetrics": [BEST],
        "showAllRuns": True,
        "isGenerated": False,
        "deleted": False,
    }
    return view | {
        "searchFilter": f"{view['searchFilter']} AND tags.status_reason = 'complete' AND metrics.`{BEST}` >= {least}",
        "groupBy": None,
        "compareRunSections": [section],
        "compareRunCharts": [chart],
    }
