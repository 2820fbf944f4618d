"""The recipes in deploy/: each checked by its own schema or linter, and its commands by the command itself."""

import json
import re
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import typer
import yaml
from typer.core import TyperGroup

from pipelines.cli.app import app

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
BIN = Path(sys.executable).parent
PAGE = (ROOT / "docs" / "scale.md").read_text()
KUBERNETES = "1.34"


def loaded(name: str) -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / name).read_text())


def run(*command: str | Path) -> None:
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def parsed(command: str) -> dict[str, Any]:
    """The options of a `study` command, as it reads them; nothing is run."""
    words = shlex.split(command, comments=True)
    assert words.pop(0) == "study"
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    return group.commands[words[0]].make_context(words[0], words[1:], resilient_parsing=False).params


def test_compose_keeps_its_schema() -> None:
    run(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml")


def test_compose_takes_every_secret_from_the_environment_and_opens_nothing_by_default() -> None:
    text, services = (DEPLOY / "compose.yaml").read_text(), loaded("compose.yaml")["services"]
    asked = set(re.findall(r"\$\{(\w+):\?\}", text))
    assert asked == {"POSTGRES_PASSWORD", "MLFLOW_PASSWORD", "MLFLOW_KEY"}
    example = dict(line.split("=") for line in (DEPLOY / "example.env").read_text().splitlines() if line[0] != "#")
    assert {name for name, value in example.items() if not value} == asked
    assert set(re.findall(r"\$\{(\w+)", text)) == set(example)
    assert {port.split(":5")[0] for service in services.values() for port in service["ports"]} == {"${BIND:-127.0.0.1}"}


def test_the_servers_command_is_one_and_its_databases_are_two() -> None:
    services = loaded("compose.yaml")["services"]
    options = parsed(shlex.join(["study", *services["mlflow"]["command"]]))
    assert (options["host"], options["port"]) == ("0.0.0.0", 5000)
    assert services["mlflow"]["environment"]["MLFLOW_TRACKING_URI"].endswith("@database/mlflow")
    assert services["database"]["environment"]["POSTGRES_DB"] == "mlflow"
    assert "CREATE DATABASE optuna " in loaded("compose.yaml")["configs"]["optuna"]["content"]


def test_the_slurm_script_has_no_mistake_that_a_linter_finds() -> None:
    run(BIN / "shellcheck", DEPLOY / "search.slurm")


def test_a_task_of_the_array_reads_the_stores_and_runs_the_search(tmp_path: Path) -> None:
    variables = tmp_path / "study.env"
    variables.write_text("STUDY_STORAGE=postgresql+psycopg://a:b@c/optuna\nMLFLOW_TRACKING_URI=http://c:5000\n")
    command = tmp_path / "study"
    command.write_text(
        '#!/bin/sh\necho "study $*"\necho "$STUDY_STORAGE $MLFLOW_TRACKING_URI $STUDY_WORKER $STUDY_HOME"\n'
    )
    command.chmod(0o700)
    task = {"SLURM_JOB_NAME": "study", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"}
    ended = subprocess.run(
        ["bash", DEPLOY / "search.slurm", "--dataset", "digits"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "STUDY_ENV": str(variables), "TMPDIR": str(tmp_path), **task},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    called, stores = ended.stdout.splitlines()
    assert parsed(called)["dataset"] == "digits"
    home = tmp_path / "study-7-3"
    assert stores == f"postgresql+psycopg://a:b@c/optuna http://c:5000 study-7-3 {home}"
    assert home.is_dir()


def test_the_job_keeps_the_schema_of_kubernetes() -> None:
    job = loaded("kubernetes-job.yaml")
    kubernetes_validate.validate(job, KUBERNETES, strict=True)
    [container] = job["spec"]["template"]["spec"]["containers"]
    assert parsed(shlex.join(["study", *container["args"]]))["trials"] == 400
    assert job["spec"]["completions"] == job["spec"]["parallelism"]


def test_the_pods_of_the_ray_job_keep_the_schema_of_kubernetes_and_its_command_is_one() -> None:
    spec = loaded("rayjob.yaml")["spec"]
    cluster = spec["rayClusterSpec"]
    head, [workers] = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    for group in (head, workers):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ray"}, "spec": group["template"]["spec"]}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)
    options = parsed(spec["entrypoint"])
    assert (options["engine"], options["gpus_per_trial"]) == ("ray", 0.25)
    gpus = int(workers["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"])
    assert options["workers"] * options["gpus_per_trial"] == workers["replicas"] * gpus
    assert cluster["rayVersion"] == version("ray")
    assert cluster["authOptions"] == {"mode": "token"}
    # Only the command needs the stores' passwords.
    assert "envFrom" not in workers["template"]["spec"]["containers"][0]


def test_the_cluster_file_keeps_rays_schema() -> None:
    import ray.autoscaler

    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    cluster = loaded("ray-cluster.yaml")
    jsonschema.validate(cluster, schema)
    starts = [*cluster["head_start_ray_commands"], *cluster["worker_start_ray_commands"]]
    assert all("RAY_AUTH_MODE=token" in command for command in starts if " start " in command)


def test_every_command_of_the_page_and_of_the_recipes_has_options_that_exist() -> None:
    texts = [PAGE, *(file.read_text() for file in DEPLOY.iterdir())]
    commands = [line for text in texts for line in re.findall(r"^\$ (study .+)$", text, re.MULTILINE)]
    assert len(commands) >= 2
    for command in commands:
        assert parsed(command)
    known = subprocess.run([BIN / "ray", "start", "--help"], capture_output=True, text=True, check=True).stdout
    used = {option for text in texts for line in re.findall(r"ray start (.*)", text) for option in options_in(line)}
    assert {"--head", "--address", "--node-ip-address", "--include-dashboard"} <= used
    assert {option for option in used if option not in known} == set()


def options_in(line: str) -> list[str]:
    return re.findall(r"--[a-z-]+", line.partition("#")[0])


@pytest.mark.parametrize("file", sorted(DEPLOY.iterdir()), ids=lambda file: file.name)
def test_the_page_explains_each_recipe(file: Path) -> None:
    assert f"deploy/{file.name}" in PAGE
