"""optuna-dashboard's pages of the searches in a storage, served to this machine; the package is an optional one."""

import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from study.home import SQLITE
from study.search.private import study_ids
from study.search.storage import open_storage
from study.system import interruption

OWN_NAMES = ("127.0.0.1", "localhost", "::1")
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def search_pages(url: str) -> dict[str, str]:
    """The pages of the searches in the storage at `url`, by name; none where the storage is not there yet.

    Raises:
        StudyError: where it is no storage of searches.
    """
    if url.startswith(SQLITE) and not Path(url.removeprefix(SQLITE)).is_file():
        return {}
    storage = open_storage(url)
    pages = {name: f"/dashboard/studies/{key}" for name, key in sorted(study_ids(storage).items())}
    storage.remove_session()
    storage.engine.dispose()
    return pages


def serve(url: str, host: str, port: int) -> None:
    """Serves the searches in the storage at `url`, an address of this machine alone, until a signal comes."""
    # Its own command would show the storage's password to everyone on this machine, and print each request.
    application = _for_this_machine(import_module("optuna_dashboard").wsgi(url))
    kind = _ServerOfIPv6 if ":" in host else _Server
    with kind((host, port), _QuietHandler) as server, suppress(KeyboardInterrupt):
        server.set_app(application)
        while True:
            interruption.check()
            server.handle_request()


def _for_this_machine(application: Application) -> Application:
    """Keeps the pages of other sites from reaching `application` by a name that resolves to this machine."""

    def answer(request: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if urlsplit(f"//{request.get('HTTP_HOST', '')}").hostname in OWN_NAMES:
            return application(request, start)
        start("403 Forbidden", [("Content-Type", "text/plain")])
        return [b"These pages are for this machine alone."]

    return answer


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    timeout = interruption.POLL


class _ServerOfIPv6(_Server):
    address_family = socket.AF_INET6


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass
