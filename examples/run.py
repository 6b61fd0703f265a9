"""Run an example in front until Ctrl-C: its demo server in this process, and `maesh up` as a child.

The first argument names the example's folder; further ones are handed to `maesh up`, for instance `--http-port 6000`,
after the FLAGS of the example's server module. Ends with the mesh's status.
"""

import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Protocol

EXAMPLES = Path(__file__).resolve().parent


class DemoServer(Protocol):
    """What this program calls on the servers of an example."""

    def shutdown(self) -> None:
        """Serve no more requests."""

    def server_close(self) -> None:
        """Close the socket."""


def main() -> int:
    """Start both, pass on the first signal and every later one, and wait for the mesh to end."""
    known = sorted(path.parent.name for path in EXAMPLES.glob("*/server.py"))
    if not sys.argv[1:] or sys.argv[1] not in known:
        print(f"Name an example: {', '.join(known)}.", file=sys.stderr)
        return 2
    folder = EXAMPLES / sys.argv[1]
    sys.path.insert(0, str(folder))
    try:
        example = import_module("server")
    except ModuleNotFoundError as error:
        print(f"{error}. `make up EXAMPLE={sys.argv[1]}` installs what this example needs.", file=sys.stderr)
        return 1
    try:
        servers: list[DemoServer] = example.start_servers()
    except OSError as error:
        print(f"The demo server cannot start: {error}", file=sys.stderr)
        return 1
    maesh = Path(sys.executable).with_name("maesh")
    flags = (*getattr(example, "FLAGS", ()), *sys.argv[2:])
    status = run_mesh([maesh, "up", folder, *flags])
    for server in servers:
        server.shutdown()
        server.server_close()
    return status


def run_mesh(command: Sequence[str | Path]) -> int:
    """Start the mesh, pass on every signal, the early ones too, and give the status that it ends with."""
    early: list[int] = []
    running: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, _frame: FrameType | None) -> None:
        if running:
            running[0].send_signal(number)
        else:
            early.append(number)

    for handled in (signal.SIGINT, signal.SIGTERM):
        signal.signal(handled, pass_on)
    # A process group of its own: the terminal's Ctrl-C reaches the mesh once, through us, and not twice.
    mesh = subprocess.Popen(command, process_group=0)
    running.append(mesh)
    for number in early:
        mesh.send_signal(number)
    return mesh.wait()


if __name__ == "__main__":
    sys.exit(main())
