"""`study ui` with a login, which it needs for others: MLflow's basic authentication, with secrets that nobody knows."""

import base64
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines import serve
from study.home import Home
from study.tracking.store import Store
from tests.conftest import Finished, copy_of
from tests.support.fork_server import Forked
from tests.support.process import TIMEOUT, start_logged, study_here
from tests.whole.test_cli import assert_one_sentence
from tests.whole.test_ui import free_port, wait_for_answer

SECRETS = {"MLFLOW_AUTH_ADMIN_PASSWORD": "the frog in the well", "MLFLOW_FLASK_SERVER_SECRET_KEY": "knows no ocean"}


@pytest.mark.parametrize(
    ("secrets", "words"),
    [
        ({}, ("MLFLOW_AUTH_ADMIN_PASSWORD and MLFLOW_FLASK_SERVER_SECRET_KEY", "127.0.0.1")),
        ({"MLFLOW_AUTH_ADMIN_PASSWORD": "the frog in the well"}, ("set MLFLOW_FLASK_SERVER_SECRET_KEY",)),
        (SECRETS | {"MLFLOW_AUTH_ADMIN_PASSWORD": "password1234"}, ("MLFLOW_AUTH_ADMIN_PASSWORD is well known",)),
        (SECRETS | {"MLFLOW_AUTH_ADMIN_PASSWORD": "frog"}, ("MLFLOW_AUTH_ADMIN_PASSWORD", "too short")),
        (SECRETS | {"MLFLOW_AUTH_ADMIN_PASSWORD": "short"}, ("MLFLOW_AUTH_ADMIN_PASSWORD", "too short (under 8)")),
        (SECRETS | {"MLFLOW_FLASK_SERVER_SECRET_KEY": "my-secret-key"}, ("MLFLOW_FLASK_SERVER_SECRET_KEY is well",)),
    ],
)
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "example.org"])
def test_without_secrets_of_ones_own_nothing_is_opened_to_others(
    secrets: dict[str, str], words: tuple[str, ...], host: str, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.execv", lambda *_: pytest.fail("it was served"))
    ended = study_here("ui", "--host", host, home=home.root, **secrets)
    assert_one_sentence(ended, f"Host {host!r}", *words)
    assert not any(secret in ended.err for secret in ("frog in", "ocean"))


def test_a_well_known_password_in_mlflows_own_file_is_refused(home: Home, tmp_path: Path) -> None:
    settings = tmp_path / "basic_auth.ini"
    settings.write_text("[mlflow]\nadmin_password = password1234\n")
    secrets = {"MLFLOW_AUTH_CONFIG_PATH": str(settings), "MLFLOW_FLASK_SERVER_SECRET_KEY": "knows no ocean"}
    assert_one_sentence(study_here("ui", "--host", "0.0.0.0", home=home.root, **secrets), "well known")
    settings.write_text("no settings")
    assert_one_sentence(study_here("ui", "--host", "0.0.0.0", home=home.root, **secrets), str(settings), "read")


@pytest.mark.parametrize(
    ("secrets", "words"),
    [
        ({"MLFLOW_AUTH_ADMIN_PASSWORD": "the frog in the well"}, ("set MLFLOW_FLASK_SERVER_SECRET_KEY", "unset it")),
        (SECRETS | {"MLFLOW_AUTH_ADMIN_PASSWORD": "password1234"}, ("MLFLOW_AUTH_ADMIN_PASSWORD is well known",)),
    ],
)
def test_a_password_without_what_a_login_needs_is_not_ignored_on_this_machine(
    secrets: dict[str, str], words: tuple[str, ...], home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.execv", lambda *_: pytest.fail("it was served"))
    ended = study_here("ui", "--port", str(free_port()), home=home.root, **secrets)
    assert_one_sentence(ended, "MLFLOW_AUTH_ADMIN_PASSWORD is set", *words)


PROXIED = "127.0.0.1, server.example"
"""Allowed hosts of a server behind a proxy, which passes names without a port on."""


@pytest.fixture(scope="module", params=[("0.0.0.0", ""), ("127.0.0.1", PROXIED)], ids=["open", "proxied"])
def served(
    request: pytest.FixtureRequest, migrated: Home, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[int, Forked, str]]:
    home, port = copy_of(migrated, tmp_path_factory.mktemp("served") / "home"), free_port()
    log = home.root / "log"
    host, names = request.param
    # By this name no machine is reached; the requests below only say that they are to it.
    allowed = names or f"server.example:{port},127.0.0.1:{port}"
    variables = {**SECRETS, "MLFLOW_SERVER_ALLOWED_HOSTS": allowed}
    process = start_logged("ui", "--host", host, "--port", str(port), home=home.root, log=log, **variables)
    try:
        wait_for_answer(f"http://127.0.0.1:{port}/health", process, log)
        yield port, process, allowed.replace(",", " ").split()[-1 if names else 0]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(TIMEOUT)


def answer(port: int, password: str = "", host: str = "127.0.0.1", origin: str = "") -> int:
    """The status of a request; one with an origin is a POST, as a page sends it."""
    path = "ajax-api/2.0/mlflow/runs/search" if origin else "api/2.0/mlflow/experiments/get?experiment_id=0"
    request = urllib.request.Request(f"http://127.0.0.1:{port}/{path}", headers={"Host": host})
    if password:
        request.add_header("Authorization", "Basic " + base64.b64encode(f"admin:{password}".encode()).decode())
    if origin:
        request.data = b'{"experiment_ids": ["0"]}'
        request.add_header("Content-Type", "application/json")
        request.add_header("Origin", origin)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answered:
            return int(answered.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_where_a_password_is_set_it_alone_is_answered(served: tuple[int, Forked, str]) -> None:
    port, _, name = served
    assert answer(port, host=name) == 401
    assert answer(port, "password1234", host=name) == 401
    assert answer(port, SECRETS["MLFLOW_AUTH_ADMIN_PASSWORD"], host=name) == 200
    # A page of another site, whose name was made to lead here.
    assert answer(port, SECRETS["MLFLOW_AUTH_ADMIN_PASSWORD"], host="evil.example") == 403


def test_pages_of_this_server_may_ask_it_and_those_of_another_site_may_not(served: tuple[int, Forked, str]) -> None:
    port, _, name = served
    password = SECRETS["MLFLOW_AUTH_ADMIN_PASSWORD"]
    for origin in (f"http://{name}", f"https://{name}", "https://server.example"):
        assert answer(port, password, host=name, origin=origin) == 200, origin
    for origin in ("http://evil.example", "http://server.example:1", f"http://server.example.evil:{port}", "null"):
        assert answer(port, password, host=name, origin=origin) == 403, origin


def test_no_argument_of_the_server_names_its_store(served: tuple[int, Forked, str]) -> None:
    _, process, _ = served
    arguments = Path(f"/proc/{process.pid}/cmdline").read_bytes().decode()
    assert "basic-auth" in arguments
    assert "mlflow.db" not in arguments


def test_the_pages_are_named_also_of_an_experiment_that_was_renamed(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    store.start("digits", "a search", tags={"stage": "search", "search": "one", "dataset": "digits"}, params={})
    key = store.experiment("digits")
    store.client.rename_experiment(key, "my digits")
    serve._say_pages(store, "http://127.0.0.1:5000")
    assert f"trials   http://127.0.0.1:5000/#/experiments/{key}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("host", "allowed", "hosts", "addresses"),
    [
        ("127.0.0.1", "", [], ["http://127.0.0.1:5000"]),
        ("::1", "", [], ["http://[::1]:5000"]),
        ("0.0.0.0", "", [], ["http://127.0.0.1:5000"]),
        ("0.0.0.0", "", ["10.0.0.1:5000"], ["http://10.0.0.1:5000", "http://127.0.0.1:5000"]),
        ("0.0.0.0", "a.example:5000", ["a.example:5000"], ["http://a.example:5000"]),
        ("10.0.0.1", "a.example", ["a.example"], ["http://10.0.0.1:5000"]),
    ],
)
def test_the_printed_addresses_are_those_that_are_answered(
    host: str, allowed: str, hosts: list[str], addresses: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_SERVER_ALLOWED_HOSTS", allowed)
    assert serve._addresses(host, 5000, hosts) == addresses


def started(monkeypatch: pytest.MonkeyPatch, home: Home, **variables: str) -> tuple[str, str]:
    """What is printed before MLflow's server starts, and the origins that it is told; on a host name."""
    origins: list[str] = []
    monkeypatch.setattr("os.execv", lambda *_: origins.append(os.environ["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"]))
    port = variables.pop("port", str(free_port()))
    ended = study_here("ui", "--host", "0.0.0.0", "--port", port, home=home.root, **SECRETS, **variables)
    assert ended.code == 0, ended.err
    return ended.out, origins[0]


def test_the_origins_that_the_user_names_win(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    named = {"MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": "https://proxy.example:8443"}
    out, told = started(monkeypatch, home, MLFLOW_SERVER_ALLOWED_HOSTS="a.example:5000,b.example", **named)
    assert told == "https://proxy.example:8443"
    assert "MLflow answers at http://a.example:5000 in about 10 seconds, also at http://b.example; Ctrl-C" in out


def test_where_nobody_else_is_let_in_the_variable_that_lets_them_in_is_named(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "own_hosts", lambda host, port: [f"203.0.113.7:{port}", f"server:{port}"])
    port = str(free_port())
    out, told = started(monkeypatch, home, port=port)
    assert "set MLFLOW_SERVER_ALLOWED_HOSTS to the name by which they reach it (server:" in out
    assert told == ""
    _, told = started(monkeypatch, home, port=port, MLFLOW_SERVER_ALLOWED_HOSTS="*")
    assert "*" not in told
    assert f"http://server:{port}" in told.split(",")


def test_an_empty_store_is_said_to_be_empty_with_the_command_that_fills_it(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    serve._say_pages(store, "http://127.0.0.1:5000")
    first, hint = capsys.readouterr().out.splitlines()
    assert first.startswith("MLflow answers at http://127.0.0.1:5000")
    assert f"`study reproduce --dataset digits --home {store.home.root}`" in hint


def test_with_a_login_the_first_runs_are_recorded_through_the_server(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    serve._say_pages(store, "http://server.example:5000", with_login=True)
    *_, hint = capsys.readouterr().out.splitlines()
    assert "--tracking-uri http://server.example:5000` makes the first runs with MLFLOW_TRACKING_USERNAME and" in hint
    assert "mlflow.db" not in hint


def test_what_the_comparison_leaves_out_and_how_to_close_the_assistant_are_said(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    tags = {"search": "one", "dataset": "digits"}
    store.start("digits", "one", tags=tags | {"stage": "search"}, params={})
    for place, accuracy in enumerate((0.9, 0.8, 0.1)):
        trial = tags | {"stage": "trial", "status_reason": "complete", "optuna_trial": str(place)}
        run_id = store.start("digits", f"trial {place}", tags=trial, params={})
        store.client.log_metric(run_id, "best_val_accuracy", accuracy)
        store.client.set_terminated(run_id, "FINISHED")
    serve._say_pages(store, "http://127.0.0.1:5000")
    lines = capsys.readouterr().out.splitlines()
    assert "compare is without 1 trial below 0.45, half of the best validation accuracy" in lines[-2]
    assert lines[-1].startswith("MLflow's assistant opens beside the first page; closed once (×), it stays closed")
    serve._say_pages(store, "http://server.example:5000", with_login=True)
    assert "assistant" not in capsys.readouterr().out


def test_a_retrained_run_has_the_pages_of_what_it_has(
    finished_study: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    store = finished_study.context.store
    serve._say_pages(store, "")
    lines = capsys.readouterr().out.splitlines()
    start = lines.index("cnn · seed 0 of digits-cnn, 2 epochs")
    run_id = finished_study.retrained["cnn"]
    assert lines[start + 1].split() == ["run", f"/#/experiments/1/runs/{run_id}?workflowType=machine_learning"]
    assert "  model    /#/models/digits-cnn/versions/1?workflowType=machine_learning" in lines[start + 2 :]
