"""A PostgreSQL of the tests' own, and new databases in it; nothing of a server that runs already is touched."""

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
"""The password in every URL; the server asks for none, but whatever prints it gives it away."""


def programs() -> Path | None:
    """The folder of initdb and pg_ctl; None where PostgreSQL is not installed."""
    # Debian keeps them off the PATH, by version.
    found = [shutil.which("initdb"), *sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)]
    return next((Path(path).resolve().parent for path in found if path), None)


@dataclass
class Cluster:
    """A PostgreSQL server with its data in `folder`, which may be stopped and started again."""

    folder: Path
    port: int
    migrated: set[str] = field(default_factory=set)
    numbers: Iterator[int] = field(default_factory=count)

    def control(self, *arguments: str) -> None:
        """Has pg_ctl do something with the server, and waits until it is done."""
        settings = f"-c listen_addresses=127.0.0.1 -c port={self.port} -c unix_socket_directories={self.folder}"
        log = str(self.folder / "log")
        _run("pg_ctl", "-D", str(self.folder / "data"), "-w", "-o", settings, "-l", log, *arguments)

    def url(self, name: str) -> str:
        """Where the database called `name` is."""
        return f"postgresql://postgres:{SECRET}@127.0.0.1:{self.port}/{name}"

    def tell(self, statement: str) -> None:
        """Has the server execute a statement that belongs to no database."""
        engine = sqlalchemy.create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text(statement))
        engine.dispose()

    def new(self, migrate: Callable[[str], None] | None = None) -> str:
        """The URL of a new database, as `migrate` makes them, which is called for the first only."""
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
        """The URL of a copy of the database at `url`, which nobody may be using."""
        return self._copied(url.rpartition("/")[2], f"study_{os.getpid()}_{next(self.numbers)}")

    def drop(self, url: str) -> None:
        """Removes the database at `url`, whoever may be using it."""
        self.tell(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")

    def _copied(self, template: str, name: str) -> str:
        self.tell(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)


def for_mlflow(url: str) -> None:
    """Makes MLflow's tables."""
    # Not by a client: it would keep a connection, and a database in use cannot be copied.
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with tempfile.TemporaryDirectory() as artifacts:
        SqlAlchemyStore(url, Path(artifacts).as_uri()).engine.dispose()


def for_optuna(url: str) -> None:
    """Makes Optuna's tables."""
    storage = optuna.storages.RDBStorage(url)
    storage.remove_session()
    storage.engine.dispose()


def _run(program: str, *arguments: str) -> None:
    folder = programs()
    assert folder
    # It refuses to work for root.
    owner: dict[str, Any] = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
    done = subprocess.run([folder / program, *arguments], cwd="/", capture_output=True, text=True, check=False, **owner)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def running_cluster(*, durable: bool = False) -> Iterator[Cluster]:
    """A new PostgreSQL, gone after the block; `durable` where what it has said is written must outlive a crash."""
    # Not pytest's own folder, which nobody but root may enter.
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
    """A new database for each of the two stores; they cannot share one."""

    tracking: str
    storage: str


@pytest.fixture
def databases(postgres: Cluster) -> Databases:
    return Databases(postgres.new(for_mlflow), postgres.new(for_optuna))
