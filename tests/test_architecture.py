import ast
import re
import sys
import tomllib
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PACKAGES = ("study", "analysis", "pipelines")
LAYERS = (
    {"pipelines.cli"},
    {"pipelines"},
    # Doctor repairs with what makes a search's trials and results.
    {"pipelines.upkeep"},
    {"pipelines.trials", "pipelines.report"},
    {"pipelines.session", "pipelines.config"},
    # The names that `study` offers in Python: training, and the runs that tracking finds.
    {"study.interface"},
    {"study.tracking", "study.search", "study.probes"},
    {"study"},
    {"study.sources"},
    {"study.system", "study.images", "study.pictures"},
    {"study.config", "study.home"},
    {"study.ranges"},
    {"study.architectures", "study.names", "study.params"},
    {"study.errors"},
)
"""The rooms of `study` and `pipelines`: each may import what stands below it, and nothing beside or above it."""
WITHIN_ANALYSIS = {
    "analysis.filters": {"analysis.drawing", "analysis.results"},
    "analysis.explanations": {"analysis.drawing", "analysis.filters", "analysis.results"},
    "analysis.searches": {"analysis.drawing", "analysis.results"},
    "analysis.drawing": set(),
}
"""What a room of `analysis` may import of the others, beside the exhibit; those not named here, `drawing` alone."""
STAGES = {
    f"pipelines.{stage}"
    for stage in ("tune", "retrain", "analyse", "explain", "experiment", "upkeep.export", "upkeep.import_")
}
OPTIONAL = ("ray",)
"""The extras whose packages are imported by name, once the command needs them."""
EXCEPTIONS: set[tuple[str, str]] = {
    # MLflow runs it, and answers a client with the message of its own exception alone.
    ("study.served", "mlflow"),
    # The package offers these names, and imports them at their first use alone.
    ("study.__init__", "study.interface"),
}
"""Imports against the rules, each with its reason."""


@cache
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


@cache
def modules(*folders: str) -> dict[str, set[str]]:
    """What each module in these folders imports, by the module's name."""
    files = (file for folder in folders for file in sorted((ROOT / folder).rglob("*.py")))
    return {".".join(file.relative_to(ROOT).with_suffix("").parts): imports(file) for file in files}


@cache
def product() -> dict[str, set[str]]:
    """What each module of the product imports."""
    return modules(*PACKAGES)


def room(module: str) -> str:
    """The folder of a module, with dots; of `study`, the modules that its rooms rest on are rooms of their own."""
    return module if any(module in rooms for rooms in LAYERS) else module.rpartition(".")[0]


def own(module: str) -> set[str]:
    """The modules of this project that `module` imports."""
    return {name for name in product()[module] if name in product() and (module, name) not in EXCEPTIONS}


def importers(target: str) -> set[str]:
    return {
        module
        for module, named in product().items()
        if any(name == target or name.startswith(f"{target}.") for name in named) and (module, target) not in EXCEPTIONS
    }


def layer(module: str) -> int:
    (place,) = [place for place, rooms in enumerate(LAYERS) if room(module) in rooms]
    return place


def of(*names: str) -> set[str]:
    """The modules of these packages."""
    return {module for module in product() if module.split(".")[0] in names}


def test_the_files_beside_the_modules_go_into_the_wheel():
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    others = [file for name in PACKAGES for file in (ROOT / name).rglob("*.*") if file.suffix not in (".py", ".pyc")]
    folders = {file: ".".join(file.parent.relative_to(ROOT).parts) for file in others}
    assert {"page.html", "explorer.html", "page.css", "explorer.js"} <= {file.name for file in others}
    assert [file for file in others if not any(file.match(glob) for glob in data.get(folders[file], ()))] == []


def test_what_is_imported_is_declared():
    """Libraries that come with others today may not tomorrow."""
    imported = {name.partition(".")[0] for names in modules(*PACKAGES, "benchmarks").values() for name in names}
    imported -= {*PACKAGES, "benchmarks", "tests"} | set(sys.stdlib_module_names)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = project["dependencies"] + [each for name in OPTIONAL for each in project["optional-dependencies"][name]]
    names = {canonicalize_name(re.split("[<>=]", requirement)[0]) for requirement in declared}
    installed = packages_distributions()
    providers = {name: set(map(canonicalize_name, installed[name])) for name in imported}
    assert {name for name, distributions in providers.items() if not distributions & names} == set()


def test_the_packages_are_read():
    assert {"study.config", "analysis.drawing.style", *STAGES, "pipelines.cli.app"} <= set(product())
    assert "study.errors" in own("study.config")


def test_every_exception_is_one():
    assert {pair for pair in EXCEPTIONS if pair[1] not in product()[pair[0]]} == set()


