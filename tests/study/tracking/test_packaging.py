"""A logged model holds what it needs, and nothing that is run to be read."""

import ast
import json
import sys
from pathlib import Path

import pytest
import yaml
from mlflow.utils.file_utils import local_file_uri_to_path

from study.tracking.packaging import CARRIED, PACKAGE, REQUIREMENTS
from study.tracking.registry import ready_model
from tests.conftest import Finished


@pytest.fixture
def folder(finished_study: Finished) -> Path:
    """The files of the CNN's model."""
    exported = ready_model(finished_study.context.store.client, finished_study.retrained["cnn"])
    assert exported
    return Path(local_file_uri_to_path(exported.artifact_location))


def test_the_code_that_it_carries_imports_itself_the_standard_library_and_what_it_requires(folder: Path):
    names = set[str]()
    for file in (folder / "code").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names |= {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
            names |= {str(node.module)} if isinstance(node, ast.ImportFrom) else set()
    roots = {name.partition(".")[0] for name in names} - sys.stdlib_module_names
    assert roots == {PACKAGE, "mlflow", "PIL", *REQUIREMENTS} - {"pillow"}
    ours = {name.removeprefix(f"{PACKAGE}.").replace(".", "/") + ".py" for name in names if name.startswith(PACKAGE)}
    assert ours <= set(CARRIED)


def test_it_holds_no_pickle_and_its_requirements_are_pinned(folder: Path):
    files = [file for file in folder.rglob("*") if file.is_file() and file.name != "registered_model_meta"]
    # Python keeps compiled code in the folder once a process has loaded the model from there.
    suffixes = {file.suffix for file in files if file.parent.name != "__pycache__"}
    assert suffixes <= {".py", ".json", ".safetensors", ".yaml", ".txt", ""}
    lines = (folder / "requirements.txt").read_text().split()
    assert {line.partition("==")[0] for line in lines} == {"mlflow", *REQUIREMENTS}
    assert all("==" in line and "+" not in line for line in lines)


def test_it_says_what_it_returns_and_shows_an_input(folder: Path, finished_study: Finished):
    described = yaml.safe_load((folder / "MLmodel").read_text())
    returned = [column["name"] for column in json.loads(described["signature"]["outputs"])]
    assert returned == ["class", "probability", *(f"p_{name}" for name in finished_study.dataset.classes)]
    [image] = json.loads((folder / "serving_input_example.json").read_text())["inputs"]
    assert image.startswith("iVBORw0KGgo")  # a PNG
