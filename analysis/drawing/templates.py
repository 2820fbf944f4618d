"""Jinja2 templates of the pages, which lie beside the modules of `analysis`: HTML, CSS and JavaScript."""

from collections.abc import Callable
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def templates(**filters: Callable[..., Any]) -> Environment:
    """The templates by their path below `analysis`, with these filters. All that they are given is escaped."""
    environment = Environment(
        loader=PackageLoader("analysis", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= filters
    # The order of the keys may mean something to a page's script.
    environment.policies["json.dumps_kwargs"] = {}
    return environment
