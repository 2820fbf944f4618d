"""What a user types: every mistake is one sentence and changes nothing, and what is right is done and told."""

import contextlib
import re
import signal
import socket
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

import optuna
import pytest
import typer.main
from optuna.trial import FrozenTrial, TrialState

from pipelines.cli import app
from study.home import Home
from study.system import interruption
from study.tracking.registry import model_name
from study.tracking.runs import Run
from study.tracking.store import Store
from tests.conftest import Finished, copy_of
from tests.support.process import Ended, end, on_a_terminal, read_until, start, study, study_cold, study_here


def contents(home: Home) -> dict[str, object]:
    """All that both databases hold, and the files beside them."""
    stored: dict[str, object] = {}
    for name in ("mlflow.db", "optuna.db"):
        if (home.store / name).is_file():
            with contextlib.closing(sqlite3.connect(home.store / name)) as database:
                stored[name] = list(database.iterdump())
    beside = (path for path in home.root.rglob("*") if not path.name.endswith((".db", "-wal", "-shm", ".lock")))
    return stored | {"files": sorted(map(str, beside))}


def assert_one_sentence(ended: Ended, *words: str) -> None:
    assert ended.code == 2, ended
    (line,) = ended.err.strip().splitlines()
    assert line.startswith("study: ")
    assert "Traceback" not in ended.err + ended.out
    for word in words:
        assert word in line


DIGITS = ("tune", "--dataset", "digits", "--trials", "1", "--epochs", "1")

