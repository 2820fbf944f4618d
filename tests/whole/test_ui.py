"""What a user sees in a browser: MLflow's pages as `study ui` serves and names them, and the report's page."""

import os
import re
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from study.home import Home
from study.tracking.runs import Run, metric
from study.tracking.store import Store
from tests.support.fork_server import STUDY, Forked
from tests.support.process import TIMEOUT, Reproduced, environment, only_page, reproduced


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Reproduced:
    reproduction = reproduced(tmp_path_factory)
    assert reproduction.ended.code == 0, reproduction.ended.err
    return reproduction


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture(scope="module")
def log(digits: Reproduced, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What `study ui` prints, while it serves."""
    port, log = free_port(), tmp_path_factory.mktemp("ui") / "log"
    # Modules of the user's own that are called like those that the server needs are not run.
    for name in ("mlflow", "random", "typing"):
        log.with_name(f"{name}.py").write_text("raise SystemExit(f'{__file__} was imported')")
    with log.open("w") as file:
        process = subprocess.Popen(
            [STUDY, "ui", "--port", str(port)],
            env=environment(digits.home),
            cwd=log.parent,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_for_answer(f"http://127.0.0.1:{port}/health", process, log)
        yield log
    finally:
        # As Ctrl-C does, to all processes of the terminal.
        os.killpg(process.pid, signal.SIGINT)
        process.wait(TIMEOUT)
    assert "Traceback" not in log.read_text()


@pytest.fixture(scope="module")
def output(log: Path) -> str:
    return log.read_text()


def wait_for_answer(address: str, process: subprocess.Popen[bytes] | Forked, log: Path) -> None:
    for _ in range(TIMEOUT):
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(address, timeout=TIMEOUT):
                return
        except OSError:
            time.sleep(1)
    raise AssertionError(log.read_text())


def address(output: str, name: str, page: str) -> str:
    """The address that was said for a page of what is called `name`."""
    match = re.search(rf"^{re.escape(name)}\n(?:  .*\n)*?  {page} +(\S+)$", output, re.MULTILINE)
    assert match, output
    return match[1]


def visit(browser: Chrome, address: str) -> None:
    # Addresses that differ only after the # would not load anew.
    browser.get("about:blank")
    browser.get(address)


def seen(browser: Chrome, by: str, what: str, count: int = 1) -> list[WebElement]:
    """At least so many visible elements, once they are there."""

    def visible(_: Chrome) -> list[WebElement] | None:
        elements = [element for element in browser.find_elements(by, what) if element.is_displayed()]
        return elements if len(elements) >= count else None

    return WebDriverWait(browser, 60, ignored_exceptions=None).until(visible, f"{what} never showed")


def cells(browser: Chrome, column: str, count: int) -> list[str]:
    """What the visible cells of a column of the table of runs show, from top to bottom, once there are so many."""
    visible = seen(browser, By.CSS_SELECTOR, f".ag-cell[col-id='{column}']", count)
    return [cell.text for cell in sorted(visible, key=lambda cell: cell.rect["y"])]


def cells_of(browser: Chrome, trials: Sequence[Run], column: str) -> list[str]:
    """What the visible cells of a column show of the trials, without the heading of each group: complete, pruned, …"""
    groups = {run.reason for run in trials}
    cells(browser, column, len(trials) + len(groups))
    rows = browser.find_elements(By.CSS_SELECTOR, ".ag-row")
    headings = {row.get_attribute("row-index") for row in rows if "Group: " in row.text}
    assert len(headings) == len(groups)
    of_trials = [row for row in rows if row.get_attribute("row-index") not in headings]
    shown = [cell for row in of_trials for cell in row.find_elements(By.CSS_SELECTOR, f"[col-id='{column}']")]
    return [cell.text for cell in sorted(shown, key=lambda cell: cell.rect["y"])]


@pytest.fixture(scope="module")
def store(digits: Reproduced) -> Store:
    return Store(Home(root=digits.home))


def test_the_trials_page_shows_the_accuracies_of_the_search_the_best_first(
    browser: Chrome, output: str, store: Store
) -> None:
    visit(browser, address(output, "digits-cnn", "trials"))
    trials = store.runs(stage="trial", search="digits-cnn")
    shown = [float(text.rstrip("…")) for text in cells_of(browser, trials, "metrics.`best_val_accuracy`")]
    complete_first = sorted(trials, key=lambda run: (run.reason, -metric(run, "best_val_accuracy")))
    assert shown == pytest.approx([metric(run, "best_val_accuracy") for run in complete_first], abs=1e-4)
    rates = cells_of(browser, trials, "params.`learning_rate`")
    assert {text.rstrip("…")[:6] for text in rates} == {run.params["learning_rate"][:6] for run in trials}
    names = {element.text for element in seen(browser, By.XPATH, "//a[starts-with(normalize-space(), 'trial ')]")}
    assert names == {f"trial {run.trial_number}" for run in trials}
    # The rates follow the accuracy.
    header = "//*[contains(@class, 'ag-header-cell')][@col-id]"
    places = {cell.get_attribute("col-id"): cell.rect["x"] for cell in seen(browser, By.XPATH, header)}
    order = ["metrics.`best_val_accuracy`", "params.`learning_rate`", "params.`weight_decay`"]
    across = sorted(places, key=lambda name: places[name])
    first = across.index(order[0])
    assert across[first : first + len(order)] == order


def test_the_compare_page_shows_the_complete_trials_with_the_logarithms_of_their_rates(
    browser: Chrome, output: str, store: Store
) -> None:
    visit(browser, address(output, "digits-cnn", "compare"))
    axes = {axis.text for axis in seen(browser, By.CSS_SELECTOR, ".parcoords .dimension .label", 3)}
    assert axes == {"log10_learning_rate", "log10_weight_decay", "best_val_accuracy"}
    complete = store.runs(stage="trial", search="digits-cnn", status_reason="complete")
    accuracies = {f"trial {run.trial_number}": metric(run, "best_val_accuracy") for run in complete}
    compared = {name for name, accuracy in accuracies.items() if accuracy >= max(accuracies.values()) / 2}
    names = {element.text for element in seen(browser, By.XPATH, "//a[starts-with(normalize-space(), 'trial ')]")}
    # One learned nothing, and is left out, which is said.
    assert names == compared != set(accuracies)
    assert "compare is without 1 trial below" in output


def test_requests_are_not_printed_below_the_addresses(browser: Chrome, output: str, log: Path) -> None:
    visit(browser, address(output, "digits-cnn", "trials"))
    cells(browser, "metrics.`best_val_accuracy`", 1)
    said = log.read_text()
    assert "GET" not in said
    assert "Registry store" not in said


RETRAINED = "cnn · seed 0 of digits-cnn, 2 epochs"


@pytest.fixture(scope="module")
def accuracy(store: Store) -> str:
    (run,) = store.runs(stage="retrain", model="cnn")
    return f"{metric(run, 'final_test_accuracy'):.2%}"


@pytest.mark.parametrize("page", ["run", "model"])
def test_a_retrained_run_and_its_model_show_their_test_accuracy(
    browser: Chrome, output: str, page: str, accuracy: str
) -> None:
    visit(browser, address(output, RETRAINED, page))
    (shown,) = seen(browser, By.XPATH, f"//strong[text()='{accuracy}']")
    top, height = shown.rect["y"], browser.execute_script("return innerHeight")
    assert 0 < top < height


def test_a_retrained_run_shows_its_curve(browser: Chrome, output: str) -> None:
    visit(browser, address(output, RETRAINED, "run").replace("?", "/model-metrics?"))
    seen(browser, By.XPATH, "//*[text()='test_accuracy']")
    seen(browser, By.CSS_SELECTOR, ".scatterlayer .js-line")


def test_the_explorer_opens_among_the_artifacts_of_its_run(browser: Chrome, output: str) -> None:
    visit(browser, address(output, RETRAINED, "explorer"))
    (frame,) = seen(browser, By.TAG_NAME, "iframe")
    browser.switch_to.frame(frame)
    try:
        WebDriverWait(browser, 60).until(lambda _: "test accuracy" in browser.find_element(By.ID, "state").text)
    finally:
        browser.switch_to.default_content()


def test_the_report_opens_among_the_artifacts_of_its_run(browser: Chrome, output: str) -> None:
    visit(browser, address(output, RETRAINED, "report"))
    (frame,) = seen(browser, By.TAG_NAME, "iframe")
    browser.switch_to.frame(frame)
    try:
        assert [heading.text for heading in seen(browser, By.TAG_NAME, "h1")] == ["CNN on scikit-learn's digits"]
        # What lies beside the page cannot be opened from here, and is named instead.
        links = browser.find_elements(By.TAG_NAME, "a")
        assert links
        assert all("#" in str(link.get_attribute("href")) for link in links)
        assert "explorer.html, beside this page" in browser.find_element(By.TAG_NAME, "main").text
    finally:
        browser.switch_to.default_content()


@pytest.mark.parametrize("width", [1200, 390])
def test_the_report_page_fits_its_window_and_shows_all_its_figures(
    browser: Chrome, digits: Reproduced, width: int
) -> None:
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    try:
        visit(browser, only_page(digits.home).as_uri())
        seen(browser, By.TAG_NAME, "h1")
        # On a narrow screen they are closed at first.
        browser.execute_script("for (const part of document.querySelectorAll('.part')) part.open = true")
        assert browser.execute_script("return innerWidth") == width
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        wider = (
            "return [...document.querySelectorAll('figure')].filter(one => one.scrollWidth > one.clientWidth).length"
        )
        assert browser.execute_script(wider) == 0 or width > 390
        # They are loaded as they come into view.
        loaded = """return [...document.images].map((image) => {
          image.loading = "eager";
          return image.complete && image.naturalWidth > 0;
        })"""
        figures = sum(path.suffix in (".png", ".gif") for path in only_page(digits.home).parent.iterdir())
        WebDriverWait(browser, 60).until(lambda _: browser.execute_script(loaded) == [True] * figures)
        animation = seen(browser, By.CSS_SELECTOR, "img[data-animation]")[0]
        browser.execute_script("arguments[0].scrollIntoView()", animation)
        narrow = "narrow/" if width == 390 else ""
        name = f"{only_page(digits.home).parent.as_uri()}/{narrow}{animation.get_attribute('data-animation')}"
        WebDriverWait(browser, 60).until(lambda _: animation.get_property("currentSrc") == name)
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
