"""The commands `study` and `python` for shells: scripts that have the fork server run them."""

import sys
from pathlib import Path

from tests.support.fork_server import fork_server

SCRIPT = """#!{python} -SE
import json, os, socket, sys

arguments, code = sys.argv[1:], ""
if arguments[:2] == ["-W", "ignore"]:
    code, arguments = "import warnings; warnings.simplefilter('ignore'); ", arguments[2:]
if arguments == ["-"]:
    arguments = ["-c", code + sys.stdin.read()]
elif arguments[:1] == ["-c"]:
    arguments = ["-c", code + arguments[1]]
elif arguments[:1] == ["-m"]:
    run = "import runpy, sys; sys.argv[1:] = {{!r}}; runpy.run_module({{!r}}, run_name='__main__', alter_sys=True)"
    arguments = ["-c", run.format(arguments[2:], arguments[1])]
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
