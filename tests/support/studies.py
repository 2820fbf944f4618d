"""Fixtures that tests share: stores, a finished study, the machine, a browser."""

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
import pytest
import torch
from mlflow.store.db import utils as mlflow_utils
from optuna.storages._rdb.storage import _VersionManager

from pipelines.retrain import retrain
from pipelines.session.context import Context
from pipelines.session.display import Display
from pipelines.tune import tune
from study.architectures import CNNConfig, FFNNConfig
from study.config import DataConfig, SearchConfig
from study.data import Dataset, Labelled, load_dataset
from study.device import Machine, prepare
from study.home import Home
from study.ranges import Range
from study.tracking import best
from study.tracking.store import Store

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

DIGITS = DataConfig(dataset="digits")
pytest_plugins = ("tests.support.postgres", "tests.support.server")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")


@pytest.fixture(autouse=True, scope="session")
def migrations_read_once() -> Iterator[None]:
    """MLflow and Optuna import all migrations whenever they open a database, only to name the latest: here, once."""
    latest: dict[str, str] = {}

    def once(read: Callable[..., str]) -> Callable[..., str]:
        return lambda *arguments: latest.get(read.__module__) or latest.setdefault(read.__module__, read(*arguments))

    patch = pytest.MonkeyPatch()
    for owner, name in ((mlflow_utils, "_get_latest_schema_revision"), (_VersionManager, "get_head_version")):
        patch.setattr(owner, name, once(getattr(owner, name)))
    yield
    patch.undo()


@pytest.fixture(scope="session")
def machine() -> Machine:
    # One thread: networks this small wait for a second one longer than it saves.
    return prepare("cpu", "float32", threads=1)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Twelve training and four test images of each of the ten digits."""
    digits = load_dataset(DIGITS, Home(root=tmp_path_factory.mktemp("digits")))
    return replace(digits, train=first_of_each_class(digits.train, 12), test=first_of_each_class(digits.test, 4))


def first_of_each_class(images: Labelled, count: int) -> Labelled:
    members = [torch.nonzero(images.labels == label).flatten()[:count] for label in images.labels.unique()]
    return images.subset(torch.cat(members).sort().values)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Both databases, new: making them takes seconds, so that each test gets a copy."""
    home = Home(root=tmp_path_factory.mktemp("migrated"))
    Store(home)
    optuna.storages.RDBStorage(home.storage_url)
    return home


def copy_of(migrated: Home, root: Path) -> Home:
    home = Home(root=root)
    home.store.mkdir(parents=True)
    for name in ("mlflow.db", "optuna.db"):
        # A plain copy would miss what SQLite still holds in its write-ahead log.
        source, target = sqlite3.connect(migrated.store / name), sqlite3.connect(home.store / name)
        source.backup(target)
        source.close()
        target.close()
    return home


@pytest.fixture
def home(migrated: Home, tmp_path: Path) -> Home:
    return copy_of(migrated, tmp_path / "home")


@pytest.fixture
def other_home(migrated: Home, tmp_path: Path) -> Home:
    return copy_of(migrated, tmp_path / "other home")


@pytest.fixture
def store(home: Home) -> Store:
    return Store(home)


def surroundings(home: Home, machine: Machine) -> Context:
    return Context(home, Store(home), home.storage_url, machine, display=Display())


@pytest.fixture
def context(home: Home, machine: Machine) -> Context:
    return surroundings(home, machine)


@dataclass(frozen=True)
class Finished:
    """Both models searched and their best retrained: to be read, and not changed."""

    context: Context
    dataset: Dataset
    searches: dict[str, SearchConfig]
    parents: dict[str, str]
    """The search's run, by model."""
    retrained: dict[str, str]
    """The retrained run, by model."""


@pytest.fixture(scope="session")
def finished_study(
    migrated: Home, machine: Machine, tiny: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Finished:
    context = surroundings(copy_of(migrated, tmp_path_factory.mktemp("finished") / "home"), machine)
    parents, retrained = {}, {}
    searches = {
        model.name: SearchConfig(
            name=f"digits-{model.name}",
            model=model,
            trials=3,
            epochs=2,
            batch_size=30,
            learning_rate=Range(low=1e-3, high=1e-2),
        )
        for model in (CNNConfig(filters=(4, 6)), FFNNConfig(hidden=8))
    }
    for name, config in searches.items():
        parents[name] = tune(config, tiny, context)
        trial = best.best_trial(context.store, tiny.key, name)
        retrained[name] = retrain(trial, tiny, context, epochs=2)
    return Finished(context, tiny, searches, parents, retrained)


CHROMIUM_OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1500,1000",
    # The server of docs/team.md by its name.
    "--host-resolver-rules=MAP server.example 127.0.0.1",
)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Chrome"]:
    # Here, so that the tests that need no browser run where selenium is not installed.
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        reason = "Chromium and its chromedriver are not installed"
        if "chromium" in os.environ.get("STUDY_TEST_REQUIRE", ""):
            pytest.fail(reason)
        pytest.skip(reason)
    options = ChromeOptions()
    options.binary_location = chromium
    for option in (*CHROMIUM_OPTIONS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(option)
    opened = Chrome(options=options, service=ChromeService(driver))
    yield opened
    opened.quit()
