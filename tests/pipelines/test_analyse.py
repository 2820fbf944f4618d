import gc
import re
import shlex
import shutil
from dataclasses import replace
from html import unescape
from pathlib import Path

import pandas as pd
import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from pipelines.analyse import analyse, frozen_objects
from pipelines.config import AnalysisConfig
from pipelines.report import figures
from pipelines.retrain import retrain
from pipelines.session.context import Context
from pipelines.show_run import show_run
from pipelines.tune import tune
from study.architectures import MODELS, CNNConfig, FFNNConfig
from study.config import SearchConfig
from study.data import Dataset
from study.errors import StudyError
from study.tracking import best
from tests.support.accessibility import violations
from tests.support.figures import FFNN_FIGURES, LAYERS, cnn_figures
from tests.support.legibility import watched

SETTINGS = AnalysisConfig(filter=3, epochs_every=1)
FIGURES = cnn_figures(filter=3)
TABLES = {"table2", "mcnemar", "duplicates", "seeds", "architecture"}
DATA = {"circuit_links", "circuit_pixels", "sensitivity_epochs", "sensitivity_maps"}


@pytest.fixture(scope="module")
def drawn(finished_study) -> tuple[Path, dict[str, list[str]]]:
    """The report's page, and what cannot be read in each of its figures."""
    with watched() as problems:
        analysis = analyse("best", SETTINGS, finished_study.context, data=finished_study.dataset)
    assert analysis.missing == ()
    return analysis.page, problems


@pytest.fixture(scope="module")
def page(drawn: tuple[Path, dict[str, list[str]]]) -> Path:
    return drawn[0]


def test_no_text_of_any_figure_overlaps_another_or_is_cut_off(drawn: tuple[Path, dict[str, list[str]]]):
    _, problems = drawn
    animations = {f"animation: Filter 3 of {layer} on train image 0 (0)" for layer in LAYERS}
    assert set(problems) == FIGURES | animations
    assert {name: found for name, found in problems.items() if found} == {}


def shown(page: Path) -> set[str]:
    """The names of the report's own files: neither what the next analysis reads nor `only/`, a report apart."""
    return {file.name for file in page.parent.iterdir() if file.is_file() and not file.name.startswith(".")}


