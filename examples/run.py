"""Run an example in front until Ctrl-C: its demo server in this process, and `maesh up` as a child.

The first argument names the example's folder; further ones are handed to `maesh up`, for instance `--http-port 6000`,
after the FLAGS of the example's server module. Ends with the mesh's status, or with 130 if
Ctrl-C comes before the mesh. If the terminal is closed, the mesh ends too.
"""

import os
import signal

INTERRUPTED = 130
"""The status of a program that Ctrl-C has ended, as in a shell."""


def end_at_once(_number: int, _frame: object) -> None:
    """End without a traceback. An exception could appear anywhere, for instance in the imports below."""
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, end_at_once)

import subprocess  # noqa: E402 - the imports take most of the time until the mesh starts
import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Sequence  # noqa: E402
from importlib import import_module  # noqa: E402
from pathlib import Path  # noqa: E402
from types import FrameType  # noqa: E402
from typing import Protocol  # noqa: E402

EXAMPLES = Path(__file__).resolve().parent
START_S = 1.0
"""For so long the mesh may be starting Python, where SIGINT would cause a traceback: it gets SIGTERM instead."""


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
        missing = f"There is no example {sys.argv[1]!r}." if sys.argv[1:] else "Name an example."
        print(f"{missing} The examples are {', '.join(known)}.", file=sys.stderr)
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
    ended_by: list[int] = []
    running: list[subprocess.Popen[bytes]] = []
    started_at = time.monotonic()

    def pass_on(number: int, _frame: FrameType | None) -> None:
        ended_by.append(number)
        if running:
            is_starting = time.monotonic() - started_at < START_S
            # The mesh would not end in order at SIGHUP, which a closed terminal sends.
            running[0].send_signal(signal.SIGTERM if is_starting or number == signal.SIGHUP else number)
        else:
            early.append(number)

    for handled in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if handled != signal.SIGHUP or signal.getsignal(handled) != signal.SIG_IGN:  # nohup ignores it
            signal.signal(handled, pass_on)
    # A process group of its own: the terminal's Ctrl-C reaches the mesh once, through us, and not twice.
    mesh = subprocess.Popen(command, process_group=0)
    running.append(mesh)
    for _ in early:
        mesh.terminate()
    status = mesh.wait()
    return 128 + ended_by[0] if status < 0 and ended_by else status


if __name__ == "__main__":
    sys.exit(main())
