"""What takes long is computed once, and anew where something that it depends on has changed."""

import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.filters import effects
from analysis.images import covariance
from pipelines.config import AnalysisConfig
from pipelines.report import cache
from pipelines.report.cache import Cache, fingerprint
from study.probes import activity
from tests.pipelines.report.conftest import Analyse

SLOW = AnalysisConfig(only=("covariance", "filter_health", "ablation"))
TABLE = pd.DataFrame(
    {
        "class": ["0", "<b>", "é"],
        "count": [1, 2, 2**53 + 1],
        "share": [0.1 + 0.2, np.nan, 1e-300],
        "silent": [True, False, True],
    }
)


@pytest.fixture
def module(tmp_path: Path) -> types.ModuleType:
    """A module of one line."""
    module = types.ModuleType("computing")
    module.__file__ = str(tmp_path / "computing.py")
    Path(module.__file__).write_text("one = 1\n")
    return module


def counted(kept: Cache, inputs: object, module: types.ModuleType) -> int:
    """How often the table is computed when it is asked for."""
    calls: list[int] = []

    def compute() -> pd.DataFrame:
        calls.append(1)
        return TABLE

    pd.testing.assert_frame_equal(kept.table("table", [inputs], [module], compute), TABLE)
    return len(calls)


def test_a_table_is_computed_once_and_comes_back_as_it_was(tmp_path: Path, module: types.ModuleType):
    kept = Cache(tmp_path / "cache")
    assert [counted(kept, "a", module) for _ in range(2)] == [1, 0]
    assert counted(kept, "b", module) == 1
    assert counted(kept, "a", module) == 0


def test_without_a_folder_and_on_demand_everything_is_computed(tmp_path: Path, module: types.ModuleType):
    assert [counted(Cache(), "a", module) for _ in range(2)] == [1, 1]
    kept = Cache(tmp_path / "cache")
    assert [counted(each, "a", module) for each in (kept, replace(kept, again=True), kept)] == [1, 1, 0]


def test_other_code_and_another_package_compute_anew(
    tmp_path: Path, module: types.ModuleType, monkeypatch: pytest.MonkeyPatch
):
    kept = Cache(tmp_path / "cache")
    counted(kept, "a", module)
    Path(str(module.__file__)).write_text("one = 2\n")
    assert counted(kept, "a", module) == 1
    monkeypatch.setattr(cache, "version", lambda name: "0")
    assert [counted(kept, "a", module) for _ in range(2)] == [1, 0]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def turned(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 255
    path.write_bytes(content)


class Trap:
    """Fails where it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return pytest.fail, ("a pickle was loaded",)


def pickled(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, allow_pickle=True, share=np.array([Trap()], dtype=object))


def another(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.arange(3))


@pytest.mark.parametrize("damage", [cut, turned, pickled, another, lambda path: path.write_bytes(b"")])
def test_a_damaged_file_is_computed_anew_and_no_pickle_is_loaded(
    damage: Callable[[Path], object], tmp_path: Path, module: types.ModuleType
):
    kept = Cache(tmp_path / "cache")
    counted(kept, "a", module)
    [file] = (tmp_path / "cache").iterdir()
    damage(file)
    assert [counted(kept, "a", module) for _ in range(2)] == [1, 0]


def test_a_fingerprint_is_of_values_shape_and_type():
    tensor = torch.arange(6, dtype=torch.int32)
    others = [tensor + 1, tensor.reshape(2, 3), tensor.float()]
    assert len({fingerprint(each) for each in (tensor, *others)}) == 4
    images = torch.rand(2, 3, 4, 4)
    assert fingerprint(images) == fingerprint(images.contiguous(memory_format=torch.channels_last))


@pytest.mark.usefixtures("unpictured")
def test_a_second_analysis_computes_none_of_the_slow_tables_and_draws_the_same(
    analysed: Analyse, monkeypatch: pytest.MonkeyPatch
):
    calls: list[str] = []

    def watch(module: types.ModuleType, name: str) -> None:
        whole = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, **more: calls.append(name) or whole(*args, **more))

    watch(covariance, "measure")
    watch(activity, "activity")
    watch(effects, "ablation_effects")
    folder = analysed(SLOW)
    first, tables = list(calls), {file.name: file.read_bytes() for file in folder.glob("*.csv")}
    assert sorted(first) == ["ablation_effects", *["activity"] * 3, "measure"]
    calls.clear()
    analysed(replace(SLOW, explorer_images=1))
    assert calls == []
    assert {file.name: file.read_bytes() for file in folder.glob("*.csv")} == tables
    analysed(replace(SLOW, ablation="zero"))
    assert calls == ["ablation_effects"]
    calls.clear()
    analysed(SLOW, again=True)
    assert sorted(calls) == sorted(first)
