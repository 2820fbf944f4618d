"""deploy/compose.yaml and deploy/search.slurm, started here from the same settings, without containers or Slurm."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import optuna
import pytest

from tests.support.fork_server import STUDY
from tests.support.postgres import Cluster
from tests.support.process import ROOT, TIMEOUT, environment
from tests.support.warm_path import warm_path
from tests.test_deploy import DEPLOY, PAGE, loaded
from tests.whole.test_team import USERS
from tests.whole.test_ui import free_port, wait_for_answer

SECRETS = {
    "POSTGRES_PASSWORD": "of-the-database",
    "MLFLOW_PASSWORD": "of-the-administrator",
    "MLFLOW_KEY": "of-the-sessions",
}


@dataclass(frozen=True)
class Served:
    folder: Path
    port: int
    postgres: int

    @property
    def storage(self) -> str:
        return f"postgresql+psycopg://study:of-the-database@127.0.0.1:{self.postgres}/optuna"


@pytest.fixture(scope="module")
def served(postgres: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    services, port, folder = loaded("compose.yaml")["services"], free_port(), tmp_path_factory.mktemp("compose")
    database = services["database"]["environment"]
    postgres.tell(f"CREATE ROLE {database['POSTGRES_USER']} LOGIN")
    postgres.tell(f"CREATE DATABASE {database['POSTGRES_DB']} OWNER {database['POSTGRES_USER']}")
    postgres.tell(loaded("compose.yaml")["configs"]["optuna"]["content"])
    here = {"@database/": f"@127.0.0.1:{postgres.port}/", "5000": str(port)}
    command = [here.get(word, word) for word in services["mlflow"]["command"]]
    variables = {name: substituted(value, here) for name, value in services["mlflow"]["environment"].items()}
    log = folder / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [STUDY, *command], env=environment(folder, **variables), stdout=file, stderr=file, start_new_session=True
        )
    try:
        wait_for_answer(f"http://127.0.0.1:{port}/health", process, log)
        yield Served(folder, port, postgres.port)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(TIMEOUT)
        for name in (database["POSTGRES_DB"], "optuna"):
            postgres.drop(postgres.url(name))
        postgres.tell(f"DROP ROLE {database['POSTGRES_USER']}")


def substituted(value: str, here: dict[str, str]) -> str:
    """A value of the file as compose reads it, with the addresses of this machine."""
    value = re.sub(r"\$\{(\w+):\?\}", lambda secret: SECRETS[secret[1]], value)
    value = re.sub(r"\$\{\w+:-([^}]*)\}", lambda default: default[1], value)
    for name, place in here.items():
        value = value.replace(name, place)
    assert "$" not in value
    return value


def make_users(served: Served, home: Path) -> None:
    """Makes the users of the team's page."""
    script = USERS.replace("server.example:5000", f"127.0.0.1:{served.port}")
    path = f"{Path(STUDY).parent}:{os.environ['PATH']}"
    script = script.replace("the-frog-in-the-well", SECRETS["MLFLOW_PASSWORD"])
    subprocess.run(["bash", "-c", script], env=environment(home, PATH=path), cwd=ROOT, check=True)


def test_the_tasks_of_an_array_share_a_search_on_what_compose_starts(served: Served, tmp_path: Path) -> None:
    [block] = re.findall(r"^```\n(STUDY_STORAGE.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    stores = block.replace("study:PASSWORD@server.example", f"study:of-the-database@127.0.0.1:{served.postgres}")
    here = {"server.example:5000": f"127.0.0.1:{served.port}", "PASSWORD=PASSWORD": "PASSWORD=follows-the-rabbit"}
    for name, place in here.items():
        stores = stores.replace(name, place)
    make_users(served, tmp_path)
    assert "example" not in stores
    (tmp_path / "study.env").write_text(stores)
    small = (
        "--dataset",
        "digits",
        "--model",
        "ffnn",
        "--trials",
        "4",
        "--epochs",
        "1",
        "--no-retrain",
        "--workers",
        "1",
    )
    tools = tmp_path / "tools"
    tools.mkdir()
    tasks = [
        subprocess.Popen(
            ["bash", DEPLOY / "search.slurm", *small],
            env=environment(
                tmp_path,
                PATH=f"{warm_path(tools)}:{os.environ['PATH']}",
                STUDY_ENV=str(tmp_path / "study.env"),
                TMPDIR=str(tmp_path),
                SLURM_JOB_NAME="study",
                SLURM_ARRAY_JOB_ID="7",
                SLURM_ARRAY_TASK_ID=str(number),
            ),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(2)
    ]
    outputs = [task.communicate(timeout=TIMEOUT)[0] for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], outputs
    search = optuna.load_study(study_name="shared", storage=served.storage)
    assert len(search.get_trials(states=(optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED))) == 4
    assert {path.name for path in tmp_path.glob("study-7-*")} == {"study-7-0", "study-7-1"}
