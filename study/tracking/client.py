"""Settings of MLflow's client, and the check before it is opened that a store answers."""

import logging
import os
import socket
import urllib.request
from contextlib import suppress
from functools import cache
from http.client import HTTPException

from study.errors import StudyError, first_line
from study.system.databases import OF_RUNS, require_database
from study.system.redaction import without_login

# MLflow's own retries would block for four minutes, and repeat requests that may have succeeded.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
# MLflow looks for Databricks at each request, by imports that fail: a third of the request's processor time. A version
# that does it elsewhere only costs that time.
with suppress(ImportError, AttributeError):
    from mlflow.tracking.request_header.databricks_request_header_provider import DatabricksRequestHeaderProvider as _Db

    _Db.in_context = cache(_Db.in_context)  # type: ignore[method-assign]
# It logs tracebacks of errors that are raised as well.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def require_answering(uri: str) -> None:
    """Checks that the store at `uri` is an MLflow server that answers, or a database.

    Raises:
        StudyError: where it is neither.
    """
    if not uri.startswith(("http://", "https://")):
        require_database(uri, *OF_RUNS)
        return
    try:
        # Without credentials, which only MLflow's own requests use: urllib would read them as part of the host name.
        with urllib.request.urlopen(without_login(uri).rstrip("/") + "/health", timeout=10):
            pass
    except (OSError, HTTPException, ValueError) as error:
        raise StudyError(f"No MLflow server answers at {uri} ({first_line(error)}): {_cure(error)}.") from None


def _cure(error: Exception) -> str:
    if "WRONG_VERSION_NUMBER" in str(error):
        return "it speaks http:// and not https://"
    start = "start it, or unset MLFLOW_TRACKING_URI"
    return f"check the name, {start}" if isinstance(getattr(error, "reason", None), socket.gaierror) else start
