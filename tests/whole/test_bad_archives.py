"""Any archive is imported whole, or refused in one sentence and nothing is written.

They begin as real ones. What is changed is chosen by chance: bytes, whole files, entries of a zip, or single values
of the manifest and of the databases, with hashes that fit, so that what reads them meets them.
"""

import contextlib
import json
import random
import shutil
import sqlite3
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import event, given, note
from hypothesis import strategies as st

from pipelines.upkeep.export import export
from study.home import Home
from tests.conftest import Finished
from tests.pipelines.upkeep.test_import_ import packed, summed
from tests.support.process import study_here
from tests.support.refusal import IS_LONG, assert_refused_or_done, cases, contents

ODD: list[Any] = [
    None, True, 0, -1, 1.5, 2**63, -(2**63), 10**400, 1e308, "", " ", "nan", "inf", "../../x", "/etc/passwd", "a/b",
    "a\nb", "\0", "\x1b[31m", "\ud800", "'", "' or '1'='1", "%s", "{}", "<script>", "x" * 9000, "best", "٣",
    "2026-01-01T00:00:00", [], {}, [[]], {"": None}, [1, "x"], {"name": "os.system"},
]  # fmt: skip
USES = (
    ("runs", "--stage", "trial"),
    ("analyse", "--run", "best:ffnn", "--only", "table2,search_heatmap,search_importance,convergence"),
    ("retrain", "--model", "ffnn", "--epochs", "1"),
)
"""What reads all that was imported; it takes seconds, and is done in the long run alone."""
HOW = ("value", "value", "value", "value", "text", "random", "cut", "flipped", "gone", "more", "swapped", "zip")


@pytest.fixture(scope="module")
def exported(finished_study: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "study"
    export(folder, finished_study.context, searches=["digits-ffnn"], datasets=[], runs=[])
    return folder


@pytest.mark.filterwarnings("ignore:Duplicate name")
@given(how=st.sampled_from(HOW), fits=st.booleans(), zipped=st.booleans(), seed=st.integers(0, 2**32))
@cases(short=40, long=600)
def test_any_archive_is_imported_whole_or_refused_and_nothing_is_written(
    how: str, fits: bool, zipped: bool, seed: int, exported: Path
) -> None:
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        source = Path(shutil.copytree(exported, Path(name) / "study"))
        changed = "" if how == "zip" else _change(source, how, chance)
        if fits or how == "value":
            summed(source)
        if zipped or how == "zip":
            source = packed(source, Path(name) / "study.zip")
        if how == "zip":
            _spoil_zip(source, chance)
        home = Home(root=Path(name) / "home")
        home.root.mkdir()
        before, around = contents(home.root), _files(Path(name))
        ended = study_here("import", str(source), home=home.root)
        case = f"{how}: {changed}"
        note(case)
        assert ended.code in (0, 2), (case, ended)
        assert_refused_or_done(ended, before, home.root)
        assert not list(home.root.glob(".import.*.part")), case
        event(f"{how}: exit code {ended.code}")
        if ended.code == 2:
            assert _files(Path(name)) == around, case
            return
        # Where hashes fit what was made up, values may contradict each other, and it is `study doctor` that says so.
        doctor = study_here("doctor", home=home.root)
        is_altered = how == "value" or "/artifacts/" in changed
        assert doctor.code == 0 or (doctor.code == 1 and is_altered), (case, doctor)
        for typed in USES if IS_LONG else ():
            used = study_here(*typed, home=home.root)
            assert "Traceback" not in used.err + used.out, (case, typed, used)
            assert used.code in (0, 1, 2), (case, typed, used)


def _files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.name not in ("mlflow.db-wal", "mlflow.db-shm")}


