"""Processes that tests suspend."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from maesh_testing.commands import suspend

pytestmark = pytest.mark.slow

PROGRAM = """
import signal, threading, time
signal.signal(signal.SIGINT, lambda number, frame: print(number, flush=True))
threading.Thread(target=time.sleep, args=[60], daemon=True).start()
print("ready", flush=True)
while True:
    pass
"""


def read_pending(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("ShdPnd")).split()[1], 16)


def test_a_suspended_process_receives_no_signal_until_it_continues():
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            suspend(process.pid)
            process.send_signal(signal.SIGINT)
            assert read_pending(process.pid) == 1 << (signal.SIGINT - 1)
            os.kill(process.pid, signal.SIGCONT)
            assert process.stdout.readline() == f"{signal.SIGINT:d}\n"
        finally:
            process.kill()
