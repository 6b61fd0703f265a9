"""Guards decide about requests that other middlewares change or copy; test_revocation.py has changed tables."""

import pytest

from .copying_doubles import (
    GET,
    SIDE,
    Copier,
    DeafGuard,
    Guard,
    apply,
    go_elsewhere,
    read_outcomes,
    send,
)
from .middleware_doubles import OK, get_status


async def test_a_guard_decides_about_each_copy_as_it_is_sent(open_world):
    def change(exchange):
        exchange.new_target = b"/z"
        exchange.request_headers.set(b"X-A", b"1")

    async with open_world() as world:
        guard = Guard()
        apply(world, guard, Copier(change=change), guards=(guard,))
        assert set((await send(world))[1]) == {"10.0.1.1", "10.0.2.1"}
        assert guard.copied == [(SIDE, b"/z", b"1")]


async def test_a_guard_may_limit_copies_to_some_servers(open_world):
    async with open_world() as world:
        guard = Guard(copy=frozenset({("10.0.2.2", 80)}))
        apply(world, guard, Copier(), guards=(guard,), side_servers=3)
        for _ in range(3):
            _, servers = await send(world)
            assert set(servers) == {"10.0.1.1", "10.0.2.2"}


@pytest.mark.parametrize("verdict", [False, None, "yes", 1, frozenset(), RuntimeError("broken")])
async def test_what_a_guard_does_not_allow_is_not_copied_and_the_request_goes_on(open_world, caplog, verdict):
    async with open_world() as world:
        guard = Guard(copy=verdict)
        apply(world, guard, Copier(), guards=(guard,))
        client, servers = await send(world)
        assert list(servers) == ["10.0.1.1"]
        assert read_outcomes(world) == {"denied": 1}
        servers["10.0.1.1"].send(OK)
        assert get_status(client) == 200


async def test_a_guard_without_the_methods_denies_copies_and_changes(open_world):
    async with open_world() as world:
        guard = DeafGuard()
        apply(world, guard, Copier(), guards=(guard,))
        assert list((await send(world))[1]) == ["10.0.1.1"]
        assert read_outcomes(world) == {"denied": 1}
        apply(world, guard, Copier(change=go_elsewhere), guards=(guard,))
        client, _ = await send(world)
        assert get_status(client) == 403


@pytest.mark.parametrize("name", ["new_target", "new_host"])
@pytest.mark.parametrize("verdict", [False, None, 1, RuntimeError("broken")])
async def test_a_changed_request_that_a_guard_does_not_allow_is_answered_with_403(open_world, caplog, name, verdict):
    async with open_world() as world:
        guard = Guard(change=verdict)
        value = {"new_target": b"/z", "new_host": b"b.example"}[name]
        apply(world, guard, Copier(change=lambda exchange: setattr(exchange, name, value)), guards=(guard,))
        client, servers = await send(world)
        assert not servers
        answer = client.take()
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert b"access denied: no rule allows the request as it would be sent" in answer
        assert guard.changed[0][1:] == ((b"/z", b"a.test.maesh") if name == "new_target" else (b"/x?y", b"b.example"))


def set_header(exchange):
    exchange.request_headers.set(b"X-A", b"b")


@pytest.mark.parametrize(("reads", "verdict", "status"), [(True, False, 403), (True, True, 200), (False, False, 200)])
async def test_changed_headers_are_judged_by_guards_that_read_them(open_world, reads, verdict, status):
    async with open_world() as world:
        guard = Guard(change=verdict, reads_headers=reads)
        apply(world, guard, Copier(times=0, change=set_header), guards=(guard,))
        client, servers = await send(world)
        for server in servers.values():
            server.send(OK)
        assert get_status(client) == status
        assert guard.changed == ([(b"GET", b"/x?y", b"a.test.maesh")] if reads else [])


async def test_an_allowed_change_is_sent_and_an_unchanged_request_is_not_asked_about(open_world):
    async with open_world() as world:
        guard = Guard()
        apply(world, guard, Copier(times=0), guards=(guard,))
        await send(world)
        assert not guard.changed
        apply(
            world,
            guard,
            Copier(times=0, change=go_elsewhere),
            guards=(guard,),
        )
        client = world.open_client()
        client.send(GET)
        await world.settle()
        assert guard.changed == [(b"GET", b"/z", b"a.test.maesh")]
