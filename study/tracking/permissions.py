"""What a server with a login lets its user do; asked before anything is recorded, so that a refusal leaves nothing."""

import getpass
import os
import shlex
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from study.errors import StudyError
from study.system.redaction import without_login

ACTIONS = {"EDIT": "record in {}", "MANAGE": "delete runs of {}"}
"""What each of MLflow's permissions on experiments and registered models allows."""


@dataclass(frozen=True)
class Resource:
    """Something on which a server with a login gives permissions."""

    kind: Literal["experiment", "registered_model"]
    name: str
    key: str
    """The experiment's id, or again the model's name."""


def experiment(name: str, key: str) -> Resource:
    """The experiment with this name and id."""
    return Resource("experiment", name, key)


def registered_model(name: str) -> Resource:
    """The registered model `name`."""
    return Resource("registered_model", name, name)


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


def require_permission(uri: str, *resources: Resource, permission: str = "EDIT") -> None:
    """Checks that the user of the server at `uri` has a permission on experiments and registered models.

    Args:
        uri: the address of the server.
        resources: the experiments and models.
        permission: one of `ACTIONS`; `EDIT` allows to record runs, or versions of a model.

    Raises:
        StudyError: where the server says that the user may not; with the command that grants all that is missing.
    """
    user = user_at(uri)
    # Servers with another kind of login do not know the question.
    enough = ("", permission, "MANAGE")
    missing = [resource for resource in resources if user and permission_of(uri, user, resource) not in enough]
    # MLflow lets an administrator do everything, without any permission.
    if not missing or _answer(uri, "2.0/mlflow/users/get", username=user).get("user", {}).get("is_admin"):
        return
    # Whoever grants it logs in as another user.
    keys = [f"{resource.kind}:{resource.name}" for resource in missing]
    grant = shlex.join(["python", "-m", "study.tracking.grant", without_login(uri), user, permission, *keys])
    names = " and ".join(f"{resource.kind.replace('_', ' ')} {resource.name}" for resource in missing)
    them = "it" if len(missing) == 1 else "them"
    raise StudyError(
        f"User {user} may read MLflow's {names}, and not {ACTIONS[permission].format(them)}: have whoever recorded in "
        f"{them} first, or the server's administrator, run `{grant}` (docs/team.md), and the same command continues."
    )


def permission_of(uri: str, user: str, resource: Resource) -> str:
    """The permission of a user; empty where the server does not say."""
    asked = {"username": user, "resource_type": resource.kind, "resource_id": resource.key}
    return str(_answer(uri, "3.0/mlflow/users/permissions/get", **asked).get("permission", ""))


def _answer(uri: str, question: str, **params: str) -> dict[str, Any]:
    """What the server answers; nothing where it does not know the question."""
    answer = http_request(get_default_host_creds(uri), f"/api/{question}", "GET", params=params)
    return dict(answer.json()) if answer.status_code == 200 else {}
