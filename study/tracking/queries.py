"""MLflow's searches: all pages of an answer, and texts in a filter."""

from collections.abc import Callable
from typing import Any

PAGE = 1000
"""How many of anything are asked for at a time."""


def every(search: Callable[..., Any], *arguments: Any, **options: Any) -> list[Any]:
    """All that a search of MLflow's client finds, which gives it page by page."""
    found, token = [], None
    while True:
        page = search(*arguments, **options, max_results=PAGE, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def is_quotable(value: str) -> bool:
    """Whether MLflow's filters can hold `value`: they know no way to write a quotation mark but within the others."""
    return not ("'" in value and '"' in value)


def quoted(value: str) -> str:
    """A text as MLflow's filters take it, which has not both kinds of quotation marks."""
    quote_mark = '"' if "'" in value else "'"
    return f"{quote_mark}{value}{quote_mark}"
