import itertools
import math
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from study.architectures import MODELS
from study.config import RATES, REPORT_SETTINGS, SearchConfig, fixed_search
from study.errors import Diverged, OutOfMemory, StudyError
from study.home import Home
from study.models import parameter_count
from study.ranges import Range
from study.search import draws, sampling, search, space
from study.search.loop import Listener, Training, optimise
from study.search.private import set_user_attr
from study.search.search import Search
from study.search.trial import Pruned, Score, Suggestion, best_epoch

ROOT = Path(__file__).parents[3]
DIGEST = "0123456789abcdef"
QUICK = SearchConfig(name="quick", trials=6, epochs=3, pruner="none")


def accuracy(suggestion: Suggestion) -> float:
    """An accuracy with its best at a learning rate of 1e-3, and a little better without decay."""
    distance = math.log10(suggestion.config.learning_rate) + 3
    return 0.9 * math.exp(-(distance**2)) - 0.1 * suggestion.config.weight_decay


def at_once(run: Callable[[Suggestion], float]) -> Callable[[Suggestion], Training]:
    """A training of one epoch, in which `run` is called."""

    def training(suggestion: Suggestion) -> Training:
        yield
        return run(suggestion)

    return training


def nobody(running: int) -> None:
    raise AssertionError(f"waits for {running} trials of others, and there are no others")


def opened(home: Home, config: SearchConfig = QUICK, digest: str = DIGEST) -> Search:
    return search.open_search(config, home.storage_url, digest=digest)


def ran(
    home: Home, config: SearchConfig = QUICK, run: Callable[[Suggestion], float] = accuracy, places: int = 1
) -> Search:
    """The search, recovered as a stage does it and run to its total."""
    optuna_study = opened(home, config)
    search.close_orphans(optuna_study)
    search.requeue(optuna_study)
    optimise(optuna_study, config, at_once(run), nobody, places=places)
    return optuna_study


def points(optuna_study: Search) -> list[tuple[float, float]]:
    return [
        (trial.params["learning_rate"], trial.params["weight_decay"]) for trial in optuna_study.trials if trial.params
    ]


def stopping(number: int, end: BaseException) -> Callable[[Suggestion], float]:
    """`accuracy`, but trial `number` ends in `end`."""

    def run(suggestion: Suggestion) -> float:
        if suggestion.number == number:
            raise end
        return accuracy(suggestion)

    return run


def test_a_search_ends_with_exactly_its_total(home: Home):
    optuna_study = ran(home)
    assert search.finished(optuna_study) == len(optuna_study.trials) == 6
    assert [trial.user_attrs["status_reason"] for trial in optuna_study.trials] == ["complete"] * 6
    assert optuna_study.best_value == max(trial.value for trial in optuna_study.trials)


def test_continuing_adds_only_the_difference(home: Home):
    ran(home)
    started: list[int] = []

    def run(suggestion: Suggestion) -> float:
        started.append(suggestion.number)
        return accuracy(suggestion)

    ran(home, run=run)
    assert started == []
    optuna_study = ran(home, replace(QUICK, trials=9), run)
    assert started == [6, 7, 8]
    assert search.finished(optuna_study) == 9


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_continued_search_draws_what_an_uninterrupted_one_draws(sampler: str, home: Home, other_home: Home):
    whole = replace(QUICK, sampler=sampler, trials=14)
    expected = points(ran(home, whole))
    ran(other_home, replace(whole, trials=5))
    ran(other_home, replace(whole, trials=12))
    assert points(ran(other_home, whole)) == expected
    assert len(set(expected)) == 14


def results(optuna_study: Search) -> list[tuple[TrialState, dict[str, float], dict[int, float]]]:
    """What the trials that count ended as, tried and reached, in the order in which they were drawn."""
    counted = sorted(optuna_study.get_trials(states=search.FINISHED_STATES), key=draws.draw_of)
    return [(trial.state, trial.params, trial.intermediate_values) for trial in counted]


