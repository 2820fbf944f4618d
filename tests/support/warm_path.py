"""The commands `study` and `python` for shells: scripts that have the fork server run them."""

import sys
from pathlib import Path

from tests.support.fork_server import fork_server

SCRIPT = """#!{python} -SE
import json, os, socket, sys

arguments = sys.argv[1:]
if arguments == ["-"]:
    arguments = ["-c", sys.stdin.read()]
request = {{"arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd()}}
server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
server.connect({address!r})
ours, theirs = os.pipe()
socket.send_fds(server, [json.dumps(request).encode()], [0, 1, 2, theirs])
os.close(theirs)
process, code = os.fdopen(ours)
sys.exit(int(code))
"""


def warm_path(folder: Path) -> str:
    """Writes both commands to `folder`, and returns it. Signals do not reach what they start."""
    for name in ("study", "python"):
        script = folder / name
        script.write_text(SCRIPT.format(python=sys.executable, address=fork_server().address))
        script.chmod(0o755)
    return str(folder)
