"""The changes of a page that says how to add something: blocks in the form of a diff, below the name of the file."""

import re
from pathlib import Path

DIFF = re.compile(r"^```diff\n# (\S+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def changes(page: Path) -> list[tuple[str, str, str]]:
    """The file, the text before and the text after each change."""
    return [(file, _side(block, "-"), _side(block, "+")) for file, block in DIFF.findall(page.read_text())]


def _side(block: str, sign: str) -> str:
    return "".join(line[1:] or "\n" for line in block.splitlines(keepends=True) if line[0] in (" ", sign, "\n"))


def apply(page: Path, root: Path) -> None:
    """Makes the changes of the page in the tree at `root`, each at the one place that has the text before."""
    for name, before, after in changes(page):
        text = (root / name).read_text()
        assert text.count(before) == 1, (name, before)
        (root / name).write_text(text.replace(before, after))
