"""Failures of disks, databases and servers, as the libraries raise them, become sentences; bugs stay bugs."""

import contextlib
import errno
import http.server
import json
import os
import resource
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy
from mlflow.exceptions import MlflowException
from mlflow.store.db.utils import _get_managed_session_maker
from mlflow.tracking import MlflowClient
from optuna.exceptions import StorageInternalError
from safetensors import SafetensorError
from safetensors.torch import save_file
from sqlalchemy.exc import OperationalError, PendingRollbackError, SQLAlchemyError
from sqlalchemy.orm import sessionmaker
from torch import zeros

from pipelines.cli import app as cli
from study.errors import StudyError
from study.home import Home
from study.system.faults import Fault, explanation, fault, is_passing
from study.system.files import atomic_write
from study.system.retry import Retry
from tests.support.process import study_here

FULL = Path("/dev/full")
"""A device of Linux that has no room for anything."""


class Answer(http.server.BaseHTTPRequestHandler):
    """Answers every request with the server's `code`; 0 is no answer at all."""

    server: "Answering"

    def do_GET(self) -> None:
        if not self.server.code:
            self.server.ended.wait(30)
            return
        self.send_response(self.server.code)
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *arguments: object) -> None:
        pass


class Answering(http.server.ThreadingHTTPServer):
    code, body, ended = 200, b"", threading.Event()
    block_on_close = False

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's own retries take four minutes."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")


@pytest.fixture
def answering() -> Iterator[Answering]:
    with Answering(("127.0.0.1", 0), Answer) as server:
        server.ended = threading.Event()
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.ended.set()
        server.shutdown()


def raised_by(action: Callable[[], object]) -> BaseException:
    with pytest.raises(Exception) as raised:  # noqa: PT011  # what is raised is what is looked at
        action()
    return raised.value


def ask(address: str) -> Callable[[], object]:
    return lambda: MlflowClient(address).get_run("0" * 32)


@pytest.mark.slow
@pytest.mark.parametrize("code", [500, 502, 503, 504, 429, 0])
def test_a_server_that_fails_is_busy_or_says_nothing_is_away(code: int, answering: Answering):
    answering.code = code
    error = raised_by(ask(answering.address))
    assert is_passing(error)
    messages = {429: "too many 429 error responses", 0: "Read timed out. (read timeout=1)"}
    assert str(explanation(error, "http://me:secret@host")) == (
        "The server http://me:***@host does not answer correctly "
        f"({messages.get(code, f'too many {code} error responses')}): start it again, and the same command continues."
    )


def test_a_server_whose_database_has_no_free_connection_is_away(answering: Answering):
    answering.code = 400
    message = "QueuePool limit of size 5 overflow 10 reached, connection timed out, timeout 30.00"
    answering.body = json.dumps({"error_code": "BAD_REQUEST", "message": message}).encode()
    error = raised_by(ask(answering.address))
    assert is_passing(error)
    assert message in str(explanation(error, answering.address))


def test_a_pool_without_a_free_connection_is_passing(tmp_path: Path):
    pool = {"poolclass": sqlalchemy.QueuePool, "pool_size": 1, "max_overflow": 0, "pool_timeout": 0.01}
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/one.db", **pool)
    with engine.connect():
        assert is_passing(raised_by(engine.connect))
    engine.dispose()


def test_what_follows_a_lost_connection_in_its_transaction_is_passing():
    """As Optuna's storage does: it goes on with a statement that reads the same in another way."""

    def read() -> None:
        try:
            try:
                raise OperationalError("SELECT 1", {}, sqlite3.OperationalError("database is locked"))
            except OperationalError:
                raise PendingRollbackError("Can't reconnect until invalid transaction is rolled back.")  # noqa: B904
        except SQLAlchemyError as error:
            raise StorageInternalError("An exception is raised during the commit.") from error

    assert is_passing(raised_by(read))


def test_a_server_that_is_not_there_is_away():
    error = raised_by(ask("http://127.0.0.1:9"))
    assert is_passing(error)
    assert "(Connection refused)" in str(explanation(error, "http://127.0.0.1:9"))


@pytest.mark.parametrize(
    ("code", "body", "remedy"),
    [
        (401, "You are not authenticated.", "see MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"),
        (403, "Permission denied", "grant you the permission EDIT"),
        (403, "Invalid Host header - possible DNS rebinding attack detected", "MLFLOW_SERVER_ALLOWED_HOSTS"),
    ],
)
def test_a_server_that_refuses_is_told_with_what_it_wants_and_waiting_would_not_help(
    code: int, body: str, remedy: str, answering: Answering
):
    answering.code, answering.body = code, body.encode()
    error = raised_by(ask(answering.address))
    assert not is_passing(error)
    sentence = str(explanation(error, answering.address))
    assert remedy in sentence
    assert f"(HTTP status {code}): " in sentence


