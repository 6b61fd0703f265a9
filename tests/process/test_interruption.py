"""A Ctrl-C prints what is waited for, on lines of its own; a signal from elsewhere prints nothing."""

import os
import pty
import signal

import pytest

from maesh_core.process import interruption
from maesh_core.process.interruption import AGAIN, end_echoed_line, tell_wait


@pytest.fixture
def terminal(monkeypatch):
    """Make standard error a terminal; return what reads so many lines of what it shows."""
    ours, theirs = pty.openpty()
    monkeypatch.setattr(interruption, "STANDARD_ERROR", theirs)

    def read(lines):
        shown = b""
        while shown.count(b"\n") < lines:
            shown += os.read(ours, 1000)
        return shown.decode()

    yield read
    os.close(theirs)
    os.close(ours)


def test_what_is_waited_for_is_a_line_that_says_how_to_wait_no_longer(terminal):
    tell_wait("waiting for a thing")
    assert terminal(1) == f"maesh: waiting for a thing; {AGAIN}\r\n"


def test_a_terminal_s_echo_of_ctrl_c_gets_a_line_of_its_own(terminal):
    end_echoed_line(signal.SIGTERM)
    end_echoed_line(signal.SIGINT)
    tell_wait("x")
    assert terminal(2) == f"\r\nmaesh: x; {AGAIN}\r\n"


def test_what_is_no_terminal_gets_no_empty_line(capfd):
    end_echoed_line(signal.SIGINT)
    assert capfd.readouterr().err == ""


def test_a_closed_standard_error_harms_nothing(monkeypatch):
    descriptor = os.open(os.devnull, os.O_RDONLY)
    monkeypatch.setattr(interruption, "STANDARD_ERROR", descriptor)
    tell_wait("x")
    os.close(descriptor)
    end_echoed_line(signal.SIGINT)
    tell_wait("x")
