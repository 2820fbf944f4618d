"""Backups of databases, consistent copies of SQLite's, and integrity checks."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy.engine import make_url

from study.errors import StudyError
from study.home import SQLITE
from study.system import interruption
from study.system.faults import explanation
from study.system.files import atomic_write
from study.system.redaction import masked

DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
"""SQLite's error codes for a damaged database."""


def back_up(databases: Mapping[str, str], folder: Path) -> None:
    """Backs up databases to `folder`: SQLite as files, PostgreSQL with pg_dump.

    Args:
        databases: their URLs, by the names of the backup files without extension.
        folder: a new folder, which is created.

    Raises:
        StudyError: if the folder cannot be written, or a database cannot be backed up.
    """
    try:
        folder.mkdir(parents=True)
        for name, url in databases.items():
            if url.startswith(SQLITE):
                copy_database(url, folder / f"{name}.db")
            else:
                _dump(url, folder / f"{name}.dump")
    except (OSError, sqlite3.Error) as error:
        raise StudyError(f"The backup {folder} cannot be written ({error}): nothing was changed.") from None


def copy_database(url: str, target: Path) -> None:
    """Copies the SQLite database at `url` to the file `target`, also while others use it."""
    # A plain copy of the file would miss SQLite's write-ahead log.
    with (
        atomic_write(target) as file,
        contextlib.closing(sqlite3.connect(url.removeprefix(SQLITE))) as original,
        contextlib.closing(sqlite3.connect(file)) as copy,
    ):
        original.backup(copy)


def _dump(url: str, target: Path) -> None:
    program = shutil.which("pg_dump") if url.startswith("postgresql") else None
    if program is None:
        raise StudyError(
            f"There is no pg_dump here that could back up {masked(url)}: back it up yourself, then give --no-backup."
        )
    parsed = make_url(url)
    # The password is no argument, since all users can see those. pg_dump does not know SQLAlchemy's driver names.
    address = parsed.set(drivername="postgresql", password=None).render_as_string(hide_password=False)
    secret = {"PGPASSWORD": str(parsed.password)} if parsed.password else {}
    with atomic_write(target) as file:
        command = [program, "-Fc", "-f", str(file), "-d", address]
        with subprocess.Popen(command, env={**os.environ, **secret}, stderr=subprocess.PIPE, text=True) as process:
            try:
                _, errors = interruption.in_thread(process.communicate)
            finally:
                process.kill()
        if process.returncode:
            reason = masked((errors.strip().splitlines() or ["no reason given"])[-1])
            raise StudyError(
                f"pg_dump could not back up {masked(url)} ({reason}): back it up yourself, then give --no-backup."
            )


def damage(url: str) -> str:
    """Damage that SQLite's integrity check finds in the database at `url`; empty for an intact, new or other database.

    Raises:
        StudyError: if it cannot be checked, since it is locked or cannot be opened.
    """
    path = Path(url.removeprefix(SQLITE))
    if not url.startswith(SQLITE) or not path.is_file():
        return ""
    try:
        with contextlib.closing(sqlite3.connect(path)) as database:
            findings = [str(row[0]) for row in database.execute("PRAGMA integrity_check(3)")]
    except sqlite3.Error as error:
        # The lowest byte is the primary error code.
        if error.sqlite_errorcode & 0xFF in DAMAGED:
            return str(error)
        raise explanation(error, url) or error from error
    return "" if findings == ["ok"] else " ".join("; ".join(findings).split())