def test_what_a_server_does_not_know_is_no_fault_of_it(answering: Answering):
    answering.code = 404
    assert fault(raised_by(ask(answering.address))) is None


@pytest.mark.parametrize("statement", ["INSERT INTO one VALUES (1)", "CREATE TABLE other (number)"])
def test_a_locked_database_is_passing(statement: str, tmp_path: Path):
    path = tmp_path / "one.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("CREATE TABLE one (number)")
        holder.execute("BEGIN EXCLUSIVE")
        engine = sqlalchemy.create_engine(f"sqlite:///{path}", connect_args={"timeout": 0})
        with engine.connect() as connection:
            error = raised_by(lambda: connection.execute(sqlalchemy.text(statement)))
        engine.dispose()
    assert fault(error) is Fault.LOCKED
    assert is_passing(error)
    assert str(explanation(error, path)) == (
        f"The database {path} is locked by another process (database is locked): end that process, and the same "
        "command continues."
    )


@pytest.mark.skipif(not FULL.is_char_device(), reason="this system has no /dev/full")
def test_a_full_disk_is_told_and_is_not_passing():
    error = raised_by(lambda: FULL.write_text("one"))
    assert fault(error) is Fault.FULL
    assert not is_passing(error)
    assert "is full" in str(explanation(error, "/home/me/study"))