def test_a_module_imports_its_own_room_and_rooms_below_it():
    pairs = {(module, name) for module in of("study", "pipelines") for name in own(module)}
    others = {(module, name) for module, name in pairs if room(name) != room(module) and name not in of("analysis")}
    assert {(module, name) for module, name in others if layer(name) <= layer(module)} == set()


def test_the_rooms_of_analysis_share_drawing_alone_and_filters_and_searches_the_results():
    shared = {"analysis.exhibit"}
    pairs = {(module, name) for module in of("analysis") for name in own(module) - shared if room(name) != room(module)}
    allowed = {module: WITHIN_ANALYSIS.get(room(module), {"analysis.drawing"}) for module in of("analysis")}
    assert {(module, name) for module, name in pairs if room(name) not in allowed[module]} == set()


def test_analysis_knows_neither_study_nor_pipelines():
    assert not (importers("study") | importers("pipelines")) & of("analysis")


def test_analysis_needs_neither_torch_nor_global_plotting_state():
    assert not (importers("torch") | importers("torchvision")) & of("analysis")
    named = {name for module in of("analysis") for name in product()[module]}
    assert not {name for name in named if "pyplot" in name or "pylab" in name}


def test_study_knows_neither_pipelines_nor_analysis():
    assert not (importers("pipelines") | importers("analysis")) & of("study")


def test_no_circle():
    try:
        TopologicalSorter({module: own(module) for module in product()}).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def test_of_the_rooms_of_study_its_root_needs_the_sources_of_images_alone():
    needed = {room(name) for module in of("study") if room(module) == "study" for name in own(module)}
    assert needed == {
        "study",
        "study.sources",
        "study.system",
        "study.images",
        "study.pictures",
        "study.config",
        "study.home",
        "study.architectures",
        "study.errors",
        "study.names",
        "study.params",
        "study.ranges",
    }


def test_only_the_search_imports_optuna():
    assert {room(module) for module in importers("optuna")} == {"study.search"}


def test_only_tracking_and_upkeep_import_mlflow():
    assert {room(module) for module in importers("mlflow")} == {"study.tracking", "pipelines.upkeep"}


def test_only_the_connection_imports_ray_and_not_at_its_top():
    assert importers("ray") == {"pipelines.session.ray_connection"}
    top = ast.parse((ROOT / "pipelines/session/ray_connection.py").read_text()).body
    assert "ray" not in {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}


def named_in_text(module: str) -> set[str]:
    """The tags and params of runs that a module reads, or sets when it starts one, by their names in text."""
    names = set[str]()
    for node in ast.walk(ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text())):
        match node:
            case ast.Subscript(ast.Attribute(attr="tags" | "params"), ast.Constant(name)):
                names.add(name)
            case ast.Call(ast.Attribute(ast.Attribute(attr="tags" | "params"), "get"), [ast.Constant(name), *_]):
                names.add(name)
            case ast.Compare(ast.Constant(name), [ast.In() | ast.NotIn()], [ast.Attribute(attr="tags" | "params")]):
                names.add(name)
            case ast.keyword("tags", ast.Dict(keys)):
                names |= {key.value for key in keys if isinstance(key, ast.Constant)}
    return names


def test_only_tracking_names_the_tags_and_params_of_runs():
    # What Optuna calls params are a trial's.
    others = {module for module in of("study", "pipelines") if room(module) not in ("study.tracking", "study.search")}
    assert {module: names for module in others if (names := named_in_text(module))} == {}
    assert "dataset" in named_in_text("tests.study.tracking.test_best")
    assert "optuna_trial" in named_in_text("tests.pipelines.test_tune")


def test_models_know_nothing_of_training_or_data():
    settings = {"study.architectures", "study.config"}
    assert own("study.models") == settings | {"study.custom", "study.errors", "study.geometry"}
    assert own("study.custom") == settings | {"study.errors", "study.params", "study.ranges"}


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_a_stage_imports_no_other_stage(stage: str):
    assert not own(stage) & (STAGES | {"pipelines.reproduce"})


def test_stages_are_joined_by_reproduce_and_started_by_the_command_or_seed_by_seed_alone():
    for stage in STAGES:
        assert importers(stage) <= {
            "pipelines.reproduce",
            "pipelines.seeds",
            "pipelines.cli.stages",
            "pipelines.cli.store",
            "pipelines.cli.training",
        }


def test_nothing_imports_the_command():
    assert importers("pipelines.cli.app") == set()


