"""The page that a run's tables and figures are read on: one HTML file that needs nothing beside it but its tables."""

import base64
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from numbers import Integral, Real

import pandas as pd

DOTS, PAGE_PIXELS = 150, 100
"""Of an inch of a figure: dots in the PNG, pixels on the page."""
LONG_NOTE = 160
"""Characters beyond which a note is folded up: more than two lines of the page."""

_CSS = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: #222; font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 1000px; margin: 0 auto; padding: 2.5rem 1rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .6rem; overflow-wrap: anywhere; }
h2 { font-size: 1.5rem; line-height: 1.25; margin: 3.5rem 0 .5rem; padding-top: 1rem; border-top: 2px solid #bbb; }
h3 { font-size: 1.15rem; line-height: 1.3; margin: 2.5rem 0 .5rem; }
p { max-width: 44rem; margin: .5rem 0 1rem; overflow-wrap: anywhere; }
code { font-size: .88em; background: #f3f3f3; padding: .1em .3em; border-radius: 3px; }
.note { max-width: 44rem; font-size: .85rem; color: #5a5a5a; }
.note summary { cursor: pointer; }
.note p { margin: .3rem 0; }
section > ul { max-width: 44rem; margin: -.4rem 0 1rem; padding-left: 1.3rem; }
.lead { font-size: 1.1rem; color: #444; }
a { color: #00588c; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: .9rem 1.5rem; margin: 1.5rem 0;
  padding: 1rem 1.2rem; background: #f6f7f8; border-radius: 6px; }
dt { font-size: .8rem; color: #5a5a5a; }
dd { margin: 0; overflow-wrap: anywhere; }
figure, .table { margin: 1rem 0; overflow-x: auto; }
img { display: block; max-width: max(100%, 40rem); height: auto; }
@media screen {
  /* A shadow on the side that goes on: one stays at each edge, and what scrolls covers it at its own end. */
  figure, .table { background:
    linear-gradient(to right, #fff 40%, rgb(255 255 255 / 0)) left / 3rem 100% no-repeat local,
    linear-gradient(to left, #fff 40%, rgb(255 255 255 / 0)) right / 3rem 100% no-repeat local,
    linear-gradient(to right, rgb(0 0 0 / .3), rgb(0 0 0 / 0)) left / 1.1rem 100% no-repeat,
    linear-gradient(to left, rgb(0 0 0 / .3), rgb(0 0 0 / 0)) right / 1.1rem 100% no-repeat; }
  img { mix-blend-mode: multiply; }
}
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .55rem; border-bottom: 1px solid #e4e4e4; text-align: left; white-space: nowrap; }
th { font-weight: 600; border-bottom-color: #888; white-space: normal; vertical-align: bottom; }
.notice { margin: 1.5rem 0; padding: .4rem 1.2rem; background: #fff6e0; border-left: 4px solid #e0a800; }
.number { text-align: right; }
nav ul { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; padding: 0; margin: 1rem 0; list-style: none; }
@media (max-width: 42rem) {
  figure::before { content: "Wider than the screen: scroll sideways"; position: sticky; left: 0; font-size: .8rem;
    color: #5a5a5a; }
}
@media print { h2, h3 { break-after: avoid; } figure, .table { break-inside: avoid; } }
""".strip()


_SCRIPT = """
// A sandboxed frame, as MLflow's artifact viewer is, opens nothing that lies beside the page: a click would empty it.
if (window.self !== window.top)
  for (const link of document.querySelectorAll('a:not([href^="#"])'))
    link.replaceWith(`${link.textContent}: ${link.getAttribute("href")}, beside this page`);
""".strip()


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
    """A complete HTML page, which holds its style and its images and fetches nothing.

    Args:
        title: above everything.
        lead: the answer in a sentence.
        parts: the sections of each part, by its heading; the headings are the table of contents.
        facts: label → value: how it was made, at the end.
        links: words → address, beside the table of contents.
        notices: what a reader must know of what is not there.

    All text is escaped.
    """
    contents = {} if len(parts) < 2 else {name: f"#part-{number}" for number, name in enumerate(parts, start=1)}
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>\n<style>\n{_CSS}\n</style>\n</head>\n<body>\n<main>",
            f'<h1>{escape(title)}</h1>\n<p class="lead">{escape(lead)}</p>',
            _notices(notices),
            _links({**contents, **(links or {})}),
            *(_part(name, number, sections) for number, (name, sections) in enumerate(parts.items(), start=1)),
            _facts(facts or {}),
            f"</main>\n<script>\n{_SCRIPT}\n</script>\n</body>\n</html>\n",
        ]
    )


def _notices(notices: Sequence[str]) -> str:
    said = "".join(f"<p>{_prose(text)}</p>" for text in notices)
    return f'<aside class="notice">{said}</aside>' if notices else ""


def _part(name: str, number: int, sections: Sequence[Section]) -> str:
    return "\n".join([f'<h2 id="part-{number}">{escape(name)}</h2>', *map(_section, sections)])


def _facts(facts: Mapping[str, str]) -> str:
    rows = (f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
    return f"<h2>How this was made</h2>\n<dl>{''.join(rows)}</dl>" if facts else ""


def _links(links: Mapping[str, str]) -> str:
    items = (f'<li><a href="{escape(address)}">{escape(words)}</a></li>' for words, address in links.items())
    return f"<nav><ul>{''.join(items)}</ul></nav>" if links else ""


def _prose(text: str) -> str:
    """The text with what stands between `backticks` as code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))


def _section(section: Section) -> str:
    parts = [f"<section>\n<h3>{escape(section.heading)}</h3>", f"<p>{_prose(section.text)}</p>" if section.text else ""]
    if section.points:
        parts.append(f"<ul>{''.join(f'<li>{_prose(point)}</li>' for point in section.points)}</ul>")
    if section.png is not None:
        parts.append(_image(section.png, section.alt))
    if section.gif is not None:
        parts.append(_animation(section.gif, section.alt))
    if section.table is not None:
        parts.append(_table(section.table))
    if section.note:
        parts.append(_note(section.note))
    if section.link is not None:
        words, address = section.link
        parts.append(f'<p><a href="{escape(address)}">{escape(words)}</a></p>')
    if section.csv is not None:
        parts.append(f'<p><a href="{escape(section.csv)}">The numbers as CSV</a></p>')
    return "\n".join([*filter(None, parts), "</section>"])


def _note(text: str) -> str:
    """Small below what it is about; a long one folded up."""
    if len(text) <= LONG_NOTE:
        return f'<p class="note">{_prose(text)}</p>'
    return f'<details class="note"><summary>How to read it</summary><p>{_prose(text)}</p></details>'


def _image(png: bytes, alt: str) -> str:
    """The image at `PAGE_PIXELS` to the inch, so that text is as large in a small figure as in a wide one.

    A phone shows it no smaller than can be read, and scrolls.
    """
    width = int.from_bytes(png[16:20], "big")  # PNG's first chunk, the header, starts with the width
    size = f' width="{width * PAGE_PIXELS // DOTS}"' if width else ""
    data = base64.b64encode(png).decode()
    return f'<figure tabindex="0"><img alt="{escape(alt)}"{size} src="data:image/png;base64,{data}"></figure>'


def _animation(gif: bytes, alt: str) -> str:
    data = base64.b64encode(gif).decode()
    return f'<figure tabindex="0"><img alt="{escape(alt)}" src="data:image/gif;base64,{data}"></figure>'


def _table(table: pd.DataFrame) -> str:
    marks = [' class="number"' if pd.api.types.is_numeric_dtype(table[name]) else "" for name in table]
    heads = [str(name).replace("_", " ") for name in table]
    head = "".join(f"<th{mark}>{escape(name)}</th>" for mark, name in zip(marks, heads, strict=True))
    body = "\n".join(
        f"<tr>{''.join(f'<td{mark}>{escape(_cell(value))}</td>' for mark, value in zip(marks, row, strict=True))}</tr>"
        for row in table.itertuples(index=False)
    )
    # Focusable, so that a wide table can be scrolled with the keyboard.
    return (
        f'<div class="table" tabindex="0"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'
    )


def _cell(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, Real):
        return str(value)
    if isinstance(value, Integral):
        return f"{int(value):,}"
    number = float(value)
    if math.isnan(number):
        return "–"
    return f"{number:.3f}" if number == 0 or 1e-3 <= abs(number) < 1e4 else f"{number:.3g}"
