"""optuna-dashboard, really started: what it shows of a search, and to whom."""

import http.client
import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipelines import serve
from study.home import Home
from tests.conftest import Finished
from tests.support.fork_server import Forked
from tests.support.process import TIMEOUT, start_logged, study_here
from tests.whole.test_cli import assert_one_sentence
from tests.whole.test_ui import free_port, wait_for_answer


@dataclass(frozen=True)
class Served:
    port: int
    process: Forked
    log: Path

    def get(self, path: str, host: str = "127.0.0.1") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        connection.request("GET", path, headers={"Host": f"{host}:{self.port}"})
        with connection.getresponse() as answer:
            return answer.status, answer.read()

    @property
    def pages(self) -> dict[str, str]:
        """The addresses that were printed, by search."""
        return dict(line.split() for line in self.log.read_text().splitlines()[1:])

    def search(self) -> dict[str, Any]:
        """What the dashboard's page reads of the search digits-cnn."""
        key = self.pages["digits-cnn"].rpartition("/")[2]
        status, content = self.get(f"/api/studies/{key}?after=0")
        assert status == 200
        return json.loads(content)


@pytest.fixture(scope="module")
def served(finished_study: Finished, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    port, log = free_port(), tmp_path_factory.mktemp("dashboard") / "log"
    home = finished_study.context.home.root
    process = start_logged("ui", "--optuna", "--port", str(port), home=home, log=log)
    try:
        wait_for_answer(f"http://127.0.0.1:{port}/dashboard", process, log)
        yield Served(port, process, log)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT) == 0


def test_the_pages_of_the_searches_are_printed_and_no_requests(served: Served) -> None:
    assert served.get("/api/studies")[0] == 200
    base = f"http://127.0.0.1:{served.port}"
    first, *_ = served.log.read_text().splitlines()
    assert first == f"optuna-dashboard answers at {base}; Ctrl-C stops it. Its pages:"
    assert served.pages.keys() == {"digits-cnn", "digits-ffnn"}
    assert all(served.get(address.removeprefix(base))[0] == 200 for address in served.pages.values())


def test_a_search_has_the_name_of_its_metric(served: Served) -> None:
    assert served.search()["objective_names"] == ["best_val_accuracy"]


def test_each_trial_has_a_note_with_the_address_of_its_run(served: Served, finished_study: Finished) -> None:
    runs = finished_study.context.store.runs(stage="trial", search="digits-cnn")
    addresses = {
        run.trial_number: f"(http://127.0.0.1:5000/#/experiments/{run.experiment_id}/runs/{run.id}?workflowType"
        for run in runs
    }
    trials = served.search()["trials"]
    assert {trial["number"] for trial in trials} == addresses.keys()
    for trial in trials:
        assert addresses[trial["number"]] in trial["note"]["body"]


def test_a_page_of_another_site_whose_name_leads_here_is_refused(served: Served) -> None:
    assert served.get("/api/studies", host="evil.example")[0] == 403
    assert served.get("/api/studies", host="localhost")[0] == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "example.org"])
def test_it_is_opened_to_nobody_else(host: str, home: Home) -> None:
    assert_one_sentence(study_here("ui", "--optuna", "--host", host, home=home.root), f"host {host!r}", "no login")


def test_without_the_package_the_command_that_installs_it_is_said(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "find_spec", lambda name: None)
    ended = study_here("ui", "--optuna", home=home.root)
    assert_one_sentence(ended, "`study ui --optuna` needs a package: pip install 'optuna-dashboard", "0.22")


def test_without_a_search_the_command_that_makes_one_is_said(home: Home, tmp_path: Path) -> None:
    new = tmp_path / "new"
    new.mkdir()
    for root in (home.root, new):
        ended = study_here("ui", "--optuna", "--port", str(free_port()), home=root)
        assert_one_sentence(ended, Home(root=root).storage_url, f"tune --dataset digits --home {root}` makes the first")
    assert list(new.iterdir()) == []
