"""Ctrl-C in a terminal: what a command waits for is said, and its last line is a line."""

import fcntl
import os
import pty
import signal
import socket
import subprocess
import termios
import threading

import pytest

from maesh_testing.commands import MAESH, build_environment, wait_until
from maesh_testing.ports import find_free_port

pytestmark = pytest.mark.integration

CTRL_C = b"\x03"
WAITS = "maesh: waiting up to 10 s for 1 connection to end; press Ctrl-C again to end at once\r\n"


def take_terminal():
    """Make standard input the terminal of this session: what is typed there reaches the command as signals."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Terminal:
    """A command in a terminal of its own, which keeps what it shows."""

    def __init__(self, arguments, home):
        home.mkdir()
        self._shown = b""
        ours, theirs = pty.openpty()
        self._ours = ours
        self.process = subprocess.Popen(
            [*MAESH, *map(str, arguments)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=build_environment(home),
            start_new_session=True,
            preexec_fn=take_terminal,
        )
        os.close(theirs)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        while True:
            try:
                chunk = os.read(self._ours, 65536)
            except OSError:  # the last one that had it is gone
                return
            self._shown += chunk

    @property
    def shown(self):
        return self._shown.decode(errors="replace")

    def wait_for(self, text):
        wait_until(lambda: text in self.shown or self.process.poll() is not None, f"{text!r} in {self.shown!r}")
        assert text in self.shown

    def press_ctrl_c(self):
        os.write(self._ours, CTRL_C)

    def wait(self):
        """Wait for the end; gives the status and what was shown from the first Ctrl-C on."""
        status = self.process.wait(60)
        self._reader.join(60)
        return status, self.shown[self.shown.index("^C") :]

    def close(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._reader.join(60)
        os.close(self._ours)


@pytest.fixture
def open_terminal(tmp_path):
    terminals = []

    def start(*arguments):
        terminals.append(Terminal(arguments, tmp_path / f"home-{len(terminals)}"))
        return terminals[-1]

    yield start
    for terminal in terminals:
        terminal.close()


@pytest.fixture
def mesh(open_terminal, manifests, build_service, start_upstream):
    """Start `maesh up` in a terminal, in front of a server that takes its time; gives it, the server and a port."""
    upstream = start_upstream("cart-1")
    manifests.write("cart.json", build_service("cart", upstream.port))
    http, api, admin = (find_free_port() for _ in range(3))
    terminal = open_terminal("up", "--http-port", http, "--api-port", api, "--admin-port", admin, manifests.path)
    terminal.wait_for("Press Ctrl-C to stop.\r\n")
    return terminal, upstream, http


def ask_slowly(upstream, port, get):
    """Send a request that is under way when the mesh is asked to end."""
    upstream.delay_s = 1
    thread = threading.Thread(target=lambda: get(port, "cart.test.maesh"))
    thread.start()
    wait_until(lambda: upstream.count, "the request")
    return thread


def test_without_anything_to_wait_for_nothing_is_said_and_the_prompt_begins_a_line(mesh):
    terminal, _, _ = mesh
    terminal.press_ctrl_c()
    assert terminal.wait() == (0, "^C\r\n")


def test_the_first_ctrl_c_says_what_is_waited_for(mesh, get):
    terminal, upstream, port = mesh
    request = ask_slowly(upstream, port, get)
    terminal.press_ctrl_c()
    assert terminal.wait() == (0, f"^C\r\n{WAITS}")
    request.join()


def test_the_second_ctrl_c_ends_at_once(mesh, get):
    terminal, upstream, port = mesh
    request = ask_slowly(upstream, port, get)
    terminal.press_ctrl_c()
    terminal.wait_for(WAITS)
    terminal.press_ctrl_c()
    assert terminal.wait() == (1, f"^C\r\n{WAITS}^C\r\n")
    request.join()


@pytest.mark.parametrize("command", ["controller", "proxy"])
def test_a_half_of_a_mesh_that_waits_for_nothing_ends_with_its_line(open_terminal, manifests, command):
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "quiet"}}
    manifests.write("quiet.json", [namespace])
    port = find_free_port()
    if command == "controller":
        flags = ("--api-host", "127.0.0.1", "--api-port", port, "--log-level", "info", manifests.path)
        terminal = open_terminal("controller", *flags)
        wait_until(lambda: is_open(port), "the API")
    else:
        bound = ("--bind", "127.0.0.1", "--admin-host", "127.0.0.1", "--admin-port", port)
        terminal = open_terminal("proxy", *bound, "--endpoint", "http://127.0.0.1:1")
        terminal.wait_for("no configuration is applied yet")
    terminal.press_ctrl_c()
    assert terminal.wait() == (0, "^C\r\n")


def is_open(port):
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def test_a_command_that_is_ended_before_it_gave_an_answer_has_none(open_terminal):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        terminal = open_terminal("explain", "a/b", "c.d", "--endpoint", f"http://127.0.0.1:{silent.getsockname()[1]}")
        connection, _ = silent.accept()
        terminal.press_ctrl_c()
        assert terminal.wait() == (1, "^C\r\n")
        connection.close()
