"""What a user sees in a browser: MLflow's pages as `study ui` serves and names them, and the report's page."""

import re
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from pipelines.session.mlflow_pages import run_page
from study.home import Home
from study.tracking.store import Store
from tests.support.fork_server import STUDY
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
def output(digits: Reproduced, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What `study ui` says, while it serves."""
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
        yield log.read_text()
    finally:
        process.terminate()
        process.wait(TIMEOUT)


def wait_for_answer(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
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


def called(name: str) -> str:
    return f"//a[normalize-space()={name!r}]"


def test_the_runs_page_nests_the_trials_below_their_search(browser: Chrome, output: str) -> None:
    visit(browser, address(output, "digits-cnn", "trials"))
    seen(browser, By.XPATH, called("digits-cnn"))
    assert not browser.find_elements(By.XPATH, called("trial 0 of digits-cnn"))
    (expander,) = seen(browser, By.XPATH, f"//div[@role='gridcell'][.{called('digits-cnn')}]//button")
    expander.click()
    for number in range(3):
        seen(browser, By.XPATH, called(f"trial {number} of digits-cnn"))


def test_the_compare_page_shows_the_trials_in_parallel_coordinates(browser: Chrome, output: str) -> None:
    visit(browser, address(output, "digits-cnn", "compare"))
    axes = {axis.text for axis in seen(browser, By.CSS_SELECTOR, ".parcoords .axis-title", 3)}
    assert {"learning_rate", "weight_decay", "val_accuracy"} <= axes


def test_a_retrained_run_shows_its_curve(browser: Chrome, output: str) -> None:
    name = "retrained, seed 0: trial \\d of digits-cnn"
    visit(browser, found(output, name) + "/model-metrics")
    seen(browser, By.XPATH, "//*[text()='test_accuracy']")
    seen(browser, By.CSS_SELECTOR, ".scatterlayer .js-line")


def found(output: str, name: str) -> str:
    """The address of the run whose name has this pattern."""
    (line,) = re.findall(rf"^{name}$", output, re.MULTILINE)
    return address(output, line, "run")


def test_the_report_opens_among_the_artifacts_of_its_run(browser: Chrome, output: str, digits: Reproduced) -> None:
    (run,) = Store(Home(root=digits.home)).runs(stage="retrain", model="cnn")
    visit(browser, said_base(output) + run_page(run, "report/index.html"))
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


def said_base(output: str) -> str:
    base = re.search(r"http://127\.0\.0\.1:\d+", output)
    assert base
    return base[0]


@pytest.mark.parametrize("width", [1200, 390])
def test_the_report_page_fits_its_window_and_shows_all_its_figures(
    browser: Chrome, digits: Reproduced, width: int
) -> None:
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    try:
        visit(browser, only_page(digits.home).as_uri())
        seen(browser, By.TAG_NAME, "h1")
        assert browser.execute_script("return innerWidth") == width
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        wider = (
            "return [...document.querySelectorAll('figure')].filter(one => one.scrollWidth > one.clientWidth).length"
        )
        assert browser.execute_script(wider) == 0 or width > 390
        loaded = "return [...document.images].map(image => image.complete && image.naturalWidth > 0)"
        figures = sum(path.suffix in (".png", ".gif") for path in only_page(digits.home).parent.iterdir())
        browser.execute_script("for (const image of document.images) image.loading = 'eager'")
        WebDriverWait(browser, 60).until(lambda _: browser.execute_script(loaded) == [True] * figures)
        animation = seen(browser, By.CSS_SELECTOR, "img[data-animation]")[0]
        browser.execute_script("arguments[0].scrollIntoView()", animation)
        name = animation.get_attribute("data-animation")
        WebDriverWait(browser, 60).until(lambda _: str(animation.get_attribute("src")).endswith(f"/{name}"))
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
