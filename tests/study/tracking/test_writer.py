import os
import signal
import threading
import time
from collections.abc import Callable, Sequence

import pytest
from mlflow.exceptions import MlflowException

from study.home import Home
from study.system import interruption
from study.tracking import writer as writer_module
from study.tracking.store import MAX_BATCH, Point, Store
from study.tracking.writer import Writer

TIMEOUT = 60
"""Seconds after which a test that waits for another thread has failed."""


class Watched(Store):
    """A store that can be held up, and that notes what each write brought it."""

    def __init__(self, home: Home):
        super().__init__(home)
        self.writes: list[tuple[str, list[Point]]] = []
        self.busy, self.is_open = threading.Event(), threading.Event()
        self.is_open.set()

    def log_points(self, run_id: str, recorded: Sequence[Point], **tags: object) -> None:
        self.busy.set()
        assert self.is_open.wait(TIMEOUT), "held up for longer than a test should take"
        super().log_points(run_id, recorded, **tags)
        self.writes.append((run_id, list(recorded)))

    def new_run(self) -> str:
        return self.start("digits", "of a test", tags={}, params={})

    def hold(self, writer: Writer, run_id: str) -> None:
        """Has `writer` write the metric `first`, and keeps it from coming to an end with that."""
        self.is_open.clear()
        writer.log(run_id, {"first": 0.0})
        assert self.busy.wait(TIMEOUT)

    def steps(self, run_id: str, name: str) -> list[int]:
        """The steps at which a run has a metric, in the order of the times at which it was handed over."""
        history = self.client.get_metric_history(run_id, name)
        return [point.step for point in sorted(history, key=lambda point: (point.timestamp, point.step))]


@pytest.fixture
def watched(home: Home, monkeypatch: pytest.MonkeyPatch) -> Watched:
    # Tests that hold it up wait until it has begun to write.
    monkeypatch.setattr(writer_module, "BATCH_SECONDS", 0.25)
    return Watched(home)


def later(action: Callable[[], None]) -> None:
    threading.Timer(0.2, action).start()


def test_after_drain_every_point_is_in_the_store_once_with_its_value_and_step(watched: Watched):
    run_id, other = watched.new_run(), watched.new_run()
    with Writer(watched) as writer:
        for step in range(1, 31):
            writer.log(run_id, {"loss": 1 / step, "accuracy": step / 30}, step)
            if step % 3 == 0:
                writer.log(other, {"loss": -step}, step)
        writer.drain()
        for name, value in (("loss", lambda step: 1 / step), ("accuracy", lambda step: step / 30)):
            recorded = {point.step: point.value for point in watched.client.get_metric_history(run_id, name)}
            assert recorded == {step: value(step) for step in range(1, 31)}
            assert watched.steps(run_id, name) == list(range(1, 31))
        assert watched.steps(other, "loss") == list(range(3, 31, 3))
    assert watched.steps(run_id, "loss") == list(range(1, 31))


def of_each_run(written: list[tuple[str, list[Point]]]) -> dict[str, list[tuple[str, int]]]:
    """The names and steps of the points that the store took, run by run, in their order."""
    taken: dict[str, list[tuple[str, int]]] = {}
    for run, batch in written:
        taken.setdefault(run, []).extend((point.name, point.step) for point in batch)
    return taken


def test_a_runs_points_go_out_in_the_order_in_which_they_came_and_together(watched: Watched):
    run_id, other = watched.new_run(), watched.new_run()
    came: dict[str, list[tuple[str, int]]] = {run_id: [], other: []}
    with Writer(watched) as writer:
        watched.hold(writer, run_id)
        came[run_id].append(("first", 0))
        for step in range(1, 31):
            for run in (run_id, other, run_id):
                writer.log(run, {"b": 0.5, "a": 0.5}, step)
                came[run] += [("b", step), ("a", step)]
        watched.is_open.set()
    assert of_each_run(watched.writes) == came
    assert [run for run, _ in watched.writes] == [run_id, run_id, other]


def test_a_metric_logged_without_a_step_has_step_0(watched: Watched):
    run_id = watched.new_run()
    with Writer(watched) as writer:
        writer.log(run_id, {"best": 0.5})
    assert watched.steps(run_id, "best") == [0]


def test_logging_does_not_wait_and_what_came_meanwhile_is_one_write(watched: Watched):
    run_id = watched.new_run()
    with Writer(watched) as writer:
        watched.hold(writer, run_id)
        for step in range(1, 6):
            writer.log(run_id, {"loss": 0.5, "accuracy": 0.5}, step)
        assert watched.writes == []
        watched.is_open.set()
        writer.drain()
    brought = [[(point.name, point.step) for point in written] for _, written in watched.writes]
    assert brought == [[("first", 0)], [(name, step) for step in range(1, 6) for name in ("loss", "accuracy")]]


def test_tags_go_out_with_the_metrics_also_after_a_refusal(watched: Watched):
    run_id, other = watched.new_run(), watched.new_run()
    with Writer(watched) as writer:
        watched.hold(writer, other)
        watched.client.delete_run(run_id)
        writer.log(run_id, {"loss": 0.5}, 1, status_reason="pruned", stopped_by=None)
        watched.is_open.set()
        with pytest.raises(MlflowException, match="active"):
            writer.drain()
        watched.client.restore_run(run_id)
        writer.log(run_id, {}, status_reason="complete")
        writer.drain()
    run = watched.get(run_id)
    assert (run.metrics, run.reason) == ({"loss": 0.5}, "complete")
    assert "stopped_by" not in run.tags
    assert [run for run, _ in watched.writes] == [other, run_id]