def test_tensors_that_find_no_room_are_told_as_a_full_disk(tmp_path: Path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        error = raised_by(lambda: save_file({"one": zeros(9999)}, tmp_path / "one.safetensors"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert fault(error) is Fault.FULL
    assert str(tmp_path) in str(explanation(error, tmp_path))


def test_a_full_database_is_told_through_mlflows_own_error(tmp_path: Path):
    with contextlib.closing(sqlite3.connect(tmp_path / "one.db")) as database:
        database.execute("PRAGMA max_page_count = 2")
        database.execute("CREATE TABLE one (text)")
        error = raised_by(lambda: database.execute("INSERT INTO one VALUES (?)", ("x" * 100_000,)))
    wrapped = MlflowException(str(error))
    wrapped.__cause__ = error
    assert str(explanation(wrapped, tmp_path)) == (
        f"The disk of {tmp_path} is full (database or disk is full): make room there, and the same command continues."
    )


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_file_that_may_not_be_written_is_named(number: int):
    error = OSError(number, os.strerror(number), "/home/me/study/mlruns/artifacts")
    assert str(explanation(error, "/home/me/study")) == (
        f"/home/me/study/mlruns/artifacts cannot be written ({os.strerror(number)}): make it writable, or choose "
        "another folder with --home."
    )


def test_what_was_raised_while_a_failure_was_being_handled_is_told_as_that_failure():
    def closing() -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device", "/disk/one/two")
        except OSError:
            raise MlflowException("could not be closed") from None

    assert "The disk of /disk/one is full" in str(explanation(raised_by(closing)))


def test_a_servers_name_that_nobody_knows_is_away():
    error = raised_by(ask("http://nowhere.invalid:9"))
    assert is_passing(error)
    assert "does not answer correctly (Failed to resolve 'nowhere.invalid'" in str(explanation(error, "http://x"))


WORDS = [words for expected in Fault for words in expected.value]
BUGS = (KeyError, AssertionError, ValueError, RuntimeError, TypeError, LookupError)


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("kind", BUGS)
def test_a_bug_stays_one_whatever_its_text_says(kind: type[Exception], words: str):
    error = kind(f"one: {words}")
    assert fault(error) is None
    assert not is_passing(error)
    assert explanation(error, "/home/me/study") is None


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize(
    "error",
    [
        MlflowException,
        StorageInternalError,
        OSError,
        SafetensorError,
        sqlite3.OperationalError,
        lambda text: sqlalchemy.exc.OperationalError("SELECT 1", {}, sqlite3.OperationalError(text)),
    ],
)
def test_a_failure_without_a_number_is_told_by_its_text(error: Callable[[str], Exception], words: str):
    kind = fault(error(f"one: {words}"))
    assert kind
    assert words in kind.value


def test_the_statement_and_its_parameters_are_not_taken_for_what_failed():
    unique = sqlalchemy.exc.IntegrityError(
        "INSERT INTO tags", {"value": "Connection refused"}, sqlite3.IntegrityError("UNIQUE constraint failed")
    )
    assert "Connection refused" in str(unique)
    assert fault(unique) is None
    assert fault(MlflowException(str(unique))) is None


def test_the_number_of_a_failure_goes_before_its_text():
    error = FileNotFoundError(errno.ENOENT, "No such file or directory", "/home/me/Permission denied.png")
    assert fault(error) is None


FAILED = [
    (OSError(errno.ENOSPC, "No space left on device"), Fault.FULL),
    (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), Fault.AWAY),
    (sqlalchemy.exc.OperationalError("SELECT 1", {}, sqlite3.OperationalError("database is locked")), Fault.LOCKED),
]


@pytest.mark.parametrize(("cause", "expected"), FAILED, ids=lambda value: getattr(value, "name", ""))
@pytest.mark.parametrize("kind", [MlflowException, StorageInternalError, RuntimeError])
def test_what_an_error_was_raised_from_counts(kind: type[Exception], cause: Exception, expected: Fault):
    def wrapping() -> None:
        raise kind("not done") from cause

    assert fault(raised_by(wrapping)) is expected


@pytest.mark.parametrize(("cause", "expected"), FAILED, ids=lambda value: getattr(value, "name", ""))
@pytest.mark.parametrize("kind", BUGS)
def test_a_bug_in_the_handling_of_a_failure_is_a_bug(kind: type[Exception], cause: Exception, expected: Fault):
    def handling() -> None:
        try:
            raise cause
        except type(cause):
            raise kind("a bug")  # noqa: B904  # as a bug does

    assert fault(cause) is expected
    assert fault(raised_by(handling)) is None


def test_a_bug_that_mlflow_passes_on_is_a_bug(tmp_path: Path):
    url = f"sqlite:///{tmp_path}/one.db"
    session = _get_managed_session_maker(sessionmaker(sqlalchemy.create_engine(url)), "sqlite")

    def within_a_transaction() -> None:
        with session():
            raise KeyError("Permission denied")

    error = raised_by(within_a_transaction)
    assert isinstance(error, MlflowException)
    assert "Permission denied" in str(error)
    assert fault(error) is None


def test_a_bug_is_not_tried_again():
    attempts = []

    def action() -> None:
        attempts.append(1)
        raise AssertionError("[Errno 111] Connection refused")

    with pytest.raises(AssertionError, match="Connection refused"):
        Retry("http://127.0.0.1:9", pytest.fail).wait(action)
    assert len(attempts) == 1


@pytest.mark.parametrize(
    "error", [ValueError("a bug"), FileNotFoundError(2, "No such file", "one"), MlflowException("no"), KeyError("one")]
)
def test_anything_else_stays_what_it_is(error: BaseException):
    assert explanation(error) is None
    assert not is_passing(error)


def test_what_is_explained_already_is_not_explained_again():
    def explained() -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            raise StudyError("Said already.") from None

    assert explanation(raised_by(explained)) is None


def test_the_command_says_a_failure_in_a_sentence_and_lets_a_bug_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def failing(error: Exception) -> Callable[..., object]:
        def app(*arguments: object, **options: object) -> object:
            raise error

        return app

    monkeypatch.setattr(cli, "app", failing(OSError(errno.EROFS, "Read-only file system", "/disk/mlruns")))
    ended = study_here("runs", home=tmp_path)
    assert ended.code == 2
    assert ended.err.startswith("study: /disk/mlruns cannot be written (Read-only file system)")
    monkeypatch.setattr(cli, "app", failing(ValueError("a bug")))
    bug = study_here("runs", home=tmp_path)
    assert bug.code == 1
    assert bug.err.startswith("Traceback")
    assert bug.err.endswith("ValueError: a bug\n")


@pytest.mark.parametrize("seconds", ["soon", "nan", "-1", "inf"])
def test_a_timeout_that_is_no_number_of_seconds_is_refused(seconds: str, home: Home):
    ended = study_here("runs", home=home.root, STUDY_STORE_TIMEOUT=seconds)
    assert ended.code == 2
    assert ended.err == f"study: STUDY_STORE_TIMEOUT is {seconds!r}: it must be a number of seconds, 0 or more.\n"


def test_a_write_that_finds_no_room_names_its_file_though_the_disk_names_none(tmp_path: Path):
    def write() -> None:
        with atomic_write(tmp_path / "table.csv"):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space") as raised:
        write()
    assert str(explanation(raised.value, "elsewhere")).startswith(f"The disk of {tmp_path} is full")
