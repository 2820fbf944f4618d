"""Option values from a file: the command line wins over the environment, and that over the file."""

from pathlib import Path

import pytest

from study.home import Home
from tests.support.process import Ended, study_here

EVERY_COMMAND = 'limit = 0\nhost = "an.address"\n'


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of a settings file, in the current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "study.toml"


def runs(file: Path, home: Home, *arguments: str, **variables: str) -> Ended:
    return study_here("--config", str(file), "runs", *arguments, home=home.root, **variables)


def test_a_file_sets_options_and_is_named(written: Path, home: Home) -> None:
    written.write_text(EVERY_COMMAND)
    ended = runs(written, home)
    assert ended.err.splitlines()[0] == f"Settings from {written}: limit 0."
    assert "--limit is 0: it must be at least 1" in ended.err
    assert ended.code == 2


def test_a_commands_own_table_wins_over_the_top_the_environment_over_both_and_the_command_line_over_all(
    written: Path, home: Home
) -> None:
    written.write_text(f'{EVERY_COMMAND}\n[runs]\nlimit = "of the table"\n')
    assert "--limit is 'of the table'" in runs(written, home).err
    assert "--limit is 'of the environment'" in runs(written, home, STUDY_LIMIT="of the environment").err
    ended = runs(written, home, "--limit", "typed", STUDY_LIMIT="of the environment")
    assert "--limit is 'typed'" in ended.err


def test_values_that_do_not_win_are_not_announced_and_a_quiet_command_announces_none(written: Path, home: Home) -> None:
    written.write_text('limit = 0\nstage = "retrain"\n[tune]\ntrials = 0\n')
    assert f"Settings from {written}: stage retrain." in runs(written, home, STUDY_LIMIT="-1").err
    assert f"Settings from {written}: limit 0." in runs(written, home, "--stage=trial").err
    ended = study_here("--config", str(written), "tune", "-q", home=home.root)
    assert ended.err == "study: --trials is 0: it must be at least 1.\n"


def test_a_switch_is_true_or_false(written: Path, home: Home) -> None:
    written.write_text('json = "maybe"\n')
    assert runs(written, home).err == f"study: json in {written} is 'maybe': it must be true or false.\n"


def test_a_list_is_what_one_types_with_commas(written: Path, home: Home) -> None:
    written.write_text('[analyse]\nonly = ["roc", "fog"]\n[tune]\nkernel = [3, 5, 9]\n')
    assert "Unknown figure 'fog'" in study_here("--config", str(written), "analyse", home=home.root).err
    ended = study_here("--config", str(written), "tune", "--dataset", "digits", home=home.root)
    assert "--kernel is '3,5,9'" in ended.err


def test_a_number_is_not_true_or_false(written: Path, home: Home) -> None:
    written.write_text("limit = true\n")
    assert runs(written, home).err == f"study: limit in {written} is True: it must be a number or a text.\n"


def test_the_current_folders_pyproject_is_read_unless_a_file_is_named(written: Path, home: Home) -> None:
    Path("pyproject.toml").write_text("[project]\nname = 'mine'\n[tool.study.runs]\nlimit = -1\n")
    assert "Settings from pyproject.toml: limit -1." in study_here("runs", home=home.root).err
    written.write_text("")
    assert "--limit" not in runs(written, home).err


def test_options_that_may_be_repeated_take_a_list_or_one(written: Path, home: Home) -> None:
    for value in ('"of no run"', '["of no run"]'):
        written.write_text(f"[export]\nrun = {value}\n")
        target = str(written.with_name("exported"))
        ended = study_here("--config", str(written), "export", target, home=home.root)
        assert "Settings from" in ended.err
        assert "'of no run'" in ended.err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("trails = 3", ("Unknown key", "'trails'", "trials")),
        ("[tnue]\ntrials = 3", ("Unknown table", "'tnue'", "tune")),
        ("[runs]\ntrials = 3", ("Unknown key of runs", "'trials'", "limit")),
        ("trials 3", ("cannot be read", "line 1")),
        (None, ("cannot be read (no such file or directory)",)),
    ],
)
def test_what_is_no_option_is_named_with_the_choices(
    text: str | None, expected: tuple[str, ...], written: Path, home: Home
) -> None:
    if text is not None:
        written.write_text(text)
    ended = runs(written, home)
    assert ended.code == 2
    assert len(ended.err.splitlines()) == 1
    for part in (str(written), *expected):
        assert part in ended.err


def test_a_mistyped_key_is_told_what_was_meant(written: Path, home: Home) -> None:
    written.write_text('datset = "digits"\n')
    assert f"Unknown key in {written} 'datset': did you mean dataset? Choose one of " in runs(written, home).err
