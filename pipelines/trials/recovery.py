"""Recovery from killed processes: ends their trials in both stores and retries them. Optuna's record is the truth."""

from collections.abc import Iterator
from contextlib import contextmanager

from pipelines.session.context import Context
from pipelines.trials.mirror import Mirror, agrees
from study.config import SearchConfig
from study.search import search
from study.search.records import TrialRecord, as_record
from study.system import interruption
from study.system.heartbeat import HeartbeatMonitor, PeriodicCall
from study.system.processes import is_gone, is_known, named, this_process
from study.system.retry import at_once
from study.tracking.runs import Run

RARELY = 10
"""Number of looks of a watching thread, one of which reads the runs where nothing seems to need it."""


class Recovery:
    """Ends orphaned trials in both stores, and enqueues their parameters again."""

    def __init__(self, opened: search.Search, config: SearchConfig, context: Context):
        self.opened, self.config, self.context = opened, config, context
        self.monitor = HeartbeatMonitor()
        self._named: set[int] = set()
        self._watched, self._is_settled = 0, True

    def __call__(self, *, stopped: str = "") -> None:
        """Recovers once; `stopped` says why a worker has just ended, which counts as a failed attempt at its trial."""
        with self.context.locked():
            self.close(stopped=stopped)
            self._requeue()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within the block, a thread recovers what workers leave that die meanwhile, while this process goes on."""
        with PeriodicCall(self._watch, self.monitor.every):
            yield

    def _watch(self) -> None:
        # It looks again soon: this thread waits neither for a store nor for a lock.
        with at_once():
            self._watched += 1
            closed = search.close_orphans(self.opened, self.monitor)
            # Reading the runs under way is what costs a tracking server most, where many machines look.
            if closed or not self._is_settled or self._watched % RARELY == 0:
                self._is_settled = False  # where the look fails
                self._is_settled = self._follow_up(and_own=False)

    def wait(self) -> None:
        """While others work on the last trials: prints once who does so elsewhere, and recovers."""
        for number, worker in search.workers(self.opened).items():
            if number not in self._named and not is_known(worker):
                self.context.display.say(f"Waiting for trial {number}, which runs in {named(worker)}.")
                self._named.add(number)
        self._look()

    def settle(self) -> None:
        """Waits until the runs of ended trials have ended too, if need be by this process."""
        if not self._look():
            self.context.display.say("Waiting until the runs of all trials have ended.")
        while not self._look():
            interruption.sleep(1)

    def _look(self) -> bool:
        """Recovers unless another process does; returns whether the runs of all ended trials have ended."""
        # Each trial is ended by one process alone: Optuna refuses the others.
        search.close_orphans(self.opened, self.monitor)
        return self._follow_up(and_own=True)

    def _follow_up(self, *, and_own: bool) -> bool:
        """Ends the runs of ended trials, and retries, unless another process does; returns whether all have ended.

        Args:
            and_own: whether to end the runs of this process too, which works on no trial.
        """
        with self.context.locked(is_patient=False) as is_held:
            if not is_held:
                return False
            is_settled = self._close_runs(and_own=and_own)
            self._requeue()
        return is_settled

    def _requeue(self) -> None:
        if requeued := search.requeue(self.opened):
            self.context.display.say(
                f"Retrying after an interruption, under a new number: trial {', '.join(map(str, requeued))}."
            )

    def close(self, *, and_own: bool = False, stopped: str = "", whole: bool = False) -> None:
        """Ends trials and runs that no process works on; the caller holds the locks of the context.

        Args:
            and_own: whether to end the trials of this process too.
            stopped: see `__call__`.
            whole: whether to compare the runs of all trials, not only of those under way.
        """
        search.close_orphans(self.opened, self.monitor, and_own=and_own, stopped=stopped)
        self._close_runs(whole=whole)

    def _close_runs(self, *, and_own: bool = True, whole: bool = False) -> bool:
        """Ends the runs of ended trials, but those that a living process is about to end; whether there are none."""
        store, status = self.context.store, "" if whole else "RUNNING"
        runs = store.runs(stage="trial", search=self.config.name, status=status)
        # Read after the runs: a trial that begins meanwhile is among the trials, its run not among the runs.
        trials = self.opened.get_trials(deepcopy=False)
        is_settled = True
        for run in runs:
            number = run.trial_number
            trial = as_record(trials[number]) if number < len(trials) else None
            if trial is None or trial.run_id not in ("", run.id):
                # No trial of Optuna's has this run.
                if run.status == "RUNNING":
                    store.finish(run.id, "KILLED", "interrupted")
            elif self._is_orphaned(run, trial, and_own):
                # Read again: its own process may just have ended it.
                Mirror(store, self.config, trial, store.get(run.id)).complete()
            else:
                is_settled &= not trial.has_ended or run.status != "RUNNING"
        return is_settled

    def _is_orphaned(self, run: Run, trial: TrialRecord, and_own: bool) -> bool:
        """Whether `run` has not ended as its trial has, and no process is about to end it."""
        if not trial.has_ended or agrees(run, trial.outcome):
            return False
        if trial.worker == this_process():
            return and_own
        # A living process ends its trial, and then the run.
        is_orphaned = trial.outcome.is_abandoned or not trial.worker or is_gone(trial.worker)
        return is_orphaned or self.monitor.has_stopped(run.id, run.status)

    def fail(self, number: int, reason: str) -> None:
        """Ends, in both stores, a trial whose worker was stopped for `reason`, which counts as an attempt."""
        trial = self.opened.get_trials(deepcopy=False)[number]
        search.fail(self.opened, trial, reason, stopped=reason)
