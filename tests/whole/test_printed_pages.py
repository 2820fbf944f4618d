"""The pages of MLflow that the commands print where a server answers: each shows the number it is about, at once."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from pipelines.report import figures
from study.home import Home
from study.tracking.runs import Run, metric
from study.tracking.store import Store
from tests.support.process import REPRODUCE, reproduced, study, study_here
from tests.support.server import Server
from tests.whole.test_ui import cells_of, seen, visit

TUNE = ("tune", "--model", "ffnn", "--dataset", "digits", "--trials", "3", "--epochs", "2", "--retrain-epochs", "2")
WINNER = ("experiment", "winner", "--model", "ffnn", "--top", "2", "--seeds", "1", "--epochs", "1")


@dataclass(frozen=True)
class Served:
    """A copy of the shared study on a server."""

    home: Path
    address: str

    @property
    def store(self) -> Store:
        return Store(Home(root=self.home), self.address)

    def printed(self, *command: str) -> str:
        """What the command prints; trainings that the shared study has are not made again."""
        ended = study(*command, home=self.home, MLFLOW_TRACKING_URI=self.address, STUDY_THREADS="1")
        assert ended.code == 0, ended
        return ended.out

    def page(self, name: str, *command: str) -> str:
        """The address that the command prints for the page `name`."""
        output = self.printed(*command)
        match = re.search(rf"^{name}: (\S+)$", output, re.MULTILINE)
        assert match, output
        return match[1]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    original, folder = reproduced(tmp_path_factory).home, tmp_path_factory.mktemp("served")
    home = folder / "home"
    for command in (("export", str(folder / "study")), ("import", str(folder / "study"), "--home", str(home))):
        ended = study(*command, home=original)
        assert ended.code == 0, ended
    server = Server(folder, f"sqlite:///{home}/mlruns/mlflow.db")
    try:
        server.start()
        yield Served(home, server.address)
    finally:
        server.stop()


def retrained(served: Served, model: str) -> Run:
    (run,) = served.store.runs(stage="retrain", model=model)
    return run


def accuracy(run: Run) -> float:
    return metric(run, "final_test_accuracy")


def shows(browser: Chrome, page: str, text: str) -> None:
    """The page shows the text, without being scrolled."""
    visit(browser, page)
    texts = seen(browser, By.XPATH, f"//*[contains(text(), '{text}')]")
    height = browser.execute_script("return innerHeight")
    assert any(0 < element.rect["y"] < height for element in texts), text


def shows_report(browser: Chrome, page: str, text: str) -> None:
    """The page shows a report among the artifacts of a run, with the text at its top."""
    visit(browser, page)
    (frame,) = seen(browser, By.TAG_NAME, "iframe")
    height = browser.execute_script("return innerHeight") - frame.rect["y"]
    browser.switch_to.frame(frame)
    try:
        lead = seen(browser, By.XPATH, f"//p[contains(., '{text}')]")[0]
        assert 0 < lead.rect["y"] < height
    finally:
        browser.switch_to.default_content()


def test_tune_names_its_trials_and_the_retrained_run(browser: Chrome, served: Served) -> None:
    output = served.printed(*TUNE)
    pages = dict(re.findall(r"^(\w+): (http\S+)$", output, re.MULTILINE))
    assert set(pages) == {"trials", "compare", "run"}
    trials = served.store.runs(stage="trial", search="digits-ffnn")
    visit(browser, pages["trials"])
    shown = [float(text.rstrip("…")) for text in cells_of(browser, trials, "metrics.`best_val_accuracy`")]
    assert shown == pytest.approx(sorted((metric(run, "best_val_accuracy") for run in trials), reverse=True), abs=1e-4)
    visit(browser, pages["compare"])
    axes = {axis.text for axis in seen(browser, By.CSS_SELECTOR, ".parcoords .dimension .label", 3)}
    assert "best_val_accuracy" in axes
    shows(browser, pages["run"], f"{accuracy(retrained(served, 'ffnn')):.2%}")


def test_retrain_names_the_run_with_its_test_accuracy(browser: Chrome, served: Served) -> None:
    page = served.page("run", "retrain", "--run", "best:ffnn", "--epochs", "2")
    shows(browser, page, f"{accuracy(retrained(served, 'ffnn')):.2%}")


def test_show_names_the_page_of_a_run(browser: Chrome, served: Served) -> None:
    page = served.page("run", "show", "best")
    shows(browser, page, f"{accuracy(retrained(served, 'cnn')):.2%}")


def test_reproduce_names_the_pages_of_both_networks_and_the_report(
    browser: Chrome, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    # To draw all figures takes a minute of processor time.
    monkeypatch.setattr(figures, "FIGURES", tuple(row for row in figures.FIGURES if row.name == "table2"))
    variables = {"MLFLOW_TRACKING_URI": served.address, "STUDY_THREADS": "1"}
    output = study_here(*REPRODUCE, home=served.home, **variables).out
    runs = re.findall(r"^run: (\S+)$", output, re.MULTILINE)
    for page, model in zip(runs, ("cnn", "ffnn"), strict=True):
        shows(browser, page, f"{accuracy(retrained(served, model)):.2%}")
    (report,) = re.findall(r"^report: (\S+)$", output, re.MULTILINE)
    shows_report(browser, report, f"{accuracy(retrained(served, 'cnn')):.1%}")


def test_analyse_names_the_page_of_the_figures_it_made(browser: Chrome, served: Served) -> None:
    page = served.page("report", "analyse", "--run", "best:ffnn", "--only", "table2")
    shows_report(browser, page, f"{accuracy(retrained(served, 'ffnn')):.1%}")


def test_explain_names_the_page_of_the_answer(browser: Chrome, served: Served) -> None:
    output = served.printed("explain", "--run", "best:ffnn", "--image", "3")
    shown = re.search(r"as \S+ \(([\d.]+%)\)", output)
    page = re.search(r"^explanation: (\S+)$", output, re.MULTILINE)
    assert shown, output
    assert page, output
    shows_report(browser, page[1], shown[1])


def test_an_experiment_names_the_page_with_its_result(browser: Chrome, served: Served) -> None:
    output = served.printed(*WINNER)
    page = re.search(r"^experiment: (\S+)$", output, re.MULTILINE)
    assert page, output
    result = re.search(r"validation accuracy of (\d+\.\d+%)", output)
    assert result, output
    shows(browser, page[1], result[1])
