import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from study.errors import StudyError
from study.system.backups import back_up, damage


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "some.db"
    with closing(sqlite3.connect(path)) as opened, opened:
        opened.execute("CREATE TABLE numbers (number INTEGER)")
        opened.executemany("INSERT INTO numbers VALUES (?)", [(number,) for number in range(5000)])
    return path


def url(path: Path) -> str:
    return f"sqlite:///{path}"


def test_a_whole_database_has_no_damage(database: Path):
    assert damage(url(database)) == ""


def test_a_cut_or_overwritten_database_is_damaged(database: Path):
    whole = database.read_bytes()
    database.write_bytes(whole[: len(whole) // 2])
    assert damage(url(database))
    database.write_bytes(b"no database at all" * 500)
    assert "not a database" in damage(url(database))


def test_a_locked_database_is_not_called_damaged(database: Path, monkeypatch: pytest.MonkeyPatch):
    at_once = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda path: at_once(path, timeout=0))
    with closing(at_once(database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StudyError, match=r"some\.db is locked by another process"):
            damage(url(database))


def test_a_database_that_cannot_be_opened_is_not_called_damaged(database: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(path: Path) -> sqlite3.Connection:
        # As where its folder cannot be written, and the journal of an earlier process lies there.
        return sqlite3.Connection(f"file:{path}.missing?mode=ro", uri=True)

    monkeypatch.setattr(sqlite3, "connect", refuse)
    with pytest.raises(StudyError, match=r"some\.db cannot be written \(unable to open database file\)"):
        damage(url(database))


def test_a_copy_holds_what_the_database_does(database: Path, tmp_path: Path):
    back_up({"copied": url(database)}, tmp_path / "backup")
    with closing(sqlite3.connect(tmp_path / "backup" / "copied.db")) as copied:
        assert copied.execute("SELECT count(*) FROM numbers").fetchone() == (5000,)