MISTAKES = [
    (("tune", "--model", "vgg"), "'vgg'", "cnn, ffnn"),
    (("retrain", "--model", "vgg"), "'vgg'", "cnn, ffnn"),
    (("tune", "--dataset", "nowhere"), "'nowhere' in /", "cifar10, digits"),
    (("data", "--dataset", "nowhere"), "'nowhere' in /", "cifar10, digits"),
    ((*DIGITS, "--sampler", "dice"), "'dice'", "tpe, random, grid"),
    ((*DIGITS, "--pruner", "axe"), "'axe'", "percentile, hyperband, median, none"),
    ((*DIGITS, "--optimiser", "sgd"), "'sgd'", "adam, adamw"),
    ((*DIGITS, "--schedule", "step"), "'step'", "constant, cosine"),
    ((*DIGITS, "--warmup", "-1"), "--warmup is -1", "at least 0"),
    ((*DIGITS, "--space", "house"), "'house'", "report, architecture"),
    ((*DIGITS, "--kernel", "three"), "--kernel", "'three'", "whole number"),
    ((*DIGITS, "--kernel", "3,"), "--kernel", "'3,'", "3,5,7"),
    ((*DIGITS, "--kernel", "3,5,9"), "--kernel", "3,5,9", "equal steps"),
    ((*DIGITS, "--filters", "64:8"), "--filters", "'64:8'", "8:64"),
    ((*DIGITS, "--hidden", "50"), "--hidden", "cnn", "leave it out"),
    ((*DIGITS, "--model", "ffnn", "--kernel", "3"), "--kernel", "ffnn", "leave it out"),
    ((*DIGITS, "--pooling", "max,median"), "'median'", "max, average"),
    ((*DIGITS, "--kernel", "40", "--padding", "0,1"), "The layers do not fit", "kernel 40", "padding 1"),
    ((*DIGITS, "--space", "architecture", "--sampler", "grid"), "The grid", "--sampler tpe"),
    ((*DIGITS, "--precision", "fp8"), "'fp8'", "float32, bf16"),
    ((*DIGITS, "--device", "abacus"), "'abacus'", "auto, cpu"),
    ((*DIGITS, "--device", "cuda:99"), "'cuda:99'", "cpu"),
    ((*DIGITS, "--threads", "-1"), "--threads", "0"),
    ((*DIGITS, "--seed", "-1"), "--seed", "0"),
    ((*DIGITS, "--trials", "0"), "trials is 0", "at least 1"),
    ((*DIGITS, "--trials", "abc"), "--trials", "'abc'", "whole number"),
    ((*DIGITS, "--epochs", "0"), "--epochs is 0", "at least 1"),
    ((*DIGITS, "--retrain-epochs", "-1"), "--retrain-epochs", "1"),
    (("reproduce", "--dataset", "digits", "--trials", "0"), "trials is 0", "at least 1"),
    (("reproduce", "--dataset", "digits", "--retrain-epochs", "0"), "--retrain-epochs", "1"),
    ((*DIGITS, "--search", " "), "--search"),
    ((*DIGITS, "--speed", "fast"), "--speed"),
    (("fly",), "'fly'", "data, tune, retrain"),
    ((*DIGITS, "--config", "study.toml"), "--config goes before the command: `study --config … tune`"),
    ((*DIGITS, "--dry-run", "--quiet"), "--dry-run", "--quiet"),
    ((*DIGITS, "--prefer", "small"), "'small'", "accuracy, or parameters:0.70"),
    ((*DIGITS, "--lr", "1:0"), "1:0", "LOW:HIGH"),
    ((*DIGITS, "--lr", "abc"), "'abc'", "LOW:HIGH"),
    ((*DIGITS, "--lr", "1e-1:"), "'1e-1:'", "LOW:HIGH"),
    ((*DIGITS, "--decay", "0:1"), "0:1", "LOW:HIGH"),
    ((*DIGITS, "--objective", "parameters"), "'parameters'", "accuracy,parameters"),
    ((*DIGITS, "--objective", "accuracy,parameters"), "--space architecture"),
    ((*DIGITS, "--objective", "accuracy,parameters", "--pruner", "median"), "median", "--pruner none"),
    ((*DIGITS, "--prefer", "small"), "'small'", "parameters:0.70"),
    (("retrain", "--run", "best:parameters:2"), "'parameters:2'", "parameters:0.70"),
    (("retrain",), "No cnn was searched yet", "study tune"),
    (("retrain", "--run", "best", "--dataset", "digits"), "study tune"),
    (("retrain", "--run", "best:xyz"), "'xyz'", "cnn, ffnn"),
    (("retrain", "--run", "best:xyz", "--dataset", "/"), "'xyz'", "cnn, ffnn"),
    (("retrain", "--run", "abcdef"), "'abcdef'", "best"),
    (("retrain", "--lr", "1e-3"), "--lr", "--decay"),
    (("retrain", "--lr", "1e-3:1e-2", "--decay", "1e-3"), "'1e-3:1e-2'", "one positive value"),
    (("retrain", "--lr", "1e-3", "--decay", "0"), "--decay is '0'", "one positive value"),
    (("retrain", "--preset", "mine"), "'mine'", "report"),
    (
        ("predict", "photo.png", "--image-size", "64"),
        "predict has no --image-size",
        "the size that the run was trained on",
    ),
    (("data", "my images"), "study data takes no 'my images'", "write --dataset 'my images'"),
    (("analyse", "abcdef"), "write --run abcdef"),
    (("analyse", "digits"), "write --dataset digits"),
    (("data", "~nobody-of-this-name"), "study data takes no '~nobody-of-this-name'", "write --dataset"),
    (("data", "x" * 300), "study data takes no 'xxx", "write --dataset"),
    (("doctor", "abcdef"), "study doctor takes no 'abcdef' without an option."),
    (("show",), "Missing argument 'RUN'", "`study show --help`"),
    (("retrain", "--preset", "report", "--lr", "1e-3"), "--preset report", "leave out --lr"),
    (("retrain", "--preset", "report", "--run", "abcdef"), "--run abcdef", "leave it out"),
    (("analyse",), "study retrain"),
    (("analyse", "--run", "best:xyz"), "'xyz'", "cnn, ffnn"),
    (("analyse", "--run", "abcdef"), "'abcdef'", "best"),
    (("analyse", "--only", "table2,fog"), "'fog'", "confusion"),
    (("analyse", "--filter", "-1"), "-1", "at least 0"),
    (("analyse", "--epochs-every", "0"), "0", "at least 1"),
    (("analyse", "--ablation", "median"), "'median'", "mean, zero"),
    (("runs",), "no such runs", "study reproduce --dataset digits"),
    (("--dataset", "digits", "tune"), "--dataset goes after the command"),
    (("data", "--dataset", "/no/such/images"), "/no/such/images", "cifar10, digits", "path of an image folder"),
    (("data", "--dataset", "digit"), "(is it 'digits'?)", "path of an image folder"),
    (("runs", "--stage", "dreams"), "'dreams'", "search, trial, retrain, analysis, experiment, replicate"),
    (("experiment",), "Name an experiment", "dead-filters, winner, recipe"),
    (("experiment", "sleep"), "'sleep'", "dead-filters, winner, recipe"),
    (("experiment", "dead-filters", "--model", "ffnn"), "ffnn", "trains the cnn"),
    (("experiment", "dead-filters", "--top", "3"), "--top"),
    (("experiment", "dead-filters", "--seeds", "0"), "--seeds", "at least 1"),
    (("data", "--dataset", ""), "''", "cifar10, digits"),
    (("experiment", "winner", "--top", "1"), "--top", "at least 2"),
    (("experiment", "winner", "--epochs", "0"), "--epochs", "at least 1"),
    (("experiment", "winner", "--model", "vgg"), "'vgg'", "cnn, ffnn"),
    (("experiment", "winner", "--model", "vgg", "--dataset", "/"), "'vgg'", "cnn, ffnn"),
    (("experiment", "winner"), "study tune"),
    (("experiment", "winner", "--dataset", "digits"), "study tune"),
    (("retrain", "--seeds", "0"), "--seeds", "at least 1"),
    (("retrain", "--seeds", "2", "--again", "--preset", "report", "--dataset", "digits"), "--seeds", "--again"),
    (("ui", "--host", "0.0.0.0"), "'0.0.0.0'", "127.0.0.1"),
    (("ui", "--port", "99999"), "--port", "65535"),
    (("runs", "--tracking-uri", "http://127.0.0.1:9"), "http://127.0.0.1:9", "MLFLOW_TRACKING_URI"),
    ((*DIGITS, "--storage", "gopher://burrow"), "storage"),
    (("runs", "--tracking-uri", "gopher://burrow"), "gopher://burrow"),
]


