"""`maesh top` in a real terminal: keys, lost controllers, and a terminal that is restored on every end."""

import os
import shlex
import signal

import pytest

from maesh_testing.commands import MAESH

from .sample import TrafficServer, build_report, build_service
from .terminal import ENTER_SCREEN, LEAVE_SCREEN, Terminal

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture
def server():
    server = TrafficServer(build_report())
    yield server
    server.close()


@pytest.fixture
def start(tmp_path, server):
    terminals = []

    def start_terminal(*arguments, **size):
        given = ("top", "--endpoint", server.url, "--interval", "100ms", *arguments)
        terminals.append(Terminal(tmp_path, *given, **size))
        return terminals[-1]

    yield start_terminal
    for terminal in terminals:
        terminal.close()


def test_keys_sort_filter_open_and_quit(start):
    terminal = start()
    assert "shop/checkout:80" in terminal.wait_for("q quit")
    terminal.press(b"s")
    terminal.wait_for("sorted by service")
    terminal.press(b"r")
    terminal.wait_for("sorted by service, reversed")
    terminal.press(b"/db")
    assert "filter: db" in terminal.wait_for("1 shown")
    terminal.press(b"\r\r")
    assert "connections 120" in terminal.wait_for("Esc back")
    terminal.press(b"\x1b")
    terminal.wait_for("filter: db")
    terminal.press(b"\x1b")
    terminal.wait_for("10 shown")
    terminal.press(b"\x1b[B\x1b[B\r")
    terminal.wait_for("Esc back")
    terminal.press(b"q")
    assert terminal.wait() == 0
    assert terminal.is_restored


def test_a_named_service_is_opened_at_once_and_its_parts_are_shown(start):
    drawn = start("checkout.shop", columns=200, rows=50).wait_for("NOTICES")
    for text in ("shop/checkout-v2:80", "set aside", "Deployment/web@shop", "no server answered"):
        assert text in drawn


def test_a_service_of_several_ports_is_listed_and_an_unknown_one_ends_the_command(start, server):
    server.report = build_report(build_service("web"), build_service("web", port="81"), build_service("other"))
    terminal = start("web")
    assert "2 shown" in terminal.wait_for("filter: shop/web:")
    unknown = start("wep")
    assert unknown.wait() == 1
    assert "no service 'wep'; did you mean web" in unknown.output
    assert "\x1b[?1049h" not in unknown.output


def test_a_lost_controller_is_reported_and_the_last_data_stay_until_it_is_back(start, server):
    terminal = start(columns=160)
    terminal.wait_for("q quit")
    server.close()
    assert "shop/checkout:80" in terminal.wait_for("controller lost (data are")
    assert "controller lost" in terminal.wait_for("Connection refused")
    again = TrafficServer(build_report(build_service("back")), server.port)
    try:
        terminal.wait_for("shop/back:80")
        terminal.press(b"q")
        assert terminal.wait() == 0
    finally:
        again.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_it_and_the_terminal_is_restored(start, number):
    terminal = start()
    terminal.wait_for("q quit")
    terminal.process.send_signal(number)
    assert terminal.wait() == 0
    assert terminal.is_restored


def test_ctrl_c_ends_the_view_and_restores_the_terminal(start):
    terminal = start()
    terminal.wait_for("q quit")
    terminal.press(b"\x03")
    assert terminal.wait() == 0
    assert terminal.is_restored
    assert "Traceback" not in terminal.output


def test_ctrl_z_suspends_it_and_fg_brings_it_back(tmp_path, server):
    command = shlex.join([*MAESH, "top", "--endpoint", server.url])
    terminal = Terminal(tmp_path, "--norc", "--noprofile", "-i", program=["bash"])
    try:
        terminal.press(f"{command}\n".encode())
        terminal.wait_for("q quit")
        terminal.press(b"\x1a")
        terminal.wait_for("Stopped")
        assert terminal.output.rfind(LEAVE_SCREEN) > terminal.output.rfind(ENTER_SCREEN)
        terminal.press(b"fg\n")
        terminal.wait_for("q quit")
        terminal.press(b"q")
        terminal.wait_for("bash-")
        terminal.press(b"echo it ended with $?\n")
        terminal.wait_for("it ended with 0")
    finally:
        terminal.press(b"\nexit\n")
        terminal.wait()
        terminal.close()


def test_an_exception_ends_it_with_the_terminal_restored(start, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import maesh_core.cli.top.view as view\n"
        "def fail(self, key):\n    raise RuntimeError('broken view')\n"
        "view.View.press = fail\n"
    )
    os.environ["PYTHONPATH"] = str(tmp_path)
    try:
        terminal = start()
    finally:
        del os.environ["PYTHONPATH"]
    terminal.wait_for("q quit")
    terminal.press(b"x")
    assert terminal.wait() != 0
    assert "broken view" in terminal.output
    assert terminal.is_restored


def test_a_new_size_of_the_terminal_is_used(start):
    terminal = start(columns=60)
    terminal.wait_for("q quit")
    assert "TROUBLE" not in terminal.output
    terminal.resize(200, 50)
    os.kill(terminal.process.pid, signal.SIGWINCH)
    terminal.wait_for("TROUBLE")


def test_escape_sequences_from_the_cluster_do_not_arrive(start, server):
    evil = "\x1b]0;owned\x07"
    server.report = build_report(build_service(evil, errors=(evil,)))
    terminal = start(columns=200)
    terminal.wait_for("q quit")
    terminal.press(b"\r")
    terminal.wait_for("ERRORS")
    assert "\x07" not in terminal.output
    assert "\x1b]" not in terminal.output


def test_a_terminal_that_cannot_move_its_cursor_gets_one_table(start):
    terminal = start(term="dumb")
    assert terminal.wait() == 0
    assert "shop/checkout:80" in terminal.output
    assert "\x1b" not in terminal.output


def test_the_last_of_thousands_of_services_is_drawn(start, server):
    server.report = build_report(*(build_service(f"service-{number:04}") for number in range(2000)))
    terminal = start(columns=200, rows=50)
    terminal.wait_for("2000 shown")
    terminal.press(b"G")
    terminal.wait_for("service-1999")
