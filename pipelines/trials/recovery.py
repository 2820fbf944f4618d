"""What a killed process left of a search, set right in both stores: Optuna's record is the truth, MLflow mirrors it."""

from typing import Any

from pipelines.session.context import Context
from pipelines.trials.mirror import agrees, best_epoch, end_run
from study.config import SearchConfig
from study.search import search
from study.search.heartbeat import Pulse
from study.search.trial import Outcome
from study.system.files import locked
from study.system.processes import is_gone, is_known, this_process
from study.tracking.runs import Run


class Recovery:
    """Ends, in both stores, what nobody works on any more, and lines up its parameters again."""

    def __init__(self, opened: search.Search, config: SearchConfig, context: Context):
        self.opened, self.config, self.context = opened, config, context
        self.pulse = Pulse()
        self._named: set[int] = set()

    def __call__(self, *, stopped: str = "") -> None:
        """Does it once; `stopped` is what has just ended a worker, which counts as an attempt at what it tried."""
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
            number = int(run.tags["optuna_trial"])
            told = self._told(run, trials[number] if number < len(trials) else None)
            # Looked at again: its own process may just have ended it.
            if told and not agrees(store.get(run.id), told):
                end_run(store, run.id, told, best_epoch(store, run))

    def _told(self, run: Run, trial: Any) -> Outcome | None:
        """What `run` should have ended as, where it has not and nobody else is about to end it."""
        if trial is None or trial.user_attrs.get("mlflow_run", run.id) != run.id:
            # Optuna knows nothing of it.
            return Outcome(int(run.tags["optuna_trial"]), "interrupted") if run.status == "RUNNING" else None
        if not trial.state.is_finished() or agrees(run, told := search.outcome(trial)):
            return None
        worker = trial.user_attrs.get("worker")
        # A living process ends its trial, and then the run.
        left = not worker or worker == this_process() or is_gone(worker)
        return told if left or self.pulse.has_stopped(run.id, run.status) else None

    def fail(self, number: int, reason: str) -> None:
        """Ends, in both stores, a trial whose worker was stopped for `reason`, which counts as an attempt."""
        trial = self.opened.get_trials(deepcopy=False)[number]
        search.fail(self.opened, trial, reason, stopped=reason)
