"""Redaction of texts before they are printed or recorded: passwords and control characters."""

import os
import re
import sys
from collections.abc import Iterable
from urllib.parse import unquote, urlsplit

HIDDEN = "***"
SECRET_VARIABLES = (
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_AUTH_ADMIN_PASSWORD",
    "MLFLOW_FLASK_SERVER_SECRET_KEY",
    "PGPASSWORD",
)
"""Environment variables whose whole value is a secret."""

# Up to the last @, since a password may hold / and, where someone forgot to encode it, @.
_LOGIN = re.compile(r"(\w*://)([^\s/@:]*)(:?)(\S*)@")
_WHOLE_LOGIN = re.compile(r"(\w*://)([^/@:]*)(:?)(.*)@", re.DOTALL)
# MLflow's viewStateShareKey is the name of a view, and part of the addresses that are printed.
_QUERY = re.compile(r"(?i)([?&;](?!viewStateShareKey=)[\w.-]*(?:pass(?:word|wd)?|pwd|token|secret|key)=)([^\s&;'\"]*)")


def masked(text: str) -> str:
    """Redacts passwords: those of URLs in `text`, and anywhere those that this process was given."""
    for secret in sorted(_given(), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", HIDDEN, text)
    return _QUERY.sub(rf"\1{HIDDEN}", _LOGIN.sub(_without_password, text))


def escaped(text: str) -> str:
    """Escapes control characters other than tabs and line ends, which a terminal would execute."""
    return "".join(char if char in "\n\t" or not _controls(char) else repr(char)[1:-1] for char in text)


def redacted(text: str) -> str:
    """Redacts passwords and escapes control characters: `masked` and `escaped`."""
    return escaped(masked(text))


def one_line(text: str) -> str:
    """`redacted`, with line ends escaped too."""
    return redacted(text).strip().replace("\n", "\\n")


def without_login(url: str) -> str:
    """The `url` without a user and a password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _without_password(login: re.Match[str]) -> str:
    scheme, user, colon, _ = login.groups()
    if colon:
        return f"{scheme}{user}:{HIDDEN}@"
    # In an HTTP URL, a user name alone is an access token.
    return f"{scheme}{HIDDEN}@" if scheme.startswith("http") else login[0]


def _controls(char: str) -> bool:
    # Includes marks of writing direction, which can make a name look like another.
    return (not char.isprintable() and not char.isspace()) or char in "\v\f\r\x1c\x1d\x1e\x1f\x85\u2028\u2029"


def _given() -> set[str]:
    """Passwords in the command line and the environment: as written, decoded, and in the parts that libraries split a
    badly encoded one into."""
    values = [*sys.argv, *(value for name, value in os.environ.items() if name.startswith(("STUDY_", "MLFLOW_")))]
    secrets = set(_passwords(values)) | {os.environ.get(name, "") for name in SECRET_VARIABLES}
    secrets |= {unquote(password) for password in secrets}
    secrets |= {part for password in secrets for part in re.split("[@/:]", password)}
    return secrets - {""}


def _passwords(values: Iterable[str]) -> Iterable[str]:
    for value in values:
        # The URL is the whole value, so the password may contain a space.
        if (login := _WHOLE_LOGIN.search(value)) and login[3]:
            yield login[4]
        for query in _QUERY.finditer(value):
            yield query[2]
