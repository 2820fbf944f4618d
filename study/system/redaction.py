"""What may be shown and kept of a text: no password, and nothing that a terminal would obey."""

import os
import re
import sys
from collections.abc import Iterable
from urllib.parse import unquote

HIDDEN = "***"
SECRET_VARIABLES = (
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_AUTH_ADMIN_PASSWORD",
    "MLFLOW_FLASK_SERVER_SECRET_KEY",
    "PGPASSWORD",
)
"""Variables that hold nothing but a secret."""

# Up to the last @, since a password may hold / and, where someone forgot to encode it, @.
_LOGIN = re.compile(r"(\w*://)([^\s/@:]*)(:?)(\S*)@")
_WHOLE_LOGIN = re.compile(r"(\w*://)([^/@:]*)(:?)(.*)@", re.DOTALL)
_QUERY = re.compile(r"(?i)([?&;][\w.-]*(?:pass(?:word|wd)?|pwd|token|secret|key)=)([^\s&;'\"]*)")


def masked(text: str) -> str:
    """`text` without the passwords of the URLs in it, nor, wherever they stand, those that this process was given."""
    for secret in sorted(_given(), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", HIDDEN, text)
    return _QUERY.sub(rf"\1{HIDDEN}", _LOGIN.sub(_without_password, text))


def harmless(text: str) -> str:
    """`text` with control characters, but tabs and line ends, written out: a terminal would obey them."""
    return "".join(char if char in "\n\t" or not _controls(char) else repr(char)[1:-1] for char in text)


def shown(text: str) -> str:
    """`text` as it may be printed: `masked` and `harmless`."""
    return harmless(masked(text))


def one_line(text: str) -> str:
    """`text` as `shown`, and on one line whatever names in it hold."""
    return shown(text).strip().replace("\n", "\\n")


def _without_password(login: re.Match[str]) -> str:
    scheme, user, colon, _ = login.groups()
    if colon:
        return f"{scheme}{user}:{HIDDEN}@"
    # To a server of pages, a name alone is an access token.
    return f"{scheme}{HIDDEN}@" if scheme.startswith("http") else login[0]


def _controls(char: str) -> bool:
    # Also what turns the direction of writing, which makes a name read as another.
    return (not char.isprintable() and not char.isspace()) or char in "\v\f\r\x1c\x1d\x1e\x1f\x85\u2028\u2029"


def _given() -> set[str]:
    """The passwords in the command line and the environment, as they are written, decoded, and in the pieces that a
    library takes a badly encoded one for."""
    values = [*sys.argv, *(value for name, value in os.environ.items() if name.startswith(("STUDY_", "MLFLOW_")))]
    found = set(_passwords(values)) | {os.environ.get(name, "") for name in SECRET_VARIABLES}
    found |= {unquote(password) for password in found}
    found |= {piece for password in found for piece in re.split("[@/:]", password)}
    return found - {""}


def _passwords(values: Iterable[str]) -> Iterable[str]:
    for value in values:
        # Here the address ends where the value does, so that a password may hold a space too.
        if (login := _WHOLE_LOGIN.search(value)) and login[3]:
            yield login[4]
        for query in _QUERY.finditer(value):
            yield query[2]
