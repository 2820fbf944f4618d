import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("study", "analysis", "pipelines")
STAGES = {
    "pipelines.tune",
    "pipelines.retrain",
    "pipelines.analyse",
    "pipelines.experiment",
    "pipelines.upkeep.export",
    "pipelines.upkeep.import_",
}
HEAVY = {"torch", "mlflow", "optuna", "torchvision", "matplotlib", "pandas", "sklearn"}


def imports(file: Path) -> set[str]:
    """Every module that `file` names in an import, wherever it stands; `from a import b` names both a and a.b."""
    named = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports would escape these tests"
            named |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return named


MODULES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts): imports(file)
    for package in PACKAGES
    for file in sorted((ROOT / package).rglob("*.py"))
}


def importers(target: str) -> set[str]:
    return {
        module
        for module, named in MODULES.items()
        if any(name == target or name.startswith(f"{target}.") for name in named)
    }


def packages(module: str) -> set[str]:
    return {name.split(".")[0] for name in MODULES[module]}


def own(module: str) -> set[str]:
    """The modules of this project that `module` imports."""
    return {name for name in MODULES[module] if name in MODULES}


def test_the_packages_are_read():
    assert {"study.config", "analysis.drawing.style", *STAGES, "pipelines.cli.app", "pipelines.reproduce"} <= set(
        MODULES
    )
    assert "study.errors" in own("study.config")


def test_config_and_errors_are_leaves():
    assert own("study.errors") == set()
    assert own("study.config") == {"study.errors"}


def test_only_the_search_its_space_its_storage_and_its_trials_import_optuna():
    of_a_search = {
        "study.search.search",
        "study.search.records",
        "study.search.space",
        "study.search.storage",
        "study.search.loop",
    }
    assert importers("optuna") == of_a_search | {"pipelines.upkeep.archive_searches"}


def test_only_tracking_its_artifacts_and_its_registry_import_mlflow():
    of_the_store = {
        "study.tracking.store",
        "study.tracking.artifacts",
        "study.tracking.registry",
        "pipelines.upkeep.store_repairs",
    }
    assert importers("mlflow") == of_the_store | {"pipelines.upkeep.archive_runs", "pipelines.upkeep.archive_models"}


def test_study_knows_neither_pipelines_nor_analysis():
    knowing = importers("pipelines") | importers("analysis")
    assert not {module for module in knowing if module.startswith("study.")}


@pytest.mark.parametrize("module", [module for module in MODULES if module.startswith("analysis.")])
def test_analysis_knows_neither_study_nor_pipelines(module: str):
    assert not packages(module) & {"study", "pipelines"}


@pytest.mark.parametrize("module", [module for module in MODULES if module.startswith("analysis.")])
def test_analysis_needs_neither_torch_nor_global_plotting_state(module: str):
    assert not packages(module) & {"torch", "torchvision"}
    assert not {name for name in MODULES[module] if "pyplot" in name or "pylab" in name}


def test_training_knows_neither_the_search_nor_the_store():
    assert not own("study.training") & {
        "study.search.search",
        "study.search.space",
        "study.search.loop",
        "study.tracking.store",
        "study.tracking.best",
    }


def test_models_know_nothing_of_training_or_data():
    assert own("study.models") == {"study.config", "study.errors"}


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_a_stage_imports_no_other_stage(stage: str):
    assert not own(stage) & (STAGES | {"pipelines.reproduce"})


def test_stages_are_joined_by_reproduce_and_started_by_the_command_or_seed_by_seed_alone():
    for stage in STAGES:
        assert importers(stage) <= {
            "pipelines.reproduce",
            "pipelines.seeds",
            "pipelines.cli.app",
            "pipelines.cli.store",
        }


def test_nothing_imports_the_command():
    assert importers("pipelines.cli.app") == set()


def test_the_help_answers_before_anything_heavy_is_imported():
    code = "import sys; sys.argv = ['study', '--help']\nfrom pipelines.cli.app import main\n"
    code += "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\nprint('modules', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    helped, _, loaded = done.stdout.rpartition("modules ")
    assert "tune" in helped
    assert "typer" in loaded.split()
    assert not {name.split(".")[0] for name in loaded.split()} & HEAVY
