import mmap
import time
from pathlib import Path

import psutil
import pytest

from study.system import memory


def write_group(folder: Path, limit: str, used: int, cached: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon {used - cached}\ninactive_file {cached - 50}\nactive_file 50\n")


def own(tmp_path: Path, line: str) -> Path:
    file = tmp_path / "cgroup"
    file.write_text(f"4:cpu:/elsewhere\n{line}\n")
    return file


def test_a_job_has_the_limits_of_all_groups_that_it_is_in(tmp_path: Path):
    root = tmp_path / "root"
    write_group(root / "job", "5000", 3000, 1000)
    write_group(root / "job" / "step", "max", 300, 100)
    assert list(memory._limits(root, own(tmp_path, "0::/job/step"))) == [(5000, 2000)]


def test_a_container_that_sees_its_group_as_the_root_has_its_limit(tmp_path: Path):
    root = tmp_path / "root"
    write_group(root, "700", 500, 100)
    assert list(memory._limits(root, own(tmp_path, "0::/docker/a1b2"))) == [(700, 400)]


def test_a_group_of_the_first_version_has_its_limit(tmp_path: Path):
    group = tmp_path / "root" / "memory" / "job"
    group.mkdir(parents=True)
    (group / "memory.limit_in_bytes").write_text("9000\n")
    (group / "memory.usage_in_bytes").write_text("4000\n")
    (group / "memory.stat").write_text("cache 1\ntotal_inactive_file 400\ntotal_active_file 100\n")
    assert list(memory._limits(tmp_path / "root", own(tmp_path, "4:memory:/job"))) == [(9000, 3500)]


def test_where_there_are_no_groups_the_machines_memory_counts(tmp_path: Path):
    assert list(memory._limits(tmp_path, tmp_path / "none")) == []


def test_memory_that_is_taken_is_no_longer_free():
    def is_seen() -> bool:
        before = memory.free_memory()
        # Pages of its own: an allocation may reuse what this process has freed and not given back.
        with mmap.mmap(-1, 256 * 2**20) as taken:
            for page in range(0, len(taken), mmap.PAGESIZE):
                taken[page] = 1
            # The kernel's count may lag behind.
            deadline = time.monotonic() + 5
            while time.monotonic() < deadline:
                if before - memory.free_memory() > len(taken) / 2:
                    return True
                time.sleep(0.05)
        return False

    # Another process may free as much in between.
    assert any(is_seen() for _ in range(5))
    assert 0 < memory.free_memory() < memory.total_memory() <= psutil.virtual_memory().total


@pytest.mark.skipif(not memory.CGROUPS.is_dir(), reason="needs Linux's control groups")
def test_a_limit_of_this_process_is_no_more_than_the_kernel_says():
    assert all(limit > 0 and used >= 0 for limit, used in memory._limits())
