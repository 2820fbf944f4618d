"""`python -m study.tracking.grant SERVER USER PERMISSION experiment:NAME …`: grants permissions; see docs/team.md."""

import argparse
import warnings
from collections.abc import Sequence

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request, verify_rest_response

from study.errors import StoreFault, StudyError, first_line, require
from study.system.faults import explanation
from study.system.redaction import one_line
from study.tracking.client import require_answering
from study.tracking.permissions import ACTIONS, Resource, experiment, permission_of, registered_model, user_at

ENDPOINT = "/api/3.0/mlflow/users/permissions"


def grant(uri: str, user: str, permission: str, resource: Resource) -> None:
    """Gives a user of the server at `uri` a permission, in place of a lower one.

    Raises:
        StudyError: where whoever is logged in may not grant it, or the server refuses it for another reason.
    """
    asked = {"username": user, "resource_type": resource.kind, "resource_id": resource.key}
    try:
        _post(uri, "grant", **asked, permission=permission)
    except MlflowException as error:
        if error.error_code == "PERMISSION_DENIED":
            raise StudyError(
                f"User {user_at(uri)} may not grant permissions on {resource.kind.replace('_', ' ')} {resource.name}: "
                "only whoever recorded in it first and the server's administrator may."
            ) from None
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        # MLflow refuses to grant a second permission on the same, also one that is lower.
        if permission_of(uri, user, resource) in (permission, "MANAGE"):
            return
        _post(uri, "revoke", **asked)
        try:
            _post(uri, "grant", **asked, permission=permission)
        except Exception as second:
            raise StudyError(
                f"The earlier permission of {user} on {resource.name} was removed, and {permission} was not granted "
                f"({first_line(second)}): run the same command again."
            ) from None


def _post(uri: str, action: str, **asked: str) -> None:
    endpoint = f"{ENDPOINT}/{action}"
    verify_rest_response(http_request(get_default_host_creds(uri), endpoint, "POST", json=asked), endpoint)


def _resource(uri: str, named: str) -> Resource:
    kind, _, name = named.partition(":")
    if kind == "registered_model":
        return registered_model(name)
    require(kind == "experiment", f"Unknown resource {named!r}: write experiment:NAME or registered_model:NAME.")
    found = MlflowClient(uri).get_experiment_by_name(name)
    if found is None:
        raise StudyError(f"The server has no experiment {name!r}: somebody must have recorded on that data set.")
    return experiment(name, found.experiment_id)


def main(arguments: Sequence[str] | None = None) -> None:
    """Grants what the command line names; ends with 2 and a sentence where that fails."""
    parser = argparse.ArgumentParser(prog="python -m study.tracking.grant", description=__doc__)
    parser.add_argument("server", help="address of the server")
    parser.add_argument("user")
    parser.add_argument("permission", choices=list(ACTIONS))
    parser.add_argument("resources", nargs="+", metavar="resource", help="experiment:NAME or registered_model:NAME")
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    try:
        require_answering(given.server)
        for named in given.resources:
            grant(given.server, given.user, given.permission, _resource(given.server, named))
            print(f"User {given.user} has {given.permission} on {named}.")
    except (StudyError, StoreFault, MlflowException) as error:
        text = str(explanation(error, given.server) or first_line(error))
        parser.exit(2, f"study: {one_line(text)}\n")


if __name__ == "__main__":
    main()
