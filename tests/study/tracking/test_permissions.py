import http.server
import json
import threading
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

from study.errors import StudyError
from study.tracking.permissions import experiment, registered_model, require_permission, user_at

PERMISSIONS = {"anna": "READ", "bert": "EDIT", "cleo": "MANAGE", "the administrator": "READ"}
DIGITS = experiment("digits", "7")


class Server(http.server.BaseHTTPRequestHandler):
    """Answers as MLflow's server with a login does."""

    def do_GET(self) -> None:
        asked = parse_qs(urlsplit(self.path).query)
        user = asked["username"][0]
        permission = PERMISSIONS.get(user)
        is_user = self.path.startswith("/api/2.0/mlflow/users/get?")
        answer = {"user": {"is_admin": user == "the administrator"}} if is_user else {"permission": permission}
        self.send_response(200 if permission else 404)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_user_who_may_only_read_is_told_the_command_that_grants_more(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "anna")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "geheim")
    grant = f"run `python -m study.tracking.grant {address} anna EDIT experiment:digits`"
    with pytest.raises(StudyError, match="User anna may read MLflow's experiment digits") as refused:
        require_permission(address, DIGITS)
    assert grant in str(refused.value)
    with pytest.raises(StudyError) as refused:
        require_permission(address.replace("://", "://anna:geheim@"), DIGITS)
    assert grant in str(refused.value)


def test_a_user_who_may_record_is_told_what_grants_the_deletion_of_runs(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "bert")
    with pytest.raises(StudyError, match="experiment digits, and not delete runs of it") as refused:
        require_permission(address, DIGITS, permission="MANAGE")
    assert "bert MANAGE experiment:digits`" in str(refused.value)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "cleo")
    require_permission(address, DIGITS, permission="MANAGE")


def test_all_that_is_missing_is_told_with_one_command(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "anna")
    model = registered_model("my photos-cnn")
    message = "may read MLflow's registered model my photos-cnn, and not record in it"
    with pytest.raises(StudyError, match=message) as refused:
        require_permission(address, model)
    assert "anna EDIT 'registered_model:my photos-cnn'`" in str(refused.value)
    message = "may read MLflow's experiment digits and registered model my photos-cnn, and not record in them: have"
    with pytest.raises(StudyError, match=message) as refused:
        require_permission(address, DIGITS, model)
    assert "anna EDIT experiment:digits 'registered_model:my photos-cnn'`" in str(refused.value)


@pytest.mark.parametrize(
    "user", ["bert", "cleo", "the administrator", "unknown to a server with another kind of login", ""]
)
def test_others_are_let_through(user: str, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", user)
    require_permission(address, DIGITS)


@pytest.mark.parametrize(
    ("uri", "user"),
    [
        ("http://host", "anna"),
        ("https://b%40c:geheim@host", "b@c"),
        ("sqlite:///runs.db", ""),
        ("postgresql://x@h/d", ""),
    ],
)
def test_the_user_is_the_one_who_logs_in(uri: str, user: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "anna")
    assert user_at(uri) == user