def _change(folder: Path, how: str, chance: random.Random) -> str:
    """Changes one file; what was done to which."""
    records = [folder / "study.json", *[folder / "mlflow.db", folder / "optuna.db"] * 5]
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    file = chance.choice(records if how == "value" else files)
    content = file.read_bytes()
    name = str(file.relative_to(folder))
    if how == "value" and file.suffix == ".db":
        name += _change_row(file, chance)
    elif how == "value":
        record = json.loads(content)
        name += _change_value(record, chance)
        file.write_text(json.dumps(record))
    elif how == "text":
        file.write_text("a shopping list\n" * chance.randrange(400))
    elif how == "random":
        file.write_bytes(chance.randbytes(chance.randrange(20_000)))
    elif how == "cut":
        file.write_bytes(content[: chance.randrange(len(content) + 1)])
    elif how == "flipped":
        file.write_bytes(_flipped(content, chance))
    elif how == "gone":
        file.unlink()
    elif how == "more":
        file.with_name(f"{file.name}.more").write_bytes(content)
    else:
        other = chance.choice(files)
        name += f" and {other.relative_to(folder)}"
        file.write_bytes(other.read_bytes())
        other.write_bytes(content)
    return name


def _change_row(file: Path, chance: random.Random) -> str:
    """Changes a value somewhere in the database `file`, or deletes its row; where, and to what."""
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        names = database.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
        filled = [name for (name,) in names if database.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]]
        table = chance.choice(filled)
        column = chance.choice(database.execute(f'PRAGMA table_info("{table}")').fetchall())[1]
        row = chance.choice(database.execute(f'SELECT rowid FROM "{table}"').fetchall())[0]
        if chance.random() < 0.1:
            database.execute(f'DELETE FROM "{table}" WHERE rowid = ?', (row,))
            return f": row {row} of {table} is gone"
        value = chance.choice([odd for odd in ODD if odd is None or isinstance(odd, int | float | str)])
        value = str(value) if value in (10**400, 2**63) or value == "\ud800" else value
        with contextlib.suppress(sqlite3.Error, UnicodeError):  # what the table itself refuses stays as it was
            database.execute(f'UPDATE "{table}" SET "{column}" = ? WHERE rowid = ?', (value, row))
        return f": {table}.{column} of row {row} is {str(value)[:40]!r}"


def _change_value(record: Any, chance: random.Random) -> str:
    """Changes a value somewhere in `record`, or its name, or has it gone; where, and to what."""
    path = ""
    while True:
        keys = list(record) if isinstance(record, dict) else list(range(len(record)))
        key = chance.choice(keys)
        path += f"[{key!r}]"
        inside = record[key]
        if not (isinstance(inside, dict | list) and inside) or chance.random() < 0.1:
            break
        record = inside
    what = chance.random()
    if what < 0.1:
        del record[key]
        return f"{path} is gone"
    if what < 0.2 and isinstance(record, dict):
        name = chance.choice([odd for odd in ODD if isinstance(odd, str)])
        record[name] = record.pop(key)
        return f"{path} is named {name[:40]!r}"
    if what < 0.25 and isinstance(record, list):
        record.append(inside)
        return f"{path} is there twice"
    record[key] = chance.choice(ODD)
    return f"{path} is {str(record[key])[:40]!r}"


def _flipped(content: bytes, chance: random.Random) -> bytes:
    spoilt = bytearray(content or b"x")
    for _ in range(chance.randrange(1, 50)):
        spoilt[chance.randrange(len(spoilt))] = chance.randrange(256)
    return bytes(spoilt)


def _spoil_zip(file: Path, chance: random.Random) -> None:
    content = file.read_bytes()
    # What names the entries is at the end, and little of it all.
    start = chance.choice([0, len(content) - 4000])
    how = chance.random()
    if how < 0.3:
        file.write_bytes(content[: chance.randrange(start, len(content))])
    elif how < 0.8:
        file.write_bytes(content[:start] + _flipped(content[start:], chance))
    else:
        with zipfile.ZipFile(file, "a") as opened:
            names = [str(odd) for odd in ODD if isinstance(odd, str) and odd.isascii()]
            opened.writestr(chance.choice([*opened.namelist(), *names]) or "x", chance.randbytes(50))