def test_the_report_holds_every_figure_with_its_numbers(page: Path):
    files = {f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg", "csv")}
    files |= {f"{name}.{kind}" for name in TABLES for kind in ("csv", "md")}
    files |= {f"{name}.csv" for name in DATA}
    files |= {f"animation_{layer}_filter3.gif" for layer in ("conv1", "conv2")}
    assert shown(page) == files | {"index.html", "explorer.html"}
    for name in FIGURES:
        assert (page.parent / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert b"<dc:date>" not in (page.parent / f"{name}.svg").read_bytes()
        assert len(pd.read_csv(page.parent / f"{name}.csv"))


def test_the_page_shows_every_figure_and_links_every_table(page: Path, finished_study):
    html = page.read_text()
    assert [re.sub("<.*?>", "", heading) for heading in re.findall("<h2.*", html)] == [
        *figures.parts(),
        "How this was made",
    ]
    command = f"study analyse --run {finished_study.retrained['cnn']} --filter 3 --epochs-every 1"
    assert f"{command} {shlex.join(finished_study.context.where)}" in unescape(html)
    assert "--home" in finished_study.context.where
    assert html.count("<img ") == len(FIGURES) + 2
    for name in (*FIGURES, *TABLES):
        assert f'href="{name}.csv"' in html
    for run_id in finished_study.retrained.values():
        assert run_id in html


def test_the_page_is_named_where_the_run_is_shown(page: Path, finished_study, capsys: pytest.CaptureFixture[str]):
    show_run(finished_study.context.store, finished_study.retrained["cnn"])
    assert f"Report: {page}\n" in capsys.readouterr().out


def test_every_figure_is_told_in_words_and_axe_finds_nothing_wrong(page: Path, browser: Chrome):
    browser.get(page.as_uri())
    alternatives = [image.get_attribute("alt") for image in browser.find_elements(By.TAG_NAME, "img")]
    assert len(alternatives) >= len(FIGURES)
    assert [text for text in alternatives if not text or len(text.split()) < 5] == []
    assert violations(browser) == []


def test_every_caption_is_one_sentence(page: Path):
    captions = re.findall("<h3>.*?</h3>\n<p>(.*?)</p>", page.read_text())
    assert len(captions) >= len(FIGURES) + len(TABLES)
    for caption in captions:
        assert caption.endswith("."), caption
        assert not re.search("[.?!] [A-Z]", re.sub("<code>.*?</code>", "", caption)), caption


def test_the_report_is_kept_on_the_run_it_is_about(page: Path, finished_study):
    store, run_id = finished_study.context.store, finished_study.retrained["cnn"]
    assert page.is_relative_to(finished_study.context.home.reports)
    assert {f"report/{name}" for name in shown(page)} <= set(store.artifacts(run_id, "report"))
    # Other files of tests may have analysed the same run before.
    [analysis, *_] = [run for run in store.runs(stage="analysis", retrain_run=run_id) if run.params["filter"] == "3"]
    assert analysis.tags["mlflow.parentRunId"] == run_id
    assert analysis.status == "FINISHED"
    assert analysis.metrics["test_accuracy"] == store.get(run_id).metrics["final_test_accuracy"]


def test_the_same_analysis_again_writes_the_same_files(page: Path, finished_study):
    before = {name: (page.parent / name).read_bytes() for name in shown(page)}
    analyse("best", SETTINGS, finished_study.context, data=finished_study.dataset, again=True)
    assert {name: (page.parent / name).read_bytes() for name in shown(page)} == before


def test_the_metrics_are_those_of_scikit_learn(page: Path, finished_study):
    table = pd.read_csv(page.parent / "table2.csv")
    table = table[table["minus"].isna()].pivot(index=["model", "split", "images"], columns="measure", values="value")
    assert sorted(table.index.droplevel("images")) == [(name, split) for name in MODELS for split in ("test", "train")]
    store = finished_study.context.store
    for (model, split, images), row in table.iterrows():
        kept, _ = store.load_tensors(finished_study.retrained[model], f"predictions/{split}.safetensors")
        labels, predicted = kept["labels"].numpy(), kept["logits"].argmax(1).numpy()
        precision, recall, f1, _ = precision_recall_fscore_support(
            labels, predicted, average="weighted", zero_division=0
        )
        expected = [accuracy_score(labels, predicted), precision, recall, f1]
        assert row[["accuracy", "precision", "recall", "f1"]].tolist() == pytest.approx(expected, abs=1e-8)
        assert images == len(labels)


def test_the_confusions_are_of_the_test_images(page: Path):
    table = pd.read_csv(page.parent / "confusion.csv")
    counts = table.groupby("model")["count"].sum()
    assert counts.to_dict() == {"cnn": 40, "ffnn": 40}


def test_an_unknown_figure_is_named_with_the_choices(finished_study):
    context, dataset = finished_study.context, finished_study.dataset
    text = refusal("best", replace(SETTINGS, only=("roc", "fog")), context, dataset)
    assert "'fog'" in text
    assert "confusion" in text
    text = refusal("best:ffnn", AnalysisConfig(only=("kernel_conv1",)), context, dataset)
    assert "This run has no kernel_conv1: choose one of table2, mcnemar, classes, confusion, " in text
    for name in ("samples", "covariance", "filter_health", "kernel_convergence", "search_importance", "architecture"):
        assert f" {name}" in text
    assert "grid" not in text
    text = refusal("best", replace(SETTINGS, layer="conv2", only=("roc", "kernels_conv1")), context, dataset)
    assert "no kernels_conv1: choose one of " in text
    assert "kernels_conv2, kernel_conv2, maps_conv2, animation_conv2, grid_conv2" in text


def refusal(spec: str, settings: AnalysisConfig, context: Context, dataset: Dataset) -> str:
    with pytest.raises(StudyError) as raised:
        analyse(spec, settings, context, data=dataset)
    text = str(raised.value)
    assert text.endswith(".")
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"layer": "conv9"}, "'conv9'"),
        ({"filter": 4}, "conv1 has no filter 4: choose one from 0 to 3"),
        ({"filter": 6, "layer": "conv2"}, "conv2 has no filter 6: choose one from 0 to 5"),
        ({"image": "train:120"}, "train:120"),
        ({"image": "test:-1"}, "test:-1"),
        ({"image": "peacock"}, "'peacock'"),
    ],
)
def test_what_is_not_there_is_named(changed: dict[str, object], named: str, finished_study):
    settings = replace(SETTINGS, **changed)
    assert named in refusal("best", settings, finished_study.context, finished_study.dataset)


