from pathlib import Path

import pytest

from study.home import Home
from tests.study.test_data import write_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "photos")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(root=tmp_path / "home")
