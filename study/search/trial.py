"""A trial of a search as the training code sees it: its settings, its score and its outcome."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from study.config import TrainConfig
from study.search.private import report, set_note, together


@dataclass(frozen=True)
class Suggestion:
    """A trial to run: its number, its settings and its Optuna object."""

    number: int
    config: TrainConfig
    trial: Any

    def bind(self, run_id: str, note: str, parameters: int | None) -> None:
        """Records what the trial is elsewhere.

        Args:
            run_id: the MLflow run that mirrors it.
            note: on this run, in Markdown, for optuna-dashboard.
            parameters: of its network; None where that could not be built.
        """
        with together(self.trial.study):
            self.trial.set_user_attr("mlflow_run", run_id)
            if parameters is not None:
                self.trial.set_user_attr("parameters", parameters)
            set_note(self.trial, note)

    @property
    def retry_of(self) -> int | None:
        """The number of the trial that this one retries."""
        return self.trial.user_attrs.get("retry_of")


COUNTED = ("complete", "pruned", "diverged")
"""The reasons of finished trials, which count towards the total."""


@dataclass(frozen=True)
class Outcome:
    """The recorded outcome of a trial."""

    number: int
    reason: str
    """`complete`, `pruned`, `diverged`, `interrupted`, `out of memory`, `crashed`, `timed out` with the details, or
    `surplus`: other trials had reached the total before."""
    stopped: str = ""
    """Message of what stopped it early; empty where it was complete, or interrupted from outside."""
    epoch: int | None = None
    """The epoch in which it was pruned or diverged."""
    is_abandoned: bool = False
    """Whether it was ended by another process than its worker."""

    @property
    def status(self) -> str:
        """The status in MLflow: FINISHED, KILLED (interrupted or timed out) or FAILED."""
        if self.reason in COUNTED:
            return "FINISHED"
        return "KILLED" if self.reason == "interrupted" or self.reason.startswith("timed out") else "FAILED"


def best_epoch(accuracies: Mapping[int, float], losses: Mapping[int, float]) -> dict[str, float]:
    """The metrics of the epoch with the highest validation accuracy.

    Ties go to the lowest loss, then to the first epoch.

    Args:
        accuracies: on the validation split, by epoch.
        losses: likewise; epochs may be missing.

    Returns:
        best_val_accuracy, best_epoch and, where its loss is known, best_val_loss; empty where there is no epoch.
    """
    if not accuracies:
        return {}
    epoch = max(accuracies, key=lambda epoch: (accuracies[epoch], -losses.get(epoch, math.inf), -epoch))
    best = {"best_val_accuracy": accuracies[epoch], "best_epoch": epoch}
    return best | ({"best_val_loss": losses[epoch]} if epoch in losses else {})


class Pruned(Exception):
    """The pruner ended a trial after this epoch; or, before its first, it could not begin for the reason `why`."""

    reason = "pruned"

    def __init__(self, epoch: int, why: str = ""):
        super().__init__(why or f"pruned after epoch {epoch}")
        self.epoch = epoch


class Score:
    """The best validation accuracy of a trial so far; reports every epoch to the pruner."""

    def __init__(self, suggestion: Suggestion):
        self.suggestion = suggestion
        self._accuracies: dict[int, float] = {}
        self._losses: dict[int, float] = {}

    @property
    def best(self) -> dict[str, float]:
        """The metrics of the best epoch; see `best_epoch`."""
        return best_epoch(self._accuracies, self._losses)

    @property
    def accuracy(self) -> float:
        """The best validation accuracy; defined from the first epoch on."""
        return self.best["best_val_accuracy"]

    def update(self, epoch: int, accuracy: float, loss: float) -> None:
        """Records the result of one epoch.

        Raises:
            Pruned: where the pruner ends the trial; never after its last epoch.
        """
        self._accuracies[epoch], self._losses[epoch] = accuracy, loss
        is_pruned = report(self.suggestion.trial, accuracy, epoch)
        if epoch < self.suggestion.config.epochs and is_pruned:
            raise Pruned(epoch)
