"""Waiting for a store that is away: on a real store whose requests or answers can be lost."""

import math
import threading
from collections.abc import Callable
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from requests.exceptions import ConnectionError as Lost

from study.errors import Diverged, StoreFault
from study.home import Home
from study.system import retry
from study.tracking.failures import failure_recorded
from study.tracking.runs import points
from study.tracking.store import Store
from study.tracking.writer import Writer


class Line:
    """The line to a store: while it is cut, no request gets through; while it is deaf, no answer comes back."""

    def __init__(self, client: Any):
        self.client, self.is_cut, self.is_deaf = client, False, False
        self.asked: list[str] = []
        self.failed = threading.Event()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.asked.append(name)
            if self.is_cut:
                self.failed.set()
                raise Lost("Connection refused")
            answer = getattr(self.client, name)(*arguments, **options)
            if self.is_deaf:
                self.is_deaf = False
                raise Lost("Read timed out.")
            return answer

        return call


class Remote(Store):
    """A store that is reached by a `Line`."""

    def __init__(self, home: Home):
        self.said: list[str] = []
        super().__init__(home, say=self.said.append)
        self.line = Line(self.client._client)
        self.client._client = self.line

    def new_run(self) -> str:
        return self.start("digits", "of a test", tags={}, params={})

    def values(self, run_id: str, name: str) -> list[tuple[int, float]]:
        history = self.line.client.get_metric_history(run_id, name)
        return sorted((point.step, point.value) for point in history)


@pytest.fixture
def remote(home: Home, monkeypatch: pytest.MonkeyPatch) -> Remote:
    monkeypatch.setattr(retry, "FIRST", 0.01)
    monkeypatch.setattr(retry, "TIMEOUT", 60.0)
    return Remote(home)


def back_soon(remote: Remote) -> None:
    """Has the store come back a little after the next request failed."""

    def wait() -> None:
        remote.line.failed.wait(60)
        remote.line.is_cut = False

    remote.line.is_cut = True
    threading.Thread(target=wait).start()


@pytest.mark.parametrize("is_heard", [True, False])
def test_values_reach_a_store_that_was_away_once(is_heard: bool, remote: Remote):
    run_id = remote.new_run()
    remote.log(run_id, {"loss": 0.5}, 1)
    if is_heard:
        remote.line.is_deaf = True
    else:
        back_soon(remote)
    remote.log(run_id, {"loss": 0.25}, 2)
    assert remote.values(run_id, "loss") == [(1, 0.5), (2, 0.25)]


def test_the_end_of_a_run_that_was_heard_without_an_answer_is_recorded_once(remote: Remote):
    run_id = remote.new_run()
    remote.line.is_deaf = True
    remote.finish(run_id, "FINISHED", "complete", points({"best": 0.5}, 0), reached=3)
    run = remote.get(run_id)
    assert (run.status, run.tags["status_reason"], run.tags["reached"]) == ("FINISHED", "complete", "3")
    assert remote.values(run_id, "best") == [(0, 0.5)]


def test_a_run_is_started_once_though_no_answer_said_so(remote: Remote):
    remote.experiment("digits")
    remote.line.is_deaf = True
    run_id = remote.new_run()
    assert [run.id for run in remote.runs()] == [run_id]


def test_reading_waits_until_the_store_is_back_and_says_so_once(remote: Remote):
    run_id = remote.new_run()
    back_soon(remote)
    assert remote.get(run_id).status == "RUNNING"
    assert not remote.is_away
    assert len(remote.said) == 1
    assert "retrying for up to 60 s" in remote.said[0]


def test_a_store_that_stays_away_is_given_up_with_a_sentence_and_then_at_once(
    remote: Remote, monkeypatch: pytest.MonkeyPatch
):
    run_id = remote.new_run()
    remote.line.is_cut = True
    monkeypatch.setattr(retry, "TIMEOUT", 0.1)
    with pytest.raises(StoreFault, match=r"does not answer correctly \(Connection refused\): start it again"):
        remote.get(run_id)
    monkeypatch.setattr(retry, "TIMEOUT", 60.0)
    remote.line.asked.clear()
    with pytest.raises(StoreFault):
        remote.get(run_id)
    assert remote.line.asked == ["get_run"]
    remote.line.is_cut = False
    assert remote.get(run_id).id == run_id


def test_a_writers_backlog_is_recorded_in_order_once_the_store_is_back(remote: Remote):
    run_id, written = remote.new_run(), []

    def write(step: int) -> None:
        remote.log(run_id, {"loss": step / 4}, step)
        written.append(step)

    with Writer(remote) as writer:
        remote.line.is_cut = True
        for step in range(1, 4):
            writer.submit(lambda step=step: write(step))
        assert written == []
        remote.line.is_cut = False
    assert written == [1, 2, 3]
    assert remote.values(run_id, "loss") == [(1, 0.25), (2, 0.5), (3, 0.75)]


def test_an_interruption_does_not_wait_for_a_store_that_is_away_and_leaves_the_run_open(
    remote: Remote, monkeypatch: pytest.MonkeyPatch
):
    # Without giving up, the next attempt would come after the test's own time limit.
    monkeypatch.setattr(retry, "FIRST", 3600.0)
    monkeypatch.setattr(retry, "LONGEST", 3600.0)
    monkeypatch.setattr(retry, "TIMEOUT", 7200.0)
    run_id = remote.new_run()

    def train() -> None:
        with failure_recorded(remote, run_id), Writer(remote) as writer:
            writer.submit(lambda: remote.log(run_id, {"loss": 0.5}, 1))
            writer.log(run_id, {"rate": 0.5}, 1)
            raise KeyboardInterrupt

    remote.line.is_cut = True
    with pytest.raises(KeyboardInterrupt):
        train()
    assert remote.line.client.get_run(run_id).info.status == "RUNNING"


def test_a_failure_waits_for_the_store_and_ends_the_run(remote: Remote):
    run_id = remote.new_run()
    back_soon(remote)
    with pytest.raises(Diverged), failure_recorded(remote, run_id):
        raise Diverged(1, "loss", math.nan)
    assert remote.get(run_id).tags["status_reason"] == "diverged"


def test_a_write_that_fails_is_raised_and_none_is_tried_after_it(remote: Remote):
    refused, other = remote.new_run(), remote.new_run()
    remote.line.client.delete_run(refused)

    def write_both() -> None:
        with Writer(remote) as writer:
            with pytest.raises(MlflowException, match="active"):
                writer.submit(lambda: remote.log(refused, {"loss": 0.5}, 1))
            writer.submit(lambda: remote.log(other, {"loss": 0.5}, 1))

    with pytest.raises(MlflowException, match="active"):
        write_both()
    assert remote.values(other, "loss") == []
