"""Compares the tables of two report folders: `python -m tests.support.compare_tables BEFORE AFTER`.

Prints each CSV file that only one of them has or whose bytes differ; the exit code is 1 where there is any.
"""

import sys
from pathlib import Path


def differences(before: Path, after: Path) -> list[str]:
    """A line for each table that differs."""
    tables = [{path.relative_to(folder): path for path in folder.rglob("*.csv")} for folder in (before, after)]
    one_sided = [
        f"{name}: only in {folder}"
        for names, other, folder in ((tables[0], tables[1], before), (tables[1], tables[0], after))
        for name in sorted(set(names) - set(other))
    ]
    both = sorted(set(tables[0]) & set(tables[1]))
    return one_sided + [
        f"{name}: differs" for name in both if tables[0][name].read_bytes() != tables[1][name].read_bytes()
    ]


if __name__ == "__main__":
    lines = differences(*map(Path, sys.argv[1:3]))
    print("\n".join(lines) or f"{len(list(Path(sys.argv[1]).rglob('*.csv')))} tables are equal.")
    sys.exit(bool(lines))