@pytest.mark.parametrize(("arguments", "words"), [(case[0], case[1:]) for case in MISTAKES], ids=lambda x: " ".join(x))
def test_a_mistake_is_one_sentence_and_changes_nothing(
    arguments: tuple[str, ...], words: tuple[str, ...], home: Home
) -> None:
    before = contents(home)
    assert_one_sentence(study_here(*arguments, home=home.root), *words)
    assert contents(home) == before


def test_a_mistake_ends_the_process_with_code_2_and_no_traceback(home: Home) -> None:
    ended = study_cold("tune", "--dataset", "nowhere", home=home.root)
    assert_one_sentence(ended, "nowhere")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("analyse", "--image", "train:99999"), ("train:99999", "0 to 1436")),
        (("analyse", "--image", "test:-1"), ("test:-1", "0 to 359")),
        (("analyse", "--image", "peacock"), ("'peacock'", "train:N")),
        (("analyse", "--filter", "99"), ("filter 99", "0 to 3")),
        (("analyse", "--layer", "conv9"), ("'conv9'", "conv1, conv2")),
        (("analyse", "--run", "digits-cnn"), ("digits-cnn", "retrained run")),
        (("retrain", "--run", "digits-cnn"), ("digits-cnn", "trial")),
        (("retrain", "--epochs", "0"), ("epochs is 0", "at least 1")),
        (("tune", "--dataset", "digits", "--epochs", "5"), ("'digits-cnn'", "epochs was 2, now 5", "--search")),
        (("runs", "--limit", "0"), ("--limit", "1")),
    ],
    ids=lambda words: " ".join(words),
)
def test_a_mistake_about_a_finished_study_changes_nothing_of_it(
    arguments: tuple[str, ...], words: tuple[str, ...], finished_study: Finished
) -> None:
    home = finished_study.context.home
    before = contents(home)
    assert_one_sentence(study_here(*arguments, home=home.root), *words)
    assert contents(home) == before


def test_figures_of_a_run_without_weights_are_refused_where_they_take_them(finished_study: Finished) -> None:
    home, run_id = finished_study.context.home, finished_study.retrained["cnn"]
    (weights,) = home.store.glob(f"artifacts/*/{run_id}/artifacts/weights")
    away = weights.rename(home.root / "weights-away")
    try:
        ended = study_here("analyse", "--run", run_id, "--only", "kernel_conv1", home=home.root)
    finally:
        away.rename(weights)
    assert_one_sentence(ended, run_id, "no weights", "study retrain")


def test_a_report_folder_that_is_a_file_is_refused(finished_study: Finished) -> None:
    home = finished_study.context.home
    before, away = contents(home), home.root / "reports of other tests"
    if home.reports.exists():
        home.reports.rename(away)
    home.reports.write_text("in the way")
    try:
        ended = study_here("analyse", home=home.root)
    finally:
        home.reports.unlink()
        if away.exists():
            away.rename(home.reports)
    assert_one_sentence(ended, "report", str(home.reports))
    assert contents(home) == before


