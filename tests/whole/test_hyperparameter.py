"""A hyperparameter that is added as CONTRIBUTING.md says is searched, recorded, retrained with and read back."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from study.home import Home
from study.tracking.store import Store
from tests.support.process import ROOT, TIMEOUT, Ended, environment
from tests.support.recipes import apply

QUICK = ("--model", "ffnn", "--dataset", "digits", "--trials", "3", "--epochs", "1", "--retrain-epochs", "1")
MAIN = "from pipelines.cli.app import main; main()"
READ = """
import json, sys
from study.config import SearchConfig, TrainConfig
from study.search.space import in_space
params = json.loads(sys.argv[1])
config = TrainConfig.from_params(params)
del params["label_smoothing"]
older = TrainConfig.from_params(params)
space = in_space(SearchConfig(name="s"), "architecture", {})
print(json.dumps([config.label_smoothing, older.label_smoothing, list(space.choices["label_smoothing"].values)]))
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages with the documented changes."""
    root = tmp_path_factory.mktemp("tree")
    for package in ("study", "pipelines", "analysis"):
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    apply(ROOT / "CONTRIBUTING.md", root)
    return root


def run(tree: Path, home: Path, code: str, *arguments: str) -> Ended:
    """Runs Python in the changed tree; its packages come before those that are installed."""
    variables = environment(home, PYTHONPATH=os.fspath(tree), STUDY_THREADS="1", OMP_NUM_THREADS="1")
    command = [sys.executable, "-c", code, *arguments]
    ended = subprocess.run(
        command, cwd=tree, env=variables, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)


@pytest.mark.slow
def test_a_fraction_is_drawn_from_a_list_recorded_and_read_back(tree: Path, home: Home):
    ended = run(tree, home.root, MAIN, "tune", *QUICK, "--label-smoothing", "0.2,0.1")
    assert ended.code == 0, ended.err
    store = Store(home)
    [retrained], trials = store.runs(stage="retrain"), store.runs(stage="trial")
    assert {run.params["label_smoothing"] for run in trials} <= {"0.1", "0.2"}
    assert retrained.params["label_smoothing"] == store.get(retrained.trial_run).params["label_smoothing"]
    read = run(tree, home.root, READ, json.dumps(dict(retrained.params)))
    assert json.loads(read.out) == [float(retrained.params["label_smoothing"]), 0.0, [0.0, 0.1, 0.2]], read.err


@pytest.mark.slow
def test_a_fraction_is_drawn_from_a_range_or_fixed_and_the_search_is_continued(tree: Path, home: Home):
    drawn = ("tune", *QUICK, "--no-retrain", "--label-smoothing", "0:0.2")
    for _ in range(2):
        ended = run(tree, home.root, MAIN, *drawn)
        assert ended.code == 0, ended.err
    assert "has 3 finished trials already" in ended.out
    values = {float(run.params["label_smoothing"]) for run in Store(home).runs(stage="trial")}
    assert len(values) == 3
    assert all(0 < value < 0.2 for value in values)
    [search] = Store(home).runs(stage="search")
    assert "--label-smoothing 0.0:0.2" in search.tags["mlflow.note.content"]
    fixed = run(tree, home.root, MAIN, *drawn[:-1], "0.3", "--search", "fixed")
    assert fixed.code == 0, fixed.err
    assert {run.params["label_smoothing"] for run in Store(home).runs(stage="trial", search="fixed")} == {"0.3"}


@pytest.mark.slow
def test_a_value_that_the_field_refuses_is_named_with_the_option_as_it_is_typed(tree: Path, home: Home):
    ended = run(tree, home.root, MAIN, "tune", *QUICK, "--label-smoothing", "0,1.5")
    message = "study: --label-smoothing is 1.5: it must be at least 0 and less than 1."
    assert (ended.code, ended.err.strip().splitlines()[-1]) == (2, message)
