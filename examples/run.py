"""Run an example in front until Ctrl-C: its demo server in this process, and `maesh up` as a child.

The first argument names the example's folder; further ones are handed to `maesh up`, for instance `--http-port 6000`.
Ends with the mesh's status.
"""

import signal
import socketserver
import subprocess
import sys
from importlib import import_module
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent


def main() -> int:
    """Start both, pass on the first signal and every later one, and wait for the mesh to end."""
    known = sorted(path.parent.name for path in EXAMPLES.glob("*/server.py"))
    if not sys.argv[1:] or sys.argv[1] not in known:
        print(f"Name an example: {', '.join(known)}.", file=sys.stderr)
        return 2
    folder = EXAMPLES / sys.argv[1]
    sys.path.insert(0, str(folder))
    try:
        servers: list[socketserver.BaseServer] = import_module("server").start_servers()
    except OSError as error:
        print(f"The demo server cannot start: {error}", file=sys.stderr)
        return 1
    maesh = Path(sys.executable).with_name("maesh")
    # A process group of its own: the terminal's Ctrl-C reaches the mesh once, through us, and not twice.
    mesh = subprocess.Popen([maesh, "up", folder, *sys.argv[2:]], process_group=0)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _frame: mesh.send_signal(received))
    status = mesh.wait()
    for server in servers:
        server.shutdown()
        server.server_close()
    return status


if __name__ == "__main__":
    sys.exit(main())
