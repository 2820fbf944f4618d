"""A temporary PostgreSQL server for the tests, and databases in it; running servers are not touched."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy

SECRET = "not-to-be-shown"
"""Password in every URL, which must never be printed; the server does not ask for it."""


def programs() -> Path | None:
    """The folder of initdb and pg_ctl; None where PostgreSQL is not installed."""
    # Debian installs them outside of the PATH, by version.
    candidates = [shutil.which("initdb"), *sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)]
    return next((Path(path).resolve().parent for path in candidates if path), None)


@dataclass
class Cluster:
    """A PostgreSQL server with its data in `folder`, which may be stopped and started again."""

    folder: Path
    port: int
    migrated: set[str] = field(default_factory=set)
    numbers: Iterator[int] = field(default_factory=count)

    def control(self, *arguments: str) -> None:
        """Calls pg_ctl for the server, and waits until it is done."""
        settings = f"-c listen_addresses=127.0.0.1 -c port={self.port} -c unix_socket_directories={self.folder}"
        log = str(self.folder / "log")
        _run("pg_ctl", "-D", str(self.folder / "data"), "-w", "-o", settings, "-l", log, *arguments)

    def url(self, name: str) -> str:
        """URL of the database `name`."""
        return f"postgresql://postgres:{SECRET}@127.0.0.1:{self.port}/{name}"

    def tell(self, statement: str) -> None:
        """Executes a statement outside of any database."""
        engine = sqlalchemy.create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text(statement))
        engine.dispose()

    def new(self, migrate: Callable[[str], None] | None = None) -> str:
        """URL of a new database with the tables that `migrate` creates, which is called once and then copied."""
        name = f"study_{os.getpid()}_{next(self.numbers)}"
        if migrate is None:
            self.tell(f"CREATE DATABASE {name}")
            return self.url(name)
        template = f"template_{migrate.__name__}"
        if template not in self.migrated:
            self.tell(f"CREATE DATABASE {template}")
            migrate(self.url(template))
            self.migrated.add(template)
        return self._copied(template, name)

    def copy(self, url: str) -> str:
        """URL of a copy of the database at `url`, which must have no connections."""
        return self._copied(url.rpartition("/")[2], f"study_{os.getpid()}_{next(self.numbers)}")

    def drop(self, url: str) -> None:
        """Drops the database at `url`, even with open connections."""
        self.tell(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")

    def _copied(self, template: str, name: str) -> str:
        self.tell(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)


def for_mlflow(url: str) -> None:
    """Creates MLflow's tables."""
    # Without a client, which would keep a connection: a database in use cannot be copied.
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with tempfile.TemporaryDirectory() as artifacts:
        SqlAlchemyStore(url, Path(artifacts).as_uri()).engine.dispose()


def for_optuna(url: str) -> None:
    """Creates Optuna's tables."""
    storage = optuna.storages.RDBStorage(url)
    storage.remove_session()
    storage.engine.dispose()


def _run(program: str, *arguments: str) -> None:
    folder = programs()
    assert folder
    # PostgreSQL refuses to run as root.
    owner: dict[str, Any] = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
    done = subprocess.run([folder / program, *arguments], cwd="/", capture_output=True, text=True, check=False, **owner)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)


def _free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


@contextmanager
def running_cluster(*, durable: bool = False) -> Iterator[Cluster]:
    """A temporary PostgreSQL server; `durable` where acknowledged writes must survive a crash."""
    # Not in pytest's folder, which only its owner may enter.
    folder = Path(tempfile.mkdtemp(prefix="study-pg-"))
    if os.getuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    cluster = Cluster(folder, _free_port())
    try:
        _run("initdb", "-D", str(folder / "data"), "-U", "postgres", "--auth=trust", "--no-sync", "-E", "UTF8")
        if not durable:
            with (folder / "data" / "postgresql.conf").open("a") as settings:
                settings.write("fsync = off\nsynchronous_commit = off\nfull_page_writes = off\n")
        cluster.control("start")
        try:
            yield cluster
        finally:
            cluster.control("stop", "-m", "immediate")
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    if programs() is None:
        reason = "PostgreSQL is not installed (its initdb was not found)"
        if "postgresql" in os.environ.get("STUDY_TEST_REQUIRE", ""):
            pytest.fail(reason)
        pytest.skip(reason)
    with running_cluster() as cluster:
        yield cluster


@dataclass(frozen=True)
class Databases:
    """URLs of two new databases, one per store; the stores cannot share one."""

    tracking: str
    storage: str


@pytest.fixture
def databases(postgres: Cluster) -> Databases:
    return Databases(postgres.new(for_mlflow), postgres.new(for_optuna))
