"""Which retraining is continued: the same one that was interrupted, unless another process is training it."""

from collections.abc import Sequence

from pipelines.session.context import Context
from study.config import TrainConfig
from study.errors import StudyError
from study.system.processes import named
from study.tracking import heartbeat
from study.tracking.checkpoints import Checkpoints
from study.tracking.runs import NOT_CONTINUED, Run, is_under_way


class UnderWay(StudyError):
    """Another process is training the same, as `run`."""

    def __init__(self, run: Run):
        super().__init__(f"Run {run.id} is already retraining this ({named(run.worker)}): wait for it.")
        self.run = run


def close_dead(trial: Run, seed: int, epochs: int, context: Context) -> None:
    """Ends the same training as interrupted where its machine has died; waits for a sign of life to know."""
    same = context.store.runs(stage="retrain", trial_run=trial.id, seed=str(seed), status="RUNNING")
    heartbeat.close_dead(context.store, [run for run in same if run.epochs in (0, epochs)])


def unfinished(trial: Run, config: TrainConfig, context: Context) -> str | None:
    """The run of the same training that was interrupted, now marked as running again.

    Raises:
        UnderWay: where another process trains it.
    """
    others = []
    for run in context.store.runs(stage="retrain", trial_run=trial.id, seed=str(config.seed)):
        if run.status == "RUNNING" and not is_under_way(run):
            context.store.finish(run.id, "KILLED", "interrupted")
        if run.status == "FINISHED" or run.epochs != config.epochs or run.reason in NOT_CONTINUED:
            continue
        if differing := _changed(run, config, context):
            others += [] if is_under_way(run) else [f"Run {run.id} was interrupted with {differing}"]
            continue
        if is_under_way(run):
            raise UnderWay(run)
        if _try_to_continue(run, context):
            return run.id
    if others:
        context.display.say(f"{others[0]}, which gives other weights: training starts over.")
    return None


def _changed(run: Run, config: TrainConfig, context: Context) -> str:
    """The settings of the machine, or the source of the network, that differ from `run`'s, in words; empty if none."""
    if run.train_config.model != config.model:
        return "another version of the network"
    now = {key: str(value) for key, value in context.machine.params().items()}
    before = dict.fromkeys(now, "") | {"world_size": "1"} | run.params
    return ", ".join(f"{key} {before[key]} (now {now[key]})" for key in now if before[key] != now[key])


def _try_to_continue(run: Run, context: Context) -> bool:
    """Marks `run` as running again, or as failed if it lacks files to continue from; returns whether it continues."""
    if lost := Checkpoints(context.store, run.id).lost():
        context.store.finish(run.id, "FAILED", "incomplete")
        context.display.say(f"Run {run.id} cannot be continued ({lost_files(lost)}): training starts over.")
        return False
    context.store.claim(run.id)
    return True


def lost_files(lost: Sequence[str]) -> str:
    """In words, that these files, at least one, are missing or altered."""
    more = f" and {len(lost) - 1} more are" if len(lost) > 1 else " is"
    return f"{lost[0]}{more} missing or altered"
