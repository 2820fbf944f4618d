"""A tracking server that goes away or is slow in the middle of a training: it is finished, and its record is whole."""

import contextlib
import http.client
import http.server
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from optuna.trial import TrialState

from pipelines.retrain import retrain
from pipelines.session.context import Context
from pipelines.session.display import Display
from pipelines.tune import tune
from study.data import Dataset
from study.device import Machine
from study.errors import StoreFault
from study.home import Home
from study.system import retry
from study.system.processes import this_process
from study.tracking.runs import WORKER, Run
from study.tracking.store import Store
from tests.conftest import copy_of
from tests.pipelines.test_retrain import trial
from tests.pipelines.test_tune import SMALL, in_optuna
from tests.pipelines.trials.test_recovery import assert_runs_mirror
from tests.support.server import Server

AWAY = float(os.environ.get("STUDY_TEST_AWAY", "1"))
"""Seconds for which the server stays stopped, before it takes some more to start."""
PATIENCE = 1
"""Seconds that a request waits for its answer, where one comes late."""
EPOCHS = 9
SPEED = ("system/epoch_seconds", "system/images_per_second")
RECORDED = ("train_loss", "train_accuracy", "test_loss", "test_accuracy", *SPEED)


@pytest.fixture(scope="module")
def server(server_folder: Path) -> Iterator[Server]:
    server = Server(server_folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()


class Doing(Display):
    """Does something as soon as an epoch of a training is kept, and remembers what was said."""

    def __init__(self, **at_epoch: Callable[[], None]):
        super().__init__()
        self.at_epoch, self.said = at_epoch, [""]

    def say(self, text: str) -> None:
        self.said.append(text)
        if text.startswith("epoch "):
            self.at_epoch.get(f"epoch_{text.split('/')[0].split()[1]}", lambda: None)()


def surroundings(home: Home, address: str, machine: Machine, **at_epoch: Callable[[], None]) -> Context:
    return Context(home, Store(home, address), home.storage_url, machine, display=Doing(**at_epoch))


def said(context: Context) -> list[str]:
    assert isinstance(context.display, Doing)
    return [text for text in context.display.said if not text.startswith("epoch ")]


def train(toy: Run, dataset: Dataset, context: Context) -> str:
    return retrain(toy, dataset, context, epochs=EPOCHS)


@pytest.fixture(scope="module")
def expected(migrated: Home, machine: Machine, tiny: Dataset, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The hashes of the weights of every epoch, where nothing went wrong."""
    home = copy_of(migrated, tmp_path_factory.mktemp("undisturbed") / "home")
    context = surroundings(home, home.tracking_uri, machine)
    return hashes(context.store, train(trial(context, tiny), tiny, context))


def end_worker(store: Store, toy: Run) -> None:
    """Names, as the worker of an unfinished retraining, a process that has ended, which this one has not."""
    (run,) = store.runs(stage="retrain", trial_run=toy.id)
    store.tag(run.id, **{WORKER: f"{this_process()}0"})


def hashes(store: Store, run_id: str) -> list[str]:
    return [store.digest(run_id, f"weights/epoch_{epoch:03d}.safetensors") for epoch in range(EPOCHS + 1)]


def assert_whole(store: Store, run_id: str, expected: list[str]) -> None:
    assert store.get(run_id).status == "FINISHED"
    for name in RECORDED:
        steps = sorted(point.step for point in store.client.get_metric_history(run_id, name))
        assert steps == list(range(0 if name.startswith("test") else 1, EPOCHS + 1)), name
    assert hashes(store, run_id) == expected


class Between(http.server.BaseHTTPRequestHandler):
    """Hands requests on; by `fault` it answers 500 itself, or late, or keeps the answer, or the end of it."""

    fault: ClassVar[str] = ""
    port: ClassVar[int] = 0
    requests: ClassVar[Iterator[int]] = itertools.count()
    protocol_version = "HTTP/1.1"

    def handle_one(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, answer, kind = 500, b"{}", "application/json"
        if self.fault != "500":
            connection = http.client.HTTPConnection("127.0.0.1", self.port)
            connection.request(self.command, self.path, body, dict(self.headers))
            response = connection.getresponse()
            status, answer, kind = response.status, response.read(), response.headers.get_content_type()
            connection.close()
        if self.fault == "late" and next(self.requests) % 4 == 0:
            # Nobody waits for the answer any more.
            time.sleep(1.5 * PATIENCE)
        if self.fault == "no answer":
            self.close_connection = True
            return
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.send_header("Content-Type", kind)
        self.end_headers()
        is_file = "artifacts/" in self.path
        is_cut = self.fault == "cut off" or (self.fault == "files cut off" and self.command == "GET" and is_file)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(answer[:-1] if is_cut else answer)
        self.close_connection = is_cut

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_one

    def log_message(self, *arguments: object) -> None:
        pass


def fail(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    monkeypatch.setattr(Between, "fault", fault)


@pytest.fixture
def between(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(Between, "port", server.port)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Between) as proxy:
        proxy.daemon_threads, proxy.block_on_close = True, False
        threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{proxy.server_port}"
        proxy.shutdown()


def test_a_server_that_is_stopped_for_a_while_and_started_again_has_every_epoch_once(
    server: Server, home: Home, machine: Machine, tiny: Dataset, expected: list[str]
):
    def restart() -> None:
        time.sleep(AWAY)
        server.start()

    context = surroundings(home, server.address, machine, epoch_2=server.stop, epoch_7=restart)
    run_id = train(trial(context, tiny), tiny, context)
    assert_whole(context.store, run_id, expected)
    assert sum("Connection refused" in text for text in said(context)) == 1, "it is said once that it went away"


def test_a_file_that_is_cut_off_on_its_way_back_is_not_taken_for_a_lost_one(
    between: str, home: Home, machine: Machine, tiny: Dataset, expected: list[str], monkeypatch: pytest.MonkeyPatch
):
    def interrupt() -> None:
        raise KeyboardInterrupt

    context = surroundings(home, between, machine, epoch_5=interrupt)
    toy = trial(context, tiny)
    with pytest.raises(KeyboardInterrupt):
        train(toy, tiny, context)
    (run,) = context.store.runs(stage="retrain", trial_run=toy.id)
    context = surroundings(home, between, machine)
    monkeypatch.setattr(Between, "fault", "files cut off")
    threading.Timer(2, lambda: fail(monkeypatch, "")).start()
    assert train(toy, tiny, context) == run.id
    assert_whole(context.store, run.id, expected)


def test_what_ended_while_the_server_was_away_is_continued_by_the_same_command(
    between: str, home: Home, machine: Machine, tiny: Dataset, expected: list[str], monkeypatch: pytest.MonkeyPatch
):
    def interrupt() -> None:
        raise KeyboardInterrupt

    context = surroundings(home, between, machine, epoch_2=lambda: fail(monkeypatch, "500"), epoch_5=interrupt)
    toy = trial(context, tiny)
    with pytest.raises(KeyboardInterrupt):
        train(toy, tiny, context)
    fail(monkeypatch, "")
    context = surroundings(home, between, machine)
    (left,) = context.store.runs(stage="retrain", trial_run=toy.id)
    run_id, epochs = left.id, context.store.history(left.id)["epoch"]
    assert (left.status, epochs.max()) == ("RUNNING", 2)
    end_worker(context.store, toy)
    assert train(toy, tiny, context) == run_id
    assert f"Continuing run {run_id} after epoch 2." in said(context)
    assert_whole(context.store, run_id, expected)


def test_a_server_that_stays_away_ends_the_command_with_a_sentence_and_loses_nothing(
    between: str, home: Home, machine: Machine, tiny: Dataset, expected: list[str], monkeypatch: pytest.MonkeyPatch
):
    context = surroundings(home, between, machine, epoch_2=lambda: fail(monkeypatch, "500"))
    toy = trial(context, tiny)
    monkeypatch.setattr(retry, "TIMEOUT", 1.0)
    with pytest.raises(StoreFault, match=r"\(too many 500 error responses\): start it again, and the same command"):
        train(toy, tiny, context)
    fail(monkeypatch, "")
    context = surroundings(home, between, machine)
    end_worker(context.store, toy)
    run_id = train(toy, tiny, context)
    assert f"Continuing run {run_id} after epoch 2." in said(context)
    assert_whole(context.store, run_id, expected)


@pytest.mark.parametrize("fault", ["500", "no answer", "cut off"])
def test_requests_that_fail_or_are_heard_without_an_answer_leave_every_epoch_once(
    fault: str,
    between: str,
    home: Home,
    machine: Machine,
    tiny: Dataset,
    expected: list[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(retry, "FIRST", 0.0)
    context = surroundings(
        home,
        between,
        machine,
        epoch_2=lambda: fail(monkeypatch, fault),
        epoch_7=lambda: fail(monkeypatch, ""),
    )
    run_id = train(trial(context, tiny), tiny, context)
    assert_whole(context.store, run_id, expected)


def test_a_server_that_answers_slowly_slows_a_search_and_fails_no_trial(
    between: str, home: Home, machine: Machine, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
):
    context = surroundings(home, between, machine)
    monkeypatch.setattr(retry, "FIRST", 0.0)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", str(PATIENCE))
    fail(monkeypatch, "late")
    tune(SMALL, tiny, context)
    fail(monkeypatch, "")
    assert any("does not answer correctly" in text for text in said(context))
    trials = in_optuna(context, SMALL, tiny).get_trials()
    assert [each.state for each in trials] == [TrialState.COMPLETE] * SMALL.trials
    assert_runs_mirror(context, SMALL, trials)
