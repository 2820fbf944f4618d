"""The names of this machine by which an MLflow server lets others in, and the origins that their browsers then send."""

import re
import socket
from collections.abc import Sequence
from fnmatch import fnmatchcase

import psutil

EVERY_INTERFACE = ("0.0.0.0", "::")
PRIVATE = ("192.168.*", "10.*", *(f"172.{part}.*" for part in range(16, 32)))
"""Patterns of the IPv4 hosts that MLflow's server answers to unless told others, besides this machine's own names."""


def bracketed(host: str) -> str:
    """A host as addresses have it: one of IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


def own_hosts(host: str, port: int) -> list[str]:
    """This machine's addresses and name with the port, where a server listens on `host`."""
    if host not in EVERY_INTERFACE:
        return [f"{bracketed(host)}:{port}"]
    interfaces = psutil.net_if_addrs().values()
    addresses = [entry.address for entries in interfaces for entry in entries if entry.family == socket.AF_INET]
    return [f"{name}:{port}" for name in (*addresses, socket.gethostname()) if not name.startswith("127.")]


def let_in(allowed: str, own: Sequence[str]) -> list[str]:
    """Hosts by which others reach MLflow's server: those named in `allowed`, and of `own` those that match a pattern.

    Args:
        allowed: MLflow's setting of the hosts that are answered, separated by commas; empty: its default.
        own: this machine's, from `own_hosts`.
    """
    entries = [entry.strip() for entry in allowed.split(",") if entry.strip()] or PRIVATE
    named = [entry for entry in entries if "*" not in entry]
    matching = [host for host in own if any("*" in entry and fnmatchcase(host, entry) for entry in entries)]
    return list(dict.fromkeys([*named, *matching]))


def origins(hosts: Sequence[str]) -> list[str]:
    """The origins that browsers send from pages at `hosts`, also behind a proxy that answers at the port of https.

    No patterns, since `http://10.*` would also be an origin of 10.example.org.
    """
    served = [f"{scheme}://{host}" for host in hosts for scheme in ("http", "https")]
    proxied = [f"https://{re.sub(r':[0-9]+$', '', host)}" for host in hosts]
    return list(dict.fromkeys([*served, *proxied]))
