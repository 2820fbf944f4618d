"""Serves MLflow's pages of the tracked runs: to others with a login, on this machine with one if a password is set.

And optuna-dashboard's pages of the searches, on this machine alone.
"""

import configparser
import ipaddress
import os
import shlex
import socket
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from analysis.drawing.wording import counted
from pipelines.session.lines import say
from pipelines.session.setup import home_of, store_of
from study.errors import StudyError, first_line
from study.system import interruption
from study.system.addresses import EVERY_INTERFACE, bracketed, let_in, origins, own_hosts
from study.system.extras import installing
from study.system.redaction import masked, one_line

if TYPE_CHECKING:
    from study.tracking.store import Store

PASSWORD, KEY, CONFIG = "MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY", "MLFLOW_AUTH_CONFIG_PATH"
USER, USER_PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"
ALLOWED_HOSTS, ALLOWED_ORIGINS = "MLFLOW_SERVER_ALLOWED_HOSTS", "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"
KNOWN_SECRETS = ("password", "password1234", "admin", "my-secret-key")
"""Passwords and keys in MLflow's own files and documentation, also of earlier versions."""
SHORTEST = 8
"""Minimum length of a password or key."""


def serve(home: str, uri: str, host: str, port: int) -> None:
    """Replaces this process by one that runs MLflow's server for the store at `uri`; prints the addresses of its pages.

    Args:
        home: the option --home.
        uri: the store; empty: inside the home.
        host: the address it is served on.
        port: its port.

    Raises:
        StudyError: where the store is served already, for an address that would open it to others without a login, or
            a port in use.
    """
    # Before MLflow is imported, which takes seconds.
    if uri.startswith("http"):
        raise StudyError(
            f"The store {masked(uri)} is a server: open it in a browser, or give the database to serve with "
            "--tracking-uri."
        )
    is_open, has_password = not _is_this_machine(host), bool(os.environ.get(PASSWORD))
    # With a password on this machine too: a proxy may open its port to others.
    with_login = is_open or has_password
    if is_open:
        _require_login(f"Host {host!r} opens the store to others", "use 127.0.0.1")
    elif has_password:
        _require_login(f"{PASSWORD} is set", "unset it")
    _require_free(host, port)
    store = store_of(home, uri)
    own = own_hosts(host, port)
    hosts = let_in(os.environ.get(ALLOWED_HOSTS, ""), own)
    if is_open and not hosts:
        say(f"MLflow lets in no other machine: set {ALLOWED_HOSTS} to the name by which they reach it ({own[-1]}).")
    _say_pages(store, *_addresses(host, port, hosts), with_login=with_login)
    arguments = ["server", "--host", host, "--port", str(port), "--workers", "1"]
    if with_login:
        # Others send their files to this server: a path of its disk would be one of theirs.
        arguments += ["--app-name", "basic-auth", "--artifacts-destination", str(store.artifacts_root)]
        os.environ.setdefault(CONFIG, str(_login_settings(store)))
    elif store.artifacts_root:
        arguments += ["--default-artifact-root", store.artifacts_root]
    # Its log of requests and its warnings would hide the addresses.
    # Its lifespan, which cleans up after MLflow's assistant, would end in a traceback on Ctrl-C.
    arguments += ["--uvicorn-opts", "--log-level warning --lifespan off"]
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    # Job execution starts further processes for features that a study does not use.
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    # This middleware keeps the pages of other sites from reaching this server by a name that resolves to it.
    os.environ.pop("MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE", None)
    # A browser names the page's origin with each request, and MLflow knows those of this machine alone.
    os.environ[ALLOWED_ORIGINS] = os.environ.get(ALLOWED_ORIGINS) or ",".join(origins(hosts))
    # Not as an argument: every user of the machine sees those, and the URI may hold a password.
    # Registered models are there too; unless told, MLflow says so below the addresses.
    os.environ["MLFLOW_BACKEND_STORE_URI"] = os.environ["MLFLOW_REGISTRY_STORE_URI"] = store.uri
    # MLflow's server imports from the current folder first, where the user may have a mlflow.py.
    os.chdir(store.home.store)
    interruption.check()
    python = [sys.executable, "-P", "-m"]
    # MLflow's server waits for its clients when it is to end, and leaves its child where it is killed.
    os.execv(sys.executable, [*python, "study.system.supervisor", *python, "mlflow", *arguments])


def serve_searches(home: str, storage: str, host: str, port: int) -> None:
    """Serves optuna-dashboard's pages of the searches to this machine; prints their addresses.

    Args:
        home: the option --home.
        storage: the searches' storage; empty: inside the home.
        host: the address it is served on.
        port: its port.

    Raises:
        StudyError: for an address that would open the searches to others, a missing package, a port in use, or where
            nothing was searched.
    """
    if not _is_this_machine(host):
        raise StudyError(f"optuna-dashboard has no login, and host {host!r} opens it to others: use 127.0.0.1.")
    if find_spec("optuna_dashboard") is None:
        raise StudyError(f"`study ui --optuna` needs a package: {installing('dashboard')}.")
    _require_free(host, port)
    from study.search import dashboard
    from study.tracking.hints import command_at

    interruption.check()
    # Once, since it prints where a default home is.
    folder = home_of(home)
    url = storage or folder.storage_url
    pages = dashboard.search_pages(url)
    if not pages:
        first = command_at(folder, folder.tracking_uri, "tune", "--dataset", "digits")
        named = f" --storage {shlex.quote(masked(url))}" if storage else ""
        raise StudyError(f"No search is in {masked(url)}: `{first}{named}` makes the first.")
    base = f"http://{bracketed(host)}:{port}"
    say(f"optuna-dashboard answers at {base}; Ctrl-C stops it. Its pages:")
    for name, page in pages.items():
        say(f"  {one_line(name)}  {base}{page}")
    sys.stdout.flush()
    dashboard.serve(url, host, port)


