import queue
import threading
from pathlib import Path

import pytest
from optuna.trial import TrialState

from benchmarks import tracking, untrained
from benchmarks.coordination_worker import CONFIG, Order, alone, work
from benchmarks.pace_figure import pace_by_workers
from benchmarks.past_trials import fill
from pipelines.session.context import Context
from study.device import Machine
from study.search.private import require_valid
from study.search.search import open_search
from tests.support.postgres import Databases

DIGEST = untrained.dataset().digest
ROW = {"trial": 20.0, "epoch": 3.0, "mlflow": 60.0, "postgresql": 30.0}


def test_finished_trials_are_valid_and_differ(databases: Databases):
    fill(databases.storage, CONFIG, 120, digest=DIGEST)
    trials = open_search(CONFIG, databases.storage, digest=DIGEST).get_trials()
    assert [trial.number for trial in trials] == [trial.user_attrs["draw"] for trial in trials] == list(range(120))
    assert {trial.state for trial in trials} == {TrialState.COMPLETE, TrialState.PRUNED}
    for trial in trials:
        require_valid(trial)
    assert len({tuple(trial.params.values()) for trial in trials}) == 120
    # The next trial is number 120, and finds its own id.
    assert open_search(CONFIG, databases.storage, digest=DIGEST).ask().number == 120
    assert alone(databases.storage, 1) > 0


def test_a_worker_counts_what_its_trials_cost_without_the_first(context: Context, tmp_path: Path):
    parent = context.store.start("random", CONFIG.name, tags={"stage": "search"}, params={})
    ready, results = threading.Event(), queue.Queue()
    ready.set()
    work(Order(context.storage, context.store.uri, parent, 4, 0.0), tmp_path, ready, results)
    cost = results.get_nowait()
    assert cost.trials == 3
    assert {name: len(durations) for name, durations in cost.durations.items() if name != "write"} == {
        "ask": 3,
        "begin": 3,
        "tell": 3,
        "end": 3,
        "report": 3 * CONFIG.epochs,
    }
    assert cost.counts["ask", "statement"] >= 3
    assert 0 < sum(cost.processors.values()) <= cost.processor
    trials = open_search(CONFIG, context.storage, digest=DIGEST).get_trials()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 4


def test_the_tracking_benchmark_times_each_trial_and_epoch(machine: Machine):
    timed = tracking._search(3, machine)
    assert len(timed.trials) == len(timed.epochs) == 3
    assert all(len(epochs) == CONFIG.epochs for epochs in timed.epochs)


def test_the_figure_shows_what_was_measured_and_names_the_limit():
    rows = [{**ROW, "workers": workers, "pace": pace} for workers, pace in ((1, 0.3), (8, 2.0), (64, 12.0))]
    (ax,) = pace_by_workers(rows, length=3.0, cores=2).axes
    model, limit, points = ax.lines
    assert points.get_xydata().tolist() == [[1, 0.3], [8, 2.0], [64, 12.0]]
    # 20 + 10 × 3 ms of a worker, and the servers' 90 ms.
    assert model.get_ydata()[0] == pytest.approx(1 / 3.14)
    assert model.get_ydata()[-1] == limit.get_ydata()[0] == pytest.approx(2 / 0.14)
    assert [text.get_text() for text in ax.texts] == [
        "limit: the processor (2 cores; workers 50 + MLflow's server 60 + PostgreSQL 30 ms a trial)"
    ]
