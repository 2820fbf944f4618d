import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score

from analysis.page import Section
from analysis.results.kinds import GROUPS
from pipelines.report import figures
from pipelines.report.exhibits import Report
from pipelines.report.material import Material
from pipelines.report.network import Network, pull
from pipelines.report.tracked import runs_by_seed
from pipelines.retrain import retrain
from pipelines.session.context import Context
from pipelines.tune import tune
from study.architectures import FFNNConfig
from study.config import SearchConfig
from study.data import Dataset
from study.tracking import best
from tests.support.material import written

CIFAR10_CLASSES = tuple(sorted(name for names in GROUPS.values() for name in names))


@pytest.fixture(scope="module")
def networks(finished_study) -> dict[str, Network]:
    store = finished_study.context.store
    return {name: pull(store, store.get(run_id)) for name, run_id in finished_study.retrained.items()}


HERE = [*(row.name for row in figures.FIGURES if row.part == figures.RESULTS), "convergence"]


def made(networks: dict[str, Network], folder: Path) -> tuple[Report, list[str]]:
    folder.mkdir()
    material = Material(next(iter(networks.values())), networks)
    return written(material, folder, HERE), [row.name for row in figures.available(material) if row.name in HERE]


@pytest.fixture(scope="module")
def report(networks, finished_study, tmp_path_factory: pytest.TempPathFactory) -> Report:
    made_report, _ = made(networks, tmp_path_factory.mktemp("report") / "both")
    return made_report


def section_of(report: Report, name: str) -> Section:
    [section] = [section for section in report.sections if section.csv == f"{name}.csv"]
    return section


def test_every_section_has_its_numbers_beside_it(report: Report):
    assert [section.csv for section in report.sections] == [
        f"{name}.csv"
        for name in (
            "table2",
            "table2_intervals",
            "mcnemar",
            "classes",
            "confusion",
            "roc",
            "calibration",
            "convergence",
            "seeds",
        )
    ]
    for section in report.sections:
        assert section.csv is not None
        assert len(pd.read_csv(report.folder / section.csv))
        assert section.text.endswith(".")
    assert {file.stem for file in report.folder.glob("*.png")} == {
        "table2_intervals",
        "convergence",
        "classes",
        "confusion",
        "roc",
        "calibration",
    }


def test_the_answer_is_readable_on_the_page_and_numbers_in_the_file(report: Report, networks):
    shown = section_of(report, "table2").table
    assert shown is not None
    assert shown["model"].unique().tolist() == ["CNN", "FFNN", "CNN − FFNN", "majority class"]
    numbers = pd.read_csv(report.folder / "table2.csv")
    own = numbers[numbers["minus"].isna() & (numbers["measure"] == "accuracy")].set_index(["model", "split"])
    for name, network in networks.items():
        logits, labels = network.predictions["test"]
        assert own.loc[(name, "test"), "value"] == pytest.approx(accuracy_score(labels, logits.argmax(axis=1)))
    assert "(" in (report.folder / "table2.md").read_text()
    assert "Wik's (2023) numbers are of CIFAR-10, and are shown only for" in section_of(report, "table2").note
    assert "report" not in numbers
    assert section_of(report, "table2").heading == "Accuracy, precision, recall, F1 and balanced accuracy"
    assert not any("(Figure" in section.heading for section in report.sections)


def test_a_picture_in_words_has_one_mark_after_its_heading(report: Report):
    assert section_of(report, "calibration").alt.startswith("Calibration: is confidence as high as accuracy? ")
    assert section_of(report, "roc").alt.startswith("ROC curves of each class against the rest. ")


def test_one_seed_names_the_command_that_adds_another(report: Report, networks):
    section = section_of(report, "seeds")
    for network in networks.values():
        assert f"`study retrain --run {network.run.id[:8]} --epochs 2 --seeds 3` adds two" in "".join(section.points)
    assert section.table is not None
    assert section.table["final accuracy, %"].str.match(r"\d+\.\d\d$").all()
    table = pd.read_csv(report.folder / "seeds.csv")
    assert table["seeds"].tolist() == [1] * 4
    assert table["mean"].iloc[0] == pytest.approx(networks["cnn"].run.metrics["final_test_accuracy"])


def test_cifar_10s_classes_bring_the_report_and_the_kinds(networks, finished_study, tmp_path: Path):
    of_cifar10 = {name: replace(network, classes=CIFAR10_CLASSES) for name, network in networks.items()}
    for name, network in of_cifar10.items():
        run = replace(network.run, params=network.run.params | {"dataset": "cifar10"})
        of_cifar10[name] = replace(network, run=run)
    report, taken = made(of_cifar10, tmp_path / "cifar10")
    assert "groups" in taken
    assert set(pd.read_csv(report.folder / "groups.csv")["model"]) == {"cnn", "ffnn"}
    assert "report" in pd.read_csv(report.folder / "table2.csv")
    assert section_of(report, "table2").heading.endswith("beside the report's (Table 2)")
    assert section_of(report, "roc").heading.endswith("(Figure 14)")
    assert re.search(r"with Wik's \(2023\) 0.710 \w+ this interval", section_of(report, "table2").text)


def test_a_folder_with_cifar_10s_class_names_is_not_taken_for_cifar_10(networks, tmp_path: Path):
    renamed = {name: replace(network, classes=CIFAR10_CLASSES) for name, network in networks.items()}
    section = section_of(made(renamed, tmp_path / "folder")[0], "table2")
    assert re.search(r"with Wik's \(2023\) 0.710 \(on CIFAR-10 itself\) \w+ this interval", section.text)
    assert section.table is not None
    assert "CNN (Wik, CIFAR-10 itself)" in section.table["model"].tolist()


def test_a_model_alone_with_a_test_folder_of_one_class_is_reported(networks, finished_study, tmp_path: Path):
    network = networks["cnn"]
    logits, labels = network.predictions["test"]
    only = {**network.predictions, "test": (logits[labels == 3], labels[labels == 3])}
    report, taken = made({"cnn": replace(network, predictions=only)}, tmp_path / "single")
    assert "mcnemar" not in taken
    section = section_of(report, "classes")
    assert "; recall is undefined without images" in section.text


def test_retrainings_with_other_seeds_are_found_and_give_bands(context: Context, tiny: Dataset, tmp_path: Path):
    model = FFNNConfig(hidden=4)
    tune(SearchConfig(name="digits-ffnn", model=model, trials=1, epochs=1, batch_size=60), tiny, context)
    trial = best.best_trial(context.store, tiny.key, "ffnn")
    ids = {seed: retrain(trial, tiny, context, epochs=2, seed=seed) for seed in (0, 1)}
    retrain(trial, tiny, context, epochs=1, seed=2)
    network = pull(context.store, context.store.get(ids[0]))
    assert {seed: run.id for seed, run in runs_by_seed(context.store, network).items()} == ids
    report, _ = made({"ffnn": network}, tmp_path / "seeds")
    curves = pd.read_csv(report.folder / "convergence.csv")
    assert sorted(curves["seed"].unique()) == [0, 1]
    finals = [context.store.get(run_id).metrics["final_test_accuracy"] for run_id in ids.values()]
    table = pd.read_csv(report.folder / "seeds.csv").query("split == 'test'").iloc[0]
    assert (table["mean"], table["deviation"]) == pytest.approx((np.mean(finals), np.std(finals, ddof=1)))
    assert not section_of(report, "seeds").points
