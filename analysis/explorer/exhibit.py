"""The report's exhibit of the explorer: its caption, and the page explorer.html."""

from collections.abc import Sequence

from analysis.exhibit import Exhibit
from analysis.explorer import page


def show(
    trace: page.Trace, pictures: Sequence[page.Picture], classes: Sequence[str], *, title: str, start: tuple[str, int]
) -> Exhibit:
    """The explorer as an exhibit; arguments and ValueError as in `page.page`."""
    return Exhibit(
        "explorer",
        "The explorer: every filter over the epochs",
        page.caption(trace),
        note=page.note(trace),
        link=("The explorer: explorer.html, beside this page", "explorer.html"),
        files={"explorer.html": page.page(trace, pictures, classes, title=title, start=start)},
    )
