import json
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest

from pipelines.session.mlflow_pages import (
    BY_STATUS,
    COLUMNS,
    CREATED,
    DURATION,
    NAME,
    VIEW,
    left_out,
    model_page,
    pages_of,
    run_page,
    runs_page,
    search_pages,
)
from study.tracking.best import complete_trials
from study.tracking.runs import LOG_RATES, Run, metric
from study.tracking.store import Store
from tests.conftest import Finished


def query(page: str) -> dict[str, list[str]]:
    """The query of the part after the #, which MLflow's pages read."""
    return parse_qs(urlsplit(urlsplit(page).fragment).query)


@pytest.fixture
def search(finished_study: Finished) -> Run:
    return finished_study.context.store.get(finished_study.parents["cnn"])


def view(store: Store, search: Run, page: str) -> dict[str, object]:
    (key,) = query(page)["viewStateShareKey"]
    recorded: dict[str, object] = json.loads(store.experiments.tags(search.experiment_id)[VIEW + key])
    return recorded


def test_every_page_opens_in_the_mode_for_models_that_are_trained(search: Run, finished_study: Finished):
    store = finished_study.context.store
    pages = [run_page(search), run_page(search, "report/index.html"), model_page("a name/with a slash", 3)]
    pages += [runs_page("1", "tags.stage = 'trial'", "val_accuracy"), *search_pages(store, search, []).values()]
    assert [query(page)["workflowType"] for page in pages] == [["machine_learning"]] * len(pages)


def test_of_an_analysis_the_pages_are_those_of_what_it_analysed(finished_study: Finished):
    store, retrained = finished_study.context.store, finished_study.retrained["cnn"]
    analysed = store.get(retrained)
    analysis = replace(analysed, id="0", tags={"stage": "analysis", "retrain_run": retrained})
    pages = pages_of(store, analysis)
    assert pages == pages_of(store, analysed)
    assert pages["run"] == run_page(analysed)
    assert pages["model"] == model_page("digits-cnn", 1)


def test_a_view_of_the_trials_has_their_search_their_order_and_their_columns(search: Run, finished_study: Finished):
    store = finished_study.context.store
    pages = search_pages(store, search, [])
    assert list(pages) == ["trials"]
    shown = view(store, search, pages["trials"])
    assert shown["selectedColumns"] == list(COLUMNS)
    assert shown["columnOrder"] == [NAME, CREATED, *COLUMNS, DURATION]
    assert shown["groupBy"] == BY_STATUS
    ordered = store.client.search_runs(
        [search.experiment_id], str(shown["searchFilter"]), order_by=[f"{shown['orderByKey']} DESC"]
    )
    complete = complete_trials(store, "digits", search="digits-cnn")
    assert ordered[0].data.metrics["best_val_accuracy"] == metric(complete[0], "best_val_accuracy")
    assert {run.info.run_id for run in ordered} == {run.id for run in store.runs(stage="trial", search=search.search)}


@pytest.mark.parametrize(
    ("model", "drawn", "params"),
    [
        ("cnn", ("filters1", "filters2", "kernel"), ["filters", "kernel"]),
        ("custom", ("width1", "block12"), ["width1", "block12"]),
    ],
)
def test_what_a_search_draws_is_named_as_its_runs_record_it(
    search: Run, finished_study: Finished, model: str, drawn: tuple[str, ...], params: list[str]
):
    choices = json.dumps(dict.fromkeys(drawn, "1,2"))
    drawing = replace(search, tags={**search.tags, "model": model}, params={**search.params, "choices": choices})
    store = finished_study.context.store
    shown = view(store, search, search_pages(store, drawing, [])["trials"])
    assert shown["selectedColumns"] == [*COLUMNS, *(f"params.`{name}`" for name in [*params, "parameters"])]


def test_the_comparison_is_of_complete_trials_with_the_logarithms_of_their_rates(search: Run, finished_study: Finished):
    store = finished_study.context.store
    complete = complete_trials(store, "digits", search="digits-cnn")
    pages = search_pages(store, search, [*complete, complete[0]])
    assert query(pages["compare"])["compareRunsMode"] == ["CHART"]
    shown = view(store, search, pages["compare"])
    (chart,) = shown["compareRunCharts"]  # type: ignore[misc]
    assert chart["selectedParams"] == list(LOG_RATES)
    assert chart["selectedMetrics"] == ["best_val_accuracy"]
    compared = store.client.search_runs([search.experiment_id], str(shown["searchFilter"]))
    assert {run.info.run_id for run in compared} == {run.id for run in complete}
    assert left_out([]) == ""


def test_a_trial_far_below_the_best_is_not_compared_and_the_page_says_so(search: Run, finished_study: Finished):
    store = finished_study.context.store
    best = complete_trials(store, "digits", search="digits-cnn")[0]
    accuracies = {"0": 0.9, "1": 0.8, "2": 0.45, "3": 0.44}
    complete = [replace(best, id=id, metrics={"best_val_accuracy": value}) for id, value in accuracies.items()]
    shown = view(store, search, search_pages(store, search, complete)["compare"])
    assert str(shown["searchFilter"]).endswith(" AND metrics.`best_val_accuracy` >= 0.45")
    without = "without 1 trial below 0.45, half of the best validation accuracy"
    assert left_out(complete) == without
    (section,) = shown["compareRunSections"]  # type: ignore[misc]
    assert section["name"].casefold() == without.casefold()
    assert left_out(complete[:3]) == ""
    assert list(search_pages(store, search, [complete[0], complete[3]])) == ["trials"]


def test_trials_recorded_without_logarithms_are_compared_by_their_rates(search: Run, finished_study: Finished):
    store = finished_study.context.store
    old = complete_trials(store, "digits", search="digits-cnn")[:1]
    for name in LOG_RATES:
        old[0].params.pop(name, None)
    pages = search_pages(store, search, old * 2)
    (chart,) = view(store, search, pages["compare"])["compareRunCharts"]  # type: ignore[misc]
    assert chart["selectedParams"] == ["learning_rate", "weight_decay"]
