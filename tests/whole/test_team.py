"""docs/team.md, run as it stands: a server with a login, both stores on PostgreSQL, and several users."""

import base64
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import optuna
import pytest
from PIL import Image
from selenium.webdriver import Chrome

from tests.support.fork_server import STUDY
from tests.support.postgres import Cluster, programs
from tests.support.process import ROOT, TIMEOUT, Ended, environment
from tests.support.warm_path import warm_path
from tests.whole.test_ui import cells, free_port, visit, wait_for_answer

NAME = "<the server's name>"
PAGE = (ROOT / "docs" / "team.md").read_text()


def blocks(heading: str) -> list[str]:
    """The commands below a heading of the page."""
    section = re.split(r"^## ", PAGE.split(f"## {heading}\n")[1], flags=re.MULTILINE)[0]
    found = re.findall(r"^```console\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return [re.sub(r"^\$ ", "", code, flags=re.MULTILINE).replace(".venv/bin/", "") for code in found]


@dataclass(frozen=True)
class Team:
    """The page's machine, at addresses of this one."""

    folder: Path
    port: int
    postgres: int

    @property
    def server(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def storage(self) -> str:
        return f"postgresql://study@127.0.0.1:{self.postgres}/optuna"

    def script(self, *commands: str) -> str:
        hosts = "MLFLOW_SERVER_ALLOWED_HOSTS="
        here = {
            # A browser can be made to reach this machine by that name, see `tests.support.studies.browser`.
            f"{hosts}server.example:5000": f"{hosts}127.0.0.1:{self.port},{NAME}:{self.port}",
            "server.example:5000": f"127.0.0.1:{self.port}",
            "@localhost/": f"@127.0.0.1:{self.postgres}/",
            "@server.example/": f"@127.0.0.1:{self.postgres}/",
        }
        text = "set -e\n" + "\n".join(commands)
        for name, place in here.items():
            text = text.replace(name, place)
        assert "server.example" not in text
        return text.replace(NAME, "server.example")

    def variables(self, who: str) -> dict[str, str]:
        home = self.folder / who
        home.mkdir(exist_ok=True)
        tools = os.pathsep.join([str(Path(STUDY).parent), str(programs()), os.environ["PATH"]])
        postgres = {"PGHOST": "127.0.0.1", "PGPORT": str(self.postgres), "PGUSER": "postgres"}
        return environment(home, PATH=tools, STUDY_PORT=str(self.port), OMP_NUM_THREADS="1", **postgres)

    def run(self, who: str, *commands: str) -> Ended:
        """Runs commands of the page in a shell, in a home of `who`."""
        script, variables = self.script(*commands), self.variables(who)
        tools = self.folder / "tools"
        tools.mkdir(exist_ok=True)
        ended = subprocess.run(
            ["bash", "-c", script],
            env=variables | {"PATH": f"{warm_path(tools)}:{variables['PATH']}"},
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    def searches(self) -> set[str]:
        return set(optuna.get_all_study_names(self.storage))


USERS, LIST, REMOVE, GRANT = blocks("The users")
LOGIN = USERS.partition("\n")[0]
BOB = blocks("A colleague")[0]
ALICE = BOB.replace("bob", "alice").replace("builds-and-builds", "follows-the-rabbit")
CAROL = BOB.replace("bob", "carol").replace("builds-and-builds", "sings-in-December")


def connected(login: str) -> str:
    """The variables of a user's commands."""
    return login.partition("study tune")[0]


@pytest.fixture(scope="module")
def team(postgres: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    team = Team(tmp_path_factory.mktemp("team"), free_port(), postgres.port)
    ended = team.run("server", *blocks("The databases"))
    assert ended.code == 0, ended.err
    log = team.folder / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            ["bash", "-c", team.script(*blocks("The server"))],
            env=team.variables("server"),
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        wait_for_answer(f"{team.server}/health", process, log)
        assert f"MLflow answers at {team.server} " in log.read_text()
        for _ in range(2):
            ended = team.run("server", USERS)
            assert (ended.code, ended.out, ended.err) == (0, "", "")
        yield team
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(TIMEOUT)
        for name in ("mlflow", "optuna"):
            postgres.drop(postgres.url(name))
        postgres.tell("DROP ROLE study")


FEWER = ("--trials 6", "--trials 3 --no-retrain")


@pytest.fixture(scope="module")
def shared(team: Team) -> Ended:
    """What the page's colleague saw, who joined the search of another one."""
    first = team.run("alice", ALICE.replace(*FEWER))
    assert first.code == 0, first.err
    ended = team.run("bob", BOB)
    assert ended.code == 0, ended.err
    return ended


def test_two_users_share_a_search_and_see_the_runs_of_both(team: Team, shared: Ended) -> None:
    assert "Search digits-cnn: 6 trials" in shared.out
    listed = team.run("alice", connected(ALICE), "study runs --stage trial --json")
    assert listed.code == 0, listed.err
    assert len(json.loads(listed.out)) == 6
    assert optuna.load_study(study_name="digits-cnn", storage=team.storage).trials[5].state.is_finished()


def test_files_of_a_run_are_on_the_server_alone(team: Team, shared: Ended) -> None:
    weights = {path.relative_to(team.folder).parts[0] for path in team.folder.rglob("epoch_002.safetensors")}
    assert weights == {"server"}


def test_the_addresses_that_are_printed_are_whole(shared: Ended) -> None:
    assert re.search(r"^trials: http://\S+&viewStateShareKey=trials-\w{32}$", shared.out, re.MULTILINE)


def test_a_user_who_may_not_record_leaves_nothing_until_the_one_named_command_was_run(
    team: Team, shared: Ended
) -> None:
    own = CAROL.replace("--trials 6", "--trials 3").replace("study tune", "study tune --search carols")
    Image.new("RGB", (40, 30)).save(team.folder / "photo.png")
    reading = ("study show best", f"study predict {team.folder}/photo.png")
    assert team.run("carol", connected(CAROL), *reading).code == 0
    refused = team.run("carol", own)
    assert refused.code == 2
    assert "User carol may read MLflow's experiment digits and registered model digits-cnn, and not re" in refused.err
    assert team.searches() == {"digits-cnn"}
    drawing = team.run("carol", connected(CAROL), "study analyse --only table2")
    assert drawing.code == 2
    assert "may read MLflow's experiment digits" in drawing.err
    assert "figure" not in drawing.out
    (command,) = re.findall(r"`(python .*)`", refused.err)
    tried = team.run("carol", connected(CAROL), command)
    assert (tried.code, len(tried.err.splitlines())) == (2, 1)
    assert "User carol may not grant permissions on experiment digits: only whoever recorded" in tried.err
    # Bob recorded first in the model.
    granted = team.run("alice", connected(ALICE), command)
    assert "User carol has EDIT on experiment:digits." in granted.out
    assert (granted.code, len(granted.err.splitlines())) == (2, 1)
    assert "User alice may not grant permissions on registered model digits-cnn" in granted.err
    granted = team.run("server", LOGIN, command)
    assert granted.code == 0, granted.err
    ended = team.run("carol", own)
    assert ended.code == 0, ended.err
    assert team.searches() == {"digits-cnn", "carols"}
    assert "other machines cannot join" not in ended.out


def test_a_user_without_the_role_is_let_into_one_experiment(team: Team, shared: Ended) -> None:
    ended = team.run("server", USERS.replace("carol", "dora"), GRANT.replace("carol", "dora"))
    assert ended.code == 0, ended.err
    login = connected(CAROL).replace("carol", "dora")
    ended = team.run("dora", login, "study retrain --dataset digits --seed 5 --epochs 1")
    assert ended.code == 0, ended.err
    assert ", seed 5, epochs 1: test accuracy" in ended.out


def test_users_and_roles_are_listed_and_removed(team: Team) -> None:
    assert team.run("server", USERS.replace("carol", "erin").replace('"team"', '"guests"')).code == 0
    before = json.loads(team.run("server", LIST).out)["users"]
    roles = {user["username"]: {role["name"] for role in user["roles"]} for user in before}
    assert roles["alice"] >= {"team", "guests"}
    assert roles["erin"] == set()
    ended = team.run("server", LOGIN, REMOVE)
    assert (ended.code, ended.err) == (0, "")
    after = json.loads(team.run("server", LIST).out)["users"]
    assert "erin" not in {user["username"] for user in after}
    assert "guests" not in {role["name"] for user in after for role in user["roles"]}


def test_the_administrator_may_record(team: Team, shared: Ended) -> None:
    login = connected(BOB).replace("=bob", "=admin").replace("builds-and-builds", "the-frog-in-the-well")
    ended = team.run("admin", login, "study retrain --dataset digits --seed 6 --epochs 1")
    assert ended.code == 0, ended.err
    assert ", seed 6, epochs 1: test accuracy" in ended.out


def test_a_wrong_password_is_said_first_and_in_short(team: Team) -> None:
    ended = team.run("bob", connected(BOB).replace("builds-and-builds", "nonsense"), "study runs")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        f"study: The server {team.server} denies access (HTTP status 401): see MLFLOW_TRACKING_USERNAME and "
        "MLFLOW_TRACKING_PASSWORD.\n"
    )


def test_a_repair_that_the_user_may_not_make_backs_nothing_up(team: Team, shared: Ended) -> None:
    assert team.run("server", USERS.replace("carol", "fred")).code == 0
    login = connected(CAROL).replace("carol", "fred")
    trials = json.loads(team.run("alice", connected(ALICE), "study runs --stage trial --json").out)
    run_id = trials[0]["id"]
    delete = f"python -W ignore -c \"from mlflow import MlflowClient; MlflowClient().delete_run('{run_id}')\""
    deleted = team.run("server", LOGIN, f"export MLFLOW_TRACKING_URI={team.server}", delete)
    assert deleted.code == 0, deleted.err
    checked = team.run("fred", login, "study doctor --all-hosts")
    assert "study doctor --fix --all-hosts" in checked.out
    refused = team.run("fred", login, "study doctor --fix --all-hosts")
    assert refused.code == 2
    assert "User fred may read MLflow's experiment digits" in refused.err
    assert "Backup" not in refused.out
    assert not list((team.folder / "fred").rglob("backup-*"))
    repaired = team.run("alice", connected(ALICE), "study doctor --fix --all-hosts")
    assert "Backup of Optuna's database" in repaired.out
    assert "Repaired: 1" in repaired.out


def test_the_pages_work_in_a_browser_by_the_name_of_the_server(team: Team, shared: Ended, browser: Chrome) -> None:
    [page] = re.findall(r"^trials: http://[^/]+(/\S+)$", shared.out, re.MULTILINE)
    login = base64.b64encode(b"alice:follows-the-rabbit").decode()
    browser.execute_cdp_cmd("Network.enable", {})
    browser.execute_cdp_cmd("Network.setExtraHTTPHeaders", {"headers": {"Authorization": f"Basic {login}"}})
    try:
        visit(browser, f"http://server.example:{team.port}{page}")
        accuracies = cells(browser, "metrics.`best_val_accuracy`", 6)
        assert all(re.search(r"0\.\d", text) for text in accuracies[:2])
    finally:
        browser.execute_cdp_cmd("Network.setExtraHTTPHeaders", {"headers": {}})


def test_a_search_that_nobody_can_join_says_so(team: Team, shared: Ended) -> None:
    alone = (
        BOB.replace(*FEWER).replace("export STUDY_STORAGE", "export NOT_STORAGE").replace("study tune", "study tune {}")
    )
    ended = team.run("bob", alone.format("--search alone"))
    assert ended.code == 0, ended.err
    assert "other machines cannot join this search. To share one, set STUDY_STORAGE" in ended.out
    refused = team.run("bob", alone.format(""))
    assert refused.code == 2
    assert "has no such search: use the storage that it was started with (--storage or STUDY_STORAGE)" in refused.err
    checked = team.run("bob", connected(alone), "study doctor")
    assert "has none of them" in re.sub(r"[│\s]+", " ", checked.out)
    assert "delete the run" not in checked.out


def test_a_name_that_the_server_was_not_told_of_is_refused_with_the_variable_that_tells_it(
    team: Team, shared: Ended
) -> None:
    named = connected(BOB).replace("http://server.example:5000", f"http://localhost:{team.port}")
    ended = team.run("bob", named, "study runs")
    assert ended.code == 2
    assert "MLFLOW_SERVER_ALLOWED_HOSTS" in ended.err
