"""The proxy as a child: its lines are passed on, its end is explained, and it never outlives what started it."""

import asyncio
import os
import signal
import sys

import pytest

from maesh_core.cli.local_mesh.child import ProxyChild
from maesh_core.settings import ProxySettings

WAIT_FOR_PARENT = "import os, sys; sys.stderr.write('up\\n'); sys.stderr.flush(); os.read(0, 1)"
DEAF = "import signal, sys, time; signal.signal(15, signal.SIG_IGN); sys.stderr.write('up\\n'); time.sleep(60)"


@pytest.fixture
def start(monkeypatch):
    """Start a child that runs this code in place of a proxy."""

    async def start_child(code):
        monkeypatch.setattr("maesh_core.cli.local_mesh.child.PROXY_COMMAND", (sys.executable, "-c", code))
        return await ProxyChild.start(ProxySettings(endpoint="http://mesh"))

    return start_child


@pytest.fixture
def wait_for_line():
    """Wait until the child has written a line; gives what it has written."""

    async def wait(capsys, text):
        seen = ""
        async with asyncio.timeout(60):
            while text not in seen:
                await asyncio.sleep(0.01)
                seen += capsys.readouterr().err
        return seen

    return wait


async def test_lines_are_passed_on_and_the_last_words_explain_the_end(start, capsys):
    child = await start("import sys; sys.stderr.write('one\\n\\ntwo'); sys.exit(3)")
    await child.exited
    assert child.explain() == "the proxy ended with status 3: two"
    await child.stop(1)
    assert capsys.readouterr().err == "one\n\ntwo\n"


async def test_error_line_explains_the_end_in_its_own_words_and_is_not_said_twice(start, capsys):
    child = await start("import sys; sys.stderr.write('a line\\nmaesh: error: port 1 is taken\\n'); sys.exit(1)")
    await child.exited
    assert child.explain() == "port 1 is taken"
    await child.stop(1)
    assert capsys.readouterr().err == "a line\n"


async def test_end_by_a_signal_is_explained_by_its_name(start, capsys, wait_for_line):
    child = await start(WAIT_FOR_PARENT)
    await wait_for_line(capsys, "up")
    child.kill()
    await child.exited
    assert child.explain() == "the proxy ended with signal SIGKILL: up"
    await child.stop(1)


async def test_child_gets_its_settings_in_a_variable_and_the_pipe_by_number(start, capsys):
    code = "import os, sys; sys.stderr.write(os.environ['MAESH_PROXY_SETTINGS_JSON'] + os.environ['MAESH_PARENT_PIPE'])"
    child = await start(code)
    await child.exited
    await child.stop(1)
    err = capsys.readouterr().err
    assert '"endpoint":"http://mesh"' in err
    assert err.endswith("}0\n")


async def test_a_child_that_says_what_it_waits_for_has_told_it(start, capsys, wait_for_line):
    child = await start("import sys; sys.stderr.write('maesh: waiting for it; press Ctrl-C again to end at once\\n')")
    assert not child.has_printed_wait
    await child.exited
    assert child.has_printed_wait
    await child.stop(1)


async def test_stop_asks_by_the_signal_that_it_is_given(start, capsys, wait_for_line):
    code = (
        "import signal, sys; print('up', file=sys.stderr, flush=True); print(signal.sigwait([2, 15]), file=sys.stderr)"
    )
    child = await start(f"import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [2, 15]); {code}")
    await wait_for_line(capsys, "up")
    await child.stop(20, number=signal.SIGINT)
    assert capsys.readouterr().err == f"{signal.SIGINT.value}\n"


async def test_stop_asks_first(start, capsys, wait_for_line):
    child = await start(WAIT_FOR_PARENT)
    await wait_for_line(capsys, "up")
    await child.stop(20)
    assert child.explain() == "the proxy ended with signal SIGTERM: up"


async def test_child_that_does_not_listen_is_killed_after_the_timeout(start, capsys, wait_for_line):
    child = await start(DEAF)
    await wait_for_line(capsys, "up")
    await child.stop(0.05)
    assert child.explain() == "the proxy ended with signal SIGKILL: up"


async def test_a_child_has_a_process_group_of_its_own(start, capsys, wait_for_line):
    child = await start("import os, sys; print(os.getpgrp(), os.getpid(), file=sys.stderr, flush=True); os.read(0, 1)")
    group, pid = (await wait_for_line(capsys, "\n")).split()
    assert group == pid != str(os.getpgrp())
    await child.stop(20)


async def test_pipe_ends_when_the_parent_lets_go(start, capsys, wait_for_line):
    child = await start(WAIT_FOR_PARENT + "; sys.stderr.write('alone\\n')")
    await wait_for_line(capsys, "up")
    os.close(child._pipe)
    await child.exited
    assert child.explain() == "the proxy ended with status 0: alone"
    child._pipe = os.open(os.devnull, os.O_RDONLY)
    await child.stop(1)


async def test_repr_shows_process_and_status(start):
    child = await start("pass")
    await child.exited
    assert repr(child).endswith("status=0>")
    await child.stop(1)
    child.kill()  # it is gone: no signal goes to whoever has its number now
    assert repr(child).endswith("status=0>")
