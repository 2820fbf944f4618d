import re
import tomllib

import pytest

from study.system.extras import installing
from tests.support.process import ROOT

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def parts(requirement: str) -> tuple[str, set[str]]:
    """The package, and its bounds in any order."""
    name, bounds = re.fullmatch(r"([\w\[\]-]+)(.*)", requirement).groups()  # type: ignore[union-attr]
    return name, set(bounds.split(","))


@pytest.mark.parametrize("extra", ["postgres", "login", "dashboard", "ray"])
def test_the_command_installs_what_the_project_asks_for(extra: str):
    command = installing(extra)
    assert command.startswith("pip install '")
    assert list(map(parts, re.findall("'(.*?)'", command))) == list(map(parts, EXTRAS[extra]))
