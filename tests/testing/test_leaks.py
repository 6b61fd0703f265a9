"""A test that leaves something behind fails by itself, and no other test does."""

import re
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

TESTS = """
import asyncio
import socket
import subprocess
import threading
import time

import pytest

kept = []


@pytest.fixture(scope="module")
def server():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


@pytest.fixture
def closed():
    sock = socket.socket()
    yield sock
    sock.close()


def test_good_fixture_of_a_module(server):
    pass


def test_good_fixture_of_a_test(closed):
    threading.Timer(0.05, print).start()
    subprocess.run(["true"], check=True)


async def test_good_task_that_is_cancelled():
    task = asyncio.create_task(asyncio.sleep(60))
    await asyncio.sleep(0)
    task.cancel()


def test_bad_descriptor():
    kept.append(socket.create_server(("127.0.0.1", 0)))


def test_good_after_descriptor():
    pass


def test_bad_child():
    kept.append(subprocess.Popen(["sleep", "30"]))


def test_good_after_child():
    kept[-1].kill()
    kept[-1].wait()


def test_bad_thread():
    thread = threading.Thread(target=time.sleep, args=[30], daemon=True)
    thread.start()


async def test_good_task_that_ends_a_moment_later():
    kept.append(asyncio.create_task(asyncio.sleep(0.05)))


async def test_bad_task():
    kept.append(asyncio.create_task(asyncio.sleep(60)))
    await asyncio.sleep(0)


@pytest.fixture
def pair():
    one, other = socket.socketpair()
    yield one, other
    other.close()


async def test_bad_transport_that_nobody_closed_and_that_is_in_a_cycle(pair):
    class Protocol(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

    await asyncio.get_running_loop().create_connection(Protocol, sock=pair[0])


class Unclosed:
    def __init__(self):
        self.itself = self

    def __del__(self):
        raise ResourceWarning("unclosed transport")


def test_bad_object_without_a_descriptor():
    Unclosed()


@pytest.fixture
def unclosed():
    return Unclosed()


def test_bad_object_of_a_fixture(unclosed):
    pass


def test_good_at_the_end():
    pass
"""

INI = """
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
filterwarnings = error
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Run the tests above; return each test's outcome, and the whole report."""
    folder = tmp_path_factory.mktemp("leaks")
    (folder / "test_leaking.py").write_text(TESTS)
    (folder / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n"
    )
    options = ("-p", "maesh_testing.leaks", "-p", "no:cacheprovider", "-v", "--leak-patience", "0.5")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, folder], cwd=folder, capture_output=True, text=True, timeout=100
    )
    found = {}
    for name, outcome in re.findall(r"::(\w+) (PASSED|FAILED|ERROR)", done.stdout):
        found.setdefault(name, set()).add(outcome)
    return found, done.stdout


def test_each_test_that_leaves_something_behind_fails_and_no_other_does(outcomes):
    found, report = outcomes
    assert len(found) == 14, report
    failed = {name for name, each in found.items() if "ERROR" in each}
    assert failed == {name for name in found if name.startswith("test_bad_")}, report
    assert not any("FAILED" in each for each in found.values()), report


@pytest.mark.parametrize(
    "text",
    [
        r"descriptor \d+: socket:\[\d+\] tcp ",
        r"child process \d+: sleep 30",
        r"thread Thread-\d+ \(sleep\)",
        r"task <Task pending .*sleep",
        r"unclosed transport <_SelectorSocketTransport fd=\d+",
        r"Unclosed.__del__ .*ResourceWarning\('unclosed transport'\)",
    ],
)
def test_what_is_left_behind_is_described(outcomes, text):
    assert re.search(text, outcomes[1]), outcomes[1]
