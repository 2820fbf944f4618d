"""Trainings on a real Ray cluster: two nodes on this machine, started by `ray start`."""

import os
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch

from pipelines import replicates
from pipelines.seeds import retrain_seeds
from pipelines.session import cluster as cluster_module
from pipelines.session import ray_connection
from pipelines.session.cluster import Cluster
from pipelines.session.context import Context
from pipelines.session.engine import EngineConfig
from pipelines.session.node import Request
from pipelines.tune import tune
from study.architectures import CNNConfig
from study.config import SearchConfig
from study.data import Dataset
from study.device import Machine
from study.errors import Diverged, Lost, OutOfMemory, StudyError
from study.home import Home
from study.ranges import Range
from study.system import interruption
from study.tracking.best import best_trial
from study.tracking.store import Store
from tests.conftest import copy_of, surroundings
from tests.pipelines.test_experiment import plan
from tests.support import odd_trainings
from tests.support.fork_server import Forked
from tests.support.process import Ended, end, read_until, start, study, study_here
from tests.support.ray_nodes import OTHER, Nodes, ray_nodes
from tests.whole.test_cli import assert_one_sentence
from tests.whole.test_ui import free_port

TUNE = ("tune", "--dataset", "digits", "--model", "ffnn", "--no-retrain")
EPOCHS = 300
"""Of a trial that something happens to: after `EARLY` epochs, seconds are left in which it happens. As `EARLY` is more
than half of them, two trials are both early at some time, however much later than the other one of them started."""
EARLY = 200
SEARCH = SearchConfig(
    name="digits-cnn",
    model=CNNConfig(filters=(4, 6)),
    trials=4,
    epochs=3,
    batch_size=30,
    learning_rate=Range(low=1e-3, high=1e-2),
)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    # Sockets take a path of at most 107 bytes.
    folder = Path(os.path.realpath(tmp_path_factory.mktemp("r")))
    with ray_nodes(folder) as started, pytest.MonkeyPatch.context() as patch:
        for name, value in started.variables.items():
            patch.setenv(name, value)
        yield started


@pytest.fixture(scope="module")
def cluster(nodes: Nodes) -> Iterator[Cluster]:
    said: list[str] = []
    connected = Cluster(EngineConfig(name="ray", address=nodes.address), Request("cpu", "float32", 1), said.append)
    [line] = said
    assert line == (
        f"Ray cluster at {nodes.address}, nodes: 2, trainings at a time: 2, each on cpu (1 thread), float32."
    )
    yield connected
    connected.close()


def on(cluster: Cluster, context: Context, places: int = 2) -> Context:
    cluster.places = places
    return replace(context, cluster=cluster)


def results(cluster: Cluster, tiny: Dataset, training: Any, *arguments: Any, **options: Any) -> list[Any]:
    stream = cluster.stream(training, tiny.train, *arguments, **options)
    return [result for result in stream if result is not None]


def recorded(store: Store, **tags: str) -> list[tuple[str, dict[str, str], dict[str, list[tuple[int, float]]]]]:
    """Of each run its status, what was set and all that was measured but for speeds, in an order of their own."""
    runs = []
    for run in store.runs(**tags):
        curves = {
            name: sorted((point.step, point.value) for point in store.client.get_metric_history(run.id, name))
            for name in run.metrics
            if not name.startswith("system/")
        }
        runs.append((run.status, run.params, curves))
    return sorted(runs, key=repr)


def test_results_come_in_order_and_of_several_streams_in_turns(cluster: Cluster, tiny: Dataset) -> None:
    assert results(cluster, tiny, odd_trainings.counting, 3) == [(number, len(tiny.train)) for number in range(3)]
    streams = [cluster.stream(odd_trainings.counting, tiny.train, 2) for _ in range(3)]
    taken: dict[int, list[int]] = {number: [] for number in range(3)}
    under_way = dict(enumerate(streams))
    while under_way:
        for number, stream in tuple(under_way.items()):
            try:
                result = next(stream)
            except StopIteration:
                del under_way[number]
            else:
                taken[number] += [result[0]] if result else []
    assert taken == {number: [0, 1] for number in range(3)}


def test_images_are_shared_and_the_same(cluster: Cluster, tiny: Dataset, machine: Machine) -> None:
    [(theirs, images, file)] = results(cluster, tiny, odd_trainings.echoing)
    assert theirs == machine
    assert torch.equal(images.images, tiny.train.images)
    assert torch.equal(images.labels, tiny.train.labels)
    assert images.images.is_contiguous(memory_format=torch.channels_last)
    assert file.startswith("/dev/shm/")


