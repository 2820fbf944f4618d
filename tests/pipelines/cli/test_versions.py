import platform
from importlib.metadata import version

import torch

from study.home import Home
from tests.support.process import study_here


def test_the_versions_are_those_that_are_imported(home: Home) -> None:
    ended = study_here("--version", home=home.root)
    assert (ended.code, ended.err) == (0, "")
    cuda = f"CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
    assert ended.out.splitlines() == [
        f"study {version('tracing-convolutions')}",
        f"Python {platform.python_version()}",
        f"torch {version('torch')} ({cuda})",
        *(f"{name} {version(name)}" for name in ("torchvision", "mlflow", "optuna")),
    ]
