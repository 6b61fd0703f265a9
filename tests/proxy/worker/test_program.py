"""The worker's program, started as nobody should start it."""

import json
import os
import socket
import subprocess
import sys

from maesh_core.proxy.workers.channel import Frames
from maesh_core.proxy.workers.messages import AnyReport, NotStarted

COMMAND = [sys.executable, "-P", "-m", "maesh_core.proxy.worker.program"]
MISSING = {
    "name": "odd",
    "distribution": "acme-odd",
    "version": "1",
    "summary": "",
    "is_default": False,
    "path": "no_such_module:PLUGIN",
}


def build_environment(**settings: object) -> dict[str, str]:
    return {**os.environ, "MAESH_PROXY_SETTINGS_JSON": json.dumps(settings)}


def test_by_hand_it_says_how_to_start_a_proxy() -> None:
    ended = subprocess.run(
        COMMAND,
        env=build_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr == "maesh: error: only the proxy starts workers; use: maesh proxy\n"


def test_the_reason_of_a_failed_start_goes_to_the_parent_alone() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ended = subprocess.run(
            COMMAND,
            env=build_environment(plugins=(MISSING,)),
            stdin=theirs.fileno(),
            capture_output=True,
            timeout=60,
            check=False,
        )
        frames: Frames[AnyReport] = Frames(AnyReport)
        frames.receive(ours.recv(65536))
    assert (ended.returncode, ended.stderr) == (1, b"")
    frame = frames.pop()
    assert frame is not None
    assert isinstance(frame[0], NotStarted)
    assert "no_such_module" in frame[0].text


def test_a_parent_that_is_gone_ends_it() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        ours.close()
        ended = subprocess.run(COMMAND, env=build_environment(), stdin=theirs.fileno(), timeout=60, check=False)
    assert ended.returncode == 0
