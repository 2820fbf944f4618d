"""Copies of the two databases, before anything in them is changed; and whether they are whole."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy.engine import make_url

from study.errors import StudyError
from study.system import interruption
from study.system.faults import explanation
from study.system.files import SQLITE, whole
from study.system.redaction import masked


def back_up(databases: Mapping[str, str], folder: Path) -> None:
    """Copies databases to `folder`: SQLite's as files, PostgreSQL's by pg_dump, as the user's own would.

    Args:
        databases: their URLs, by the names that the copies have without an ending.
        folder: made, and new.

    Raises:
        StudyError: where it cannot be written, or there is no way to copy one.
    """
    try:
        folder.mkdir(parents=True)
        for name, url in databases.items():
            if url.startswith(SQLITE):
                _copy(Path(url.removeprefix(SQLITE)), folder / f"{name}.db")
            else:
                _dump(url, folder / f"{name}.dump")
    except (OSError, sqlite3.Error) as error:
        raise StudyError(f"The backup {folder} cannot be written ({error}): nothing was changed.") from None


def _copy(source: Path, target: Path) -> None:
    # A plain copy would miss what SQLite still holds in its write-ahead log.
    with (
        whole(target) as file,
        contextlib.closing(sqlite3.connect(source)) as one,
        contextlib.closing(sqlite3.connect(file)) as other,
    ):
        one.backup(other)


def _dump(url: str, target: Path) -> None:
    program = shutil.which("pg_dump") if url.startswith("postgresql") else None
    if program is None:
        raise StudyError(
            f"There is no pg_dump here that could back up {masked(url)}: back it up yourself, then give --no-backup."
        )
    parsed = make_url(url)
    # Not as an argument: those of a process are for all to see. And what SQLAlchemy calls the driver is not pg_dump's.
    address = parsed.set(drivername="postgresql", password=None).render_as_string(hide_password=False)
    secret = {"PGPASSWORD": str(parsed.password)} if parsed.password else {}
    with whole(target) as file:
        command = [program, "-Fc", "-f", str(file), "-d", address]
        with subprocess.Popen(command, env={**os.environ, **secret}, stderr=subprocess.PIPE, text=True) as process:
            try:
                _, errors = interruption.in_thread(process.communicate)
            finally:
                process.kill()
        if process.returncode:
            said = masked((errors.strip().splitlines() or ["no reason given"])[-1])
            raise StudyError(
                f"pg_dump could not back up {masked(url)} ({said}): back it up yourself, then give --no-backup."
            )


DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
"""What SQLite answers of a database that is not whole; all else, such as one that is locked, is no damage."""


def damage(url: str) -> str:
    """What SQLite's own check finds wrong with the database at `url`; empty where it is whole, new or another's.

    Raises:
        StudyError: where it cannot be looked at: it is locked, or cannot be opened.
    """
    path = Path(url.removeprefix(SQLITE))
    if not url.startswith(SQLITE) or not path.is_file():
        return ""
    try:
        with contextlib.closing(sqlite3.connect(path)) as database:
            said = [str(row[0]) for row in database.execute("PRAGMA integrity_check(3)")]
    except sqlite3.Error as error:
        # The lowest byte is the kind; the rest says where it was met.
        if error.sqlite_errorcode & 0xFF in DAMAGED:
            return str(error)
        raise explanation(error, url) or error from error
    return "" if said == ["ok"] else " ".join("; ".join(said).split())
