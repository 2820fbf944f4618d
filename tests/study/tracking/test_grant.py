"""The command that grants permissions, on a server that answers as MLflow's does; tests/whole/test_team.py has one."""

import http.server
import json
import threading
from collections.abc import Iterator

import pytest

from study.tracking.grant import main

EXISTS = (400, {"error_code": "RESOURCE_ALREADY_EXISTS", "message": "there"})


class Server(http.server.ThreadingHTTPServer):
    answers: dict[str, tuple[int, object]]
    asked: list[tuple[str, dict[str, str]]]


class Answers(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        if "permissions/get" in self.path:
            self.answer(*self.server.answers.get("get", (404, {})))
            return
        is_known = "experiment_name=digits" in self.path or self.path == "/health"
        missing = {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "none"}
        self.answer(200 if is_known else 404, {"experiment": {"experiment_id": "7"}} if is_known else missing)

    def do_POST(self) -> None:
        action = self.path.rpartition("/")[2]
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((action, asked))
        self.answer(*self.server.answers.get(action, (200, {})))
        # What a revocation leaves can be granted.
        if action == "revoke":
            self.server.answers = {}

    def answer(self, code: int, content: object) -> None:
        self.send_response(code)
        self.end_headers()
        self.wfile.write(content.encode() if isinstance(content, str) else json.dumps(content).encode())

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "alice")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "follows-the-rabbit")
    with Server(("127.0.0.1", 0), Answers) as server:
        server.answers, server.asked = {}, []
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def grant(server: Server, *resources: str) -> None:
    main([f"http://127.0.0.1:{server.server_port}", "carol", "EDIT", *resources])


def refused(server: Server, capsys: pytest.CaptureFixture[str], *resources: str) -> str:
    """The one sentence that it ends with."""
    with pytest.raises(SystemExit) as ended:
        grant(server, *resources)
    assert ended.value.code == 2
    [sentence] = capsys.readouterr().err.splitlines()
    return sentence


def test_each_resource_is_granted_an_experiment_by_its_name(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    grant(server, "experiment:digits", "registered_model:digits-cnn")
    assert [(action, asked["resource_type"], asked["resource_id"]) for action, asked in server.asked] == [
        ("grant", "experiment", "7"),
        ("grant", "registered_model", "digits-cnn"),
    ]
    assert {(asked["username"], asked["permission"]) for _, asked in server.asked} == {("carol", "EDIT")}
    assert capsys.readouterr().out.splitlines()[0] == "User carol has EDIT on experiment:digits."


def test_a_permission_that_is_there_is_replaced(server: Server) -> None:
    server.answers = {"grant": EXISTS}
    grant(server, "experiment:digits")
    assert [action for action, _ in server.asked] == ["grant", "revoke", "grant"]


def test_a_higher_permission_is_not_lowered(server: Server) -> None:
    server.answers = {"grant": EXISTS, "get": (200, {"permission": "MANAGE"})}
    grant(server, "experiment:digits")
    assert [action for action, _ in server.asked] == ["grant"]


@pytest.mark.parametrize(
    ("code", "content", "words"),
    [
        (403, "Permission denied", "User alice may not grant permissions on experiment digits: only whoever recorded"),
        (401, "You are not authenticated.", "denies access (HTTP status 401): see MLFLOW_TRACKING_USERNAME and"),
        (
            404,
            {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "User with username=carol not found"},
            "study: RESOURCE_DOES_NOT_EXIST: User with username=carol not found",
        ),
    ],
)
def test_what_the_server_refuses_is_said_in_a_sentence(
    code: int, content: object, words: str, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers = {"grant": (code, content)}
    assert words in refused(server, capsys, "experiment:digits")


def test_a_resource_that_is_none_is_named(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Unknown resource 'digits': write experiment:NAME" in refused(server, capsys, "digits")
    assert "has no experiment 'photos': somebody must have" in refused(server, capsys, "experiment:photos")
