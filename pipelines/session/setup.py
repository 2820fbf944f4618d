"""The home, the stores and the context of a command, from its options."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.session.engine import LOCAL, EngineConfig
from study.errors import StudyError
from study.home import Home, default_home
from study.system import interruption

if TYPE_CHECKING:
    from pipelines.session.context import Context, Stores
    from study.tracking.store import Store

MLFLOW_PORT, OPTUNA_PORT = 5000, 8080
"""Default ports of `study ui`: of MLflow's pages, and of optuna-dashboard's."""


def home_of(folder: str) -> Home:
    """The home that the option --home names; prints a default home that is the current folder."""
    if folder:
        return Home(root=Path(folder).expanduser().resolve())
    home = default_home()
    if home.root == Path.cwd() and not (home.root / "pyproject.toml").is_file():
        from pipelines.session.lines import say

        say(f"mlruns/, reports/ and data/ are kept in {home.root} (STUDY_HOME chooses another folder).", sys.stderr)
    return home


def store_of(home: str, uri: str) -> "Store":
    """The tracking store that the options --home and --tracking-uri name."""
    from study.tracking.store import Store

    interruption.check()
    return Store(home_of(home), uri or None)


def stores_of(home: Home, uri: str, storage: str = "", is_quiet: bool = False) -> "Stores":
    """Both stores of `home`, from the options that name them, and a display, which may be quiet; imports no torch.

    Raises:
        StudyError: where one database would hold both.
    """
    from pipelines.session.context import Stores
    from pipelines.session.display import Display
    from study.home import SQLITE
    from study.system.databases import OF_SEARCHES, require_database
    from study.tracking.store import Store

    uri, storage = uri or home.tracking_uri, storage or home.storage_url
    require_apart(uri, storage)
    interruption.check()
    store = Store(home, uri)
    if not storage.startswith(SQLITE):
        # Before anything waits for it: an address that does not answer at first is more likely misspelt.
        require_database(storage, *OF_SEARCHES)
    return Stores(home, store, storage, display=Display(is_quiet))


def context_of(
    home: Home,
    uri: str,
    storage: str = "",
    device: str = "cpu",
    precision: str = "float32",
    threads: int = 0,
    is_quiet: bool = False,
    engine: EngineConfig = LOCAL,
) -> "Context":
    """The context of a stage in `home`, from the other options of the command; see `stores_of`.

    Raises:
        StudyError: where one database would hold both stores, or a cluster cannot be used.
    """
    from pipelines.session.context import Context
    from study.device import prepare

    on_cluster = engine.name == "ray"
    machine = prepare("cpu" if on_cluster else device, "float32" if on_cluster else precision, threads)
    stores = stores_of(home, uri, storage, is_quiet)
    cluster = None
    if on_cluster:
        from pipelines.session.cluster import Cluster
        from pipelines.session.node import request_of

        cluster = Cluster(engine, request_of(engine, device, precision, threads), stores.display.say)
        machine = cluster.machine
    return Context(home, stores.store, stores.storage, machine, display=stores.display, cluster=cluster)


def require_apart(uri: str, storage: str) -> None:
    """Checks that the two stores are different databases.

    Raises:
        StudyError: where one database would hold both.
    """
    from study.system.databases import are_same

    if are_same(storage, uri):
        raise StudyError(
            f"{storage} cannot hold both MLflow's runs and Optuna's trials: give --storage another database."
        )