def test_draining_waits_for_the_store(watched: Watched):
    run_id = watched.new_run()
    with Writer(watched) as writer:
        watched.hold(writer, run_id)
        writer.log(run_id, {"loss": 0.5}, 1)
        later(watched.is_open.set)
        writer.drain()
        assert watched.steps(run_id, "loss") == [1]


def test_a_points_time_is_when_it_was_handed_over_and_not_when_it_was_written(watched: Watched):
    run_id = watched.new_run()
    with Writer(watched) as writer:
        watched.hold(writer, run_id)
        before = time.time_ns() // 1_000_000
        writer.log(run_id, {"loss": 0.5}, 1)
        after = time.time_ns() // 1_000_000
        time.sleep(0.05)
        watched.is_open.set()
    [point] = watched.client.get_metric_history(run_id, "loss")
    assert before <= point.timestamp <= after


@pytest.mark.slow
@pytest.mark.parametrize("refused", [0, 1, 2])
def test_what_the_store_refuses_is_told_kept_and_delivered_once_by_a_later_drain(refused: int, watched: Watched):
    runs = [watched.new_run() for _ in range(3)]
    with Writer(watched) as writer:
        watched.hold(writer, runs[0])
        for step in (1, 2):
            for run_id in runs:
                writer.log(run_id, {"loss": 0.5}, step)
        watched.client.delete_run(runs[refused])
        watched.is_open.set()
        with pytest.raises(MlflowException, match="active"):
            writer.drain()
        writer.log(runs[refused], {"loss": 0.5}, 3)
        with pytest.raises(MlflowException, match="active"):
            writer.drain()
        watched.client.restore_run(runs[refused])
        writer.drain()
    expected = {run: [("loss", 1), ("loss", 2)] for run in runs}
    expected[runs[0]].insert(0, ("first", 0))
    expected[runs[refused]].append(("loss", 3))
    assert of_each_run(watched.writes) == expected
    for run_id in runs:
        assert watched.steps(run_id, "loss") == ([1, 2, 3] if run_id == runs[refused] else [1, 2])


def test_what_came_before_a_refused_point_is_in_the_store_at_once(watched: Watched):
    taken, refused, behind = (watched.new_run() for _ in range(3))
    with Writer(watched) as writer:
        watched.client.delete_run(refused)
        watched.hold(writer, taken)
        for run_id in (taken, refused, behind):
            writer.log(run_id, {"loss": 0.5}, 1)
        watched.is_open.set()
        with pytest.raises(MlflowException):
            writer.drain()
        assert watched.steps(taken, "loss") == [1]
        assert watched.steps(behind, "loss") == []
        watched.client.restore_run(refused)
    assert watched.steps(refused, "loss") == watched.steps(behind, "loss") == [1]


def test_leaving_the_block_tells_what_the_store_refused(watched: Watched):
    run_id = watched.new_run()
    watched.client.delete_run(run_id)
    with pytest.raises(MlflowException, match="active"), Writer(watched) as writer:
        writer.log(run_id, {"loss": 0.5}, 1)


@pytest.mark.slow
@pytest.mark.parametrize("end", [None, KeyboardInterrupt(), RuntimeError("a bug")])
def test_leaving_the_block_waits_until_all_is_written(end: BaseException | None, watched: Watched):
    run_id = watched.new_run()

    def logged() -> None:
        with Writer(watched) as writer:
            watched.hold(writer, run_id)
            writer.log(run_id, {"loss": 0.5}, 1)
            later(watched.is_open.set)
            if end:
                raise end

    if end:
        with pytest.raises(type(end)) as raised:
            logged()
        assert raised.value is end
    else:
        logged()
    assert watched.steps(run_id, "loss") == [1]


def test_a_signal_while_it_waits_for_the_store_loses_nothing(watched: Watched):
    run_id = watched.new_run()

    def interrupted() -> None:
        interruption.check()
        with Writer(watched) as writer:
            watched.hold(writer, run_id)
            writer.log(run_id, {"loss": 0.5}, 1)
            later(lambda: os.kill(os.getpid(), signal.SIGTERM))
            try:
                writer.drain()
            finally:
                assert watched.writes == []
                later(watched.is_open.set)

    with interruption.signals_noted(), pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [len(written) for _, written in watched.writes] == [1, 1]
    assert watched.steps(run_id, "loss") == [1]


@pytest.mark.slow
def test_more_points_than_mlflow_takes_in_one_write_are_all_recorded(watched: Watched):
    run_id, count = watched.new_run(), MAX_BATCH + 200
    with Writer(watched) as writer:
        watched.hold(writer, run_id)
        for step in range(1, count + 1):
            writer.log(run_id, {"loss": 0.5}, step)
        watched.is_open.set()
    assert [len(written) for _, written in watched.writes] == [1, count]
    assert sorted(point.step for point in watched.client.get_metric_history(run_id, "loss")) == list(
        range(1, count + 1)
    )


def test_points_of_a_write_that_broke_off_halfway_are_in_the_store_once(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
):
    run_id, count, batches = watched.new_run(), MAX_BATCH + 200, []
    log_batch = watched.client.log_batch

    def failing_once(run: str, metrics: Sequence[object], tags: Sequence[object]) -> None:
        batches.append(len(metrics))
        if batches == [1, MAX_BATCH, 200]:
            raise MlflowException("The store is away.")
        log_batch(run, metrics=metrics, tags=tags)

    monkeypatch.setattr(watched.client, "log_batch", failing_once)
    with Writer(watched) as writer:
        watched.hold(writer, run_id)
        for step in range(1, count + 1):
            writer.log(run_id, {"loss": 0.5}, step)
        watched.is_open.set()
    assert batches == [1, MAX_BATCH, 200, MAX_BATCH, 200]
    history = watched.client.get_metric_history(run_id, "loss")
    assert sorted(point.step for point in history) == list(range(1, count + 1))