@pytest.mark.parametrize("name", ["mlflow.db", "optuna.db"])
def test_a_store_that_is_no_database_is_refused_and_left_as_it_is(name: str, home: Home) -> None:
    for path in home.store.glob(f"{name}*"):
        path.unlink()
    (home.store / name).write_text("my shopping list, and nothing else\n" * 40)
    assert_one_sentence(study_here(*DIGITS, home=home.root), name)
    assert (home.store / name).read_text() == "my shopping list, and nothing else\n" * 40
    if name == "optuna.db":
        assert Store(home).runs() == []


def test_an_unreadable_image_is_refused_and_the_way_around_it_is_named(home: Home, tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "pets" / "train" / name).mkdir(parents=True)
        (tmp_path / "pets" / "train" / name / "a.png").write_text("no picture")
    before = contents(home)["mlflow.db"]
    ended = study_here("tune", "--dataset", str(tmp_path / "pets"), home=home.root)
    assert_one_sentence(ended, "a.png", "--skip-unreadable")
    assert contents(home)["mlflow.db"] == before


def test_a_port_in_use_is_refused(home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert_one_sentence(study_here("ui", "--port", port, home=home.root), port, "--port")


def test_every_option_has_an_environment_variable() -> None:
    commands = typer.main.get_command(app.app).commands  # type: ignore[attr-defined]
    # What is set for a search must not change a retraining or an experiment.
    others = {
        ("retrain", "epochs"): "STUDY_RETRAIN_EPOCHS",
        ("retrain", "lr"): "STUDY_RETRAIN_LR",
        ("retrain", "decay"): "STUDY_RETRAIN_DECAY",
        ("experiment", "epochs"): "STUDY_EXPERIMENT_EPOCHS",
    }
    count = 0
    for name, command in commands.items():
        for option in command.params:
            if option.param_type_name == "argument":
                continue
            own = "MLFLOW_TRACKING_URI" if option.name == "tracking_uri" else "STUDY_" + option.name.upper()
            assert option.name == "help" or option.envvar == others.get((name, option.name), own)
            count += 1
    assert count > 40


def test_an_environment_variable_sets_its_option(home: Home) -> None:
    ended = study_here("tune", "--dataset", "digits", home=home.root, STUDY_TRIALS="0")
    assert_one_sentence(ended, "trials is 0")


def test_a_quiet_retraining_at_the_reports_settings_prints_nothing_and_is_registered(home: Home) -> None:
    command = ("retrain", "--preset", "report", "--model", "ffnn", "--dataset", "digits", "--epochs", "1", "-q")
    for _ in range(2):
        ended = study(*command, home=home.root, STUDY_STORAGE=f"sqlite:///{home.root}/searches.db")
        assert (ended.code, ended.out, ended.err) == (0, "", "")
    assert (home.root / "searches.db").is_file()
    store = Store(home)
    [retrained] = store.runs(stage="retrain")
    settings = retrained.train_config
    assert (settings.learning_rate, settings.weight_decay, settings.epochs) == (0.0001, 0.002683, 1)
    [trial] = store.runs(stage="trial")
    assert retrained.trial_run == trial.id
    assert store.client.get_model_version_by_alias(model_name(retrained), "best").run_id == retrained.id


def test_the_command_alone_shows_what_it_can_do(home: Home) -> None:
    ended = study_here(home=home.root)
    assert (ended.code, ended.err) == (0, "")
    assert all(name in ended.out for name in ("tune", "retrain", "analyse", "reproduce", "ui"))


SEARCH = ("tune", "--dataset", "digits", "--trials", "3", "--epochs", "4", "--pruner", "none", "--no-retrain")
RETRAIN = ("retrain", "--dataset", "digits", "--epochs", "6")


@dataclass(frozen=True)
class Interrupted:
    """What a search left when Ctrl-C came in its second trial, and then when it was continued to its end."""

    home: Home
    ended: Ended
    runs: list[Run]
    trials: list[FrozenTrial]
    continued: Ended


def trials_of(home: Home) -> list[FrozenTrial]:
    return optuna.load_study(study_name="digits-cnn", storage=home.storage_url).get_trials()


@pytest.fixture(scope="module")
def interrupted(migrated: Home, tmp_path_factory: pytest.TempPathFactory) -> Interrupted:
    home = copy_of(migrated, tmp_path_factory.mktemp("interrupted") / "home")
    process = start(*SEARCH, home=home.root)
    output, store = read_until(process, "trial 0 (1/3)"), Store(home)
    while not store.runs(stage="trial", optuna_trial="1"):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    ended = end(process, output)
    return Interrupted(home, ended, store.runs(), trials_of(home), study(*SEARCH, home=home.root))


def test_ctrl_c_ends_a_search_with_130_and_says_how_it_goes_on(interrupted: Interrupted) -> None:
    assert interrupted.ended.code == 130
    assert interrupted.ended.err.splitlines() == [interruption.STOPPING, interruption.STOPPED]


def test_after_ctrl_c_nothing_is_running_and_the_trial_is_interrupted_in_both_stores(interrupted: Interrupted) -> None:
    states = [trial.state for trial in interrupted.trials]
    assert states == [TrialState.COMPLETE, TrialState.FAIL]
    assert interrupted.trials[1].user_attrs["status_reason"] == "interrupted"
    mirrored = {run.name: (run.status, run.tags["status_reason"]) for run in interrupted.runs}
    assert mirrored == {
        "digits-cnn": ("KILLED", "interrupted"),
        "trial 0": ("FINISHED", "complete"),
        "trial 1": ("KILLED", "interrupted"),
    }


def test_the_same_command_after_ctrl_c_reaches_the_total_exactly(interrupted: Interrupted) -> None:
    assert interrupted.continued.code == 0, interrupted.continued.err
    trials = trials_of(interrupted.home)
    assert [trial.state for trial in trials].count(TrialState.COMPLETE) == 3
    assert len(trials) == 4
    assert trials[2].params == interrupted.trials[1].params
    runs = Store(interrupted.home).runs(stage="trial")
    assert sorted(run.tags["status_reason"] for run in runs) == ["complete", "complete", "complete", "interrupted"]
    assert [run.status for run in Store(interrupted.home).runs(stage="search")] == ["FINISHED"]


@pytest.fixture(scope="module")
def terminated(interrupted: Interrupted) -> tuple[Ended, list[Run], int, str]:
    """A retraining that was told to end in its third epoch, what it left, and its continuation on a terminal."""
    home = interrupted.home
    process = start(*RETRAIN, home=home.root)
    output = read_until(process, "epoch 2/6")
    process.send_signal(signal.SIGTERM)
    ended = end(process, output)
    return ended, Store(home).runs(stage="retrain"), *on_a_terminal(*RETRAIN, home=home.root)


def test_sigterm_ends_a_retraining_with_143_and_marks_its_run(terminated: tuple[Ended, list[Run], int, str]) -> None:
    ended, (run,), _, _ = terminated
    assert ended.code == 143
    assert ended.err.splitlines() == [interruption.STOPPING, interruption.STOPPED]
    assert (run.status, run.tags["status_reason"]) == ("KILLED", "interrupted")


def test_the_same_command_after_sigterm_continues_the_run_and_trains_each_epoch_once(
    interrupted: Interrupted, terminated: tuple[Ended, list[Run], int, str]
) -> None:
    _, (before,), code, screen = terminated
    assert code == 0, screen
    store = Store(interrupted.home)
    (run,) = store.runs(stage="retrain")
    assert (run.id, run.status) == (before.id, "FINISHED")
    for metric, first in (("test_accuracy", 0), ("train_accuracy", 1), ("system/epoch_seconds", 1)):
        assert [point.step for point in store.client.get_metric_history(run.id, metric)] == list(range(first, 7))
    assert len(store.artifacts(run.id, "weights")) == 7


def test_on_a_terminal_a_bar_shows_the_share_that_is_done(terminated: tuple[Ended, list[Run], int, str]) -> None:
    _, _, _, screen = terminated
    assert "\x1b[" in screen
    assert re.search(r"retraining cnn.*\d %", screen)
    assert re.search(r"epoch \d/6 · test 0\.\d", screen)


def test_on_a_terminal_every_finished_epoch_has_a_line_too(terminated: tuple[Ended, list[Run], int, str]) -> None:
    _, _, _, screen = terminated
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen)
    assert len(re.findall(r"epoch 6/6: test 0\.\d+ · train 0\.\d+ · [\d,]+ images/s", lines)) == 1
