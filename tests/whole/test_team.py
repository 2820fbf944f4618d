"""docs/team.md, run as it stands: a server with a login, both stores on PostgreSQL, and several users."""

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

from tests.support.fork_server import STUDY
from tests.support.postgres import Cluster, programs
from tests.support.process import ROOT, TIMEOUT, Ended, environment
from tests.support.warm_path import warm_path
from tests.whole.test_ui import free_port, wait_for_answer

PAGE = (ROOT / "docs" / "team.md").read_text()


def blocks(heading: str) -> list[str]:
    """The commands below a heading of the page, and its Python as commands that run it."""
    section = re.split(r"^## ", PAGE.split(f"## {heading}\n")[1], flags=re.MULTILINE)[0]
    found = re.findall(r"^```(\w+)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return [
        f"python - <<'END'\n{code}END\n" if kind == "python" else re.sub(r"^\$ ", "", code, flags=re.MULTILINE)
        for kind, code in found
    ]


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
        here = {
            "server.example:5000": f"127.0.0.1:{self.port}",
            "@localhost/": f"@127.0.0.1:{self.postgres}/",
            "@server.example/": f"@127.0.0.1:{self.postgres}/",
        }
        text = "set -e\n" + "\n".join(commands)
        for name, place in here.items():
            text = text.replace(name, place)
        assert "server.example" not in text
        return text

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
        login, roles, _ = blocks("The users")
        ended = team.run("server", login, roles)
        assert ended.code == 0, ended.err
        yield team
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(TIMEOUT)
        for name in ("mlflow", "optuna"):
            postgres.drop(postgres.url(name))
        postgres.tell("DROP ROLE study")


BOB = blocks("A colleague")[0]
ALICE = BOB.replace("bob", "alice").replace("builds and builds", "follows the rabbit")
CAROL = BOB.replace("bob", "carol").replace("builds and builds", "sings in December")
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
    listed = team.run("alice", ALICE.partition("study tune")[0], "study runs --stage trial --json")
    assert listed.code == 0, listed.err
    assert len(json.loads(listed.out)) == 6
    assert optuna.load_study(study_name="digits-cnn", storage=team.storage).trials[5].state.is_finished()


def test_files_of_a_run_are_on_the_server_alone(team: Team, shared: Ended) -> None:
    weights = {path.relative_to(team.folder).parts[0] for path in team.folder.rglob("epoch_002.safetensors")}
    assert weights == {"server"}


def test_the_addresses_that_are_printed_are_whole(shared: Ended) -> None:
    assert re.search(r"^trials: http://\S+&viewStateShareKey=trials-\w{32}$", shared.out, re.MULTILINE)


def test_a_user_who_may_not_record_leaves_nothing_until_the_named_command_was_run(team: Team, shared: Ended) -> None:
    login, _, single = blocks("The users")
    create = single.replace("auth.grant", "# auth.grant")
    assert team.run("server", login, create).code == 0
    own = CAROL.replace(*FEWER).replace("study tune", "study tune --search carols")
    Image.new("RGB", (40, 30)).save(team.folder / "photo.png")
    reading = ("study show best", f"study predict {team.folder}/photo.png")
    assert team.run("carol", CAROL.partition("study tune")[0], *reading).code == 0
    refused = team.run("carol", own)
    assert refused.code == 2
    assert "User carol may read MLflow's experiment digits" in refused.err
    assert team.searches() == {"digits-cnn"}
    drawing = team.run("carol", CAROL.partition("study tune")[0], "study analyse --only table2")
    assert drawing.code == 2
    assert "may read MLflow's experiment digits" in drawing.err
    assert "figure" not in drawing.out
    (command,) = re.findall(r"`(python .*)`", refused.err)
    owner = ALICE.partition("study tune")[0]
    granted = team.run("alice", owner, command)
    assert granted.code == 0, granted.err
    ended = team.run("carol", own)
    assert ended.code == 0, ended.err
    assert team.searches() == {"digits-cnn", "carols"}
    assert "other machines cannot join" not in ended.out
    retraining = CAROL.partition("study tune")[0], "study retrain --dataset digits --seed 7 --epochs 1"
    refused = team.run("carol", *retraining)
    assert refused.code == 2
    assert "User carol may read MLflow's registered model digits-cnn, and not record in it" in refused.err
    assert "seed 7" not in team.run("carol", retraining[0], "study runs --stage retrain").out
    (command,) = re.findall(r"`(python .*)`", refused.err)
    assert team.run("server", login, command).code == 0
    ended = team.run("carol", *retraining)
    assert ended.code == 0, ended.err


def test_a_user_without_the_role_is_let_into_one_experiment(team: Team, shared: Ended) -> None:
    login, _, single = blocks("The users")
    ended = team.run("server", login, single.replace("carol", "dora"))
    assert ended.code == 0, ended.err
    login = CAROL.partition("study tune")[0].replace("carol", "dora")
    ended = team.run("dora", login, "study retrain --dataset digits --seed 5 --epochs 1")
    assert ended.code == 0, ended.err
    assert ", seed 5, epochs 1: test accuracy" in ended.out


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
    checked = team.run("bob", alone.partition("study tune")[0], "study doctor")
    assert "has none of them" in re.sub(r"[│\s]+", " ", checked.out)
    assert "delete the run" not in checked.out


def test_a_name_that_the_server_was_not_told_of_is_refused_with_the_variable_that_tells_it(
    team: Team, shared: Ended
) -> None:
    named = BOB.partition("study tune")[0].replace("http://server.example:5000", f"http://localhost:{team.port}")
    ended = team.run("bob", named, "study runs")
    assert ended.code == 2
    assert "MLFLOW_SERVER_ALLOWED_HOSTS" in ended.err
