"""A command in a terminal of its own (pty(7)): keys go in, what it draws comes out."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time

from maesh_testing.commands import MAESH, PATIENCE_S, build_environment

# The child makes the terminal its controlling one, so that Ctrl-C and Ctrl-Z become signals.
_START = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[()][A-Z0-9]|[=>])")
ENTER_SCREEN, LEAVE_SCREEN = "\x1b[?1049h", "\x1b[?1049l"
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


class Terminal:
    """Runs `maesh ARGUMENTS`, or another program, in a terminal of this size."""

    def __init__(self, folder, *arguments, columns=80, rows=24, term="xterm-256color", program=MAESH):
        self.master, self._slave = pty.openpty()
        self.resize(columns, rows)
        self.modes = termios.tcgetattr(self._slave)
        self.output = ""
        self.process = subprocess.Popen(
            [sys.executable, "-c", _START, *program, *arguments],
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            env=build_environment(folder) | {"TERM": term, "MAESH_PURE": os.environ.get("MAESH_PURE", "")},
            start_new_session=True,
        )

    def resize(self, columns, rows):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self, wait_s=0.05):
        """Read what was drawn since the last call, without escape sequences."""
        found = ""
        while select.select([self.master], [], [], wait_s)[0]:
            found += os.read(self.master, 65536).decode(errors="replace")
        self.output += found
        return _ESCAPES.sub("", found)

    def wait_for(self, text):
        """Wait until a text is drawn after this call began; returns everything that was drawn."""
        drawn, deadline = "", time.monotonic() + PATIENCE_S
        while text not in drawn:
            assert time.monotonic() < deadline, f"{text!r} was not drawn; the end of what was: {drawn[-3000:]!r}"
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.output + drawn!r}"
            drawn += self.read()
        return drawn

    def press(self, keys):
        os.write(self.master, keys)

    def wait(self):
        """Wait for the end; returns the exit status."""
        deadline = time.monotonic() + PATIENCE_S
        while self.process.poll() is None:
            assert time.monotonic() < deadline, "it did not end"
            self.read()
        self.read()
        return self.process.returncode

    @property
    def is_restored(self):
        """Whether the terminal is as it was: its modes, its screen and its cursor."""
        is_left = self.output.rfind(LEAVE_SCREEN) > self.output.rfind(ENTER_SCREEN)
        is_shown = self.output.rfind(SHOW_CURSOR) > self.output.rfind(HIDE_CURSOR)
        return is_left and is_shown and termios.tcgetattr(self._slave) == self.modes

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self._slave)
