"""Recovery from killed processes: ends their trials in both stores and retries them. Optuna's record is the truth."""

from pipelines.session.context import Context
from pipelines.trials.mirror import Mirror, agrees
from study.config import SearchConfig
from study.search import search
from study.search.heartbeat import Pulse
from study.search.records import TrialRecord, as_record
from study.system.files import locked
from study.system.processes import is_gone, is_known, this_process
from study.tracking.runs import Run


class Recovery:
    """Ends orphaned trials in both stores, and enqueues their parameters again."""

    def __init__(self, opened: search.Search, config: SearchConfig, context: Context):
        self.opened, self.config, self.context = opened, config, context
        self.pulse = Pulse()
        self._named: set[int] = set()

    def __call__(self, *, stopped: str = "") -> None:
        """Recovers once; `stopped` is what has just ended a worker, which counts as a failed attempt at its trial."""
        with locked(self.context.home):
            self.close(stopped=stopped)
            again = search.requeue(self.opened)
        if again:
            self.context.display.say(f"Trying again what was interrupted: trial {', '.join(map(str, again))}.")

    def wait(self) -> None:
        """While others work on the last trials: says who, where that is not on this machine, and follows the dead."""
        for number, worker in search.workers(self.opened).items():
            if number not in self._named and not is_known(worker):
                host, process = worker.split()[:2]
                self.context.display.say(f"Waiting for trial {number}, which process {process} on {host} works on.")
                self._named.add(number)
        self()

    def close(self, *, and_own: bool = False, stopped: str = "", whole: bool = False) -> None:
        """Ends what nobody works on; to be called with the home locked.

        Args:
            and_own: whether what this process has under way is ended too.
            stopped: see above.
            whole: whether the runs of all trials are compared, and not only those under way.
        """
        search.close_orphans(self.opened, self.pulse, and_own=and_own, stopped=stopped)
        store, status = self.context.store, "" if whole else "RUNNING"
        runs = store.runs(stage="trial", search=self.config.name, status=status)
        # Asked for after the runs: a trial that begins meanwhile is then among these, and its run not among those.
        trials = self.opened.get_trials(deepcopy=False)
        for run in runs:
            number = run.trial_number
            trial = as_record(trials[number]) if number < len(trials) else None
            if trial is None or trial.run_id not in ("", run.id):
                # Optuna knows nothing of it.
                if run.status == "RUNNING":
                    store.finish(run.id, "KILLED", "interrupted")
            elif self._is_left(run, trial):
                # Read again: its own process may just have ended it.
                Mirror(store, self.config, trial, store.get(run.id)).complete()

    def _is_left(self, run: Run, trial: TrialRecord) -> bool:
        """Whether `run` has not ended as its trial has, and no process is about to end it."""
        if not trial.has_ended or agrees(run, trial.outcome):
            return False
        # A living process ends its trial, and then the run.
        is_left = not trial.worker or trial.worker == this_process() or is_gone(trial.worker)
        return is_left or self.pulse.has_stopped(run.id, run.status)

    def fail(self, number: int, reason: str) -> None:
        """Ends, in both stores, a trial whose worker was stopped for `reason`, which counts as an attempt."""
        trial = self.opened.get_trials(deepcopy=False)[number]
        search.fail(self.opened, trial, reason, stopped=reason)
