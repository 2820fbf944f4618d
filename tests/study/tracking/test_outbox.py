"""What a store cannot take while it is away is kept, and reaches it once: on a real store whose answers can be lost."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow.exceptions import MlflowException
from requests.exceptions import ConnectionError as Lost

from study.config import Home
from study.errors import StoreFault
from study.tracking import retry
from study.tracking.outbox import deliver, opened
from study.tracking.runs import Run, points
from study.tracking.store import Store
from study.tracking.writer import Writer


class Line:
    """The line to a store: while it is cut, no request gets through; while it is deaf, no answer comes back."""

    def __init__(self, client: Any):
        self.client, self.is_cut, self.is_deaf = client, False, False
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.asked.append(name)
            if self.is_cut:
                raise Lost("Connection refused")
            answer = getattr(self.client, name)(*arguments, **options)
            if self.is_deaf:
                raise Lost("Read timed out.")
            return answer

        return call


class Remote(Store):
    """A store that is reached by a `Line`, artifacts too."""

    def __init__(self, home: Home, uri: str | None = None):
        self.said: list[str] = []
        super().__init__(home, uri, self.said.append)
        self.line = Line(self.client._client)
        self.client._client = self.line

    def new_run(self) -> str:
        run_id = self.start("digits", "of a test", tags={}, params={})
        self._roots[run_id] = None
        return run_id

    def values(self, run_id: str, name: str) -> list[tuple[int, float]]:
        history = self.line.client.get_metric_history(run_id, name)
        return sorted((point.step, point.value) for point in history)

    def now(self, run_id: str) -> Run:
        """The run as it is in the store, whatever is kept elsewhere."""
        return Store.get(Store(Home(root=self.home.root / "elsewhere"), self.uri), run_id)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST", 0.0)
    monkeypatch.setattr(retry, "TIMEOUT", 0.2)


@pytest.fixture
def remote(home: Home) -> Remote:
    return Remote(home)


def outbox(home: Home) -> list[str]:
    return [path.name for path in (home.store / "outbox").glob("*")]


@pytest.mark.parametrize("fault", ["is_cut", "is_deaf"])
def test_what_a_store_that_is_away_did_not_take_reaches_it_once_when_it_is_back(fault: str, remote: Remote):
    run_id = remote.new_run()
    remote.log(run_id, {"loss": 0.0}, 0)
    setattr(remote.line, fault, True)
    for step in (1, 2, 3):
        remote.log(run_id, {"loss": step / 3, "rate": 0.5}, step)
    assert outbox(remote.home) == [run_id]
    setattr(remote.line, fault, False)
    remote.log(run_id, {"loss": 4.0}, 4)
    assert remote.values(run_id, "loss") == [(0, 0.0), (1, 1 / 3), (2, 2 / 3), (3, 1.0), (4, 4.0)]
    assert remote.values(run_id, "rate") == [(1, 0.5), (2, 0.5), (3, 0.5)]
    assert outbox(remote.home) == []


def test_it_is_said_once_that_the_store_went_away_and_once_what_was_delivered(remote: Remote):
    run_id = remote.new_run()
    remote.line.is_cut = True
    for step in range(5):
        remote.log(run_id, {"loss": 0.5}, step)
    assert len(remote.said) == 1
    assert f"what cannot be recorded is kept in {remote.home.store / 'outbox'}" in remote.said[0]
    remote.line.is_cut = False
    remote.tag(run_id, one=1)
    assert remote.said[1:] == [f"{remote.uri} answers again: delivered 5 values of metrics and 0 files of 1 runs."]


def test_while_it_is_away_a_store_is_asked_ever_more_seldom(remote: Remote, monkeypatch: pytest.MonkeyPatch):
    run_id = remote.new_run()
    monkeypatch.setattr(retry, "FIRST", 60.0)
    remote.line.is_cut = True
    remote.line.asked.clear()
    for step in range(20):
        remote.log(run_id, {"loss": 0.5}, step)
    assert remote.line.asked == ["log_batch"]


@pytest.mark.parametrize("fault", ["is_cut", "is_deaf"])
def test_files_tags_and_the_end_are_kept_and_delivered_too(fault: str, remote: Remote):
    run_id = remote.new_run()
    setattr(remote.line, fault, True)
    digest = remote.log_tensors(run_id, "weights/epoch_001.safetensors", {"one": torch.zeros(3)})
    remote.log_tensors(run_id, "resume/odd.safetensors", {"one": torch.zeros(3)})
    remote.log_tensors(run_id, "resume/odd.safetensors", {"one": torch.ones(3)}, metrics="{}")
    remote.log_sums(run_id, {"weights/epoch_001.safetensors": digest})
    remote.tag(run_id, one=1, two=2)
    remote.tag(run_id, two=3)
    before = time.time_ns() // 1_000_000
    remote.finish(run_id, "KILLED", "interrupted", points({"best": 0.5}, 0))
    after = time.time_ns() // 1_000_000
    setattr(remote.line, fault, False)
    run = remote.get(run_id)
    assert outbox(remote.home) == [], "what is read is never older than what was written"
    assert (run.status, run.metrics) == ("KILLED", {"best": 0.5})
    assert (run.tags["status_reason"], run.tags["one"], run.tags["two"]) == ("interrupted", "1", "3")
    assert before <= remote.line.client.get_run(run_id).info.end_time <= after
    assert remote.sums(run_id) == {"weights/epoch_001.safetensors": digest}
    assert remote.digest(run_id, "weights/epoch_001.safetensors") == digest
    tensors, said = remote.load_tensors(run_id, "resume/odd.safetensors")
    assert (tensors["one"].tolist(), said) == ([1, 1, 1], {"metrics": "{}"})


def test_the_next_command_delivers_what_a_killed_one_kept(remote: Remote):
    run_id = remote.new_run()
    remote.line.is_cut = True
    remote.log(run_id, {"loss": 0.25}, 1)
    remote.finish(run_id, "FINISHED", "complete")
    with (remote.home.store / "outbox" / run_id / "metrics.jsonl").open("a") as file:
        file.write('["loss", 0.')
    later = Remote(remote.home)
    assert later.get(run_id).status == "FINISHED"
    assert later.values(run_id, "loss") == [(1, 0.25)]
    assert later.said == [
        f"{remote.uri} has now what was kept for it in {remote.home.store / 'outbox'}: "
        "1 values of metrics and 0 files of 1 runs."
    ]
    assert outbox(remote.home) == []
    remote.line.is_cut = False
    remote.log(run_id, {"loss": 0.5}, 2)
    assert later.values(run_id, "loss") == [(1, 0.25), (2, 0.5)], "the first process notices that it was delivered"


def test_a_delivery_that_breaks_off_goes_on_where_it_was(remote: Remote, monkeypatch: pytest.MonkeyPatch):
    run_id = remote.new_run()
    remote.line.is_cut = True
    for number in range(3):
        remote.log_tensors(run_id, f"weights/epoch_{number:03d}.safetensors", {"one": torch.zeros(number + 1)})
        remote.log(run_id, {"loss": 0.5}, number)
    remote.line.is_cut = False
    put, seen = remote.put_file, []

    def failing_second(run: str, path: str, file: Path) -> None:
        seen.append(path)
        if len(seen) == 2:
            raise Lost("Connection reset")
        put(run, path, file)

    monkeypatch.setattr(remote, "put_file", failing_second)
    remote.tag(run_id, one=1)
    assert outbox(remote.home) == [run_id]
    remote.tag(run_id, two=2)
    assert seen == [f"weights/epoch_{number:03d}.safetensors" for number in (0, 1, 1, 2)]
    assert remote.values(run_id, "loss") == [(0, 0.5), (1, 0.5), (2, 0.5)]
    assert remote.get(run_id).tags["one"] == "1"


def test_what_is_kept_for_one_store_is_not_given_to_another(remote: Remote, other_home: Home):
    run_id = remote.new_run()
    remote.line.is_cut = True
    remote.log(run_id, {"loss": 0.5}, 1)
    Store(remote.home, f"sqlite:///{other_home.store / 'mlflow.db'}")
    assert outbox(remote.home) == [run_id]


def test_what_is_kept_is_delivered_by_whichever_address_the_store_is_reached(remote: Remote):
    run_id = remote.new_run()
    remote.line.is_cut = True
    remote.log(run_id, {"loss": 0.5}, 1)
    Store(remote.home, remote.uri.replace("/mlruns/", "/mlruns/../mlruns/"))
    assert outbox(remote.home) == []
    assert remote.values(run_id, "loss") == [(1, 0.5)]


def test_what_was_kept_of_a_training_that_was_continued_from_elsewhere_and_is_over_changes_nothing_of_it(
    remote: Remote, other_home: Home, tmp_path: Path
):
    run_id = remote.new_run()
    remote.line.is_cut = True
    remote.log(run_id, {"loss": 0.5}, 1)
    remote.log_sums(run_id, {"weights/epoch_001.safetensors": "0" * 64})
    remote.finish(run_id, "KILLED", "interrupted")
    elsewhere = Store(other_home, remote.uri)
    elsewhere.log(run_id, {"loss": 0.25}, 2)
    elsewhere.log_sums(run_id, {"weights/epoch_002.safetensors": "1" * 64})
    elsewhere.finish(run_id, "FINISHED", "complete")

    later = Store(remote.home, remote.uri)
    assert outbox(remote.home) == []
    run = later.get(run_id)
    assert (run.status, run.tags["status_reason"]) == ("FINISHED", "complete")
    assert later.sums(run_id) == {"weights/epoch_002.safetensors": "1" * 64}
    assert remote.values(run_id, "loss") == [(1, 0.5), (2, 0.25)]


def test_an_empty_folder_that_a_killed_process_left_is_removed(home: Home):
    (home.store / "outbox" / ("0" * 32)).mkdir(parents=True)
    Store(home)
    assert outbox(home) == []


def kept_of_two(remote: Remote) -> tuple[str, str]:
    """Two runs of which a value is kept; the first, which is delivered first, was deleted meanwhile."""
    refused, taken = sorted([remote.new_run(), remote.new_run()])
    remote.line.is_cut = True
    for run_id in (refused, taken):
        remote.log(run_id, {"loss": 0.5}, 1)
    remote.line.client.delete_run(refused)
    return refused, taken


def test_what_the_store_refuses_stays_and_keeps_nothing_else_from_it(remote: Remote):
    refused, taken = kept_of_two(remote)
    later = Remote(remote.home)
    assert outbox(remote.home) == [refused]
    assert later.values(taken, "loss") == [(1, 0.5)]
    assert later.said[0].startswith(f"What is kept in {remote.home.store / 'outbox' / refused} cannot be delivered (")


def test_what_the_store_refuses_keeps_nothing_else_from_the_process_that_kept_it(remote: Remote):
    refused, taken = kept_of_two(remote)
    remote.line.is_cut = False
    remote.get(taken)
    remote.log(taken, {"loss": 0.25}, 2)
    assert remote.values(taken, "loss") == [(1, 0.5), (2, 0.25)]
    assert outbox(remote.home) == [refused]


def test_an_outage_after_another_process_delivered_is_told_again(remote: Remote):
    run_id = remote.new_run()
    for step in (1, 2):
        remote.line.is_cut = True
        remote.log(run_id, {"loss": 0.5}, step)
        remote.line.is_cut = False
        Remote(remote.home)
        remote.get(run_id)
        remote.tag(run_id, looked=step)
    assert sum("the work goes on" in said for said in remote.said) == 2


def test_a_value_after_one_that_was_half_written_is_kept(tmp_path: Path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text('["loss", 0.5, 1, 1]\n["loss", 0.')
    with opened(tmp_path / "run") as parcel:
        assert parcel
        parcel.add_points(points({"loss": 0.25}, 3))
        assert [(point.value, point.step) for point in parcel.points()] == [(0.5, 1), (0.25, 3)]


def test_two_that_deliver_at_the_same_time_deliver_once(remote: Remote):
    run_id = remote.new_run()
    remote.line.is_cut = True
    for step in range(50):
        remote.log(run_id, {"loss": 0.5}, step)
    remote.line.is_cut = False
    found = []
    threads = [threading.Thread(target=lambda: found.append(deliver(remote, remote.home))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.values for one in found) == [0, 0, 0, 50]
    assert remote.values(run_id, "loss") == [(step, 0.5) for step in range(50)]


def test_reading_waits_until_the_store_is_back(remote: Remote, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(retry, "TIMEOUT", 60.0)
    run_id = remote.new_run()
    remote.line.is_cut = True
    threading.Timer(0.3, lambda: setattr(remote.line, "is_cut", False)).start()
    assert remote.get(run_id).status == "RUNNING"
    assert len(remote.said) == 1
    assert "waiting for it, for 60 s at most" in remote.said[0]


def test_a_store_that_stays_away_is_given_up_with_a_sentence_and_then_at_once(
    remote: Remote, monkeypatch: pytest.MonkeyPatch
):
    run_id = remote.new_run()
    remote.line.is_cut = True
    with pytest.raises(StoreFault, match=r"does not answer as it should \(Connection refused\): start it again"):
        remote.get(run_id)
    monkeypatch.setattr(retry, "TIMEOUT", 60.0)
    remote.line.asked.clear()
    with pytest.raises(StoreFault):
        remote.get(run_id)
    assert remote.line.asked == ["get_run"]


def test_a_run_is_begun_once_though_no_answer_said_so(remote: Remote, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(retry, "TIMEOUT", 60.0)
    remote.experiment("digits")
    remote.line.is_deaf = True
    threading.Timer(0.3, lambda: setattr(remote.line, "is_deaf", False)).start()
    run_id = remote.new_run()
    assert [run.id for run in remote.runs()] == [run_id]


def test_the_writer_does_not_fail_while_the_store_is_away_and_a_drain_does_not_wait(remote: Remote):
    run_id = remote.new_run()
    with Writer(remote) as writer:
        remote.line.is_cut = True
        writer.log(run_id, {"loss": 0.5}, 1)
        writer.drain()
        assert outbox(remote.home) == [run_id]
        remote.line.is_cut = False
        writer.log(run_id, {"loss": 0.5}, 2)
    assert remote.values(run_id, "loss") == [(1, 0.5), (2, 0.5)]


def test_what_is_no_fault_of_the_store_is_raised_at_once_and_not_kept(remote: Remote):
    run_id = remote.new_run()
    remote.line.client.delete_run(run_id)
    with pytest.raises(MlflowException, match="active"):
        remote.log(run_id, {"loss": 0.5}, 1)
    assert outbox(remote.home) == []


def test_values_that_are_no_numbers_come_through(remote: Remote):
    run_id = remote.new_run()
    remote.line.is_cut = True
    remote.log(run_id, {"nan": float("nan"), "infinite": float("inf")}, 1)
    remote.line.is_cut = False
    remote.tag(run_id, one=1)
    history = remote.line.client.get_metric_history
    assert json.dumps(history(run_id, "nan")[0].value) == "NaN"
    assert history(run_id, "infinite")[0].value > 1e308


def test_a_name_that_leads_out_of_the_outbox_is_refused(remote: Remote, tmp_path: Path):
    (tmp_path / "one").write_text("one")
    with opened(remote.home.store / "outbox" / "0", "somewhere") as parcel:
        assert parcel
        with pytest.raises(Exception, match="leads out"):
            parcel.add_file("../../one", tmp_path / "one")
