"""What `study doctor --fix` does: each repair of `pipelines.upkeep.findings`, once both databases are copied."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import singledispatchmethod
from pathlib import Path

from pipelines.report.search_results import log_results
from pipelines.session.context import Context
from pipelines.trials.mirror import end_run
from pipelines.upkeep import findings as doctor
from pipelines.upkeep.check_runs import trial_tags
from pipelines.upkeep.findings import Finding
from pipelines.upkeep.relocate import Tables
from study.config import TrainConfig
from study.errors import StudyError
from study.search.records import Searches, SearchRecord, TrialRecord
from study.system.backup import back_up
from study.tracking.registry import delete_run
from study.tracking.runs import Run


class Mender:
    """Mends what was found."""

    def __init__(self, context: Context, searches: Searches, tables: Tables | None, *, backup: bool):
        self.context, self.searches, self.tables = context, searches, tables
        self.store = context.store
        self._to_back_up = backup

    def mend(self, findings: Sequence[Finding]) -> None:
        """Does all repairs of `findings`, each once.

        Raises:
            StudyError: where a database cannot be copied before, or not be written.
        """
        if self._to_back_up:
            self._back_up()
        self._to_back_up = False
        done = set[int]()
        repairs = [repair for finding in findings for repair in finding.repairs]
        with self.context.display.bar("mending", len(repairs)) as bar:
            for repair in repairs:
                # A run that several findings speak of is deleted once.
                if repairs.index(repair) not in done:
                    self._do(repair)
                    done.add(repairs.index(repair))
                bar.advance()

    def _back_up(self) -> None:
        folder = self.context.home.store / f"backup-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
        databases = {"optuna": self.context.storage}
        if self.tables:
            databases["mlflow"] = self.store.uri
        back_up(databases, folder)
        self.context.display.say(f"Both databases as they were: {folder}")

    @singledispatchmethod
    def _do(self, repair: object) -> None:
        raise AssertionError(repair)

    @_do.register
    def _(self, repair: doctor.EndRun) -> None:
        self.store.finish(repair.run_id, repair.status, repair.reason)

    @_do.register
    def _(self, repair: doctor.EndTrial) -> None:
        self.searches.end_trial(repair.search, repair.number)

    @_do.register
    def _(self, repair: doctor.RestoreRun) -> None:
        self.store.client.restore_run(repair.run_id)

    @_do.register
    def _(self, repair: doctor.DeleteRun) -> None:
        delete_run(self.store.client, repair.run_id)

    @_do.register
    def _(self, repair: doctor.SetTags) -> None:
        self.store.tag(repair.run_id, **repair.tags)

    @_do.register
    def _(self, repair: doctor.AddPoint) -> None:
        self.store.log(repair.run_id, {repair.name: repair.value}, repair.step)

    @_do.register
    def _(self, repair: doctor.SetPoint) -> None:
        assert self.tables
        self.tables.set_point(repair.run_id, repair.name, repair.step, repair.value)

    @_do.register
    def _(self, repair: doctor.SetParams) -> None:
        assert self.tables
        self.tables.set_params(repair.run_id, repair.params)

    @_do.register
    def _(self, repair: doctor.MoveLocation) -> None:
        assert self.tables
        self.tables.move(repair.old, repair.new)

    @_do.register
    def _(self, repair: doctor.RecordSums) -> None:
        self.store.log_sums(repair.run_id, repair.sums)

    @_do.register
    def _(self, repair: doctor.RemoveFile) -> None:
        Path(repair.path).unlink(missing_ok=True)

    @_do.register
    def _(self, repair: doctor.LogResults) -> None:
        log_results(repair.run_id, self.searches.opened(repair.search), self.store)

    @_do.register
    def _(self, repair: doctor.CreateRun) -> None:
        search = next(search for search in self.searches.read() if search.name == repair.search)
        if repair.number is None:
            self._create_search_run(search)
        else:
            self._create_trial_run(search, search.trials[repair.number])

    def _create_search_run(self, search: SearchRecord) -> None:
        source = self._relative(search)
        tags = {"stage": "search", "model": str(search.settings["model"]), "search": search.name}
        run_id = self.store.start(
            source.tags["dataset"],
            search.name,
            tags={**tags, "dataset": source.tags["dataset"], **_restored()},
            params={**search.settings, **_surroundings(search, source)},
        )
        log_results(run_id, self.searches.opened(search.name), self.store)
        for run in self.store.runs(stage="trial", search=search.name):
            self.store.tag(run.id, **{"mlflow.parentRunId": run_id})
        self.store.finish(run_id, "FINISHED", "complete")

    def _create_trial_run(self, search: SearchRecord, trial: TrialRecord) -> None:
        source = self._relative(search)
        parents = self.store.runs(stage="search", search=search.name)
        parent = parents[0] if parents else None
        run_id = self.store.start(
            source.tags["dataset"],
            f"trial {trial.number} of {search.name}",
            tags={"dataset": source.tags["dataset"], **trial_tags(search, trial, parent), **_restored()},
            params={**(search.training(trial).params() if trial.params else {}), **_surroundings(search, source)},
        )
        for epoch, accuracy in trial.accuracies.items():
            self.store.log(run_id, {"val_accuracy": accuracy}, epoch)
        best = {} if trial.best is None else {"best_val_accuracy": trial.best, "best_epoch": float(trial.best_epoch)}
        end_run(self.store, run_id, trial.outcome, best)

    def _relative(self, search: SearchRecord) -> Run:
        """A run of the same search, which says on what data and machine it was made."""
        found = self.store.runs(stage="search", search=search.name) or self.store.runs(search=search.name)
        if not found:
            raise StudyError(f"No run of the search {search.name} is left that says on which images it was.")
        return found[0]


def _restored() -> dict[str, str]:
    return {"restored": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"}


def _surroundings(search: SearchRecord, source: Run) -> dict[str, str]:
    """The data, machine and versions that `source` was made with."""
    own = (set(search.settings) | set(TrainConfig(model=search.config.model).params())) - {"dataset"}
    return {name: value for name, value in source.params.items() if name not in own}