def test_an_unknown_run_and_a_trial_are_named(finished_study):
    context, dataset = finished_study.context, finished_study.dataset
    assert "'nothing'" in refusal("nothing", SETTINGS, context, dataset)
    trial = context.store.runs(stage="trial")[0]
    assert "keeps no weights" in refusal(trial.id, SETTINGS, context, dataset)


def retrained(context: Context, dataset: Dataset, model: CNNConfig | FFNNConfig) -> str:
    config = SearchConfig(name=f"digits-{model.name}", model=model, trials=1, epochs=1, batch_size=60)
    tune(config, dataset, context)
    return retrain(best.best_trial(context.store, dataset.key, model.name), dataset, context, epochs=1)


@pytest.mark.usefixtures("unpictured")
def test_a_cnn_without_an_ffnn_is_shown_alone_and_says_so(
    context: Context, tiny: Dataset, capsys: pytest.CaptureFixture[str]
):
    run_id = retrained(context, tiny, CNNConfig(filters=(4, 6)))
    capsys.readouterr()
    only = ("table2", "confusion", "kernel_conv2", "maps_conv2", "grid_pool2")
    analysis = analyse(run_id, replace(SETTINGS, layer="conv2", only=only), context, data=tiny)
    assert analysis.missing == ()
    assert "The cnn is shown alone." in capsys.readouterr().out
    assert set(pd.read_csv(analysis.page.parent / "table2.csv")["model"]) == {"cnn"}
    assert {file.stem for file in analysis.page.parent.glob("*.png")} == {
        "table2_intervals", "confusion", "kernel_conv2_filter3", "maps_conv2_filter3", "maps_relu2_filter3",
        "maps_pool2_filter3", "grid_pool2",
    }  # fmt: skip
    shutil.rmtree(context.home.reports)
    context.home.reports.write_text("a file where the folder should be")
    assert "The report cannot be written" in refusal(run_id, SETTINGS, context, tiny)


@pytest.mark.usefixtures("unpictured")
def test_an_ffnn_is_shown_without_kernels_and_maps(context: Context, tiny: Dataset):
    run_id = retrained(context, tiny, FFNNConfig(hidden=4))
    analysis = analyse("best:ffnn", AnalysisConfig(), context, data=tiny)
    assert analysis.missing == ()
    assert run_id in analysis.page.read_text()
    assert ", 1 epoch, seed 0, " in analysis.page.read_text()
    assert {file.stem for file in analysis.page.parent.glob("*.png")} == FFNN_FIGURES - {"search_heatmap"}


def test_a_retraining_that_is_not_finished_is_named(context: Context, tiny: Dataset):
    run_id = retrained(context, tiny, FFNNConfig(hidden=4))
    context.store.finish(run_id, "KILLED", "interrupted")
    text = refusal(run_id, AnalysisConfig(), context, tiny)
    assert "is not finished (killed, 2 epochs' weights)" in text


def test_objects_are_kept_out_of_garbage_collection_only_while_figures_are_drawn():
    counts = []

    def draw():
        with frozen_objects():
            counts.append(gc.get_freeze_count())
            raise StudyError("")

    with pytest.raises(StudyError):
        draw()
    assert counts[0] > 10_000
    assert gc.get_freeze_count() == 0