def _addresses(host: str, port: int, hosts: Sequence[str]) -> list[str]:
    """The addresses of the pages, the one for others first.

    Args:
        host: the address they are served on.
        port: its port.
        hosts: those by which others are let in.
    """
    if host not in EVERY_INTERFACE:
        return [f"http://{bracketed(host)}:{port}"]
    # Of the allowed hosts, the user may have named those of a proxy alone.
    is_default = not os.environ.get(ALLOWED_HOSTS)
    return [f"http://{name}" for name in [*hosts, *([f"127.0.0.1:{port}"] if is_default or not hosts else [])]]


def _say_pages(store: "Store", base: str, *others: str, with_login: bool = False) -> None:
    from pipelines.session.mlflow_pages import complete_of, left_out, pages_of, search_pages
    from study.tracking.hints import command_at

    also = f", also at {', '.join(others)}" if others else ""
    say(f"MLflow answers at {base} in about 10 seconds{also}; Ctrl-C stops it. Its pages:")
    has_runs = bool(store.runs())
    if not has_runs:
        # With a login, all record through the server, which keeps their files.
        first = command_at(store.home, base if with_login else store.uri, "reproduce", "--dataset", "digits")
        who = f" with {USER} and {USER_PASSWORD} set" if with_login else ""
        say(f"  none yet: `{first}` makes the first runs{who}.")
    for run in [*store.runs(stage="search"), *store.runs(stage="retrain")[:5]]:
        is_search = run.stage == "search"
        say(one_line(run.name) if is_search else f"{one_line(run.full_name)}, {counted(run.epochs, 'epoch')}")
        complete = complete_of(store, run) if is_search else []
        pages = search_pages(store, run, complete) if is_search else pages_of(store, run)
        for kind, page in pages.items():
            say(f"  {kind:<8} {base}{page}")
        if without := left_out(complete):
            say(f"  {'':<8} compare is {without}")
    if not with_login and _is_this_machine(urlsplit(base).hostname or "") and has_runs:
        say("MLflow's assistant opens beside the first page; closed once (×), it stays closed.")
    sys.stdout.flush()


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _require_login(reason: str, instead: str) -> None:
    """Checks that MLflow's basic authentication is configured, with a password that is not a known default.

    Args:
        reason: why it must be, for the error.
        instead: what else can be done.
    """
    problem = f"{reason}, so MLflow's basic authentication must be configured"
    if find_spec("flask_wtf") is None:
        raise StudyError(f"{problem}, and it needs a package: {installing('login')}, or {instead}.")
    password, key = os.environ.get(PASSWORD) or _configured_password(problem), os.environ.get(KEY, "")
    if not (password and key):
        missing = [name for name, value in ((PASSWORD, password), (KEY, key)) if not value]
        secret = "a secret" if len(missing) == 1 else "secrets"
        raise StudyError(f"{problem}: set {' and '.join(missing)} to {secret} of your own, or {instead}.")
    for name, value in ((PASSWORD, password), (KEY, key)):
        if value.lower() in KNOWN_SECRETS or len(value) < SHORTEST:
            # What is refused is no secret, and a word of the sentence would be masked.
            os.environ.pop(name, None)
            raise StudyError(f"{problem}, and {name} is well known or too short (under {SHORTEST}): choose another.")


def _configured_password(problem: str) -> str:
    """The administrator's password in the file that the user wrote for MLflow; empty where there is no file."""
    path = os.environ.get(CONFIG)
    if not path:
        return ""
    config = configparser.ConfigParser(interpolation=None)
    try:
        config.read_string(Path(path).read_text(encoding="utf-8"))
        return config["mlflow"].get("admin_password", "")
    except (OSError, ValueError, KeyError, configparser.Error) as error:
        raise StudyError(f"{problem}, but {path} ({CONFIG}) cannot be read: {first_line(error)}") from None


def _login_settings(store: "Store") -> Path:
    """Writes MLflow's login settings, with the database of users beside the store, not in the current folder."""
    path = store.home.store / "basic_auth.ini"
    users = store.home.store / "users.db"
    # It holds the hashes of passwords.
    users.touch(mode=0o600)
    users.chmod(0o600)
    settings = {"default_permission": "READ", "database_uri": f"sqlite:///{users}", "admin_username": "admin"}
    # To check a password takes half a second, and MLflow would do so at every request.
    settings["auth_cache_ttl_seconds"] = "60"
    config = configparser.ConfigParser(interpolation=None)
    config["mlflow"] = settings | {"authorization_function": "mlflow.server.auth:authenticate_request_basic_auth"}
    with path.open("w", encoding="utf-8") as file:
        config.write(file)
    return path


def _require_free(host: str, port: int) -> None:
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StudyError(f"Port {port} of {host} cannot be used ({reason}): choose another with --port.") from None
