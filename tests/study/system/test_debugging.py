import errno

import pytest

from pipelines.cli import app as cli
from study.errors import StudyError
from study.home import Home
from study.system.debugging import is_debugging, tracebacks
from tests.conftest import Finished
from tests.support.process import study_here

NOWHERE = ("data", "--dataset", "nowhere")


def raised() -> StudyError:
    """A failure that hides what it came from."""
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            raise ValueError("not kept") from None
    except ValueError:
        try:
            raise StudyError("Make room.") from None
        except StudyError as error:
            return error


def test_the_tracebacks_of_all_causes_are_shown_the_first_cause_first() -> None:
    text = tracebacks(raised())
    lines = [line for line in text.splitlines() if "Error: " in line or "Error: [" in line]
    assert [line.split(":")[0] for line in lines] == ["OSError", "ValueError", "study.errors.StudyError"]
    assert text.count("Traceback (most recent call last)") == 3


@pytest.mark.parametrize(("value", "is_on"), [("1", True), ("true", True), ("", False), ("0", False), ("False", False)])
def test_debugging_is_on_where_the_variable_says_so(value: str, is_on: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDY_DEBUG", value)
    assert is_debugging() is is_on


def test_a_failure_shows_its_traceback_before_its_sentence_where_it_is_asked_for(home: Home) -> None:
    silent = study_here(*NOWHERE, home=home.root)
    debugged = study_here(*NOWHERE, home=home.root, STUDY_DEBUG="1")
    assert debugged.code == silent.code == 2
    assert "Traceback" not in silent.err
    assert debugged.err.startswith("Traceback (most recent call last)")
    assert debugged.err.endswith(silent.err)
    assert "in folder_of" in debugged.err
    assert study_here(*NOWHERE, home=home.root, STUDY_DEBUG="0") == silent


def test_a_mistyped_option_shows_its_traceback_too_and_the_variable_is_not_blamed(home: Home) -> None:
    debugged = study_here("experiment", "winner", "--top=1", home=home.root, STUDY_DEBUG="1")
    *_, sentence = debugged.err.splitlines()
    assert sentence == "study: --top is 1: it must be at least 2."
    assert debugged.err.startswith("Traceback")


def test_an_explained_failure_shows_the_traceback_of_what_failed_without_a_password(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def app(*arguments: object, **options: object) -> object:
        raise OSError(errno.EROFS, "Read-only file system", "postgresql://anna:geheim@host/db")

    monkeypatch.setattr(cli, "app", app)
    debugged = study_here("runs", home=home.root, STUDY_DEBUG="1")
    assert debugged.code == 2
    assert "OSError: [Errno 30] Read-only file system" in debugged.err
    assert "geheim" not in debugged.err
    assert debugged.err.splitlines()[-1].startswith("study: ")


def test_a_figure_that_is_left_out_shows_why(finished_study: Finished) -> None:
    home, run_id = finished_study.context.home, finished_study.retrained["cnn"]
    (predictions,) = home.store.glob(f"artifacts/*/{run_id}/artifacts/predictions")
    away = predictions.rename(home.root / "predictions-away")
    try:
        ended = study_here("analyse", "--run", run_id, "--only", "convergence,roc", home=home.root, STUDY_DEBUG="1")
    finally:
        away.rename(predictions)
    assert ended.code == 1, ended.err
    assert f"Run {run_id} has no artifact predictions/test.safetensors" in ended.err
    assert "in load_tensors" in ended.err


def test_the_help_names_the_variable(home: Home) -> None:
    assert "STUDY_DEBUG=1 shows the traceback of any failure" in " ".join(study_here(home=home.root).out.split())
