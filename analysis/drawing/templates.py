"""The Jinja2 templates of the pages (HTML, CSS and JavaScript), stored beside the modules of `analysis`."""

from collections.abc import Callable
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def templates(**filters: Callable[..., Any]) -> Environment:
    """The environment of the templates, loaded by path below `analysis`, with these filters; all values are escaped."""
    environment = Environment(
        loader=PackageLoader("analysis", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= filters
    # Keeps the order of keys, on which a page's script may depend: Jinja2 sorts them by default.
    environment.policies["json.dumps_kwargs"] = {}
    return environment
