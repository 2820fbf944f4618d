"""Several trials at a time, with real processes and signals.

Starting a worker takes seconds, so that one search serves most tests: Ctrl-C ends it after a worker was killed, SIGTERM
ends its continuation, and the same command then brings it to its total on a terminal.
"""

import contextlib
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import forkserver, resource_tracker
from pathlib import Path

import optuna
import psutil
import pytest
from mlflow.tracking import MlflowClient
from optuna.trial import FrozenTrial, TrialState

from pipelines.session.context import Context
from pipelines.session.display import Display
from pipelines.trials.pool import WorkerPool, start_context
from pipelines.trials.recovery import Recovery
from pipelines.trials.worker import Assignment
from pipelines.tune import tune
from study.architectures import CustomConfig, FFNNConfig
from study.config import DataConfig, SearchConfig, TrainConfig
from study.data import Dataset, load_dataset
from study.device import prepare
from study.errors import StudyError
from study.home import Home
from study.models import build_model
from study.search import sampling, search
from study.search.draws import draw_of
from study.search.loop import optimise
from study.system import interruption
from study.tracking.runs import Run
from study.tracking.store import Store
from study.training import TrainingState, fit
from tests.conftest import DIGITS, copy_of
from tests.study.search.test_search import at_once
from tests.support.fork_server import Forked
from tests.support.process import TIMEOUT, Ended, end, on_a_terminal, read_until, start, study_here, workers_of

NAME = "digits-ffnn"
TUNE = ("tune", "--dataset", "digits", "--model", "ffnn", "--pruner", "none", "--no-retrain")
TOTAL, EPOCHS = 4, 40
SEARCH = (*TUNE, "--trials", str(TOTAL), "--epochs", str(EPOCHS), "--workers", "2", "--threads", "2")
ENDLESS = (*TUNE, "--trials", "2", "--epochs", "1000000", "--workers", "8", "--threads", "2")


def trials_of(home: Home) -> list[FrozenTrial]:
    """The trials by number, but for those that found no place."""
    trials = optuna.load_study(study_name=NAME, storage=home.storage_url).get_trials()
    return [trial for trial in trials if trial.user_attrs.get("status_reason") != "surplus"]


def pid(trial: FrozenTrial) -> int:
    """The process that ran a trial."""
    return int(trial.user_attrs["worker"].split()[1])


def curve(store: Store, run_id: str) -> dict[int, float]:
    """The validation accuracy by epoch, of which each must be recorded once."""
    points = store.client.get_metric_history(run_id, "val_accuracy")
    by_epoch = {point.step: point.value for point in points}
    assert len(by_epoch) == len(points)
    return by_epoch


def assert_stores_agree(trials: list[FrozenTrial], store: Store) -> None:
    """Each trial that was begun is one run, ended as the trial was, with its parameters and its curve."""
    begun = [trial for trial in trials if trial.state != TrialState.WAITING]
    runs = {run.id: run for run in store.runs(stage="trial")}
    assert len(runs) == len(begun)
    ends = {TrialState.COMPLETE: ("FINISHED", "complete"), TrialState.FAIL: ("KILLED", "interrupted")}
    for trial in begun:
        run, reason = runs[trial.user_attrs["mlflow_run"]], trial.user_attrs["status_reason"]
        assert run.tags["optuna_trial"] == str(trial.number)
        assert (run.status, run.tags["status_reason"]) == ends[trial.state]
        assert reason == run.tags["status_reason"]
        assert {name: float(run.params[name]) for name in trial.params} == trial.params
        recorded = curve(store, run.id)
        if reason == "complete":
            assert recorded == trial.intermediate_values
            assert run.metrics["best_val_accuracy"] == trial.value


def epoch(trial: FrozenTrial) -> int:
    """The last epoch that a trial has reported; 0 before the first."""
    return trial.last_step or 0


