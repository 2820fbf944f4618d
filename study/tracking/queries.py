"""Helpers for MLflow's searches: pagination, and quoting in filter strings."""

from collections.abc import Callable
from typing import Any

PAGE = 1000
"""Number of results per page."""


def every(search: Callable[..., Any], *arguments: Any, **options: Any) -> list[Any]:
    """All results of a search method of MLflow's client, from all pages."""
    results, token = [], None
    while True:
        page = search(*arguments, **options, max_results=PAGE, page_token=token)
        results += page
        token = page.token
        if not token:
            return results


def is_quotable(value: str) -> bool:
    """Whether an MLflow filter can hold `value`: filters have no escapes, so it may not have both kinds of quotes."""
    return not ("'" in value and '"' in value)


def quoted(value: str) -> str:
    """A text in quotation marks for an MLflow filter; see `is_quotable`."""
    quote_mark = '"' if "'" in value else "'"
    return f"{quote_mark}{value}{quote_mark}"
