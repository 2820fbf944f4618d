"""Which names searches and image folders may have: files, registered models and filters of MLflow bear them."""

import re

from study.errors import require

LONGEST_NAME = 160
"""Maximum length of a search's name in bytes: files and registered models are named after it."""
LONGEST_FOLDER_NAME = 100
"""Maximum length of an image folder's name in bytes: by default, searches are named after it."""


def can_be_name(text: str) -> bool:
    """Whether `text` is valid in file names and in MLflow's filter strings."""
    return text not in ("", ".", "..") and not re.search(r"[/\\\x00-\x1f\x7f'\"`]", text)


def require_name(search: str) -> None:
    """Checks the name of a search.

    Raises:
        StudyError: for an empty or too long one, or one with characters that names cannot have.
    """
    require(bool(search.strip()), "The search has an empty name: give one with --search.")
    require(
        can_be_name(search),
        f"The search name {search!r} has a quotation mark, a slash or a control character: leave it out.",
    )
    length = len(search.encode())
    require(
        length <= LONGEST_NAME,
        f"The search name {search[:20]}… has {length} bytes: it may have at most {LONGEST_NAME}.",
    )