TWO = ("accuracy", "parameters")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampler", "pruner", "architecture", "objectives"),
    [
        ("tpe", "none", "report", TWO[:1]),
        ("tpe", "percentile", "report", TWO[:1]),
        ("random", "median", "report", TWO[:1]),
        ("grid", "none", "report", TWO[:1]),
        ("tpe", "percentile", "architecture", TWO[:1]),
        ("tpe", "none", "architecture", TWO),
    ],
)
def test_an_interrupted_search_goes_on_as_if_it_had_not_been(
    sampler: str,
    pruner: str,
    architecture: str,
    objectives: tuple[str, ...],
    home: Home,
    other_home: Home,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(search, "GRID", space.GRID[:4])
    config = replace(QUICK, sampler=sampler, pruner=pruner, objectives=objectives, trials=16, seed=5)
    config = space.in_space(config, architecture, {"epochs": "3", "pool": "1,2"} if architecture != "report" else {})
    left: list[int] = []

    def run(suggestion: Suggestion) -> float:
        score = Score(suggestion)
        for epoch in (1, 2, 3):
            try:
                # As a training would: from the hyperparameters and the seed.
                score.update(epoch, accuracy(suggestion) * epoch / 3 + suggestion.config.seed % 3 / 10, 1.0)
            finally:
                if suggestion.config.seed in left:
                    left.remove(suggestion.config.seed)
                    raise KeyboardInterrupt
        size = parameter_count(suggestion.config.model, classes=10)
        return score.accuracy if len(objectives) == 1 else [score.accuracy, size]

    whole = ran(home, config, run)
    # The first trial, one twice, one of those that TPE draws from what the earlier ones reached.
    left += [5, 8, 8, 17]
    for _ in range(4):
        with pytest.raises(KeyboardInterrupt):
            ran(other_home, config, run)
    continued = ran(other_home, config, run)
    assert results(continued) == results(whole)
    assert len(continued.trials) == 16 + 4
    if architecture != "report":
        assert len({tuple(trial.params.items()) for trial in continued.trials}) == 16


def test_a_search_with_two_objectives_goes_on_after_a_diverged_trial_and_keeps_every_accuracy(home: Home):
    config = space.in_space(replace(QUICK, trials=16, objectives=TWO), "architecture", {"epochs": "2"})

    def run(suggestion: Suggestion) -> list[float]:
        score = Score(suggestion)
        score.update(1, 0.25, 1.0)
        if suggestion.number % 4 == 1:
            raise Diverged(2, "val_loss", math.inf)
        score.update(2, accuracy(suggestion), 1.0)
        return [score.accuracy, parameter_count(suggestion.config.model, classes=10)]

    optuna_study = ran(home, config, run)
    table = search.trials_table(optuna_study)
    assert table["state"].value_counts().to_dict() == {"complete": 12, "diverged": 4}
    assert set(table["epochs"]) == {1, 2}
    assert len(optuna_study.best_trials) >= 1
    assert optuna_study.metric_names == ["best_val_accuracy", "parameters"]
    shares = search.importance(optuna_study)
    assert shares[["importance", "importance_parameters"]].sum().tolist() == pytest.approx([1, 1])
    of_size = shares.set_index("parameter")["importance_parameters"]
    assert of_size.idxmax() in ("filters1", "filters2", "kernel", "pool")
    assert {*RATES, "optimiser", "warmup_steps", "schedule", "pooling"} <= set(of_size.index[of_size.isna()])
    assert {"filters1", "filters2", "kernel"} <= set(of_size.dropna().index)


@pytest.mark.slow
def test_importance_is_known_of_hyperparameters_whose_range_depends_on_others(home: Home):
    config = space.in_space(replace(QUICK, sampler="random", trials=30), "architecture", {})
    shares = search.importance(ran(home, config, lambda suggestion: suggestion.config.model.padding / 3))
    assert set(shares["parameter"]) == {*config.choices, *RATES}
    assert shares["parameter"][0] == "padding"


def test_a_search_from_before_draws_were_recorded_goes_on_with_new_ones(home: Home, monkeypatch: pytest.MonkeyPatch):
    config, seeds = replace(QUICK, sampler="random"), []

    def run(suggestion: Suggestion) -> float:
        seeds.append(suggestion.config.seed)
        return accuracy(suggestion)

    with monkeypatch.context() as before:
        before.setattr(sampling, "next_draw", lambda trial, earlier: trial.number)
        before.setattr(FrozenTrial, "set_user_attr", lambda trial, name, value: None)
        before.setattr(RDBStorage, "set_trial_user_attr", unless("draw", RDBStorage.set_trial_user_attr))
        with pytest.raises(KeyboardInterrupt):
            ran(home, config, stopping(2, KeyboardInterrupt()))
        # Its retry has number 3.
        ran(home, replace(config, trials=4), run)
    optuna_study = ran(home, config, run)
    assert seeds == [3, 4, 5, 6]
    assert [draws.draw_of(trial) for trial in optuna_study.trials] == list(range(7))
    assert len(set(points(optuna_study))) == 6


def unless(name: str, whole: Callable[..., None]) -> Callable[..., None]:
    """`whole`, that does nothing about the attribute `name`."""

    def written(storage: RDBStorage, trial: int, key: str, value: object) -> None:
        if key != name:
            whole(storage, trial, key, value)

    return written


@pytest.mark.slow
def test_points_stay_within_the_ranges(home: Home):
    config = replace(
        QUICK, trials=20, learning_rate=Range(low=1e-4, high=2e-4), weight_decay=Range(low=1e-6, high=1e-5)
    )
    rates, decays = zip(*points(ran(home, config)), strict=True)
    assert all(1e-4 <= rate <= 2e-4 for rate in rates)
    assert all(1e-6 <= decay <= 1e-5 for decay in decays)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_fixed_hyperparameter_is_not_drawn(sampler: str, home: Home):
    # More trials than TPE draws at random at its start.
    config = replace(QUICK, sampler=sampler, trials=14, learning_rate=Range(low=1e-3, high=1e-3))
    drawn = points(ran(home, config))
    assert {rate for rate, _ in drawn} == {1e-3}
    assert len({decay for _, decay in drawn}) == 14


@pytest.mark.parametrize("model", MODELS)
def test_a_fixed_search_has_one_trial_at_its_values(model: str, home: Home):
    config = fixed_search(model, *REPORT_SETTINGS[model])
    assert points(ran(home, config)) == [tuple(map(float, REPORT_SETTINGS[model]))]


def test_each_trial_has_its_own_settings_and_seed(home: Home):
    configs = []

    def run(suggestion: Suggestion) -> float:
        configs.append(suggestion.config)
        return accuracy(suggestion)

    ran(home, replace(QUICK, seed=40, batch_size=7, optimiser="adamw", warmup_steps=2), run)
    assert [config.seed for config in configs] == [40, 41, 42, 43, 44, 45]
    assert {(config.epochs, config.batch_size, config.optimiser, config.warmup_steps) for config in configs} == {
        (3, 7, "adamw", 2)
    }
    assert len({(config.learning_rate, config.weight_decay) for config in configs}) == 6


def test_a_diverged_trial_is_pruned_with_its_reason_and_the_search_goes_on(home: Home):
    optuna_study = ran(home, run=stopping(2, Diverged(1, "train_loss", math.nan)))
    assert len(optuna_study.trials) == 6
    trial = optuna_study.trials[2]
    assert trial.state == TrialState.PRUNED
    assert trial.user_attrs["status_reason"] == "diverged"
    assert trial.user_attrs["stopped"] == "train_loss became nan in epoch 1"
    assert search.trials_table(optuna_study)["state"].tolist() == ["complete"] * 2 + ["diverged"] + ["complete"] * 3


@pytest.mark.parametrize(
    ("state", "reason", "recorded"),
    [
        (TrialState.COMPLETE, "interrupted", "complete"),
        (TrialState.PRUNED, "interrupted", "pruned"),
        (TrialState.PRUNED, "diverged", "diverged"),
        (TrialState.FAIL, "diverged", "diverged"),
    ],
)
def test_the_state_of_an_ended_trial_counts_where_its_reason_says_otherwise(
    state: TrialState, reason: str, recorded: str
):
    value = 0.5 if state == TrialState.COMPLETE else None
    trial = create_trial(state=state, value=value, user_attrs={"status_reason": reason})
    assert search.outcome(trial).reason == recorded


@pytest.mark.parametrize(("end", "reason"), [(KeyboardInterrupt(), "interrupted"), (RuntimeError("no"), "crashed")])
def test_an_unfinished_trial_fails_with_its_reason_and_is_tried_again(end: BaseException, reason: str, home: Home):
    with pytest.raises(type(end)):
        ran(home, run=stopping(2, end))
    optuna_study = opened(home)
    failed = optuna_study.trials[2]
    assert failed.state == TrialState.FAIL
    assert failed.user_attrs["status_reason"] == reason
    retries: list[tuple[int | None, int]] = []

    def run(suggestion: Suggestion) -> float:
        retries.append((suggestion.retry_of, suggestion.number))
        return accuracy(suggestion)

    optuna_study = ran(home, run=run)
    assert retries == [(2, 3), (None, 4), (None, 5), (None, 6)]
    assert optuna_study.trials[3].params == failed.params
    assert search.finished(optuna_study) == 6
    assert search.requeue(optuna_study) == []


def test_a_trial_is_tried_again_twice_and_no_more(home: Home):
    for attempt in range(3):
        with pytest.raises(RuntimeError):
            ran(home, run=stopping(attempt, RuntimeError("again")))
    optuna_study = opened(home)
    assert [trial.user_attrs.get("retry_of") for trial in optuna_study.trials] == [None, 0, 0]
    assert len(set(points(optuna_study))) == 1
    assert search.requeue(optuna_study) == []
    assert search.finished(ran(home)) == 6


@pytest.mark.parametrize(
    ("name", "noted"), [("retry_of", 1), ("retry_of", -1), ("retry_of", "0"), ("draw", 2), ("draw", 0.5)]
)
def test_a_search_with_a_trial_that_cannot_be_is_not_continued(name: str, noted: object, home: Home):
    lined_up = opened(home)
    for _ in range(3):
        lined_up.enqueue_trial({"learning_rate": 1e-3, "weight_decay": 1e-3})
    set_user_attr(lined_up, lined_up.trials[1], name, noted)
    with pytest.raises(StudyError, match=f"Trial 1 of the search .*impossible record .its {name} is {noted!r}"):
        opened(home)


def test_what_is_lined_up_once_is_not_lined_up_twice(home: Home):
    with pytest.raises(KeyboardInterrupt):
        ran(home, run=stopping(0, KeyboardInterrupt()))
    optuna_study = opened(home)
    assert search.requeue(optuna_study) == [0]
    assert search.requeue(optuna_study) == []


@pytest.mark.slow
@pytest.mark.parametrize("interrupted_at", [None, 3])
def test_the_grid_visits_each_point_once(interrupted_at: int | None, home: Home, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(search, "GRID", (1e-4, 1e-2, 10.0))
    config = replace(QUICK, sampler="grid", trials=9)
    if interrupted_at is not None:
        with pytest.raises(KeyboardInterrupt):
            ran(home, config, stopping(interrupted_at, KeyboardInterrupt()))
    optuna_study = ran(home, config)
    visited = [
        (trial.params["learning_rate"], trial.params["weight_decay"])
        for trial in optuna_study.trials
        if trial.state == TrialState.COMPLETE
    ]
    assert sorted(visited) == sorted(itertools.product((1e-4, 1e-2, 10.0), repeat=2))


@pytest.mark.slow
def test_the_reports_grid_has_64_points_between_1e_minus_4_and_10(home: Home):
    assert len(space.GRID) == 8
    assert (space.GRID[0], space.GRID[-1]) == pytest.approx((1e-4, 10))
    ratios = [after / before for before, after in itertools.pairwise(space.GRID)]
    assert ratios == pytest.approx([ratios[0]] * 7)
    optuna_study = ran(home, replace(QUICK, name="report", sampler="grid", trials=64))
    assert sorted(points(optuna_study)) == sorted(itertools.product(space.GRID, repeat=2))


@pytest.mark.slow
@pytest.mark.parametrize("pruner", ["percentile", "hyperband", "median"])
def test_a_pruner_ends_what_falls_behind_but_never_after_the_last_epoch(pruner: str, home: Home):
    config = replace(QUICK, trials=16, epochs=9, pruner=pruner)

    def run(suggestion: Suggestion) -> float:
        score = Score(suggestion)
        for epoch in range(1, 10):
            # Every later trial is worse than all before it, at every epoch.
            score.update(epoch, (0.9 - 0.05 * suggestion.number) * epoch / 9, 1.0)
        return score.accuracy

    optuna_study = ran(home, config, run)
    pruned = [trial for trial in optuna_study.trials if trial.state == TrialState.PRUNED]
    assert pruned
    assert {trial.user_attrs["status_reason"] for trial in pruned} == {"pruned"}
    assert all(trial.last_step < 9 for trial in pruned)
    assert all(trial.last_step == 9 for trial in optuna_study.trials if trial.state == TrialState.COMPLETE)
    assert search.finished(optuna_study) == 16


def test_a_score_is_the_best_epochs_and_of_equals_the_one_with_the_lower_loss(home: Home):
    scores = []

    def run(suggestion: Suggestion) -> float:
        score = Score(suggestion)
        for epoch, result in enumerate([(0.5, 1.2), (0.7, 1.0), (0.7, 0.9), (0.6, 0.1)], start=1):
            score.update(epoch, *result)
        scores.append(score.best)
        return score.accuracy

    ran(home, replace(QUICK, trials=1, epochs=4), run)
    assert scores == [{"best_val_accuracy": 0.7, "best_val_loss": 0.9, "best_epoch": 3}]


def test_the_best_epoch_is_the_first_of_equals_and_may_lack_a_loss():
    accuracies = {1: 0.25, 2: 0.5, 3: 0.5, 4: 0.5}
    of_third = {"best_val_accuracy": 0.5, "best_val_loss": 0.8, "best_epoch": 3}
    assert best_epoch(accuracies, {1: 0.1, 2: 0.9, 3: 0.8, 4: 0.8}) == of_third
    assert best_epoch(accuracies, {}) == {"best_val_accuracy": 0.5, "best_epoch": 2}
    assert best_epoch({}, {}) == {}


def test_the_table_holds_every_finished_trial(home: Home):
    def run(suggestion: Suggestion) -> float:
        score = Score(suggestion)
        score.update(1, 0.25, 1.0)
        if suggestion.number == 1:
            raise Pruned(1)
        if suggestion.number == 3:
            raise Diverged(2, "val_loss", math.inf)
        score.update(2, 0.5, 1.0)
        score.update(3, 0.375, 1.0)
        return score.accuracy

    optuna_study = ran(home, replace(QUICK, trials=4), run)
    table = search.trials_table(optuna_study)
    rates = ["learning_rate", "weight_decay"]
    assert table.columns.tolist() == ["number", "state", *rates, "parameters", "val_accuracy", "epochs"]
    assert table["number"].tolist() == [0, 1, 2, 3]
    assert table["state"].tolist() == ["complete", "pruned", "complete", "diverged"]
    assert table["val_accuracy"].tolist() == [0.5, 0.25, 0.5, 0.25]
    assert table["epochs"].tolist() == [3, 1, 3, 1]
    assert list(zip(table["learning_rate"], table["weight_decay"], strict=True)) == points(optuna_study)


@pytest.mark.slow
def test_importance_sums_to_one_and_finds_what_matters(home: Home):
    shares = search.importance(ran(home, replace(QUICK, sampler="random", trials=20))).set_index("parameter")
    assert shares["importance"].sum() == pytest.approx(1)
    assert shares["importance"]["learning_rate"] > 0.8


def test_importance_of_trials_that_do_not_differ_is_empty(home: Home):
    table = search.importance(ran(home, replace(QUICK, trials=2), lambda suggestion: 0.5))
    assert table.empty
    assert table.columns.tolist() == ["parameter", "importance"]


def test_a_storage_that_is_no_database_is_refused(tmp_path: Path):
    (tmp_path / "optuna.db").write_text("notes about something else entirely\n" * 50)
    home = Home(root=tmp_path)
    for storage in (f"sqlite:///{tmp_path / 'optuna.db'}", "nonsense://nowhere"):
        with pytest.raises(StudyError) as raised:
            search.open_search(QUICK, storage, digest=DIGEST)
        assert "\n" not in str(raised.value)
    assert home.storage_url != f"sqlite:///{tmp_path / 'optuna.db'}"


WORKER = """
import sys, time
from pathlib import Path
from typing import Any
from study.home import Home
from study.search import search
from study.config import SearchConfig
from study.search.loop import optimise
from tests.study.search.test_search import QUICK, accuracy, at_once, opened

home, folder, total, mode = Home(root=Path(sys.argv[1])), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]

def run(suggestion):
    (folder / "worker").touch()
    while mode == "hang" or not (folder / "parent").exists():
        time.sleep(0.01)
    return accuracy(suggestion)

config = SearchConfig(**{**vars(QUICK), "trials": total})
optimise(opened(home, config), config, at_once(run), lambda running: None)
"""


def worker(home: Home, folder: Path, total: int, mode: str) -> subprocess.Popen[bytes]:
    """Another process that works on the search; it has a trial under way once `folder` holds the file "worker"."""
    paths = f"import sys; sys.path[:0] = {[str(ROOT), str(ROOT / 'tests')]}"
    arguments = [str(home.root), str(folder), str(total), mode]
    process = subprocess.Popen([sys.executable, "-c", paths + WORKER, *arguments])
    while not (folder / "worker").exists():
        assert process.poll() is None, "the other process ended before its first trial"
        time.sleep(0.01)
    return process


def test_two_processes_never_exceed_the_total(home: Home, tmp_path: Path):
    config = replace(QUICK, trials=12)
    optuna_study = opened(home, config)
    other = worker(home, tmp_path, 12, "together")

    def run(suggestion: Suggestion) -> float:
        (tmp_path / "parent").touch()
        return accuracy(suggestion)

    optimise(optuna_study, config, at_once(run), lambda running: None)
    assert other.wait() == 0
    trials = optuna_study.get_trials()
    assert search.finished(optuna_study) == 12
    assert {trial.user_attrs["status_reason"] for trial in trials} <= {"complete", "surplus"}
    counted = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    assert len({trial.user_attrs["worker"] for trial in counted}) == 2
    assert len({trial.params["learning_rate"] for trial in counted}) == 12


def test_the_trial_of_a_killed_process_is_closed_and_its_place_given_again(home: Home, tmp_path: Path):
    optuna_study = opened(home)
    other = worker(home, tmp_path, 6, "hang")
    assert search.close_orphans(optuna_study) == []
    other.kill()
    other.wait()
    [orphan] = search.close_orphans(optuna_study)
    assert search.close_orphans(optuna_study) == []
    assert optuna_study.trials[orphan.number].state == TrialState.FAIL
    assert optuna_study.trials[orphan.number].user_attrs["status_reason"] == "interrupted"
    search.requeue(optuna_study)
    optimise(optuna_study, QUICK, at_once(accuracy), nobody)
    assert search.finished(optuna_study) == 6
    assert optuna_study.trials[1].user_attrs["retry_of"] == orphan.number
    assert optuna_study.trials[1].params == orphan.params


def taking_turns(log: list[tuple[int, int]], ends: dict[int, int]) -> Callable[[Suggestion], Training]:
    """Trainings of 3 epochs that note each as it is begun; trial n is pruned after epoch `ends[n]`."""

    def training(suggestion: Suggestion) -> Training:
        for epoch in (1, 2, 3):
            log.append((suggestion.number, epoch))
            yield
            if ends.get(suggestion.number) == epoch:
                raise Pruned(epoch)
        return accuracy(suggestion)

    return training


def test_trials_take_turns_and_the_place_of_a_pruned_one_goes_to_the_next(home: Home):
    log: list[tuple[int, int]] = []
    optuna_study = opened(home)
    optimise(optuna_study, QUICK, taking_turns(log, {1: 1}), nobody, places=2)
    assert log[:8] == [(0, 1), (1, 1), (0, 2), (0, 3), (2, 1), (2, 2), (2, 3), (3, 1)]
    assert sorted(log) == [(0, 1), (0, 2), (0, 3), (1, 1), *itertools.product(range(2, 6), (1, 2, 3))]
    assert search.finished(optuna_study) == 6


def test_trials_that_take_turns_never_exceed_their_places_or_the_total(home: Home):
    under_way, most = set(), []

    def training(suggestion: Suggestion) -> Training:
        under_way.add(suggestion.number)
        most.append(len(under_way))
        yield
        under_way.remove(suggestion.number)
        return accuracy(suggestion)

    optuna_study = opened(home)
    optimise(optuna_study, QUICK, training, nobody, places=4)
    assert max(most) == 4
    assert [trial.state for trial in optuna_study.trials] == [TrialState.COMPLETE] * 6


@pytest.mark.slow
def test_a_search_in_turns_repeats(home: Home, other_home: Home):
    config = replace(QUICK, trials=14)
    first, second = (ran(place, config, places=3) for place in (home, other_home))
    assert points(first) == points(second)
    assert len(set(points(first))) == 14


@pytest.mark.slow
def test_the_grid_is_tried_once_each_in_turns(home: Home):
    optuna_study = ran(home, replace(QUICK, name="grid", sampler="grid", trials=64), places=5)
    assert sorted(points(optuna_study)) == sorted(itertools.product(space.GRID, repeat=2))


def test_all_trials_are_read_twice_for_each_that_begins_and_twice_at_the_end(
    home: Home, monkeypatch: pytest.MonkeyPatch
):
    optuna_study, reads, get_trials = opened(home), list[object](), Search.get_trials

    def counted(self: Search, *arguments: Any, **options: Any) -> list[FrozenTrial]:
        reads.append(options)
        return get_trials(self, *arguments, **options)

    monkeypatch.setattr(Search, "get_trials", counted)
    optimise(optuna_study, QUICK, at_once(accuracy), nobody)
    assert len(reads) == 2 * QUICK.trials + 2


def test_what_one_trial_raises_ends_the_others_as_interrupted(home: Home):
    with pytest.raises(RuntimeError, match="a bug"):
        ran(home, run=stopping(1, RuntimeError("a bug")), places=3)
    optuna_study = opened(home)
    assert [trial.user_attrs["status_reason"] for trial in optuna_study.trials] == [
        "complete",
        "crashed",
        "interrupted",
    ]
    assert search.workers(optuna_study) == {}


def test_trials_without_memory_do_not_count_and_three_in_a_row_end_the_search(home: Home):
    def run(suggestion: Suggestion) -> float:
        if suggestion.number in (1, 3, 4, 5):
            raise OutOfMemory(f"none for {suggestion.number}")
        return accuracy(suggestion)

    optuna_study, messages = opened(home), []
    with pytest.raises(OutOfMemory, match="none for 5"):
        optimise(optuna_study, QUICK, at_once(run), nobody, listener=Listener(on_memory=messages.append))
    assert messages == ["none for 1", "none for 3", "none for 4"]
    reasons = [trial.user_attrs["status_reason"] for trial in optuna_study.trials]
    assert reasons == ["complete", "out of memory", "complete", *["out of memory"] * 3]
    # Their parameters are tried again, like those of other trials that failed.
    assert sorted(search.requeue(optuna_study)) == [1, 3, 4, 5]


def test_fewer_trials_take_turns_from_when_one_of_several_finds_no_memory(home: Home):
    under_way: set[int] = set()

    def training(suggestion: Suggestion) -> Training:
        under_way.add(suggestion.number)
        try:
            if len(under_way) > 2:
                raise OutOfMemory(f"none for {suggestion.number}")
            yield
            yield
            return accuracy(suggestion)
        finally:
            under_way.remove(suggestion.number)

    optuna_study, messages = opened(home), []
    optimise(optuna_study, QUICK, training, nobody, listener=Listener(on_memory=messages.append), places=4)
    assert messages == ["none for 2", "none for 3"]
    assert search.finished(optuna_study) == 6
    assert {trial.user_attrs["status_reason"] for trial in optuna_study.trials} == {"complete", "out of memory"}


def test_trials_that_cannot_be_stopped_in_order_are_closed_all_the_same(home: Home):
    def training(suggestion: Suggestion) -> Training:
        try:
            yield
            if suggestion.number == 1:
                raise RuntimeError("the GPU is gone")
            yield
        finally:
            if suggestion.number != 1:
                raise RuntimeError("still gone")
        return 0.5

    optuna_study = opened(home)
    with pytest.raises(RuntimeError, match="gone"):
        optimise(optuna_study, QUICK, training, nobody, places=3)
    reasons = [trial.user_attrs["status_reason"] for trial in optuna_study.trials]
    assert reasons == ["interrupted", "crashed", "interrupted"]
    assert {trial.state for trial in optuna_study.trials} == {TrialState.FAIL}
