"""What a server with a login lets its user do; asked before anything is recorded, so that a refusal leaves nothing."""

import getpass
import os
from urllib.parse import unquote, urlsplit

from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from study.errors import StudyError
from study.system.redaction import without_login

ACTIONS = {"EDIT": "record in it", "MANAGE": "delete runs of it"}
"""What each of MLflow's permissions on experiments and registered models allows."""


def user_at(uri: str) -> str:
    """The user who logs in to the server at `uri`; empty without a login."""
    if not uri.startswith("http"):
        return ""
    return unquote(urlsplit(uri).username or "") or get_default_host_creds(uri).username or ""


def recorded_user(uri: str) -> str:
    """The user of a run recorded at `uri`: the login at the server, else that of the machine."""
    try:
        return user_at(uri) or getpass.getuser()
    except (KeyError, OSError):
        # In a container, the user id may have no name.
        return str(os.getuid())


def require_permission(uri: str, name: str, key: str, kind: str = "experiment", permission: str = "EDIT") -> None:
    """Checks that the user of the server at `uri` has a permission on an experiment or a registered model.

    Args:
        uri: the address of the server.
        name: the experiment's or the model's.
        key: the experiment's id, or again the model's name.
        kind: `experiment`, or `registered_model`.
        permission: one of `ACTIONS`; `EDIT` allows to record runs, or versions of a model.

    Raises:
        StudyError: where the server says that the user may not; with the command that grants it.
    """
    user = user_at(uri)
    if not user:
        return
    asked = {"username": user, "resource_type": kind, "resource_id": key}
    answer = http_request(get_default_host_creds(uri), "/api/3.0/mlflow/users/permissions/get", "GET", params=asked)
    # Servers with another kind of login do not know this question.
    if answer.status_code != 200 or answer.json().get("permission") in (permission, "MANAGE"):
        return
    # Whoever grants it logs in as another user.
    grant = (
        f"from mlflow.server import get_app_client; get_app_client('basic-auth', '{without_login(uri)}')"
        f".grant_user_permission('{user}', '{kind}', '{key}', '{permission}')"
    )
    raise StudyError(
        f"User {user} may read MLflow's {kind.replace('_', ' ')} {name}, and not {ACTIONS[permission]}: have whoever "
        f'recorded in it first, or the server\'s administrator, run `python -c "{grant}"` (docs/team.md), and the same '
        "command continues."
    )