class Watch:
    """A command under way, as its search's storage shows it."""

    def __init__(self, process: Forked, home: Home):
        self.process, self.home = process, home
        self.storage = optuna.storages.RDBStorage(home.storage_url)

    def running(self) -> list[FrozenTrial]:
        if NAME not in optuna.get_all_study_names(self.storage):
            return []
        optuna_study = optuna.load_study(study_name=NAME, storage=self.storage)
        return optuna_study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))

    def under_way(self, first: int = 1, last: int = EPOCHS * 3 // 4) -> list[FrozenTrial]:
        """The running trials that have reported an epoch and are not near their last."""
        return [trial for trial in self.running() if first <= epoch(trial) <= last]

    def two_trials(self, first: int = 1, last: int = EPOCHS * 3 // 4) -> list[FrozenTrial]:
        """Two trials that are under way, between two of their epochs; the one that has longer to go comes first."""
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            assert self.process.poll() is None, end(self.process)
            begun = sorted(self.running(), key=epoch)
            if len(begun) == 2 and first <= epoch(begun[0]) <= last // 2 and epoch(begun[1]) <= last:
                return begun
            # Each look takes time from the workers.
            time.sleep(0.3)
        raise AssertionError(f"there were never two trials under way, now {self.running()}")

    def workers(self) -> list[psutil.Process]:
        return workers_of(psutil.Process(self.process.pid))


@dataclass(frozen=True)
class Left:
    """What was left of a search that was ended while trials were under way."""

    home: Home
    ended: Ended
    under_way: list[FrozenTrial]
    trials: list[FrozenTrial]
    runs: list[Run]
    workers: list[psutil.Process]
    """Those that there were when the signal came."""
    others: list[psutil.Process]
    """All that the command had started."""
    seconds: float
    """From the signal to the end of the last process."""


def left_by(
    watch: Watch, tell: Callable[[int, int], None], number: int, output: str, trials: list[FrozenTrial]
) -> Left:
    """What is left after `tell` gave the process signal `number`, while `trials` were under way."""
    workers, others = watch.workers(), psutil.Process(watch.process.pid).children(recursive=True)
    begun = time.monotonic()
    tell(watch.process.pid, number)
    # The workers write to the same pipes: these end with the last of them.
    ended = end(watch.process, output)
    seconds = time.monotonic() - begun
    return Left(watch.home, ended, trials, trials_of(watch.home), Store(watch.home).runs(), workers, others, seconds)


@contextlib.contextmanager
def started(arguments: tuple[str, ...], home: Home) -> Iterator[Watch]:
    process = start(*arguments, home=home.root)
    try:
        yield Watch(process, home)
    finally:
        # Where a test failed, what it started would go on.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def assert_gone(processes: list[psutil.Process]) -> None:
    assert processes
    _, left = psutil.wait_procs(processes, timeout=10)
    # A process whose parent was killed may wait in vain for somebody to ask how it ended.
    assert [process for process in left if process.status() != psutil.STATUS_ZOMBIE] == []


@dataclass(frozen=True)
class KilledWorker:
    """The trial of a killed worker, and what its search left."""

    victim: FrozenTrial
    left: Left


@pytest.fixture(scope="module")
def killed(migrated: Home, tmp_path_factory: pytest.TempPathFactory) -> KilledWorker:
    """A search of which one worker was killed, as a machine out of memory does it; then came Ctrl-C."""
    with started(SEARCH, copy_of(migrated, tmp_path_factory.mktemp("workers") / "home")) as watch:
        _, victim = watch.two_trials()
        os.kill(pid(victim), signal.SIGKILL)
        output = read_until(watch.process, "Retrying")
        # The other trial may have ended meanwhile, and its worker begun the next.
        while len(watch.workers()) < 2 or not (under_way := watch.under_way()):
            assert watch.process.poll() is None
            time.sleep(0.01)
        # At once, while the parent is about to start it. A terminal's Ctrl-C goes to all processes of the command.
        return KilledWorker(victim, left_by(watch, os.killpg, signal.SIGINT, output, under_way))


@pytest.fixture(scope="module")
def after_ctrl_c(killed: KilledWorker) -> Left:
    return killed.left


@pytest.fixture(scope="module")
def after_sigterm(after_ctrl_c: Left) -> Left:
    with started(SEARCH, after_ctrl_c.home) as watch:
        return left_by(watch, os.kill, signal.SIGTERM, "", watch.two_trials())


@dataclass(frozen=True)
class Reached:
    home: Home
    code: int
    screen: str
    trials: list[FrozenTrial]


@pytest.fixture(scope="module")
def reached(after_sigterm: Left) -> Reached:
    code, screen = on_a_terminal(*SEARCH, home=after_sigterm.home.root)
    return Reached(after_sigterm.home, code, screen, trials_of(after_sigterm.home))


@pytest.fixture(params=[("after_ctrl_c", 130), ("after_sigterm", 143)], ids=["ctrl-c", "sigterm"])
def terminated(request: pytest.FixtureRequest) -> tuple[Left, int]:
    fixture, code = request.param
    return request.getfixturevalue(fixture), code


def test_two_trials_run_at_a_time_each_in_a_process_that_is_not_the_parent(after_sigterm: Left) -> None:
    assert len(after_sigterm.workers) == 2
    assert {pid(trial) for trial in after_sigterm.under_way} == {worker.pid for worker in after_sigterm.workers}


def test_a_signal_ends_the_command_with_its_code_and_one_sentence(terminated: tuple[Left, int]) -> None:
    left, code = terminated
    assert left.ended.code == code
    assert left.ended.err.splitlines() == [interruption.STOPPING, interruption.STOPPED]
    assert "Traceback" not in left.ended.out


def test_a_signal_closes_every_trial_under_way_in_both_stores(terminated: tuple[Left, int]) -> None:
    left, _ = terminated
    store = Store(left.home)
    for before in left.under_way:
        trial = left.trials[before.number]
        assert (trial.state, trial.user_attrs["status_reason"]) == (TrialState.FAIL, "interrupted")
        run = store.get(trial.user_attrs["mlflow_run"])
        assert (run.status, run.tags["status_reason"]) == ("KILLED", "interrupted")
        # The signal may have come between the one store and the other.
        known, recorded = trial.intermediate_values, curve(store, run.id)
        assert known.items() <= recorded.items()
        assert len(recorded) <= len(known) + 1
    assert TrialState.RUNNING not in {trial.state for trial in left.trials}
    assert "RUNNING" not in {run.status for run in left.runs}


def test_a_signal_kills_the_searchs_run_as_well(terminated: tuple[Left, int]) -> None:
    left, _ = terminated
    [above] = [run for run in left.runs if run.tags["stage"] == "search"]
    assert (above.status, above.tags["status_reason"]) == ("KILLED", "interrupted")


def test_a_signal_leaves_no_process(terminated: tuple[Left, int]) -> None:
    left, _ = terminated
    assert_gone(left.others)


def test_a_killed_worker_is_told_and_another_takes_its_place(killed: KilledWorker) -> None:
    lines = killed.left.ended.out.splitlines()
    [lines_on_it] = [line for line in lines if "killed" in line]
    assert re.fullmatch(r"Worker [12] was killed \(signal 9\): another takes its place\.", lines_on_it)
    assert f"Retrying after an interruption, under a new number: trial {killed.victim.number}." in lines
    assert len(killed.left.workers) == 2
    assert pid(killed.victim) not in {worker.pid for worker in killed.left.workers}


def test_a_killed_workers_trial_is_closed_in_both_stores_while_the_search_goes_on(killed: KilledWorker) -> None:
    trial = killed.left.trials[killed.victim.number]
    assert (trial.state, trial.user_attrs["status_reason"]) == (TrialState.FAIL, "interrupted")
    [run] = [run for run in killed.left.runs if run.id == trial.user_attrs["mlflow_run"]]
    assert (run.status, run.tags["status_reason"]) == ("KILLED", "interrupted")


def test_what_was_interrupted_is_tried_again_with_its_parameters(killed: KilledWorker, reached: Reached) -> None:
    store = Store(reached.home)
    for before in (killed.victim, *killed.left.under_way):
        attempts = [trial for trial in reached.trials if trial.user_attrs.get("retry_of") == before.number]
        assert [attempt.params for attempt in attempts] == [before.params] * len(attempts)
        assert attempts[-1].state == TrialState.COMPLETE
        runs = store.runs(stage="trial", retry_of=str(before.number))
        assert {run.tags["optuna_trial"] for run in runs} == {str(attempt.number) for attempt in attempts}


def test_the_same_command_after_signals_reaches_the_total_exactly(reached: Reached) -> None:
    assert reached.code == 0, reached.screen
    assert [trial.state for trial in reached.trials].count(TrialState.COMPLETE) == TOTAL
    store = Store(reached.home)
    assert_stores_agree(reached.trials, store)
    [above] = store.runs(stage="search")
    assert (above.status, above.tags["status_reason"]) == ("FINISHED", "complete")
    assert {run.tags["mlflow.parentRunId"] for run in store.runs(stage="trial")} == {above.id}
    assert store.runs(status="RUNNING") == []
    assert store.artifacts(above.id, "search")


def test_each_worker_has_its_share_of_the_threads(reached: Reached) -> None:
    store = Store(reached.home)
    assert {run.params["threads"] for run in store.runs(stage="trial")} == {"1"}
    assert {run.params["threads"] for run in store.runs(stage="search")} == {"2"}


def test_every_trial_draws_what_a_single_process_draws(reached: Reached, home: Home) -> None:
    numbers = reached.trials[-1].number + 1
    config = SearchConfig(name=NAME, model=FFNNConfig(), trials=numbers, epochs=EPOCHS, pruner="none")
    alone = search.open_search(config, home.storage_url, digest="any")
    optimise(alone, config, at_once(lambda suggestion: 0.5), lambda running: None)
    drawn = [trial.params for trial in alone.get_trials()]
    assert len({tuple(params.values()) for params in drawn}) == len(drawn)
    first = [trial for trial in reached.trials if "retry_of" not in trial.user_attrs]
    assert len(first) >= TOTAL
    assert [trial.params for trial in first] == [drawn[draw_of(trial)] for trial in first]


def test_every_trial_has_its_own_seed_and_every_retry_that_of_the_first_attempt(reached: Reached) -> None:
    runs = Store(reached.home).runs(stage="trial")
    seeds = {run.tags["optuna_trial"]: run.params["seed"] for run in runs if "retry_of" not in run.tags}
    assert len(set(seeds.values())) == len(seeds) >= TOTAL
    again = [run for run in runs if "retry_of" in run.tags]
    assert again
    assert [run.params["seed"] for run in again] == [seeds[run.tags["retry_of"]] for run in again]


def test_a_workers_training_is_that_of_any_process(reached: Reached, digits: Dataset) -> None:
    store = Store(reached.home)
    run = store.runs(stage="trial", status="FINISHED")[0]
    # Other tests in this process may have chosen another number of threads.
    machine = prepare("cpu", run.params["precision"], int(run.params["threads"]))
    # A few epochs are enough, since the settings do not change with the epoch.
    config, splits = replace(TrainConfig.from_params(run.params), epochs=5), digits.splits
    state = TrainingState(build_model(config.model, classes=10, seed=config.seed), config, machine)
    here: dict[int, float] = {}
    fit(
        state,
        splits.train,
        config,
        machine,
        evaluate={"val": splits.validation},
        on_epoch=lambda epoch: here.update({epoch.number: epoch.metrics["val_accuracy"]}),
    )
    assert len(here) == 5
    assert here.items() <= curve(store, run.id).items()


def test_on_a_terminal_the_search_and_every_workers_trial_have_a_bar_in_one_display(reached: Reached) -> None:
    lines = re.sub(r"\r\n?", "\n", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", reached.screen))
    together = re.findall(
        r"^search digits-ffnn ━.* % .*/4 · best 0.*\n"
        r"  trial (\d+) +━.* % .*val 0\.\d+ · [\d,]+ images/s *\n"
        r"  trial (\d+) +━.* % .*val 0\.\d+ · [\d,]+ images/s *$",
        lines,
        re.MULTILINE,
    )
    assert together
    assert all(screen != other for screen, other in together)
    # Every trial that ends has a line above the bars, its epochs have none, and the bars are gone in the end.
    ended = re.findall(r"^trial (\d+) \(\d/4\): lr ", lines, re.MULTILINE)
    assert ended
    assert len(ended) == len(set(ended))
    assert "epoch 1:" not in lines
    assert "━" not in lines[lines.index("4 trials (") :]


@dataclass(frozen=True)
class Orphaned:
    left: Left
    nudged: list[FrozenTrial]
    """The trials under way some epochs after each worker alone was sent Ctrl-C's signal."""


@pytest.fixture(scope="module")
def orphaned(migrated: Home, tmp_path_factory: pytest.TempPathFactory) -> Orphaned:
    """A search whose parent was killed."""
    with started(ENDLESS, copy_of(migrated, tmp_path_factory.mktemp("orphaned") / "home")) as watch:
        trials = watch.two_trials(last=1_000_000)
        for trial in trials:
            os.kill(pid(trial), signal.SIGINT)
        nudged = watch.two_trials(first=epoch(trials[1]) + 2, last=1_000_000)
        return Orphaned(left_by(watch, os.kill, signal.SIGKILL, "", nudged), nudged)


def test_no_more_workers_are_started_than_trials_are_missing(orphaned: Orphaned) -> None:
    assert len(orphaned.left.workers) == 2


def test_a_worker_leaves_ctrl_c_to_the_parent(orphaned: Orphaned) -> None:
    assert {trial.number for trial in orphaned.nudged} == {0, 1}
    assert "killed" not in orphaned.left.ended.out


def test_workers_whose_parent_is_killed_end_by_themselves_and_close_their_trials(orphaned: Orphaned) -> None:
    left = orphaned.left
    assert left.ended.code == -signal.SIGKILL
    assert left.seconds < 60
    assert_gone(left.others)
    assert "Traceback" not in left.ended.err
    for before in left.under_way:
        trial = left.trials[before.number]
        assert (trial.state, trial.user_attrs["status_reason"]) == (TrialState.FAIL, "interrupted")
    assert TrialState.RUNNING not in {trial.state for trial in left.trials}
    assert {run.status for run in left.runs if run.tags["stage"] == "trial"} == {"KILLED"}


class Heard(Display):
    """Keeps what is said."""

    has_bars = False

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The file that workers of this process have as standard error: that of their fork server, when it starts."""
    path, before = tmp_path_factory.mktemp("workers") / "stderr", os.dup(2)
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
    # As the pool starts it.
    resource_tracker.ensure_running()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, interruption.SIGNALS)
    with path.open("w") as file:
        os.dup2(file.fileno(), 2)
        start_context()
        forkserver.ensure_running()
        os.dup2(before, 2)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    os.close(before)
    yield path
    forkserver._forkserver._stop()  # type: ignore[attr-defined]


@pytest.fixture
def errors(written: Path, capfd: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """What was written to standard error since the test began, by workers too."""
    begun = written.stat().st_size
    return lambda: capfd.readouterr().err + written.read_text()[begun:]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load_dataset(DIGITS, Home(root=tmp_path_factory.mktemp("images")))


def one_worker(config: SearchConfig, digest: str, context: Context, data: DataConfig = DIGITS) -> None:
    """Has one worker process make the trials of a search."""
    opened = search.open_search(config, context.storage, digest=digest)
    assignment = Assignment(
        config=config,
        data=data,
        key="digits",
        digest=digest,
        cache=None,
        home=context.home,
        uri=context.store.uri,
        storage=context.storage,
        machine=context.machine,
        parent=context.store.start("digits", config.name, tags={"stage": "search"}, params={}),
        has_bars=False,
    )
    WorkerPool(assignment, Heard(), lambda ended: None, Recovery(opened, config, context)).run(1)


@pytest.fixture
def workers_left() -> Callable[[], list[psutil.Process]]:
    """The workers that this process has now and had not before the test; a browser of other tests has children, too."""
    before = workers_of(psutil.Process())
    return lambda: [worker for worker in workers_of(psutil.Process()) if worker not in before]


def test_a_bug_in_a_worker_is_one_failure_with_its_traceback(
    context: Context, digits: Dataset, errors: Callable[[], str], workers_left: Callable[[], list[psutil.Process]]
) -> None:
    config = SearchConfig(name=NAME, model=CustomConfig(model_path="tests.support.broken_network:build"), trials=2)
    with pytest.raises(RuntimeError, match="LookupError: a bug") as raised:
        one_worker(config, digits.digest, context)
    assert str(raised.value).startswith("Worker 1 crashed:\nTraceback")
    assert "in forward" in str(raised.value)
    assert "Traceback" not in errors()
    [trial] = trials_of(context.home)
    assert (trial.state, trial.user_attrs["status_reason"]) == (TrialState.FAIL, "crashed")
    [run] = context.store.runs(stage="trial")
    assert (run.status, run.tags["status_reason"]) == ("FAILED", "crashed")
    assert workers_left() == []


def test_memory_that_gives_out_in_a_worker_is_told_in_one_sentence(
    context: Context, digits: Dataset, errors: Callable[[], str]
) -> None:
    config = SearchConfig(name=NAME, model=FFNNConfig(hidden=10**12), trials=5)
    message = r"^cpu has no memory left \(can't allocate .*: run fewer .* --workers"
    with pytest.raises(StudyError, match=message) as raised:
        one_worker(config, digits.digest, context)
    assert "\n" not in str(raised.value)
    assert "Traceback" not in errors()
    assert [trial.state for trial in trials_of(context.home)] == [TrialState.FAIL] * 3
    assert {run.tags["status_reason"] for run in context.store.runs(stage="trial")} == {"out of memory"}


def test_what_the_user_can_repair_in_a_worker_is_one_sentence_and_its_traceback_where_it_is_asked_for(
    context: Context,
    errors: Callable[[], str],
    workers_left: Callable[[], list[psutil.Process]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(StudyError, match="images of digits changed while the search was starting") as raised:
        one_worker(SearchConfig(name=NAME, trials=2), "of what was loaded before", context)
    assert "\n" not in str(raised.value)
    assert "Traceback" not in errors()
    assert context.store.runs(stage="trial") == []
    assert workers_left() == []

    # The fork server was started without it.
    monkeypatch.setenv("STUDY_DEBUG", "1")
    with pytest.raises(StudyError, match="images of digits changed while the search was starting"):
        one_worker(SearchConfig(name=NAME, trials=2), "of what was loaded before", context)
    shown = errors()
    assert "in work\n" in shown
    assert "StudyError: The images of digits changed" in shown


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C as at a terminal: where the tests run in the background, a shell may have set it to be ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with interruption.signals_noted():
        interruption.check()
        yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


class InterruptedWhenSent(DataConfig):
    """Brings Ctrl-C while it is put into the message that starts a worker."""

    def __reduce__(self) -> tuple[object, ...]:
        ctrl_c()
        return partial(DataConfig, dataset=self.dataset), ()


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_while_a_worker_is_being_started_is_not_lost(
    context: Context, digits: Dataset, workers_left: Callable[[], list[psutil.Process]]
) -> None:
    config = SearchConfig(name=NAME, model=FFNNConfig(hidden=4), trials=1, epochs=1)
    with pytest.raises(KeyboardInterrupt):
        one_worker(config, digits.digest, context, InterruptedWhenSent(dataset="digits"))
    assert workers_left() == []
    assert trials_of(context.home) == []


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(("where", "name"), [(sampling, "this_process"), (MlflowClient, "create_run")])
def test_ctrl_c_between_a_trials_birth_and_its_first_step_leaves_nothing_running(
    where: object, name: str, context: Context, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SearchConfig(name=NAME, model=FFNNConfig(hidden=4), trials=2, epochs=1)
    # So that the search's own run is there: what is made next is a trial's.
    tune(replace(config, trials=1), tiny, context)
    whole = getattr(where, name)

    def interrupted(*arguments: object, **options: object) -> object:
        result = whole(*arguments, **options)
        if not interruption.requested():
            ctrl_c()
        return result

    with monkeypatch.context() as patch:
        patch.setattr(where, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            tune(config, tiny, context)
    assert context.store.runs(status="RUNNING") == []
    assert TrialState.RUNNING not in {trial.state for trial in trials_of(context.home)}
    tune(config, tiny, context)
    assert [trial.state for trial in trials_of(context.home)].count(TrialState.COMPLETE) == 2


def test_one_missing_trial_needs_no_other_process(context: Context, tiny: Dataset) -> None:
    config = SearchConfig(name=NAME, model=FFNNConfig(hidden=4), trials=1, epochs=1)
    tune(config, tiny, context, workers=8)
    assert [pid(trial) for trial in trials_of(context.home)] == [os.getpid()]


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "words"), [("-1", "from 0"), ("257", "to 256"), ("x", "whole number")])
def test_workers_that_are_no_number_of_processes_are_refused(workers: str, words: str, home: Home) -> None:
    ended = study_here(*TUNE, "--workers", workers, home=home.root)
    assert ended.code == 2
    [line] = ended.err.splitlines()
    assert line.startswith(f"study: --workers is {workers!r}" if workers == "x" else f"study: --workers is {workers}")
    assert words in line
    assert Store(home).runs() == []
