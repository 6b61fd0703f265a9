"""Run the example in front until Ctrl-C: the demo server in this process, and `maesh up` as a child.

Arguments are handed to `maesh up`, for instance `--http-port 6000`. Ends with the mesh's status.
"""

import signal
import subprocess
import sys
from pathlib import Path

from server import start_servers

FOLDER = Path(__file__).resolve().parent


def main() -> int:
    """Start both, pass on the first signal and every later one, and wait for the mesh to end."""
    try:
        servers = start_servers()
    except OSError as error:
        print(f"The demo server cannot start: {error}", file=sys.stderr)
        return 1
    maesh = Path(sys.executable).with_name("maesh")
    # A process group of its own: the terminal's Ctrl-C reaches the mesh once, through us, and not twice.
    mesh = subprocess.Popen([maesh, "up", FOLDER / "whoami.yaml", *sys.argv[1:]], process_group=0)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _frame: mesh.send_signal(received))
    status = mesh.wait()
    for server in servers:
        server.shutdown()
        server.server_close()
    return status


if __name__ == "__main__":
    sys.exit(main())
