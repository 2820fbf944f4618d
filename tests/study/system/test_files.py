import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from study.errors import StudyError
from study.home import Home
from study.system.files import atomic_write, locked, remove_unfinished, sha256, within


def test_a_file_is_there_when_it_is_whole_and_nothing_is_beside_it(tmp_path: Path):
    path = tmp_path / "new" / "a.txt"
    with atomic_write(path) as file:
        file.write_text("half")
        assert not path.exists()
        file.write_text("whole")
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_what_stops_the_writing_leaves_what_was_there(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_text("before")
    with pytest.raises(UnicodeEncodeError), atomic_write(path) as file:
        file.write_text("half" + "\ud800")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path):
    code = (
        "import os, signal, sys; from pathlib import Path; from study.system.files import atomic_write\n"
        "with atomic_write(Path(sys.argv[1])) as file:\n"
        "    file.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code, tmp_path / "a.txt"], check=False)
    assert killed.returncode == -signal.SIGKILL
    [left] = tmp_path.iterdir()
    assert (left.name, left.read_text()) == (f".a.txt.{_pid(left)}@{socket.gethostname()}.part", "half")
    with atomic_write(tmp_path / "b.txt") as file:
        file.write_text("half")
        remove_unfinished(tmp_path)
        assert [_pid(path) for path in tmp_path.iterdir()] == [os.getpid()]
    assert (tmp_path / "b.txt").read_text() == "half"


def _pid(file: Path) -> int:
    return int(file.name.split("@")[0].rpartition(".")[2])


@pytest.mark.parametrize("name", ["../a", "a/../../b", "/etc/passwd", ".."])
def test_a_name_that_leads_out_of_its_folder_is_refused(name: str, tmp_path: Path):
    with pytest.raises(StudyError, match="leads out of"):
        within(tmp_path / "folder", name)


def test_a_link_that_leads_out_of_its_folder_is_refused(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "link").symlink_to(tmp_path)
    with pytest.raises(StudyError, match="leads out of"):
        within(tmp_path / "folder", "link/a")
    assert within(tmp_path / "folder", "deep/../a") == tmp_path / "folder" / "deep" / ".." / "a"


def test_a_hash_is_that_of_sha256sum(tmp_path: Path):
    (tmp_path / "a").write_bytes(bytes(range(256)) * 5000)
    printed = subprocess.run(["sha256sum", tmp_path / "a"], check=True, capture_output=True, text=True).stdout
    assert sha256(tmp_path / "a") == printed.split()[0]


def test_a_home_that_cannot_be_written_is_refused_with_what_to_do(tmp_path: Path):
    (tmp_path / "mlruns").write_bytes(b"")
    with (
        pytest.raises(StudyError, match=r"mlruns cannot be written \(File exists\).*another --home"),
        locked(Home(root=tmp_path)),
    ):
        pass
