"""How much memory is free: that of the machine, or of the container or job that this process is in."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

CGROUPS = Path("/sys/fs/cgroup")
"""Where Linux shows the limits of containers and jobs."""
VERSIONS = {
    "": ("", "memory.max", "memory.current", ""),
    "memory": ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
}
"""Of both versions of cgroups, by their controllers: the folder, the files of the limit and the use, and the prefix of
what `memory.stat` says of a group with those below it."""
CACHED = ("active_file", "inactive_file")
"""What is used for cached files, which the kernel gives back."""


def free_memory() -> int:
    """Bytes that this process can still allocate."""
    return min([_machine().available, *(limit - used for limit, used in _limits())])


def total_memory() -> int:
    """Bytes that there are for this process and those that it shares them with."""
    return min([_machine().total, *(limit for limit, _ in _limits())])


def _machine() -> Any:
    # Here, so that a GPU's benchmark can be timed where torch is, and psutil is not.
    import psutil

    return psutil.virtual_memory()


def _limits(root: Path = CGROUPS, own: Path = Path("/proc/self/cgroup")) -> Iterator[tuple[int, int]]:
    """The limit and the use, in bytes, of each control group with a limit that this process is in."""
    try:
        lines = own.read_text().splitlines()
    except OSError:  # not Linux
        return
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if controllers not in VERSIONS:
            continue
        folder, *names = VERSIONS[controllers]
        group = root / folder / path.lstrip("/")
        # A container sees its own group as the root; the path that it is told may not exist there.
        for place in {group, *group.parents} if group.is_dir() else {root / folder}:
            try:
                yield _limit(place, *names)
            except (OSError, ValueError, KeyError):  # no such group, or none with a limit
                continue


def _limit(group: Path, limit: str, used: str, prefix: str) -> tuple[int, int]:
    statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    cached = sum(int(statistics[prefix + name]) for name in CACHED)
    return int((group / limit).read_text()), int((group / used).read_text()) - cached
