"""`maesh up` when a part of it is killed: nothing stays, and the reason is told."""

import os
import signal

import pytest

from maesh_testing.commands import suspend

pytestmark = pytest.mark.integration


def read_parent(pid):
    with open(f"/proc/{pid}/stat") as stat:
        return int(stat.read().rpartition(")")[2].split()[1])


@pytest.fixture
def find_child():
    """Find the proxy that a command has started."""

    def find(command):
        (pid,) = [pid for pid in command.find_left_behind() if read_parent(pid) == command.process.pid]
        return pid

    return find


def test_proxy_does_not_outlive_the_command_that_is_killed(up, manifests, wait_until):
    mesh = up(manifests.path)
    mesh.command.process.send_signal(signal.SIGKILL)
    mesh.command.wait()
    wait_until(lambda: mesh.command.find_left_behind() == [], "the proxy's end")


def test_proxy_that_is_killed_ends_the_command_with_the_reason(up, manifests, find_child, wait_until):
    mesh = up(manifests.path)
    os.kill(find_child(mesh.command), signal.SIGKILL)
    assert mesh.command.wait() == 1
    assert mesh.command.stderr.splitlines()[-1] == "maesh: error: the proxy ended with signal SIGKILL"
    wait_until(lambda: mesh.command.find_left_behind() == [], "the end of the proxy's workers")


def test_second_signal_ends_everything_at_once_with_status_1(up, manifests, find_child, wait_until):
    mesh = up(manifests.path)
    child = find_child(mesh.command)
    suspend(child)  # it cannot drain: only force ends it
    mesh.command.process.send_signal(signal.SIGINT)
    wait_until(lambda: mesh.command.status is not None or _is_pending(child, signal.SIGINT), "the proxy's SIGINT")
    assert mesh.command.stop(signal.SIGINT) == 1
    wait_until(lambda: mesh.command.find_left_behind() == [], "the proxy's end")


def _is_pending(pid, number):
    try:
        with open(f"/proc/{pid}/status") as status:
            masks = [line.split()[1] for line in status if line.startswith(("SigPnd", "ShdPnd"))]
    except FileNotFoundError:  # it has ended, which the command's status shows next
        return False
    return any(int(mask, 16) >> (number - 1) & 1 for mask in masks)