def test_a_search_draws_and_measures_the_same_as_on_this_machine(
    cluster: Cluster, context: Context, other_home: Home, machine: Machine, tiny: Dataset
) -> None:
    there = on(cluster, surroundings(other_home, machine), places=1)
    tune(SEARCH, tiny, context)
    tune(SEARCH, tiny, there)
    ours = recorded(context.store, stage="trial")
    assert len(ours) == 4
    assert ours == recorded(there.store, stage="trial")


def test_retrainings_have_the_same_weights_as_on_this_machine(
    cluster: Cluster, context: Context, other_home: Home, machine: Machine, tiny: Dataset
) -> None:
    weights, runs = [], []
    # One after the other: MLflow writes models to the store that was opened last.
    for make in (lambda: context, lambda: on(cluster, surroundings(other_home, machine))):
        each = make()
        tune(replace(SEARCH, trials=1, epochs=1), tiny, replace(each, cluster=None))
        trial = best_trial(each.store, tiny.key, "cnn")
        for run_id in retrain_seeds(trial, tiny, each, epochs=2, seed=1, seeds=2):
            for path in each.store.artifacts(run_id, "weights"):
                weights.append((path, each.store.load_tensors(run_id, path)[0]))
        runs.append(recorded(each.store, stage="retrain"))
    half = len(weights) // 2
    assert half == 2 * 3
    for (path, ours), (other, theirs) in zip(weights[:half], weights[half:], strict=True):
        assert path == other
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    assert runs[0] == runs[1]


def test_the_replicates_of_an_experiment_are_the_same_as_on_this_machine(
    cluster: Cluster, context: Context, other_home: Home, machine: Machine, tiny: Dataset
) -> None:
    there, wanted = on(cluster, surroundings(other_home, machine)), plan(epochs=2)
    for each in (context, there):
        with replicates.claimed(wanted, tiny, each) as parent:
            replicates.run_missing(wanted, parent, tiny, each)
    ours = recorded(context.store, stage="replicate")
    assert len(ours) == 4
    assert ours == recorded(there.store, stage="replicate")


def test_a_diverged_training_and_one_without_memory_say_so(cluster: Cluster, tiny: Dataset) -> None:
    with pytest.raises(Diverged, match="train_loss became nan in epoch 2") as raised:
        results(cluster, tiny, odd_trainings.diverging)
    assert raised.value.epoch == 2
    with pytest.raises(OutOfMemory, match=r"no memory left.*--workers"):
        results(cluster, tiny, odd_trainings.hungry)
    with pytest.raises(ValueError, match="a bug"):
        results(cluster, tiny, odd_trainings.crashing)


def test_a_training_that_hangs_is_stopped(cluster: Cluster, tiny: Dataset) -> None:
    with pytest.raises(Lost, match="timed out after 1 s without an epoch") as raised:
        results(cluster, tiny, odd_trainings.hanging, timeout=1)
    assert (raised.value.reason, raised.value.is_failure) == (str(raised.value), True)
    assert results(cluster, tiny, odd_trainings.counting, 1)


def test_workers_that_are_killed_one_after_the_other_end_the_command(cluster: Cluster, tiny: Dataset) -> None:
    for _ in range(cluster_module.MAX_KILLED):
        with pytest.raises(Lost, match="its worker was killed"):
            results(cluster, tiny, odd_trainings.killed)
    with pytest.raises(StudyError, match="4 workers were killed before any finished an epoch"):
        results(cluster, tiny, odd_trainings.killed)
    assert results(cluster, tiny, odd_trainings.counting, 1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--gpus-per-trial", "2"), ("GPUs per trial is 2", "more than 0", "--gpus-per-trial")),
        (("--threads", "9"), ("Threads is 9", "more than 1 CPUs", "--threads")),
        (("--device", "cuda"), ("--device cuda contradicts --gpus-per-trial 0",)),
    ],
)
def test_what_the_cluster_does_not_have_is_refused(
    options: tuple[str, ...], words: tuple[str, ...], nodes: Nodes, home: Home
) -> None:
    ended = study(*TUNE, *options, "--engine", "ray", "--address", nodes.address, home=home.root)
    assert_one_sentence(ended, *words)


