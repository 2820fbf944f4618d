"""The report page: one HTML file with its style, figures and script, from the template page.html."""

import io
import math
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real

import pandas as pd
from markupsafe import Markup, escape
from PIL import Image

from analysis.drawing.style import DOTS_PER_INCH, PAGE_PIXELS
from analysis.drawing.templates import templates
from analysis.drawing.wording import column_title

PHOTOGRAPH = 20_000
"""Number of colours from which a picture counts as a photograph."""
LONG_NOTE = 160
"""Length in characters above which a note is collapsed: about two lines of the page."""


@dataclass(frozen=True)
class Section:
    """A section of the page: one question and its answer."""

    heading: str
    text: str
    """The result in one sentence, computed from the numbers."""
    table: pd.DataFrame | None = None
    png: bytes | None = None
    """The figure, embedded in the page; of an animation, a frame of it."""
    alt: str = ""
    """Alternative text: the figure in words, for screen readers."""
    csv: str | None = None
    """The file of the numbers, relative to the page."""
    gif: str | None = None
    """The file of the animation, relative to the page; it takes the place of its frame when it comes into view."""
    link: tuple[str, str] | None = None
    """The link's text and address."""
    points: Sequence[str] = ()
    """Further results, one sentence each."""
    note: str = ""
    """How to read it, or how it was computed."""
    narrow: tuple[str, bytes] | None = None
    """The figure for narrow screens: its file, relative to the page, and the picture, which is not embedded."""
    narrow_gif: str | None = None
    """The file of the animation for narrow screens."""


def page(
    title: str,
    lead: str,
    parts: Mapping[str, Sequence[Section]],
    *,
    facts: Mapping[str, str] | None = None,
    links: Mapping[str, str] | None = None,
    notices: Sequence[str] = (),
) -> str:
    """A self-contained HTML page. All text is escaped; `backticks` mark code.

    Args:
        title: the heading of the page.
        lead: the answer in one sentence.
        parts: the sections of each part, by its heading; the headings are the table of contents.
        facts: how the page was produced, label → value; shown at its end.
        links: text → address; shown beside the table of contents.
        notices: what is missing or needs explaining; shown above the table of contents.
    """
    template = templates(
        cell=_cell,
        column_title=column_title,
        data_url=data_url,
        numeric=lambda table: [pd.api.types.is_numeric_dtype(kind) for kind in table.dtypes],
        page_size=_page_size,
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
    """The text, escaped, with the parts in `backticks` as code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def data_url(png: bytes) -> str:
    """The picture as a data URL: a WebP without loss, but for the colours of a figure, of which it keeps 256.

    A figure becomes about four times smaller: the palette keeps lines, text and flat areas as they are
    (`Quantize.MAXCOVERAGE`), and the same as a PNG is a third larger.
    """
    picture, content = Image.open(io.BytesIO(png)).convert("RGB"), io.BytesIO()
    if picture.getcolors(PHOTOGRAPH) is not None:
        picture = picture.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).convert("RGB")
    picture.save(content, "webp", lossless=True)
    return f"data:image/webp;base64,{b64encode(content.getvalue()).decode()}"


def _page_size(png: bytes) -> tuple[int, int]:
    """Width and height at `PAGE_PIXELS` per inch, so that text has one size in small and wide figures."""
    # The first chunk of a PNG, its header, starts with both.
    width, height = (int.from_bytes(png[place : place + 4], "big") for place in (16, 20))
    return width * PAGE_PIXELS // DOTS_PER_INCH, height * PAGE_PIXELS // DOTS_PER_INCH


def _cell(value: object) -> str:
    """A table's value, formatted: numbers with three decimals or significant digits, NaN as a dash."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return str(value)
    if isinstance(value, Integral):
        return f"{int(value):,}"
    number = float(value)
    if math.isnan(number):
        return "–"
    return f"{number:.3f}" if number == 0 or 1e-3 <= abs(number) < 1e4 else f"{number:.3g}"
