"""The shell completes the names of networks, experiments and choices of a search."""

import pytest
from typer.testing import CliRunner

from pipelines.cli.app import app

COMPLETED = {
    "study tune --model ": "cnn ffnn resnet18 three_layers",
    "study retrain --model f": "ffnn",
    "study experiment ": "dead-filters winner recipe",
    "study experiment winner --model r": "resnet18",
    "study tune --sampler ": "tpe random grid",
    "study tune --pruner h": "hyperband",
    "study tune --space a": "architecture",
}


@pytest.mark.parametrize("words", COMPLETED)
def test_the_shell_completes_a_value(words: str):
    shell = {"_STUDY_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    completed = CliRunner().invoke(app, prog_name="study", env=shell).output
    assert sorted(completed.split()) == sorted(COMPLETED[words].split())
