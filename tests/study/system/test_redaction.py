import sys

import pytest

from study.home import Home
from study.system.redaction import escaped, masked, one_line
from tests.support.process import study_here


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://anna:geheim@host:5432/db", "postgresql://anna:***@host:5432/db"),
        ("postgresql+psycopg2://anna:p/w:x@host/db", "postgresql+psycopg2://anna:***@host/db"),
        ("postgresql://anna:p@ss@host/db", "postgresql://anna:***@host/db"),
        ("mysql://anna:p%40ss@host/db", "mysql://anna:***@host/db"),
        ("postgresql://:geheim@host/db", "postgresql://:***@host/db"),
        ("postgresql://anna@host/db", "postgresql://anna@host/db"),
        ("https://anna:geheim@host", "https://anna:***@host"),
        ("https://token@host/x", "https://***@host/x"),
        ("postgresql://host/db?user=anna&password=geheim", "postgresql://host/db?user=anna&password=***"),
        ("postgresql://host/db?sslpassword=geheim&x=1", "postgresql://host/db?sslpassword=***&x=1"),
        ("http://host/?access_token=geheim", "http://host/?access_token=***"),
        ("http://127.0.0.1:5000/path", "http://127.0.0.1:5000/path"),
        ("http://host/#/runs?a=b&viewStateShareKey=trials-1", "http://host/#/runs?a=b&viewStateShareKey=trials-1"),
        ("http://host/?x=1&key=geheim", "http://host/?x=1&key=***"),
        ("sqlite:////home/anna@work/mlflow.db", "sqlite:////home/anna@work/mlflow.db"),
    ],
)
def test_a_password_in_an_address_is_hidden_alone_and_in_a_text(url: str, expected: str) -> None:
    assert masked(url) == expected
    assert masked(f"The store '{url}' of {url} is away.") == f"The store '{expected}' of {expected} is away."


def test_a_given_password_is_hidden_wherever_a_library_repeats_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["study", "runs", "--tracking-uri", "http://anna:ge%2Fheim@wald@host:1/"])
    assert masked("nonnumeric port: 'ge%2Fheim@wald@host'") == "nonnumeric port: '***@host'"
    assert masked('could not translate "wald@host", "ge/heim"') == 'could not translate "***@host", "***/***"'
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "sesam")
    assert masked("sesam, but not sesame") == "***, but not sesame"


def test_a_given_password_may_hold_a_space(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "gopher://anna:ge heim@host/x"
    monkeypatch.setattr(sys, "argv", ["study", "runs", f"--tracking-uri={url}"])
    assert masked(f"no store at {url}, 'ge heim'") == "no store at gopher://anna:***@host/x, '***'"
    # A path is no login.
    monkeypatch.setattr(sys, "argv", ["study", "runs", "--tracking-uri", "sqlite:////home/anna@work/mlflow.db"])
    assert masked("the home of anna") == "the home of anna"


def test_what_a_terminal_would_obey_is_written_out() -> None:
    assert escaped("cat\x1b[2J\x07\r\x9b31m") == r"cat\x1b[2J\x07\r\x9b31m"
    assert escaped("a\u202egnp.exe \udcff") == r"a\u202egnp.exe \udcff"
    assert escaped("größe\t猫 ×\n") == "größe\t猫 ×\n"
    assert one_line("two\nlines") == r"two\nlines"


@pytest.mark.parametrize("option", ["--storage", "--tracking-uri"])
@pytest.mark.parametrize("password", ["geheim", "ge@heim", "ge/heim", "ge%40heim", "ge:heim", "ge%zzheim", "ge heim"])
@pytest.mark.parametrize("scheme", ["http", "postgresql", "gopher", "nonsense+driver"])
def test_no_password_is_said_whatever_a_library_makes_of_its_address(
    option: str, password: str, scheme: str, home: Home
) -> None:
    url = f"{scheme}://anna:{password}@127.0.0.1:9/x"
    ended = study_here("tune", "--dataset", "digits", "--trials", "1", option, url, home=home.root)
    assert ended.code == 2, ended
    assert len(ended.err.splitlines()) == 1, ended
    assert "heim" not in ended.err + ended.out


def test_a_bug_is_told_without_the_password(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("lost postgresql://anna:geheim@host/db")

    monkeypatch.setattr("pipelines.show.show_runs", broken)
    ended = study_here("runs", home=home.root)
    assert ended.code == 1
    assert "RuntimeError: lost postgresql://anna:***@host/db" in ended.err


@pytest.mark.parametrize(
    ("variable", "value", "arguments"),
    [
        ("STUDY_TRIALS", "0", ("tune", "--dataset", "digits")),
        ("STUDY_TRIALS", "many", ("tune", "--dataset", "digits")),
        ("STUDY_MODEL", "vgg", ("tune", "--dataset", "digits")),
        ("STUDY_LR", "1:0.1", ("tune", "--dataset", "digits")),
        ("STUDY_DATASET", "nowhere", ("data",)),
        ("STUDY_WORKERS", "9999", ("tune", "--dataset", "digits")),
        ("MLFLOW_TRACKING_URI", "gopher://burrow", ("runs",)),
        ("STUDY_STORAGE", "gopher://burrow", ("tune", "--dataset", "digits", "--trials", "1")),
        ("STUDY_SKIP_UNREADABLE", "perhaps", ("data", "--dataset", "digits")),
    ],
)
def test_a_bad_value_from_the_environment_is_told_with_its_variable(
    variable: str, value: str, arguments: tuple[str, ...], home: Home
) -> None:
    ended = study_here(*arguments, home=home.root, **{variable: value})
    assert ended.code == 2, ended
    assert variable in ended.err, ended
    assert len(ended.err.splitlines()) == 1
