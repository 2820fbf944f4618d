"""The report page: one HTML file with its style, its figures and its script, from the template page.html."""

import math
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real

import pandas as pd
from markupsafe import Markup, escape

from analysis.drawing.templates import templates

DOTS, PAGE_PIXELS = 150, 100
"""Of an inch of a figure: dots in the PNG, pixels on the page."""
LONG_NOTE = 160
"""Characters beyond which a note is folded up: more than two lines of the page."""


@dataclass(frozen=True)
class Section:
    """One question of the page, with what answers it."""

    heading: str
    text: str
    """What is shown, in one sentence, from the numbers."""
    table: pd.DataFrame | None = None
    png: bytes | None = None
    """The figure, embedded in the page."""
    alt: str = ""
    """The figure in words, for who cannot see it."""
    csv: str | None = None
    """The numbers behind it: a file name relative to the page."""
    gif: bytes | None = None
    """An animation, embedded in the page; `alt` says what it shows too."""
    link: tuple[str, str] | None = None
    """Words, and the address that they lead to."""
    points: Sequence[str] = ()
    """What else the numbers say, a sentence each."""
    note: str = ""
    """How it is to be read, or was made."""


def page(
    title: str,
    lead: str,
    parts: Mapping[str, Sequence[Section]],
    *,
    facts: Mapping[str, str] | None = None,
    links: Mapping[str, str] | None = None,
    notices: Sequence[str] = (),
) -> str:
    """A complete HTML page that fetches nothing. All text is escaped; `backticks` mark code.

    Args:
        title: the heading of the page.
        lead: the answer in a sentence.
        parts: the sections of each part, by its heading; the headings are the table of contents.
        facts: how the page was made, label → value; at its end.
        links: words → address, beside the table of contents.
        notices: what is missing or needs explaining, above the contents.
    """
    template = templates(
        base64=lambda content: b64encode(content).decode(),
        cell=_cell,
        numeric=lambda table: [pd.api.types.is_numeric_dtype(kind) for kind in table.dtypes],
        page_width=_page_width,
        prose=_prose,
    ).get_template("page.html")
    return template.render(
        title=title,
        lead=lead,
        parts=parts,
        facts=facts or {},
        links=links or {},
        notices=notices,
        long_note=LONG_NOTE,
    )


def _prose(text: str) -> Markup:
    """The text, escaped, with what stands between `backticks` as code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _page_width(png: bytes) -> int:
    """The width at `PAGE_PIXELS` to the inch, so that text is as large in a small figure as in a wide one."""
    # PNG's first chunk, the header, starts with the width.
    return int.from_bytes(png[16:20], "big") * PAGE_PIXELS // DOTS


def _cell(value: object) -> str:
    """A value of a table as people read it: numbers with three decimals or digits, NaN as a dash."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return str(value)
    if isinstance(value, Integral):
        return f"{int(value):,}"
    number = float(value)
    if math.isnan(number):
        return "–"
    return f"{number:.3f}" if number == 0 or 1e-3 <= abs(number) < 1e4 else f"{number:.3g}"