TESTED_IN = {
    "pipelines/report/test_figures_explorer.py": ["analysis.explorer.exhibit"],
    "analysis/explanations/test_circuit.py": [
        "analysis.explanations.circuit_picture",
        "analysis.explanations.decision",
    ],
    "analysis/filters/test_ablation.py": ["analysis.filters.effects"],
    "analysis/filters/test_patches.py": ["analysis.filters.kernel_pictures", "analysis.filters.patch_sheet"],
    "analysis/images/test_covariance.py": ["analysis.images.distance"],
    "analysis/layers/test_operations.py": [
        "analysis.drawing.numbered_cells",
        "analysis.layers.pooling",
        "analysis.layers.worked_example",
    ],
    "analysis/results/test_classification.py": ["analysis.results.confusion", "analysis.results.roc"],
    "analysis/results/test_intervals.py": ["analysis.results.bootstrap"],
    "analysis/searches/test_dead_filters.py": ["analysis.searches.findings"],
    "analysis/searches/test_search.py": ["analysis.searches.heatmap"],
    "pipelines/report/test_figures_dataset.py": ["analysis.layers.architecture", "pipelines.report.demonstrations"],
    "pipelines/report/test_figures_filters.py": ["pipelines.report.measurements"],
    "pipelines/report/test_figures_search.py": ["pipelines.report.tracked"],
    "pipelines/report/test_figures.py": ["pipelines.report.needs"],
    "pipelines/test_analyse.py": ["pipelines.report.compose", "pipelines.report.material", "pipelines.report.network"],
    "pipelines/test_experiment.py": ["pipelines.replicates", "pipelines.trials.trainings"],
    "pipelines/session/test_cluster.py": [
        "pipelines.session.engine",
        "pipelines.session.node",
        "pipelines.session.ray_connection",
        "pipelines.trials.turns",
    ],
    "pipelines/test_retrain.py": ["pipelines.continued", "study.tracking.checkpoints", "pipelines.seeds"],
    "pipelines/test_tune.py": [
        "pipelines.report.search_results",
        "pipelines.reproduce",
        "pipelines.trials.runner",
        "study.search.loop",
    ],
    "pipelines/trials/test_pool.py": ["pipelines.trials.worker"],
    "pipelines/upkeep/test_doctor.py": [
        "pipelines.upkeep.check_files",
        "pipelines.upkeep.check_runs",
        "pipelines.upkeep.findings",
        "study.search.records",
    ],
    "pipelines/upkeep/test_export.py": [
        "pipelines.upkeep.archive",
        "pipelines.upkeep.pack",
        "pipelines.upkeep.selection",
    ],
    "pipelines/upkeep/test_import_.py": [
        "pipelines.upkeep.archived_tables",
        "pipelines.upkeep.check_archive",
        "pipelines.upkeep.unpack",
        "study.search.checks",
    ],
    "study/search/test_heartbeat.py": ["study.system.heartbeat"],
    "study/search/test_search.py": ["study.search.trial"],
    "study/search/test_space.py": ["study.search.sampling"],
    "study/sources/test_listing.py": ["study.sources.folders"],
    "study/tracking/test_best.py": ["study.tracking.lookup"],
    "study/tracking/test_runs.py": ["study.tracking.run_fields"],
    "study/sources/test_image_folder.py": ["study.pictures.decoding"],
    "study/test_data.py": ["study.sources.cifar10", "study.sources.decoded"],
    "study/test_models.py": ["study.geometry"],
    "study/test_training.py": ["study.state"],
    "study/system/test_redaction.py": ["pipelines.session.setup", "study.system.variables"],
    "study/tracking/test_store.py": ["study.tracking.client", "study.tracking.queries"],
    "whole/test_torchrun.py": ["pipelines.ranks", "study.system.torchrun"],
    "whole/test_cli.py": [
        "pipelines.cli.options",
        "pipelines.cli.searches",
        "pipelines.cli.stages",
        "pipelines.cli.store",
        "pipelines.cli.training",
        "pipelines.cli.training_options",
        "pipelines.cli.values",
        "study.tracking.hints",
    ],
    "study/search/test_cache.py": ["study.search.database"],
}
"""The modules without a file of tests of their own, by the file that tests them."""


def file_for(module: str) -> str:
    folders, _, name = module.replace(".", "/").rpartition("/")
    return f"tests/{folders}/test_{name}.py"


def reached(module: str) -> set[str]:
    """All modules that `module`, of the tests or of the product, imports directly or through others."""
    modules_found, to_read, known = set[str](), [module], product() | modules("tests")
    while to_read:
        new = {name for name in known[to_read.pop()] if name in known} - modules_found
        modules_found |= new
        to_read += new
    return modules_found


def test_each_module_has_a_file_of_tests_of_its_name_or_is_tested_in_another():
    without = {m for m in product() if not m.endswith("__init__") and not (ROOT / file_for(m)).is_file()}
    assert without == {module for tested in TESTED_IN.values() for module in tested}


@pytest.mark.parametrize("file", TESTED_IN)
def test_a_file_that_tests_other_modules_reaches_them(file: str):
    assert set(TESTED_IN[file]) <= reached(f"tests.{file.removesuffix('.py').replace('/', '.')}")


def test_a_test_that_starts_nothing_is_one_of_make_quick(request: pytest.FixtureRequest):
    assert request.node.get_closest_marker("slow") is None
