import http.server
import json
import threading
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

from study.errors import StudyError
from study.tracking.permissions import require_permission, user_at

PERMISSIONS = {"anna": "READ", "bert": "EDIT", "cleo": "MANAGE"}


class Server(http.server.BaseHTTPRequestHandler):
    """Answers as MLflow's server with a login does."""

    def do_GET(self) -> None:
        asked = parse_qs(urlsplit(self.path).query)
        permission = PERMISSIONS.get(asked["username"][0])
        self.send_response(200 if permission else 404)
        self.end_headers()
        self.wfile.write(json.dumps({"permission": permission, "asked": asked}).encode())

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
    grant = f"get_app_client('basic-auth', '{address}').grant_user_permission('anna', 'experiment', '7', 'EDIT')"
    with pytest.raises(StudyError, match="User anna may read MLflow's experiment digits") as refused:
        require_permission(address, "digits", "7")
    assert grant in str(refused.value)
    with pytest.raises(StudyError) as refused:
        require_permission(address.replace("://", "://anna:geheim@"), "digits", "7")
    assert grant in str(refused.value)


def test_a_user_who_may_record_is_told_what_grants_the_deletion_of_runs(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "bert")
    with pytest.raises(StudyError, match="experiment digits, and not delete runs of it") as refused:
        require_permission(address, "digits", "7", permission="MANAGE")
    assert "grant_user_permission('bert', 'experiment', '7', 'MANAGE')" in str(refused.value)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "cleo")
    require_permission(address, "digits", "7", permission="MANAGE")


def test_a_registered_model_is_asked_for_by_its_name(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "anna")
    with pytest.raises(
        StudyError, match="may read MLflow's registered model digits-cnn, and not record in it"
    ) as refused:
        require_permission(address, "digits-cnn", "digits-cnn", "registered_model")
    assert "grant_user_permission('anna', 'registered_model', 'digits-cnn', 'EDIT')" in str(refused.value)


@pytest.mark.parametrize("user", ["bert", "cleo", "unknown to a server with another kind of login", ""])
def test_others_are_let_through(user: str, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", user)
    require_permission(address, "digits", "7")


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