def test_a_process_without_the_token_is_refused(nodes: Nodes, home: Home) -> None:
    ended = study(*TUNE, "--engine", "ray", "--address", nodes.address, home=home.root, RAY_AUTH_TOKEN="f" * 64)
    assert_one_sentence(ended, nodes.address, "refuses this process", "RAY_AUTH_TOKEN")


def test_where_no_cluster_answers_the_command_that_starts_one_is_said(home: Home) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    for address in (nowhere, "nowhere"):
        ended = study_here(*TUNE, "--engine", "ray", "--address", address, home=home.root)
        assert_one_sentence(ended, address, "ray start --head" if address == nowhere else "HOST:PORT")


def test_without_the_package_the_command_that_installs_it_is_said(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_connection, "find_spec", lambda name: None)
    ended = study_here(*TUNE, "--engine", "ray", home=home.root)
    assert_one_sentence(ended, "--engine ray needs a package", "pip install 'ray", "'.[ray]'")


def test_another_version_of_ray_is_named() -> None:
    text = "Version mismatch: The cluster was started with:\n    Ray: 2.51.0\nThis process was:\n    Ray: 2.60.0\n"
    assert "runs another version: The cluster was started with: Ray: 2.51.0" in str(
        ray_connection._explained(RuntimeError(text), "auto")
    )


@dataclass(frozen=True)
class Chaos:
    """A search whose node was killed, then its process; then Ctrl-C came; then it was brought to its total."""

    home: Home
    first: str
    """What the killed process had printed."""
    stopped: Ended
    last: Ended


@pytest.fixture(scope="module")
def chaos(nodes: Nodes, migrated: Home, tmp_path_factory: pytest.TempPathFactory) -> Chaos:
    home = copy_of(migrated, tmp_path_factory.mktemp("chaos") / "home")
    command = (*TUNE, "--trials", "3", "--epochs", str(EPOCHS), "--pruner", "none", "--engine", "ray")
    command = (*command, "--address", nodes.address)
    first = start(*command, home=home.root)
    try:
        wait_for_trials(2, home, first)
        nodes.kill(OTHER)
        output = read_until(first, "Retrying")
        wait_for_trials(1, home, first)
    finally:
        # As the machine of the command that loses its power.
        first.kill()
        end(first)
    second = start(*command, home=home.root)
    output_of_second = read_until(second, "Retrying")
    wait_for_trials(1, home, second)
    os.kill(second.pid, signal.SIGINT)
    stopped = end(second, output_of_second)
    return Chaos(home, output, stopped, study(*command, home=home.root))


def wait_for_trials(number: int, home: Home, process: Forked) -> None:
    """Waits until all running trials, at least `number`, are in their first `EARLY` epochs, and `process` runs."""
    while True:
        epochs = epochs_of_running(home)
        if len(epochs) >= number and all(0 < epoch <= EARLY for epoch in epochs):
            return
        assert process.poll() is None, "It ended before."
        time.sleep(0.1)


def epochs_of_running(home: Home) -> list[int]:
    """The epochs that the trials under way have reported."""
    storage = optuna.storages.RDBStorage(home.storage_url)
    names = optuna.get_all_study_names(storage)
    trials = [trial for name in names for trial in optuna.load_study(study_name=name, storage=storage).get_trials()]
    return [trial.last_step or 0 for trial in trials if trial.state == optuna.trial.TrialState.RUNNING]


def test_the_trial_of_a_lost_node_is_retried_at_once(chaos: Chaos) -> None:
    assert re.search(
        r"Trial (\d): its node was lost\.\nRetrying after an interruption, under a new number: trial \1\.", chaos.first
    )


def test_ctrl_c_ends_the_trials_as_interrupted(chaos: Chaos) -> None:
    assert chaos.stopped.code == 130
    assert interruption.STOPPED in chaos.stopped.err


def test_after_a_killed_node_a_killed_process_and_ctrl_c_the_total_is_exact(chaos: Chaos) -> None:
    assert chaos.last.code == 0, chaos.last
    assert f"3 trials (3 complete), {3 * EPOCHS} epochs in all" in chaos.last.out
    runs = Store(chaos.home).runs(stage="trial")
    assert sorted(run.status for run in runs if run.status != "KILLED") == ["FINISHED"] * 3
    # The node's, the process's and Ctrl-C's.
    assert len(runs) >= 3 + 3
    doctor = study_here("doctor", home=chaos.home.root)
    assert doctor.code == 0, doctor
